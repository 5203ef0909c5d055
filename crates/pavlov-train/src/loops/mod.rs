//! The loops. Each owns its own and reads from top to bottom; what they share are functions, never control flow.

pub mod pretrain;
pub mod reward_model;
pub mod rl;
pub mod sft;
