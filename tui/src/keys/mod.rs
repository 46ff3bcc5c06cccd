//! Keys: what can be asked for ([`Action`]), which keys ask for it ([`KeyMap`]), and the file in
//! which a person says otherwise ([`file`]).

mod action;
mod chord;
mod file;
mod map;

pub use self::{action::Action, file::KeysError, map::KeyMap};
pub(crate) use self::{
    chord::Key,
    map::{Found, in_words},
};
