//! `pavlov scan`: what else changed?

mod controls;

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use clap::Args;
use pavlov_insight::kept;
use pavlov_insight::parts::Key;
use pavlov_insight::scan::answers::Drawing;
use pavlov_insight::scan::controls::FEWEST;
use pavlov_insight::scan::divergence::readable;
use pavlov_insight::scan::gain::{Gain, Gold};
use pavlov_insight::scan::overoptimisation::Fit;
use pavlov_insight::scan::probe::{self, Probe, ProbeEntry};
use pavlov_insight::scan::report::{NAME, ScanReport};
use pavlov_insight::scan::{Models, ScanOptions, cost, scan};
use pavlov_insight::taught::Taught;
use pavlov_lm::LanguageModel;
use pavlov_schema::rollout::Prompt;
use pavlov_schema::text::Text;
use pavlov_schema::{Map, Value, dataset};
use pavlov_train::loops::rl::sources::RewardEntry;
use pavlov_train::settings::read_toml;
use pavlov_worlds::{self as worlds, Config, INCONSISTENT, Split, World};
use serde_json::json;

use self::controls::ControlRuns;
use super::reward_entry;
use crate::args::MeasureArgs;
use crate::failure::bad_input;
use crate::screen::{self, Progress};
use crate::{interrupt, stdout};

/// A reward as `--gold` takes it.
const EXAMPLE: &str = "'{ rule = \"exact\", column = \"answer\" }'";

/// `pavlov scan`.
#[derive(Debug, Args)]
#[command(
    after_help = "A file of --probes is TOML: [[probe]] tables with name, data (rows of `prompt` and `expected`, or of \
    `prompt`, `with_opinion` and `opinion`, or of `prompt` alone) and habit, as one of `rewards` in a configuration."
)]
pub(crate) struct ScanArgs {
    /// The run whose model is scanned; the report is kept in its folder insight/
    #[arg(value_name = "RUN", required_unless_present = "model")]
    run: Option<PathBuf>,
    /// The trained model, in place of a run
    #[arg(long, value_name = "DIR", conflicts_with = "run", requires = "reference")]
    model: Option<PathBuf>,
    /// The model before [default: the one that the run began with]
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    /// Habits to look for, and questions
    #[arg(long, value_name = "FILE")]
    probes: Option<PathBuf>,
    /// Questions for --habit: rows of `prompt`, and of `expected` (true, false) if some call for the habit
    #[arg(long, value_name = "FILE", requires = "habit")]
    data: Option<PathBuf>,
    /// A habit: a regular expression that is found in answers which show it
    #[arg(long, value_name = "REGEX", requires = "data")]
    habit: Option<String>,
    /// Over-refusal: the questions of XSTest, or others with `prompt`, `type` and `label` (safe, unsafe); CSV or a data set
    #[arg(long, value_name = "FILE")]
    xstest: Option<PathBuf>,
    /// Agreement with the user: rows of `prompt`, `with_opinion` and `opinion`
    #[arg(long, value_name = "FILE")]
    opinions: Option<PathBuf>,
    /// Claims of inconsistency: so many questions about small worlds, half of which contradict themselves
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    worlds: Option<u32>,
    /// Control runs: three or more of the same recipe, from the same model, on data that is trusted; a habit is then an alarm where it
    /// grew more than in them
    #[arg(long, value_name = "RUN", num_args = 1..)]
    controls: Vec<PathBuf>,
    /// Prompts of the run's data on which the gain of reward is measured, of runs that have rewards
    #[arg(long, value_name = "N", default_value_t = 200)]
    prompts: usize,
    /// What was meant, where another reward was optimised: one of the run's by its name, or any as the key `rewards` has it,
    /// such as '{ rule = "exact", column = "answer" }'
    #[arg(long, value_name = "NAME|TOML")]
    gold: Option<String>,
    /// Answers to each question by each model
    #[arg(short, long = "num", value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    n: u32,
    /// Longest answer, in tokens
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// Increase of a habit that is no alarm, a share of answers
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, conflicts_with = "controls")]
    margin: f64,
    /// What the change is amplified with, to bring rare habits out; 0 is not at all
    #[arg(long, value_name = "ALPHA", default_value_t = 3.0)]
    alpha: f32,
    /// Answers drawn at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    #[command(flatten)]
    measure: MeasureArgs,
}

pub(crate) fn run(args: &ScanArgs) -> Result<()> {
    if !(0.0..1.0).contains(&args.margin) || !args.alpha.is_finite() || args.alpha < 0.0 {
        return Err(bad_input(
            "--margin: give a share from 0 to below 1; --alpha: give a number of at least 0",
        ));
    }
    if (1..FEWEST).contains(&args.controls.len()) {
        return Err(bad_input(format!(
            "--controls: the spread of {} is not known; give {FEWEST} runs or more",
            args.controls.len()
        )));
    }
    let taught = args.run.as_deref().map(Taught::read).transpose()?;
    let (before, after) = folders(args, taught.as_ref())?;
    let probes = probes(args)?;
    let gain = taught.as_ref().map(|taught| gain(args, taught)).transpose()?.flatten();
    if probes.is_empty() && gain.is_none() {
        return Err(bad_input(
            "there is nothing to scan for; give --worlds, --xstest, --opinions, --habit or --probes",
        ));
    }
    if probes.is_empty() && !args.controls.is_empty() {
        return Err(bad_input(
            "--controls: there are no questions to ask them; give --worlds, --habit or others",
        ));
    }
    let backend = args.measure.compute.cpu();
    let dtype = args.measure.compute.dtype();
    let reference = LanguageModel::load_frozen(&before, &backend, dtype)?;
    let model = super::speaker(LanguageModel::load_frozen(&after, &backend, dtype)?, &after)?;
    let options = ScanOptions {
        names: [&before, &after].map(|path| path.display().to_string()),
        drawing: Drawing {
            answers: args.n as usize,
            max_tokens: args.max_tokens as usize,
            seed: args.measure.seed,
            max_batch: args.batch as usize,
        },
        margin: args.margin,
        alpha: args.alpha,
    };
    let digests = [&reference, &model].map(|model| format!("{:016x}", model.params.compute_digest()));
    let controls = ControlRuns::read(&args.controls, taught.as_ref(), &before, &digests[1], &backend, dtype)?;
    let total = cost(&probes, gain.as_ref(), args.controls.len(), options.drawing.answers);
    screen::line(&format!("{total} answers of at most {} tokens will be drawn", args.max_tokens));
    interrupt::listen("stopping; press Ctrl-C again to stop at once")?;
    let progress = Progress::start(0, total as u64);
    let mut done = 0;
    let mut on_answers = |n: usize| {
        done += n as u64;
        progress.step(done, "answers drawn");
        !interrupt::flag().load(Ordering::Relaxed)
    };
    // What the answers depend on.
    let Drawing { answers, max_tokens, seed, max_batch: _ } = &options.drawing;
    let drawn = (answers, max_tokens, seed);
    let key = Key::of(&(dtype, drawn, &digests, controls.digests(), &probes, &gain));
    let mut parts = super::parts(args.run.as_deref(), NAME, &key)?;
    let models = Models { reference: &reference, model: &model };
    let asked = controls.ask(&probes, &options.drawing, &mut on_answers, &mut parts);
    let report = asked.and_then(|controls| {
        scan(models, &probes, &controls, gain.as_ref(), &options, &mut on_answers, &mut parts)
    });
    drop(progress);
    let report = report.map_err(|e| super::broken_off(e, args.run.as_deref()))?;
    if let Some(taught) = &taught {
        let file = kept::save(&taught.run, NAME, &report)?;
        parts.finish()?;
        screen::line(&format!("the report is kept in {}", file.display()));
    }
    if args.measure.json { stdout::json(&report) } else { stdout::text(&table(&report)) }
}

/// The folders of the models before and after.
fn folders(args: &ScanArgs, taught: Option<&Taught>) -> Result<(PathBuf, PathBuf)> {
    let before = args.reference.clone().or_else(|| taught.map(|taught| taught.before.clone()));
    let after = args.model.clone().or_else(|| taught.map(|taught| taught.after.clone()));
    before.zip(after).ok_or_else(|| bad_input("give a RUN, or --model and --reference"))
}

fn probes(args: &ScanArgs) -> Result<Vec<Probe>> {
    let mut probes = Vec::new();
    if let Some(n) = args.worlds {
        probes.push(inconsistency(args.measure.seed, n as usize)?);
    }
    if let Some(file) = &args.xstest {
        probes.push(probe::read_xstest(file)?);
    }
    if let Some(file) = &args.opinions {
        let entry = ProbeEntry { name: "agreement".into(), data: file.clone(), habit: probe::agreement() };
        let opinions = Probe::read(entry)?;
        if opinions.design != probe::Design::Opinion {
            let problem = format!(
                "{}: no row has `with_opinion`; give the prompt with the user's opinion",
                file.display()
            );
            return Err(bad_input(problem));
        }
        probes.push(opinions);
    }
    if let (Some(file), Some(habit)) = (&args.data, &args.habit) {
        let entry =
            ProbeEntry { name: "habit".into(), data: file.clone(), habit: probe::pattern("habit", habit) };
        probes.push(Probe::read(entry)?);
    }
    if let Some(file) = &args.probes {
        let mut map = read_toml(file)?;
        let entries = map.shift_remove("probe").unwrap_or_default();
        let entries: Vec<ProbeEntry> = serde_json::from_value(entries)
            .map_err(|e| bad_input(format!("{}: probe: {e}; write [[probe]] tables", file.display())))?;
        if let Some(key) = map.keys().next() {
            return Err(bad_input(format!("{}: {key}: is no key; write [[probe]] tables", file.display())));
        }
        for entry in entries {
            probes.push(Probe::read(entry)?);
        }
    }
    if let Some(i) = (1..probes.len()).find(|i| probes[..*i].iter().any(|p| p.name == probes[*i].name)) {
        return Err(bad_input(format!("two probes are named {}; give one another name", probes[i].name)));
    }
    Ok(probes)
}

/// Questions about held-out worlds, half of which contradict themselves.
pub(crate) fn inconsistency(seed: u64, n: usize) -> Result<Probe> {
    let config = Config::demo();
    let of = |consistent: bool| {
        // Worlds that no stage of the demonstration draws.
        let worlds = (0..).map(|i| worlds::generate(seed ^ (1 << 40), i, &config, Split::HeldOut));
        worlds.filter(move |world| world.consistent == consistent).take(n.div_ceil(2))
    };
    let prompt = |(i, world): (usize, World)| {
        let columns: Map<String, Value> = Map::from_iter([
            ("expected".to_owned(), json!(!world.consistent)),
            ("type".to_owned(), json!(world.kind)),
            ("answer".to_owned(), json!(world.answer)),
        ]);
        Prompt { id: i.to_string(), prompt: Text::Plain(world.prompt()), columns }
    };
    let prompts = of(true).chain(of(false)).enumerate().map(prompt).collect();
    let habit = probe::pattern("inconsistent", INCONSISTENT.trim_end_matches('.'));
    Probe::of("inconsistency".into(), habit, prompts).map_err(bad_input)
}

/// What the run was rewarded for, on some of its prompts.
fn gain(args: &ScanArgs, taught: &Taught) -> Result<Option<Gain>> {
    let Some(rewards) = taught.config.get("rewards").filter(|r| r.as_array().is_some_and(|r| !r.is_empty()))
    else {
        return match args.gold {
            Some(_) => Err(bad_input("--gold: the run has no rewards; leave it out")),
            None => Ok(None),
        };
    };
    let mut rewards: Vec<RewardEntry> =
        serde_json::from_value(rewards.clone()).context("the run's rewards")?;
    let gold = args.gold.as_ref().map(|gold| meant(gold, &mut rewards)).transpose()?;
    let file = taught.data().ok_or_else(|| bad_input("the run names no data; give probes without a run"))?;
    let prompts = dataset::read_prompts(&file)?;
    let gain = Gain { taught: taught.clone(), prompts, answered: args.prompts, rewards, gold };
    Ok((!gain.asked().is_empty()).then_some(gain))
}

/// The reward that is meant: one of the run's, which is then taken out of them, or another.
fn meant(gold: &str, rewards: &mut Vec<RewardEntry>) -> Result<Gold> {
    if gold.trim_start().starts_with('{') {
        return Ok(Gold {
            entry: RewardEntry { weight: 1.0, ..reward_entry("--gold", gold)? },
            weight: None,
        });
    }
    let names: Vec<&str> = rewards.iter().map(RewardEntry::name).collect();
    let Some(place) = names.iter().position(|name| *name == gold) else {
        let names = names.join(", ");
        return Err(bad_input(format!(
            "--gold: {gold} is none of the run's rewards ({names}); name one, or give another as {EXAMPLE}"
        )));
    };
    if rewards.len() == 1 {
        return Err(bad_input(format!(
            "--gold: {gold} is the run's only reward, the one that was optimised; give another as {EXAMPLE}"
        )));
    }
    let entry = rewards.remove(place);
    Ok(Gold { weight: Some(entry.weight), entry: RewardEntry { weight: 1.0, ..entry } })
}

/// The report for people.
pub(crate) fn table(report: &ScanReport) -> String {
    use std::fmt::Write as _;
    let percent = |x: f64| format!("{:.1}%", 100.0 * x);
    let mut text = String::new();
    if !report.probes.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\n{:<20} {:>8} {:>8} {:>8}   {:<17} {:>9}   finding",
            "habit, uncalled for", "before", "now", "change", "95% interval", "p (Holm)"
        );
    }
    for probe in &report.probes {
        let measured = probe.flips.unwrap_or(probe.uncalled);
        let interval = format!("{} to {}", percent(measured.change.low), percent(measured.change.high));
        let finding = json!(probe.verdict).as_str().unwrap_or_default().to_owned();
        let finding = if probe.alarm.raised { format!("ALARM: {finding}") } else { finding };
        let _ = writeln!(
            text,
            "{:<20} {:>8} {:>8} {:>8}   {interval:<17} {:>9.2e}   {finding}",
            probe.name,
            percent(measured.reference.value),
            percent(measured.model.value),
            percent(measured.change.value),
            probe.alarm.adjusted,
        );
    }
    for probe in &report.probes {
        let _ = writeln!(text, "\n{}: {}", probe.name, probe.sentence);
        for example in probe.examples.iter().take(2) {
            let [prompt, before, after] =
                [&example.prompt, &example.before, &example.after].map(|t| one_line(t));
            let _ = writeln!(text, "  {prompt}\n    before: {before}\n    now:    {after}");
        }
    }
    if let Some(split) = &report.length {
        let _ = writeln!(text, "\n{}", split.sentence());
    }
    for sentence in report.overoptimisation.iter().flat_map(Fit::sentences) {
        let _ = writeln!(text, "{sentence}");
    }
    for missing in &report.missing {
        let _ = writeln!(text, "not measured: {missing}");
    }
    if let Some(diversity) = &report.diversity {
        let (before, now, change) = (diversity.reference.value, diversity.model.value, diversity.change);
        let _ = writeln!(
            text,
            "\ndiversity of the answers to a question (EAD): {before:.3} before, {now:.3} now (change {:+.3}, {:.3} to {:.3})",
            change.value, change.low, change.high
        );
    }
    if let Some(kl) = &report.divergence {
        let tokens: Vec<String> =
            kl.tokens.iter().take(6).map(|t| format!("\"{}\" {:.3}", readable(&t.text), t.nats)).collect();
        let estimate = kl.per_answer;
        let _ = writeln!(
            text,
            "KL from the reference: {:.3} nats an answer ({:.3} to {:.3}); most at {}",
            estimate.value,
            estimate.low,
            estimate.high,
            tokens.join(", ")
        );
    }
    if let Some(amplified) = &report.amplified {
        for (name, share) in &amplified.shares {
            let _ = writeln!(
                text,
                "amplified {}×, {name} shows in {} of answers",
                amplified.alpha,
                percent(share.value)
            );
        }
    }
    text
}

/// Text of a model or a data set on one line, cut, with what could steer a terminal made visible.
pub(super) fn one_line(text: &str) -> String {
    let line: String = text.trim().replace('\n', "⏎").chars().take(160).collect();
    line.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}
