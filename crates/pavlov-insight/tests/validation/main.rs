//! Each question's methods against known truth. Quick versions run in the suite; the figures of docs/validation.md are from
//! the ignored ones: `cargo test --release -p pavlov-insight --test validation -- --ignored --nocapture NAME`.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(clippy::print_stdout, reason = "validations print their figures")]

mod credit;
mod foretell;
mod layers;
mod ledger;
mod observing;
mod planted;
mod resumed;
mod retrained;
mod scan;
mod secrets;
mod trace;
