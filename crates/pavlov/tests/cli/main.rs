//! The real program, run as a user runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod adapters;
mod bad_input;
mod bench;
mod credit;
mod documents;
#[cfg(unix)]
mod feedback;
mod golden;
mod habits;
#[cfg(unix)]
mod interrupts;
mod lab;
mod layers;
mod ledger;
mod pages;
mod rewards;
mod speak;
mod teach;
mod verify;
