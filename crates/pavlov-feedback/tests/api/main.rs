//! The JSON API, called as programs call it.

mod document;
mod fuzz;
mod hostile;
mod loops;
mod pages;
mod roles;
mod setup;
mod webhooks;
