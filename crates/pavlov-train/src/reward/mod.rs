//! From completions to reward points: built-in rules, external programs, and their weighted sum.
//!
//! Every reward gives one `Option<f64>` a completion; `None` says that it does not apply to that completion,
//! which then counts for nothing in the sum (TRL's convention), and is not the same as a reward of 0.

pub mod feedback_client;
mod mix;
mod number;
mod people;
mod pipes;
mod program;
mod reference;
mod rule;

use pavlov_schema::text::Text;
use serde_json::{Map, Value};

pub use feedback_client::FeedbackSettings;
pub use mix::{Mixed, Part, mix};
pub use people::{OnTimeout, People, PeopleSettings, Waiting};
pub use program::ProgramReward;
pub use rule::{LengthUnit, Rule, RuleReward};

/// What a reward is told about one completion.
#[derive(Clone, Copy, Debug)]
pub struct Completion<'a> {
    /// The prompt as the data set has it.
    pub prompt: &'a Text,
    /// The completion's text, without special tokens.
    pub text: &'a str,
    /// Its length in tokens, the end token included.
    pub tokens: usize,
    /// The other columns of the prompt's row: reference answers and whatever else a reward needs.
    pub columns: &'a Map<String, Value>,
}
