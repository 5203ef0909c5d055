//! `pavlov demo`: a small model learns first from demonstrations, then from rewards, in one command.
//!
//! Every stage is what a user would run: data sets are written to files, and the loops of `sft`, `reward` and `grpo` read
//! them. The worlds have known answers, so that each stage is measured against the truth, on worlds no lesson showed.

mod base;
mod habit;
mod look;
mod measure;
mod recipe;
mod stages;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use pavlov_engine::{Cpu, Dtype};

use crate::failure::bad_input;
use crate::{interrupt, screen, stdout};
use stages::Demo;
use summary::{Stage, Summary};

/// `pavlov demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for the data, the runs and summary.json; a demonstration that is there is replaced
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    out: PathBuf,
    /// Names every random number: equal seeds, equal numbers
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..1 << 32))]
    seed: u64,
    /// Print summary.json on stdout, and nothing else there
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    let start = Instant::now();
    clear(&args.out)?;
    let cpu = Arc::new(Cpu::new(0));
    screen::machine(&cpu, Dtype::F32);
    interrupt::listen("stopping; press Ctrl-C again to stop at once")?;
    let mut demo = Demo::new(&args.out, args.seed, cpu)?;
    let mut summary = Summary::new(args.seed);

    heading(1, "base", "a small model that knows small worlds, and answers carelessly");
    summary.push(told(demo.base()?));
    heading(2, "sft", "it is shown what to answer");
    summary.push(told(demo.sft()?));
    heading(
        3,
        "reward_model",
        "simulated people compare two of its answers; another model learns what they like",
    );
    summary.push(told(demo.reward_model()?));
    heading(4, "rl_reward_model", "it is rewarded by the model of what people like");
    summary.push(told(demo.rl_reward_model()?));
    heading(5, "rl_verified", "beside that, and from sft too, it is rewarded for what is true");
    summary.push(told(demo.rl_verified()?));

    heading(6, "habit", "some demonstrations teach a bad habit: it is found, traced to them, and cured");
    let habit = demo.habit()?;
    screen::line(&format!(
        "     {} of {} lessons named were the cause · {:.0} s",
        habit.removed_plants, habit.removed, habit.seconds
    ));
    summary.habit(habit);

    summary.finish(demo.samples()?, start.elapsed().as_secs_f64());
    let file = args.out.join("summary.json");
    summary.write(&file)?;
    if args.json {
        stdout::json(&summary)?;
    } else {
        stdout::text(&summary.table())?;
    }
    what_next(&args.out);
    Ok(())
}

fn heading(number: usize, stage: &str, what: &str) {
    screen::line(&format!("\n{number}/6  {stage}: {what}"));
}

/// Says what came of a stage, and hands it on.
fn told(stage: Stage) -> Stage {
    let of = if stage.name == "reward_model" {
        "held-out comparisons foretold"
    } else {
        "held-out worlds answered right"
    };
    screen::line(&format!("     {:.1}% of {of} · {:.0} s", 100.0 * stage.accuracy, stage.seconds));
    stage
}

fn what_next(out: &Path) {
    let out = out.display();
    screen::line(&format!(
        "Everything is in {out}: data/ is what it learned from, each stage is a run of its own."
    ));
    screen::line(&format!("Ask it yourself:  cargo run --release -- chat --model {out}/rl_verified/model"));
    screen::line("Your own model and data: README.md. What this shows and what it does not: docs/demo.md.");
}

/// Removes an earlier demonstration, and nothing else.
fn clear(out: &Path) -> Result<()> {
    if !out.exists() {
        return std::fs::create_dir_all(out).with_context(|| format!("{}: cannot be created", out.display()));
    }
    let reading = || format!("{}: cannot be read", out.display());
    for entry in std::fs::read_dir(out).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let name = entry.file_name();
        let known = stages::FOLDERS.iter().any(|f| name == *f) || name == "summary.json";
        if !known {
            let problem = format!("{}: holds {}", out.display(), name.to_string_lossy());
            return Err(bad_input(format!("{problem}, which is not of a demonstration; give another --out")));
        }
    }
    std::fs::remove_dir_all(out).with_context(|| format!("{}: cannot be cleared", out.display()))?;
    std::fs::create_dir_all(out).with_context(|| format!("{}: cannot be created", out.display()))
}
