//! The server as people and programs meet it: over HTTP, large, under faults, and with clients that misbehave.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod exports;
mod faults;
#[path = "../place/mod.rs"]
mod place;
mod setup;
mod slow;
mod year;
