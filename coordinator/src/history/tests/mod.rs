//! Behaviour of the history, seen from outside, on real files.

mod copies;
mod damage;
mod durability;
mod events;
mod exactly_once;
mod fixtures;
mod lists;
mod plans;
mod retention;
