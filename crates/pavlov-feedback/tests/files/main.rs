//! What goes into files and comes out of them.

mod export;
mod import;
