//! What goes into files and comes out of them.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod export;
mod import;
