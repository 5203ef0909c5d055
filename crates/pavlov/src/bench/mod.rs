//! `pavlov bench`: how fast this machine does the work of the other verbs, with their own loops, and where the time goes.

mod clock;
mod dpo;
mod feedback;
mod generate;
mod grpo;
mod limits;
mod matmul;
mod memory;
mod profile;
mod report;
mod reward;
mod sft;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, ValueEnum};
use pavlov_engine::{Cpu, Decoder, Dtype, Isa, Position};
use pavlov_lm::{AdapterConfig, AdapterSource, LanguageModel, Targets};
use pavlov_train::run::{Event, TrainingConfig};

use crate::args::ComputeArgs;
use crate::failure::bad_input;
use crate::screen;
use clock::Clock;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Task {
    /// Matrix products: the peak of this machine, and with --model the products of that model
    Matmul,
    /// An update on demonstrations, packed without a gap
    Sft,
    /// Drawing answers, each exactly as long as asked
    Generate,
    /// Drawing answers in groups, rewarding those with many letters e, and an update on them
    Grpo,
    /// An update of a reward model on comparisons
    Reward,
    /// An update on comparisons by the DPO loss, the reference's log-probabilities known
    Dpo,
    /// Simulated raters who answer over HTTP, and a server that may be killed
    Feedback,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Self::Matmul => "matmul",
            Self::Sft => "sft",
            Self::Generate => "generate",
            Self::Grpo => "grpo",
            Self::Reward => "reward",
            Self::Dpo => "dpo",
            Self::Feedback => "feedback",
        }
    }

    /// Rows of a step and their length in tokens, where nothing else is asked.
    fn size(self) -> [usize; 2] {
        match self {
            Self::Matmul | Self::Sft => [8, 128],
            Self::Generate | Self::Grpo => [32, 64],
            Self::Reward | Self::Dpo => [8, 256],
            Self::Feedback => [0, 0],
        }
    }
}

/// `pavlov bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "One JSON object on stdout: step_s is the median step in seconds, tokens_per_s counts batch × length tokens a \
    step, share_of_peak sets the model's multiplications and additions against the fastest matrix product \
    of this machine, measured after the steps."
)]
pub(crate) struct BenchArgs {
    /// What is measured
    #[arg(value_enum)]
    task: Task,
    /// The model: a Hugging Face folder
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The rows that the task reads: {"text"} for sft, {"prompt"} for generate and grpo, {"prompt", "chosen", "rejected"} for
    /// reward and dpo; generate goes without
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Rows of a step; reward, dpo: pairs; generate, grpo: answers [default: 8; generate, grpo: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Option<u32>,
    /// Tokens of a row; reward, dpo: most tokens of a prompt with its answer; generate, grpo: new tokens [default: 128;
    /// reward, dpo: 256; generate, grpo: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    length: Option<u32>,
    /// Answers to each prompt of grpo
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    group: u32,
    /// Tokens of a prompt, cut or filled up [default: 64; grpo: as the prompts are]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    prompt_length: Option<u32>,
    /// Rank of an adapter on every linear layer, taught in place of the model; 0: none
    #[arg(long, value_name = "R", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    lora: u32,
    /// Steps; the first is not counted
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    steps: u32,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Compute as on a processor that has no more than these instructions [default: the widest there are]
    #[arg(long, value_enum)]
    isa: Option<IsaArg>,
    /// Also show where the time of a step goes, by operation, beside the floor of each
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    load: feedback::LoadArgs,
}

/// Instruction sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum IsaArg {
    /// 512-bit registers, without products of bf16
    Avx512,
    /// 256-bit registers
    Avx2,
    /// Plain Rust
    Portable,
}

impl BenchArgs {
    fn batch(&self) -> usize {
        self.batch.map_or(self.task.size()[0], |n| n as usize)
    }

    fn length(&self) -> usize {
        self.length.map_or(self.task.size()[1], |n| n as usize)
    }

    /// The processor, or what it is to be taken for.
    fn cpu(&self) -> Result<Cpu> {
        let isa = match self.isa {
            None => return Ok(Cpu::new(self.compute.threads())),
            Some(IsaArg::Avx512) => Isa::Avx512,
            Some(IsaArg::Avx2) => Isa::Avx2,
            Some(IsaArg::Portable) => Isa::Portable,
        };
        if !Isa::available().contains(&isa) {
            let name = format!("{isa:?}").to_lowercase();
            return Err(bad_input(format!("--isa: this processor has no {name}; leave it out")));
        }
        Ok(Cpu::with_isa(self.compute.threads(), isa))
    }

    fn data(&self) -> Result<&Path> {
        let task = self.task.name();
        self.data.as_deref().ok_or_else(|| bad_input(format!("--data is missing; {task} needs rows to read")))
    }

    /// The model, with room for sequences of `reach` tokens.
    fn load(&self, reach: usize) -> Result<LanguageModel> {
        let task = self.task.name();
        let folder = self.model.as_deref();
        let folder = folder
            .ok_or_else(|| bad_input(format!("--model is missing; {task} needs a Hugging Face folder")))?;
        let dtype = self.compute.dtype();
        let cpu = Arc::new(self.cpu()?);
        let mut model = match self.lora {
            0 if self.task == Task::Generate => LanguageModel::load_frozen(folder, &cpu, dtype)?,
            0 => LanguageModel::load_on(folder, &cpu, dtype)?,
            rank => LanguageModel::load_adapted(folder, &adapter(folder, rank), &cpu, dtype)?,
        };
        screen::machine(model.decoder.backend(), dtype);
        if !model.decoder.config().language_head {
            let mend = "give a language model";
            return Err(bad_input(format!("{}: is a reward model; {mend}", folder.display())));
        }
        widen(&mut model, reach, folder)?;
        Ok(model)
    }

    /// The settings that every loop has.
    fn training(&self, output: &Path) -> TrainingConfig {
        TrainingConfig {
            output_dir: output.join("run"),
            learning_rate: 1e-5,
            per_device_train_batch_size: self.batch(),
            max_steps: u64::from(self.steps),
            logging_steps: 1,
            save_steps: 0,
            save_final_model: false,
            ..TrainingConfig::default()
        }
    }
}

/// A new adapter with α = 2r, as the peers' script has it.
fn adapter(base: &Path, rank: u32) -> AdapterSource<'static> {
    let config = AdapterConfig {
        base: base.to_string_lossy().into_owned(),
        rank: rank as usize,
        alpha: 2.0 * f64::from(rank),
        rank_stabilised: false,
        targets: Targets::AllLinear,
        dropout: 0.0,
    };
    AdapterSource::New { config, seed: TrainingConfig::default().seed }
}

/// Lets a model read sequences longer than its context: the answers are worthless, the work is the same.
fn widen(model: &mut LanguageModel, reach: usize, folder: &Path) -> Result<()> {
    let context = model.decoder.config().max_positions;
    if reach <= context {
        return Ok(());
    }
    if model.decoder.config().position == Position::Learned {
        let what = format!(
            "has learned positions for {context} tokens and cannot read {reach}; make the rows shorter"
        );
        return Err(bad_input(format!("{}: {what}", folder.display())));
    }
    screen::line(&format!(
        "note: {reach} tokens are beyond the model's context of {context}; only their time is meant"
    ));
    model.files.config.decoder.max_positions = reach;
    let mut decoder = Decoder::new(Arc::clone(model.decoder.backend()), model.files.config.decoder.clone())?;
    if let Some(adapter) = model.decoder.adapter() {
        decoder = decoder.with_adapter(adapter.clone())?;
    }
    model.decoder = decoder;
    Ok(())
}

/// Runs a task and reports it.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    match args.task {
        Task::Matmul => matmul::run(args),
        Task::Sft => sft::run(args),
        Task::Generate => generate::run(args),
        Task::Grpo => grpo::run(args),
        Task::Reward => reward::run(args),
        Task::Dpo => dpo::run(args),
        Task::Feedback => feedback::run(&args.load),
    }
}

/// What a loop tells: its updates are timed, its notes shown.
fn on_event(event: Event, clock: &mut Clock) {
    match event {
        Event::Started { .. } => clock.start(),
        Event::Step { .. } => clock.step(),
        Event::Note(line) => screen::line(&format!("note: {line}")),
        _ => {}
    }
}

/// Refuses data that does not fill one step.
fn enough(path: &Path, pairs: usize, batch: usize) -> Result<()> {
    if pairs >= batch {
        return Ok(());
    }
    Err(bad_input(format!(
        "{}: has {pairs} pairs to learn from and a step needs {batch}; give it more",
        path.display()
    )))
}

fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "f32",
        Dtype::Bf16 => "bf16",
    }
}

/// Threads of a backend, for reading the clock while it is in use elsewhere.
fn backend_of(model: &LanguageModel) -> Arc<Cpu> {
    Arc::clone(model.decoder.backend())
}
