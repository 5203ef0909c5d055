//! The store through its public face.

mod rounds;
mod setup;
