//! Losses, advantage estimators, rewards, and the training loops.
//!
//! Everything a lesson is made of is a pure function on short vectors: [`loss`] turns log-probabilities into
//! a value and its derivatives, [`estimator`] turns rewards into one credit per response token,
//! [`reward`] turns completions into reward points. The [`stage`]s carry data from one to the next, [`run`] keeps a run's
//! directory, and each of the [`loops`] puts them in order.

#![cfg_attr(test, allow(clippy::float_cmp, reason = "tests of exact values compare exactly"))]

pub mod calibration;
pub mod error;
pub mod estimator;
pub mod evaluate;
pub mod loops;
pub mod loss;
pub mod preflight;
pub mod reward;
pub mod run;
pub mod schedule;
pub mod settings;
pub mod stage;

pub use error::{Error, Result};
