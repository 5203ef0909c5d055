//! What `pavlov credit` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pavlov_insight::credit::{Cut, Effort};

use crate::args::MeasureArgs;

/// `pavlov credit`.
#[derive(Debug, Args)]
#[command(
    after_help = "Tier a is two or three forward passes; b writes parts of the answer anew, hundreds of times; c continues its \
                  prefixes, hundreds of times, and is what the verdict comes from. The report is kept in \
                  RUN/insight/credit.json, and the credit of each token in RUN/insight/credit.parquet, which pavlov grpo \
                  learns from with --set credit=FILE."
)]
pub(crate) struct CreditArgs {
    /// The folder of a run of grpo or pairwise: its model, its rewards, its answers
    pub(super) run: Option<PathBuf>,
    /// The policy that is asked [default of a run: its final model]
    #[arg(long, value_name = "DIR")]
    pub(super) model: Option<PathBuf>,
    /// What the policy is compared with in tier a [default of a run: the model it began with]
    #[arg(long, value_name = "DIR")]
    pub(super) reference: Option<PathBuf>,
    /// A reward model read at every token in tier a [default: the first among the rewards]
    #[arg(long, value_name = "DIR")]
    pub(super) reward_model: Option<PathBuf>,
    /// A reward, as the key `rewards` has it, such as '{ rule = "exact", column = "answer" }'; may be given many times
    /// [default of a run: its own]
    #[arg(long = "reward", value_name = "TOML")]
    pub(super) rewards: Vec<String>,
    #[command(flatten)]
    pub(super) elsewhere: Option<Elsewhere>,
    /// Which answers of the run: those of this update [default: the last that has answers]
    #[arg(long, value_name = "N", requires = "run", conflicts_with = "prompt")]
    pub(super) step: Option<u64>,
    /// Most answers, those first whose advantage is largest in size
    #[arg(long, value_name = "N", default_value_t = 4, conflicts_with = "prompt", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) answers: u32,
    /// People's marks: JSON lines of {"responses": [{"text"}], "marks": [{"response", "start", "end", "sign"}]}, in characters
    #[arg(long, value_name = "FILE")]
    pub(super) marks: Option<PathBuf>,
    /// What is measured
    #[arg(long, value_name = "TIERS", value_delimiter = ',', default_values_t = [Tier::A, Tier::B, Tier::C], value_enum)]
    pub(super) tiers: Vec<Tier>,
    /// What a part of an answer is
    #[arg(long, value_enum, default_value_t = CutArg::Adaptive)]
    pub(super) parts: CutArg,
    /// Tier c: continuations of a prefix in each of two independent sets
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(4..=65_536))]
    pub(super) rollouts: u32,
    /// Tier c: most prefixes that are continued
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(2..=4096))]
    pub(super) prefixes: u32,
    /// Tier b: random choices of parts that are fitted; a twelfth as many are held out
    #[arg(long, value_name = "N", default_value_t = 384, value_parser = clap::value_parser!(u32).range(48..=1_000_000))]
    pub(super) ablations: u32,
    /// What logits are divided by [default: the run's, or 1]
    #[arg(long, value_name = "T", value_parser = temperature)]
    pub(super) temperature: Option<f32>,
    /// Longest answer, in tokens [default: the run's, or 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_tokens: Option<u32>,
    /// Answers written at the same time: changes speed and memory
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(super) batch: u32,
    /// The folder to keep the report in [default: the run; nowhere for an answer from elsewhere]
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) measure: MeasureArgs,
}

/// An answer from elsewhere. Its prompt and response are required of whoever gives one, not of everybody.
#[derive(Debug, Args)]
pub(super) struct Elsewhere {
    /// The prompt of an answer from elsewhere; if a run's data has it, with what its row has for the rewards
    #[arg(long, value_name = "TEXT", required = false, requires = "response")]
    pub(super) prompt: String,
    /// The answer
    #[arg(long, value_name = "TEXT", required = false, requires = "prompt")]
    pub(super) response: String,
    /// A column that the rewards read, beside the prompt; may be given many times
    #[arg(long = "column", value_name = "KEY=VALUE", requires = "prompt")]
    pub(super) columns: Vec<String>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Tier {
    /// Forward passes alone
    A,
    /// Parts written anew
    B,
    /// Values of prefixes
    C,
}

/// Parts of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CutArg {
    /// Sentences
    Sentence,
    /// Spans of equally many tokens
    Span,
    /// Sentences where there are at least four, else spans
    Adaptive,
}

fn temperature(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|t: &f32| *t >= 1e-4 && t.is_finite());
    number.ok_or_else(|| "give a number of at least 0.0001".to_owned())
}

impl CreditArgs {
    /// How much is measured.
    pub(super) fn effort(&self) -> Effort {
        Effort {
            cut: match self.parts {
                CutArg::Sentence => Cut::Sentence,
                CutArg::Span => Cut::Span,
                CutArg::Adaptive => Cut::Adaptive,
            },
            ablate: self.tiers.contains(&Tier::B),
            values: self.tiers.contains(&Tier::C),
            ablations: self.ablations as usize,
            held_out: (self.ablations / 12) as usize,
            rollouts: self.rollouts as usize,
            prefixes: self.prefixes as usize,
            seed: self.measure.seed,
            ..Effort::default()
        }
    }
}
