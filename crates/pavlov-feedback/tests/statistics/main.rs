//! Statistics beside independent implementations, and probes on boards with one planted defect each.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod golden;
mod planted;
mod quality;
