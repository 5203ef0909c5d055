//! Validations against known truth. Those that take minutes are run by hand; docs/validation.md has their figures.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod ledger;
mod secrets;
