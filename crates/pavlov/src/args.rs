//! The command line.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Command, Parser, Subcommand, ValueEnum};
use pavlov_engine::{Cpu, Dtype};
use pavlov_train::run::Precision;
use pavlov_train::settings::{Key, Settings};

use crate::bench::BenchArgs;
use crate::commands::credit::CreditArgs;
use crate::commands::feedback::FeedbackArgs;
use crate::commands::ledger::LedgerArgs;
use crate::commands::report::ReportArgs;
use crate::commands::scan::ScanArgs;
use crate::commands::trace::TraceArgs;
use crate::commands::watch::WatchArgs;
use crate::commands::worlds::WorldsArgs;
use crate::demo::DemoArgs;

/// Everything `pavlov` can be asked.
#[derive(Debug, Parser)]
#[command(name = "pavlov", version, about, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 success, 1 the run failed, 2 bad input or usage, 130 stopped by Ctrl-C."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Watch a small model learn from demonstrations, then from rewards; some minutes
    Demo(DemoArgs),
    /// Teach a model plain text: every token is learned
    Pretrain(TrainArgs),
    /// Teach a model by demonstration: answers are learned, prompts are not
    Sft(TrainArgs),
    /// Teach a reward model from comparisons or ratings
    Reward(TrainArgs),
    /// Teach a model by reward: a group of answers to each prompt, each scored
    Grpo(TrainArgs),
    /// Teach a model by reward: two answers to each prompt, the better one rewarded
    Pairwise(TrainArgs),
    /// Let a model continue prompts
    Sample(SampleArgs),
    /// Talk with a model
    Chat(ChatArgs),
    /// Measure how likely a model finds texts: log-probabilities in nats, token by token
    Logprobs(LogprobsArgs),
    /// Ask which part of an answer earned its reward, and whether there was such a part
    Credit(CreditArgs),
    /// Count how much each lesson of runs taught, in bits: offered, usable, absorbed
    Ledger(LedgerArgs),
    /// Write everything that was measured of a run as one page, to send, read and print
    Report(ReportArgs),
    /// Show the pages of runs while they go, on 127.0.0.1
    Watch(WatchArgs),
    /// Add an adapter to its base: a model for programs that know of no adapters
    Merge(MergeArgs),
    /// Look for habits that training brought beside what it was for
    Scan(ScanArgs),
    /// Find the examples that taught a behaviour
    Trace(TraceArgs),
    /// Ask people: serve a rating application, fill it, and export what they said
    Feedback(FeedbackArgs),
    /// Write data sets of small worlds with known answers, or a random model for them
    Worlds(WorldsArgs),
    /// Ask where in the network a gain lies: in few blocks, in one shift of the representation, or everywhere
    Layers(crate::commands::layers::LayersArgs),
    /// Measure the speed of training and sampling on this machine
    Bench(BenchArgs),
}

/// What every verb that teaches takes.
#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// The configuration, a TOML file of the keys below
    pub(crate) config: Option<PathBuf>,
    /// Set one key, stronger than the file; may be given many times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Go on from the last checkpoint in `output_dir`
    #[arg(long, conflicts_with = "overwrite")]
    pub(crate) resume: bool,
    /// Replace the run in `output_dir`
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Print metrics on stdout, one JSON object a line, and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which model, and how it computes.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// The model: a Hugging Face folder, or that of a PEFT adapter that names its base
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// An adapter of the model: a PEFT folder
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
}

/// What computes, and in which number format.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ComputeArgs {
    /// Number format of matrix products [default: what is fast on this processor]
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<DtypeArg>,
    /// Threads that compute [default: one per processor core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl ComputeArgs {
    /// The number format that was asked for, else the one that is fast here.
    pub(crate) fn dtype(self) -> Dtype {
        self.dtype.map_or_else(|| Precision::Auto.resolve(), DtypeArg::dtype)
    }

    /// The same for what asks for exact numbers, where f32 is the default.
    pub(crate) fn exact_dtype(self) -> Dtype {
        self.dtype.map_or(Dtype::F32, DtypeArg::dtype)
    }

    /// Threads; 0: one per processor core.
    pub(crate) fn threads(self) -> usize {
        self.threads.map_or(0, usize::from)
    }

    /// The processor.
    pub(crate) fn cpu(self) -> Arc<Cpu> {
        Arc::new(Cpu::new(self.threads()))
    }
}

/// How the verbs that ask what a run taught measure, and say what they found.
#[derive(Debug, Args)]
pub(crate) struct MeasureArgs {
    /// Names the random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// Print the report on stdout as JSON, and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `--dtype` says where the default is f32.
pub(crate) const EXACT: &str = "Number format of matrix products [default: f32]";

/// Number formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DtypeArg {
    /// 32-bit floats
    F32,
    /// 16-bit brain floats, sums in f32
    Bf16,
}

impl DtypeArg {
    /// The engine's format.
    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::Bf16,
        }
    }
}

/// How tokens are drawn.
#[derive(Debug, Args)]
pub(crate) struct SamplingArgs {
    /// Divides the logits: below 1 more certain, above 1 more varied; 0 is --greedy
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = temperature)]
    pub(crate) temperature: f32,
    /// Draw from the K most likely tokens only; 0 is all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Draw from the fewest most likely tokens whose probabilities sum to P
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = share_above_zero)]
    pub(crate) top_p: f32,
    /// Draw from tokens at least P times as likely as the most likely one
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = share)]
    pub(crate) min_p: f32,
    /// Make tokens that have occurred less likely by this factor; 1 is off
    #[arg(long, value_name = "R", default_value_t = 1.0, value_parser = positive)]
    pub(crate) repetition_penalty: f32,
    /// Take the most likely token each time
    #[arg(long)]
    pub(crate) greedy: bool,
    /// End an answer where this text appears; it is left out; may be given many times
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,
    /// Longest answer, in tokens
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: u32,
    /// Names the random numbers: equal seeds, equal answers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

/// `pavlov sample`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["prompt", "data"])))]
pub(crate) struct SampleArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The text to continue, as it is: no chat template is put around it
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// A data set whose `prompt` column is continued; conversations go through the chat template
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,
    /// Answers to each prompt
    #[arg(short, long = "num", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) n: u32,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// Answers drawn at the same time: more is faster and takes more memory; the answers stay the same
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) batch: u32,
    /// Print answers on stdout, one JSON object a line, and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

/// `pavlov chat`.
#[derive(Debug, Args)]
#[command(after_help = "In the chat: /reset forgets what was said, /quit leaves. Ctrl-C ends an answer.")]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

/// `pavlov logprobs`.
#[derive(Debug, Args)]
#[command(mut_arg("dtype", |dtype| dtype.help(EXACT)))]
pub(crate) struct LogprobsArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The texts: rows of `text`, `prompt` and `completion`, `messages`, or `input_ids`
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    /// Print {"tokens": […], "logprobs": [null, …]} on stdout, one row a line, and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

/// `pavlov merge`.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The base: a Hugging Face folder; or the folder of an adapter that names its base
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// The adapter: a PEFT folder
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// The folder to write, which must not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Number format of the saved weights [default: that of the base's files]
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<SaveDtypeArg>,
}

/// Number formats of saved weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveDtypeArg {
    /// 32-bit floats
    F32,
    /// 16-bit brain floats
    Bf16,
    /// 16-bit floats
    F16,
}

/// Adds the keys of a configuration to a verb's help.
pub(crate) fn with_keys<C: Settings>(verb: Command) -> Command {
    let keys: String = C::keys().iter().map(key_help).collect();
    verb.after_help(format!(
        "Keys of the configuration, and of --set (lists and tables are TOML; bare text needs no quotes):\n{keys}"
    ))
}

/// A key as in the other parts of the help: its name and default, then what it does, wrapped.
fn key_help(key: &Key) -> String {
    const WIDTH: usize = 100;
    let default = match &key.default {
        pavlov_schema::Value::Null => String::new(),
        value => format!(" [default: {value}]"),
    };
    let mut text = format!("\n  {}{default}\n     ", key.name);
    let mut column = 5;
    for word in key.help.split_whitespace() {
        let length = word.chars().count() + 1;
        if column + length > WIDTH {
            text.push_str("\n     ");
            column = 5;
        }
        text.push(' ');
        text.push_str(word);
        column += length;
    }
    text.push('\n');
    text
}

fn number(text: &str, holds: impl Fn(f32) -> bool, wanted: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|number: &f32| number.is_finite() && holds(*number))
        .ok_or_else(|| wanted.to_owned())
}

fn temperature(text: &str) -> Result<f32, String> {
    number(text, |t| t == 0.0 || t >= 1e-4, "give 0, or a number of at least 0.0001")
}

fn positive(text: &str) -> Result<f32, String> {
    number(text, |r| r > 0.0, "give a number above 0")
}

fn share(text: &str) -> Result<f32, String> {
    number(text, |p| (0.0..=1.0).contains(&p), "give a number from 0 to 1")
}

fn share_above_zero(text: &str) -> Result<f32, String> {
    number(text, |p| p > 0.0 && p <= 1.0, "give a number above 0, at most 1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn numbers_have_their_ranges() {
        assert!(share_above_zero("0").is_err() && share_above_zero("1.01").is_err());
        assert!(temperature("-0.1").is_err() && temperature("NaN").is_err() && temperature("inf").is_err());
        assert_eq!((share("0"), positive("1.2")), (Ok(0.0), Ok(1.2)));
    }
}
