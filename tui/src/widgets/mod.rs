//! Parts that screens are drawn of. They know nothing of the fleet.

pub(crate) mod cell;
pub(crate) mod list;
pub(crate) mod page;
pub(crate) mod panes;
pub(crate) mod sparkline;
pub(crate) mod table;
