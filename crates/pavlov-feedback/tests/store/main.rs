//! The store through its public face.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod durability;
mod lessons;
#[path = "../place/mod.rs"]
mod place;
mod queue;
mod rankings;
mod rounds;
mod setup;
mod versions;
