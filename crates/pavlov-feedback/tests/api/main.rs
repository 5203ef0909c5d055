//! The JSON API, called as programs call it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod document;
mod fuzz;
mod hostile;
mod loops;
mod oidc;
mod pages;
#[path = "../provider/mod.rs"]
mod provider;
mod roles;
mod setup;
mod webhooks;
