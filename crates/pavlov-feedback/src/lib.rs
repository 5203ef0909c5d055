//! Asks people: raters compare, rate, write and mend answers, and what they say trains models while they go on.
//!
//! - [`store`]: one SQLite file whose log of judgments is the truth;
//! - [`queue`]: what is asked of whom, as pure decisions;
//! - [`reply`]: what a rater's page sends, checked;
//! - [`api`]: the JSON API; [`io`]: files in and out; [`webhook`]: sealed records announced;
//! - [`oidc`]: sign-in through a provider that people have accounts at already;
//! - [`settings`], [`roles`]: what a manager decides, and who may do what; `manage` alone changes a project, and logs it;
//! - [`clock`], [`secret`]: time that never goes back, and secrets of which only hashes are stored.
//!
//! The crate meets training only through [`pavlov_schema::feedback`].

pub mod api;
pub mod clock;
mod error;
pub mod io;
mod limit;
mod manage;
pub mod oidc;
pub mod quality;
pub mod queue;
pub mod reply;
pub mod roles;
pub mod secret;
pub mod settings;
pub mod stats;
pub mod store;
pub mod web;
pub mod webhook;

pub use clock::Clock;
pub use error::{Error, Result};
pub use store::Store;
