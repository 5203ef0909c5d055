//! engine
mod config;
mod cpu;
mod error;
mod forest;

pub use config::*;
pub use error::{Error, Result};
pub use forest::{Batch, Forest, Segment, SegmentId, Target};
pub use cpu::Isa;
