//! What each lesson taught: reads runs and models, and answers with numbers that have units, intervals and noise floors.
//!
//! Each question has a module and a report type, kept as JSON in the run's folder `insight/` ([`kept`]).

#![cfg_attr(test, allow(clippy::float_cmp, reason = "tests of exact values compare exactly"))]

pub mod credit;
mod error;
pub mod estimate;
pub mod kept;
pub mod layers;
pub mod ledger;
pub mod metrics;
pub mod parts;
pub mod report;
pub mod scan;
pub mod taught;
pub mod trace;
pub mod watch;

pub use error::{Error, Result};
pub use estimate::{Estimate, Unit};
