//! `pavlov layers`: where in the network does the gain lie?

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use clap::Args;
use pavlov_engine::{Dtype, Sampler};
use pavlov_insight::layers::report::{LayersReport, NAME, Place};
use pavlov_insight::layers::{
    Asked, Contrast, LayersOptions, Metric, Models, Rewarded, Set, cost, key, measure,
};
use pavlov_insight::taught::Taught;
use pavlov_insight::{Estimate, kept};
use pavlov_lm::{AdapterConfig, LanguageModel, ModelFiles, split_pair};
use pavlov_schema::row::Row;
use pavlov_schema::{Value, dataset};
use pavlov_train::loops::rl::sources::{RewardEntry, open_rewards};
use pavlov_train::stage::rollout::{Drawing, encode_prompts};

use crate::args::MeasureArgs;
use crate::failure::bad_input;
use crate::screen::{self, Progress};
use crate::{interrupt, memory, stdout};

/// `pavlov layers`.
#[derive(Debug, Args)]
pub(crate) struct LayersArgs {
    /// The run that is asked about; the report is kept in its folder insight/
    #[arg(value_name = "RUN", required_unless_present = "model")]
    run: Option<PathBuf>,
    /// The trained model, in place of a run: a folder of weights, or of an adapter
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    model: Option<PathBuf>,
    /// The model before [default: the one that the run began with; the base of an adapter]
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    /// A behaviour and its alternative: rows of `prompt`, `chosen` and `rejected`; the metric is then their log-odds, else
    /// the run's reward
    #[arg(long, value_name = "FILE")]
    contrasts: Option<PathBuf>,
    /// Examples at most; half of them tune the shift, the others tell its share
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(4..=1_000_000))]
    examples: u32,
    /// Shapley values of so many groups of neighbouring blocks (2^N evaluations); 0 for none
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=8))]
    groups: u32,
    /// Random orders of blocks that the order of credit is compared with
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=1000))]
    orders: u32,
    /// Cells (layer, position) that are patched exactly: so many of the largest, and as many at random
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    cells: u32,
    /// Answers to each prompt, where the metric is a reward
    #[arg(short, long = "num", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    n: u32,
    /// Longest answer, in tokens [default: the run's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// Answers drawn at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    #[command(flatten)]
    measure: MeasureArgs,
}

pub(crate) fn run(args: &LayersArgs) -> Result<()> {
    let taught = args.run.as_deref().map(Taught::read).transpose()?;
    let after = args.model.clone().or_else(|| taught.as_ref().map(|taught| taught.after.clone()));
    let after = after.ok_or_else(|| bad_input("give a RUN, or --model"))?;
    let before = before(args, taught.as_ref(), &after)?;
    let dtype = args.measure.compute.dtype();
    check_memory(&after, before.as_deref(), dtype)?;
    let backend = args.measure.compute.cpu();
    let load = |folder: &Path| LanguageModel::load_frozen(folder, &backend, dtype);
    let model = super::speaker(load(&after)?, &after)?;
    let named = before.clone().unwrap_or_else(|| PathBuf::from("the base of the adapter"));
    let mut models = Models::new(before.as_deref().map(load).transpose()?, model, [&named, &after])?;
    let (mut metric, set, name) = question(args, taught.as_ref(), &models)?;
    let options = LayersOptions {
        names: [named, after].map(|path| path.display().to_string()),
        metric: name,
        groups: args.groups as usize,
        orders: args.orders as usize,
        cells: args.cells as usize,
        seed: args.measure.seed,
    };
    let (total, examples) = (cost(&models, &options), metric.examples(&set));
    screen::line(&format!("at most {total} evaluations of {examples} examples"));
    interrupt::listen("stopping; press Ctrl-C again to stop at once")?;
    let progress = Progress::start(0, total as u64);
    let mut done = 0;
    let mut on_evaluation = || {
        progress.step(done, "evaluations");
        done += 1;
        !interrupt::flag().load(Ordering::Relaxed)
    };
    let folder = taught.as_ref().map(|taught| taught.run.as_path());
    let parts = super::parts(folder, NAME, &key(&models, &metric, &set, &options))?;
    let mut asked = Asked { on_evaluation: &mut on_evaluation, parts };
    let report = measure(&mut models, &mut metric, &set, &options, &mut asked);
    let parts = asked.parts;
    drop(progress);
    let report = report.map_err(|e| super::broken_off(e, folder))?;
    if let Some(taught) = &taught {
        let file = kept::save(&taught.run, NAME, &report)?;
        parts.finish()?;
        screen::line(&format!("the report is kept in {}", file.display()));
    }
    if args.measure.json { stdout::json(&report) } else { stdout::text(&table(&report)) }
}

/// The folder of the model before; none where it is the base of the adapter.
fn before(args: &LayersArgs, taught: Option<&Taught>, after: &Path) -> Result<Option<PathBuf>> {
    if args.reference.is_some() {
        return Ok(args.reference.clone());
    }
    let continued = taught.and_then(|taught| taught.config.get("adapter")?.as_str());
    if continued.is_some_and(|adapter| !adapter.is_empty()) {
        let mend = "merge both adapters with pavlov merge, and give --model and --reference";
        return Err(bad_input(format!(
            "the run went on from another adapter, so its own share has no gates; {mend}"
        )));
    }
    if AdapterConfig::is_in(after) {
        return Ok(None);
    }
    let before = taught.map(|taught| taught.before.clone());
    before.map(Some).ok_or_else(|| bad_input("--model: is no adapter; give --reference, the model before"))
}

/// What is measured, on what, and its name.
fn question(args: &LayersArgs, taught: Option<&Taught>, models: &Models) -> Result<(Metric, Set, String)> {
    let encoder = models.model().encoder();
    let most = args.examples as usize;
    if let Some(file) = &args.contrasts {
        let mut contrasts = Vec::new();
        for (i, row) in dataset::read(file)?.iter().take(most).enumerate() {
            let place = format!("{}: row {}", file.display(), i + 1);
            let Row::Preference { prompt, chosen, rejected, .. } = row else {
                return Err(bad_input(format!("{place}: needs `prompt`, `chosen` and `rejected`")));
            };
            let (prompt, chosen, rejected) = split_pair(prompt.as_ref(), chosen, rejected)
                .map_err(|e| bad_input(format!("{place}: {e}")))?;
            contrasts.push(Contrast::encode(&encoder, &prompt, [&chosen, &rejected], &place)?);
        }
        let name = format!("the log-odds of the chosen answers of {}", file.display());
        return Ok((Metric::LogOdds, Set { contrasts, prompts: Vec::new() }, name));
    }
    let taught = taught.filter(|taught| taught.config.contains_key("rewards"));
    let taught = taught.ok_or_else(|| bad_input("there is no reward to measure; give --contrasts"))?;
    let config = &taught.config;
    let entries: Vec<RewardEntry> =
        serde_json::from_value(config.get("rewards").cloned().unwrap_or_default())
            .context("the run's rewards")?;
    let rewards = open_rewards(&entries, models.model(), None)?;
    let held_out = config.get("eval_data").and_then(Value::as_str).filter(|path| !path.is_empty());
    let file = held_out.map(PathBuf::from).or_else(|| taught.data());
    let file = file.ok_or_else(|| bad_input("the run names no data; give --contrasts"))?;
    let mut prompts = dataset::read_prompts(&file)?;
    prompts.truncate(most);
    let own = config.get("max_completion_length").and_then(Value::as_u64);
    let longest = args.max_tokens.map(u64::from).or(own).unwrap_or(64) as usize;
    let encoded = encode_prompts(&encoder, &prompts, longest, &file)?;
    let drawing = Drawing {
        num_generations: args.n as usize,
        temperature: 1.0,
        max_completion_length: longest,
        stop_tokens: models.model().files.tokenizer.stops().to_vec(),
        seed: args.measure.seed,
    };
    let mut rewarded = Rewarded { rewards, prompts, drawing, sampler: Sampler::new(args.batch as usize) };
    let contrasts = rewarded.contrasts(&encoded, models)?;
    let set = Set { contrasts, prompts: encoded };
    Ok((Metric::Reward(Box::new(rewarded)), set, "the run's reward".into()))
}

/// Refuses what would not fit in the memory that is free, as far as the system says how much that is.
fn check_memory(after: &Path, before: Option<&Path>, dtype: Dtype) -> Result<()> {
    // Of an adapter the base is what is large; its folder is read again, and told apart, where it is loaded.
    let folder =
        if before.is_none() { AdapterConfig::read(after)?.base_folder(after)? } else { after.into() };
    let config = ModelFiles::load(&folder)?.config.decoder;
    let weights: usize = config.parameters().iter().map(pavlov_engine::ParameterSpec::len).sum();
    let copies = if before.is_some() { 3 } else { 1 };
    let bytes = if dtype == Dtype::Bf16 { 2 } else { 4 };
    // Streams of two models, their derivatives and a patched copy.
    let streams = 4 * 4 * pavlov_insight::layers::metric::ROWS * config.hidden_size * (config.num_layers + 1);
    let mend = "close other programs, or measure an adapter, which needs one copy of the weights";
    memory::check("this question", (copies * bytes * weights + streams) as u64, mend)
}

fn percent(estimate: &Estimate) -> String {
    let [value, low, high] = [estimate.value, estimate.low, estimate.high].map(|x| 100.0 * x);
    format!("{value:.0}% ({low:.0} to {high:.0})")
}

/// The report for people. Writing to a String cannot fail.
fn table(report: &LayersReport) -> String {
    let mut text = String::new();
    for sentence in &report.sentences {
        let _ = writeln!(text, "{sentence}");
    }
    if report.place == Place::NoGain {
        return text;
    }
    let _ = writeln!(text, "\n{:<20} {:>8}  {:<20} {:<20}", "part", "change", "alone", "lost without it");
    for gate in &report.gates.parts {
        let (alone, needed) = (percent(&gate.alone), percent(&gate.needed));
        let part = gate.part.to_string();
        let _ = writeln!(text, "{part:<20} {:>7.2}%  {alone:<20} {needed:<20}", 100.0 * gate.change);
    }
    for group in &report.gates.groups {
        let parts: Vec<String> = group.parts.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "Shapley {}: {}", percent(&group.shapley), parts.join(", "));
    }
    if let Some(patches) = &report.patches {
        let _ =
            writeln!(text, "\n{:<14} {:<20} {:<20} {:<20}", "stream after", "estimated", "brings", "is lost");
        for layer in &patches.layers {
            let [estimated, brought, lost] = [&layer.estimated, &layer.brought, &layer.lost].map(percent);
            let _ = writeln!(text, "{:<14} {estimated:<20} {brought:<20} {lost:<20}", layer.layer);
        }
        let _ = writeln!(text, "\n{:<30} {:>10} {:>10}   cells with the most", "", "estimated", "exact");
        for cell in patches.top.iter().take(8) {
            let token: String = cell.token.chars().map(|c| if c.is_control() { '⏎' } else { c }).collect();
            let place = format!("layer {}, token {} {token:?}", cell.layer, cell.position);
            let _ = writeln!(text, "{place:<30} {:>+10.3} {:>+10.3}", cell.estimated, cell.exact);
        }
    }
    if let Some(shifts) = &report.shifts {
        let _ = writeln!(
            text,
            "\n{:<14} {:<20} {:>8}   {:<20} {:>8}",
            "one shift at", "makes", "random", "is lost without", "random"
        );
        for shift in &shifts.layers {
            let most = |of: &[f64]| 100.0 * of.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
            let (share, necessity) = (percent(&shift.share), percent(&shift.necessity));
            let (random, lost) = (most(&shift.random_shares), most(&shift.random_necessities));
            let _ = writeln!(
                text,
                "{:<14} {share:<20} {random:>7.0}%   {necessity:<20} {lost:>7.0}%",
                shift.layer
            );
        }
    }
    text
}
