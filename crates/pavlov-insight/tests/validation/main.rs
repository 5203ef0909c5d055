//! Insight against known truth. The long ones are ignored: `docs/validation.md` has the commands and the figures.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod planted;
mod scan;
mod trace;
