//! Statistics beside independent implementations, and probes on boards with one planted defect each.

mod golden;
mod planted;
