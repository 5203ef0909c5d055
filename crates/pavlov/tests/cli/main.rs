//! The real program, run as a user runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod adapters;
mod bad_input;
mod bench;
mod documents;
#[cfg(unix)]
mod feedback;
mod golden;
#[cfg(unix)]
mod interrupts;
mod lab;
mod rewards;
mod speak;
mod teach;
