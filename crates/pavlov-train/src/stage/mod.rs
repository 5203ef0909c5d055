//! The typed steps that the loops share.

pub mod order;
pub mod pack;
pub mod rollout;
pub mod score;
