//! What the properties run on: actions drawn at random, and a world that turns
//! each into a command that fits the state of that moment.

pub(crate) mod action;
pub(crate) mod classes;
pub(crate) mod closing;
pub(crate) mod keys;
pub(crate) mod spec;
pub(crate) mod world;
