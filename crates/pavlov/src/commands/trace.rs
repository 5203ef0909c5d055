//! `pavlov trace`: which examples taught it?

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use pavlov_insight::scan::report::{self as scan_report, ScanReport};
use pavlov_insight::taught::{Taught, rollout_files};
use pavlov_insight::trace::cases::{cases, judges, seen};
use pavlov_insight::trace::lesson::{Lesson, Source};
use pavlov_insight::trace::report::{NAME, TraceReport, top_of};
use pavlov_insight::trace::retrain::Retraining;
use pavlov_insight::trace::score::{Method, Scores};
use pavlov_insight::trace::verify::{How, Ranking, Verification, verify};
use pavlov_insight::trace::{At, RANKED_BY, Survey, TraceOptions, report, scores, survey};
use pavlov_insight::{Error as InsightError, kept};
use pavlov_lm::LanguageModel;
use pavlov_schema::rollout::Prompt;
use pavlov_schema::text::Text;
use pavlov_schema::{Map, Value, dataset, files};
use pavlov_train::loops::reward_model::{Kind as RewardKind, RewardConfig, with_head};
use pavlov_train::settings::Settings;
use serde_json::json;

use crate::args::MeasureArgs;
use crate::failure::{Interrupted, bad_input};
use crate::screen::{self, Progress, duration};
use crate::{interrupt, memory, stdout};

/// `pavlov trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// The run that taught the behaviour; the report is kept in its folder insight/
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The answer that shows the behaviour, as it would be written
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    behaviour: String,
    /// Prompts where it shows: rows of `prompt`, and of `alternative` (or `answer`), an answer that does not show it
    /// [default: the examples of the run's scan]
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Data to trace to [default: the run's rollouts if it has any, else its data]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Checkpoints whose gradients count, beside the model before: saved ones of the run, evenly chosen
    #[arg(long, value_name = "N", default_value_t = 0)]
    checkpoints: usize,
    /// What lessons are ranked by
    #[arg(long, value_name = "METHOD", default_value = RANKED_BY.name(), value_parser = method())]
    rank_by: Method,
    /// Numbers that each layer's gradient is projected to, on either side
    #[arg(long, value_name = "K", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=512))]
    projection: u16,
    /// Layer of the residual stream for differences of activations [default: the last]
    #[arg(long, value_name = "L")]
    layer: Option<usize>,
    /// Teach again without the lessons at the top, with them flipped, and without others, and see what the behaviour does
    #[arg(long, conflicts_with = "data")]
    verify: bool,
    /// Lessons that --verify changes [default: three of a hundred]
    #[arg(long, value_name = "K", requires = "verify", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// Seeds of --verify: each is four trainings, or of a run on its own answers one, and three for all
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    seeds: u16,
    /// Longest answer of the model itself, in tokens
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    #[command(flatten)]
    measure: MeasureArgs,
}

/// Methods by their names.
fn method() -> impl TypedValueParser<Value = Method> {
    let names = Method::ALL.map(|method| PossibleValue::new(method.name()).help(method.compares()));
    let named = |name: String| Method::ALL.into_iter().find(|method| method.name() == name);
    PossibleValuesParser::new(names).map(move |name| named(name).expect("no other name is possible"))
}

pub(crate) fn run(args: &TraceArgs) -> Result<()> {
    let taught = Taught::read(&args.run)?;
    let (source, digest) = source(args, &taught)?;
    let prompts = prompts(args, &taught)?;
    let backend = args.measure.compute.cpu();
    let dtype = args.measure.compute.dtype();
    let load = |folder: &Path| LanguageModel::load_frozen(folder, &backend, dtype);
    let (before, after) = (load(&taught.before)?, load(&taught.after)?);
    screen::machine(&backend, dtype);
    let cases = cases(&before, &prompts, &args.behaviour, args.max_tokens as usize)?;
    let before = if judges(&after) { unlearned(before, &taught)? } else { before };
    // Before it has learned, a reward model's scores mean nothing: it is looked at when it has.
    let first = if judges(&after) { &after } else { &before };
    let chosen = chosen_checkpoints(&taught, args.checkpoints)?;
    let loaded = chosen.iter().map(|(path, rate)| Ok((load(path)?, *rate))).collect::<Result<Vec<_>>>()?;
    let name = |model: &LanguageModel| format!("{:016x}", model.params.compute_digest());
    let first_rate = rates(&taught)?.first().map_or(1.0, |(_, rate)| *rate);
    let mut checkpoints = vec![At { name: name(first), learning_rate: first_rate, model: first }];
    checkpoints.extend(loaded.iter().map(|(model, rate)| At {
        name: name(model),
        learning_rate: *rate,
        model,
    }));
    let options = TraceOptions {
        projection: args.projection.into(),
        layer: args.layer.unwrap_or(before.decoder.config().num_layers),
        seed: args.measure.seed,
        key: format!("{}-{digest}-{}", name(first), args.measure.seed),
    };
    let cache = taught.run.join("insight/trace");
    interrupt::listen("stopping: what was computed is kept; press Ctrl-C again to stop at once")?;
    let retraining = args.verify.then(|| retraining(args, &taught)).transpose()?;
    let survey = survey(&source, first, &cases)?;
    let needed = survey.bytes(first, checkpoints.len(), &options)?;
    memory::check("--projection: trace", needed, "lower it, or close other programs")?;
    say_cost(&survey, cases.len(), checkpoints.len(), survey.seconds(first, &options)?);
    let found = scored(&source, survey, &checkpoints, &cases, &cache, &options)?;
    let mut report =
        report(&args.behaviour, &source, [&before, &after], &cases, &found, args.rank_by, args.measure.seed)?;
    if let Some(retraining) = retraining {
        report.verified = Some(verified(args, &retraining, &before, &cases, &found)?);
        report.conclude();
    }
    let file = kept::save(&taught.run, NAME, &report)?;
    screen::line(&format!("the report is kept in {}", file.display()));
    if args.measure.json { stdout::json(&report) } else { stdout::text(&table(&report)) }
}

/// The reward model that a run began with. Errors: one that reads both answers, and scores none.
fn unlearned(before: LanguageModel, taught: &Taught) -> Result<LanguageModel> {
    let config = RewardConfig::from_map(taught.config.clone())?;
    if config.kind == RewardKind::Joint {
        let what =
            "is a joint reward model, which scores no answer alone; trace one of kind = \"comparisons\"";
        return Err(bad_input(format!("{}: {what}", taught.run.display())));
    }
    Ok(with_head(before, config.training.seed)?)
}

/// What is traced to, and what names it.
fn source(args: &TraceArgs, taught: &Taught) -> Result<(Source, String)> {
    if let Some(file) = &args.data {
        return Ok((Source::File(file.clone()), files::digest(file)?));
    }
    let rollouts = rollout_files(&taught.run)?;
    if !rollouts.is_empty() {
        let digests =
            rollouts.iter().map(|file| files::digest(file)).collect::<pavlov_schema::Result<Vec<_>>>()?;
        // One name of many: a sum that the order matters to.
        let number = |digest: &String| u64::from_str_radix(digest, 16).unwrap_or_default();
        let all = digests.iter().map(number).fold(0_u64, |sum, d| sum.rotate_left(7).wrapping_mul(31) ^ d);
        return Ok((Source::Rollouts(rollouts), format!("{all:016x}")));
    }
    let file = taught.data().ok_or_else(|| bad_input("the run names no data; give --data"))?;
    let digest = files::digest(&file)?;
    Ok((Source::File(file), digest))
}

/// Prompts where the behaviour shows.
fn prompts(args: &TraceArgs, taught: &Taught) -> Result<Vec<Prompt>> {
    if let Some(file) = &args.prompts {
        return Ok(dataset::read_prompts(file)?);
    }
    let scan: Option<ScanReport> = kept::load(&taught.run, scan_report::NAME)?;
    let scan = scan.ok_or_else(|| {
        bad_input("--prompts: is missing and the run was not scanned; give it, or scan the run first")
    })?;
    let shows = |example: &&scan_report::Example| example.after.trim() == args.behaviour.trim();
    let examples = scan.probes.iter().flat_map(|probe| &probe.examples).filter(shows);
    let prompts: Vec<Prompt> = examples
        .enumerate()
        .map(|(i, example)| Prompt {
            id: i.to_string(),
            prompt: Text::Plain(example.prompt.clone()),
            columns: Map::from_iter([("alternative".to_owned(), json!(example.before.clone()))]),
        })
        .collect();
    if prompts.is_empty() {
        return Err(bad_input("--behaviour: no example of the run's scan has this answer; give --prompts"));
    }
    Ok(prompts)
}

/// Updates and the learning rate of each, as the run logged them.
fn rates(taught: &Taught) -> Result<Vec<(u64, f64)>> {
    let of =
        |line: &Map<String, Value>| Some((line.get("step")?.as_u64()?, line.get("learning_rate")?.as_f64()?));
    Ok(taught.metrics()?.iter().filter_map(of).collect())
}

/// Saved checkpoints, evenly chosen, the last among them, and their learning rates.
fn chosen_checkpoints(taught: &Taught, n: usize) -> Result<Vec<(PathBuf, f64)>> {
    let folder = taught.run.join("checkpoints");
    let mut saved: Vec<(u64, PathBuf)> = Vec::new();
    if n > 0 {
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("{}: cannot be read", folder.display()))?
        {
            let path = entry.with_context(|| format!("{}: cannot be read", folder.display()))?.path();
            let step = path.file_name().and_then(|name| name.to_str()?.strip_prefix("step-")?.parse().ok());
            saved.extend(step.map(|step| (step, path.clone())));
        }
        saved.sort();
        if saved.len() < n {
            let found = saved.len();
            return Err(bad_input(format!(
                "--checkpoints: the run kept {found}; give at most that, or save more with save_steps"
            )));
        }
    }
    let rates = rates(taught)?;
    let rate =
        |step: u64| rates.iter().min_by_key(|(at, _)| at.abs_diff(step)).map_or(1.0, |(_, rate)| *rate);
    let chosen = (1..=n).map(|i| &saved[i * saved.len() / n - 1]);
    Ok(chosen.map(|(step, path)| (path.clone(), rate(*step))).collect())
}

fn say_cost(survey: &Survey, cases: usize, checkpoints: usize, seconds: f64) {
    let Survey { lessons, tokens, .. } = survey;
    let time = duration(Duration::from_secs_f64((seconds * checkpoints as f64).min(1e9)));
    screen::line(&format!(
        "{lessons} lessons of {tokens} tokens, {cases} cases, {checkpoints} checkpoint(s): about {time}, less what was kept"
    ));
}

/// The scores, under a progress bar.
fn scored(
    source: &Source,
    survey: Survey,
    checkpoints: &[At<'_>],
    cases: &[Lesson],
    cache: &Path,
    options: &TraceOptions,
) -> Result<Scores> {
    let progress = Progress::start(0, (checkpoints.len() * survey.lessons) as u64);
    let mut done = 0;
    let mut on_lessons = |checkpoint: usize, n: usize| {
        done += n as u64;
        let what = if checkpoint == 0 { "gradients and activations" } else { "gradients of a checkpoint" };
        progress.step(done, what);
        !interrupt::flag().load(Ordering::Relaxed)
    };
    let found = scores(source, survey, checkpoints, cases, cache, options, &mut on_lessons);
    drop(progress);
    stopped(found)
}

/// Turns a granted wish to stop into the program's own.
fn stopped<T>(result: pavlov_insight::Result<T>) -> Result<T> {
    match result {
        Err(InsightError::Stopped) => {
            Err(Interrupted("what was computed is kept; the same command goes on".into()).into())
        }
        result => Ok(result?),
    }
}

fn retraining<'a>(args: &TraceArgs, taught: &Taught) -> Result<Retraining<'a>> {
    let folder = taught.run.join("insight/.tmp-retrain");
    Ok(Retraining::new(taught, &folder, args.max_tokens as usize, interrupt::flag())?)
}

fn verified(
    args: &TraceArgs,
    retraining: &Retraining<'_>,
    before: &LanguageModel,
    cases: &[Lesson],
    found: &Scores,
) -> Result<Verification> {
    let order = found.ranked(args.rank_by);
    let ranked: Vec<usize> = order.iter().map(|i| found.places[*i]).collect();
    let k = args.top.map_or_else(|| top_of(ranked.len()), |k| k as usize);
    let seeds: Vec<u64> = (0..u64::from(args.seeds)).map(|i| args.measure.seed + 1 + i).collect();
    let scores = found.by_method.get(&args.rank_by).filter(|_| args.rank_by.counts_nats());
    let foretold = scores.map(|scores| order.iter().take(k).map(|i| scores[*i]).sum());
    let trainings = match retraining.how() {
        How::Retrained => 4 * seeds.len(),
        How::Replayed => 3 + seeds.len(),
    };
    screen::line(&format!("{trainings} trainings to verify"));
    let progress = Progress::start(0, trainings as u64);
    let mut done = 0;
    let ranking = Ranking { ranked: &ranked, k, foretold };
    let result = verify(ranking, &seeds, retraining.how(), seen(before, cases)?, &mut |changes, seed| {
        let seen = seen(&retraining.run(changes, seed)?, cases)?;
        done += 1;
        progress.step(done, "trainings");
        Ok(seen)
    });
    drop(progress);
    stopped(result)
}

/// The report for people.
fn table(report: &TraceReport) -> String {
    use std::fmt::Write as _;
    let mut text = format!("\n{}\n\n{:>6} {:>8}  lesson\n", report.sentence, "place", "score");
    for example in report.examples.iter().take(15) {
        let Example { place, score, prompt, answer } = Example::of(example);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{place:>6} {score:>8.3}  {prompt} → {answer}");
    }
    let noise = report.noise.get(&report.ranked_by).copied().unwrap_or(f64::NAN);
    let method = report.ranked_by.name();
    let _ = writeln!(
        text,
        "\nscore: {method}; by chance up to {noise:.3}. {}\nMore are in insight/trace.json.",
        report.unit
    );
    for grouping in &report.groups {
        let _ = writeln!(text, "\nby {}", grouping.by.replace('_', " "));
        for group in grouping.groups.iter().take(8) {
            let score = group.score;
            let _ = writeln!(
                text,
                "  {:<24} {:>8.3} ({:.3} to {:.3}), {} of {} at the top",
                group.name, score.value, score.low, score.high, group.in_top, score.n
            );
        }
    }
    text
}

/// A lesson on one line.
struct Example {
    place: usize,
    score: f64,
    prompt: String,
    answer: String,
}

impl Example {
    fn of(example: &pavlov_insight::trace::report::Example) -> Self {
        let cut = |text: &str| super::scan::one_line(text);
        let (prompt, answer) = (cut(&example.prompt), cut(&example.answer));
        Self { place: example.place, score: example.score, prompt, answer }
    }
}
