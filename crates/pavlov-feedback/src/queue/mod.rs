//! What is asked of whom: pure decisions, without the database.
//!
//! - [`chance`]: numbers that a restart does not change;
//! - [`plan`]: how many people, which kind of task next, how long a lease;
//! - [`select`]: which open task, and with which chance;
//! - [`settle`], [`rankings`]: whether people agree, or more must be asked;
//! - [`screen`]: tasks that are not worth asking, or would give the policy away.

pub mod chance;
pub mod plan;
pub mod rankings;
pub mod screen;
pub mod select;
pub mod settle;
