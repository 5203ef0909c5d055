//! Under construction.
mod error;
mod json;
pub mod template;
pub use error::{Error, Result};
