//! How much did each lesson teach? Demonstrations, comparisons, ratings and rewards on one axis, in bits.
//!
//! Three numbers that can be wrong: what was *offered* (a ceiling), how much of it a step could *use* (gradient noise), and
//! what was *absorbed* (the prequential code above what held-out lessons cost at the end). Beside them what else moved: KL
//! from the model that the run began with, and right answers to questions that no lesson touched.

mod answers;
pub mod bits;
pub mod noise;
mod report;
mod run;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pavlov_engine::{Cpu, Dtype};
use pavlov_lm::LanguageModel;
use pavlov_schema::judgment::Choice;
use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::row::Row;
use pavlov_schema::{Value, dataset};
use pavlov_train::loops::reward_model::{RewardConfig, RewardModel, read_lessons};
use pavlov_train::loops::sft::{self, SftConfig};
use pavlov_train::run::Host;
use pavlov_train::settings::Settings;

pub use report::{Absorbed, Cost, Gain, Ledger, Lesson, NAME, Offered, Usable, figure};

use self::answers::{Question, code_lengths, divergences, encode, questions, right};
use self::bits::{absorbed, comparison_capacity, group_bits, mean, participation};
use self::noise::noise_scale;
use self::run::{Run, Visit};
use crate::{Estimate, Result, Unit};

/// What a ledger is measured with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Held-out questions with answers; none: the run's own `eval_data`.
    pub held_out: Option<PathBuf>,
    /// Questions with answers that no lesson touched.
    pub elsewhere: Option<PathBuf>,
    /// Most questions asked of each file.
    pub questions: usize,
    /// Longest answer drawn, in tokens.
    pub max_tokens: usize,
    /// How often two people agree on a comparison, where it is known from elsewhere.
    pub agreement: Option<f64>,
    /// Seed of resamples and draws.
    pub seed: u64,
    /// Number format of products.
    pub dtype: Dtype,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            held_out: None,
            elsewhere: None,
            questions: 500,
            max_tokens: 64,
            agreement: None,
            seed: 0,
            dtype: Dtype::F32,
        }
    }
}

/// The ledger of a run. `tell` hears what is being done.
pub fn measure(run: &Path, options: &Options, cpu: &Arc<Cpu>, tell: &mut dyn FnMut(&str)) -> Result<Ledger> {
    let run = Run::read(run)?;
    let mut rng = Rng::new(options.seed, Stream::Bootstrap, 0, 0);
    tell("reading lessons");
    let mut ledger = match run.kind {
        Lesson::Reward => of_rewards(&run, &mut rng)?,
        Lesson::Demonstration | Lesson::Comparison | Lesson::Rating => of_lessons(&run, options, &mut rng)?,
    };
    let noise = |square: &dyn Fn(&pavlov_schema::lessons::GradientNorm) -> Option<f64>, rng: &mut Rng| {
        noise_scale(&run.lines, square, rng)
    };
    ledger.usable.noise_scale = noise(&|norm| Some(norm.square), &mut rng);
    ledger.usable.noise_scale_adam = noise(&|norm| norm.adam, &mut rng);
    if ledger.usable.noise_scale.is_none() {
        let mend =
            "noise scale: teach with gradient_accumulation_steps of 2 or more, for gradients of two sizes";
        ledger.missing.push(mend.into());
    }
    with_models(&run, options, cpu, &mut rng, &mut ledger, tell)?;
    Ok(ledger)
}

fn blank(run: &Run, lessons: usize, labels: usize) -> Ledger {
    Ledger {
        run: run.path.display().to_string(),
        kind: run.kind,
        lessons,
        labels,
        seconds: run.seconds,
        offered: Offered::default(),
        usable: Usable::default(),
        absorbed: None,
        gain: None,
        cost: Cost::default(),
        missing: Vec::new(),
    }
}

/// A total over `lessons` from what one is worth.
fn total(each: &Estimate, lessons: usize) -> Estimate {
    let n = lessons as f64;
    Estimate { value: each.value * n, low: each.low * n, high: each.high * n, ..*each }
}

/// Demonstrations and verdicts, from `lessons.jsonl`.
fn of_lessons(run: &Run, options: &Options, rng: &mut Rng) -> Result<Ledger> {
    let visits = run.first_visits();
    let labels = visits.iter().map(|visit| visit.labels).sum();
    let mut ledger = blank(run, run.rows(), labels);
    if visits.is_empty() {
        ledger.missing.push(
            "bits: the loss of a regression is no code length; teach with rating_loss = ordinal".into(),
        );
        return Ok(ledger);
    }
    let bits: Vec<f64> = visits.iter().map(|visit| visit.bits).collect();
    let each = Estimate::mean(&bits, Unit::Bits, rng);
    ledger.offered = Offered {
        bits: Some(total(&each, visits.len())),
        per_lesson: Some(each),
        capacity: if run.kind == Lesson::Comparison { capacity(run, options, rng)? } else { None },
    };
    let energy: Vec<f64> = visits.iter().map(|visit: &Visit| visit.energy).collect();
    ledger.usable.energy = Some(Estimate::mean(&energy, Unit::Nats, rng));
    ledger.usable.participation = Some(participation(&energy));
    Ok(ledger)
}

/// What a comparison can carry, from pairs that two people judged, or from the agreement given.
fn capacity(run: &Run, options: &Options, rng: &mut Rng) -> Result<Option<Estimate>> {
    if let Some(agreement) = options.agreement {
        let value = comparison_capacity(agreement);
        return Ok(Some(Estimate {
            value,
            low: value,
            high: value,
            unit: Unit::Bits,
            noise_floor: None,
            n: 0,
        }));
    }
    let Some(data) = run.file("data").filter(|file| file.exists()) else { return Ok(None) };
    let mut pairs: Vec<(String, Choice)> = Vec::new();
    for row in dataset::read(&data)? {
        let (Row::Judgment(_), Some(comparison)) = (&row, row.comparison()) else { continue };
        let key =
            serde_json::to_string(&(&comparison.prompt, &comparison.a, &comparison.b)).unwrap_or_default();
        pairs.push((key, comparison.choice));
    }
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    let agreed: Vec<f64> = pairs
        .chunk_by(|a, b| a.0 == b.0)
        .filter(|same| same.len() > 1)
        .map(|same| f64::from(u8::from(same[0].1 == same[1].1)))
        .collect();
    let capacity = |agreed: &[f64]| comparison_capacity(mean(agreed));
    Ok((agreed.len() > 1).then(|| Estimate::of(&agreed, Unit::Bits, rng, capacity)))
}

/// Rewards, from rollout files: each prompt's group of answers.
fn of_rewards(run: &Run, rng: &mut Rng) -> Result<Ledger> {
    let (mut groups, mut silent, mut energy, mut answers) = (Vec::new(), Vec::new(), Vec::new(), 0);
    run.groups(|group| {
        let rewards: Vec<f64> = group.iter().map(|answer| answer.scored.reward).collect();
        answers += group.len();
        groups.push(group_bits(&rewards));
        silent.push(f64::from(u8::from(rewards.iter().all(|reward| reward.total_cmp(&rewards[0]).is_eq()))));
        energy.extend(group.iter().map(|answer| {
            let tokens = answer.weights.iter().zip(&answer.scored.rollout.behaviour_logp);
            tokens.map(|(w, logp)| (f64::from(*w) * (1.0 - f64::from(*logp).exp())).powi(2)).sum::<f64>()
        }));
    })?;
    let mut ledger = blank(run, answers, answers);
    let each = Estimate::mean(&groups, Unit::Bits, rng);
    let size = answers as f64 / groups.len().max(1) as f64;
    ledger.offered.bits = Some(total(&each, groups.len()));
    ledger.offered.per_lesson =
        Some(Estimate { value: each.value / size, low: each.low / size, high: each.high / size, ..each });
    ledger.usable.zero_spread = Some(Estimate::mean(&silent, Unit::Share, rng));
    ledger.usable.energy = Some(Estimate::mean(&energy, Unit::RewardPoints, rng));
    ledger.usable.participation = Some(participation(&energy));
    ledger.missing.push(
        "absorbed bits of rewards: this run has no model of its verdicts (a value head); its gain on held-out answers \
         stands beside that of other lessons"
            .into(),
    );
    Ok(ledger)
}

/// What takes the models of the run.
fn with_models(
    run: &Run,
    options: &Options,
    cpu: &Arc<Cpu>,
    rng: &mut Rng,
    ledger: &mut Ledger,
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    let Some(folder) = run.taught() else {
        ledger.missing.push("absorbed, gain and KL: the run has no model/ yet; let it finish".into());
        return Ok(());
    };
    if matches!(run.kind, Lesson::Comparison | Lesson::Rating)
        && folder.join(pavlov_train::loops::reward_model::REWARD_FILE).exists()
    {
        return of_verdicts(run, &folder, options, cpu, ledger, tell);
    }
    let after = LanguageModel::load_frozen(&folder, cpu, options.dtype)?;
    tell("scoring held-out lessons");
    if run.kind == Lesson::Demonstration {
        let before: Vec<f64> = run.first_visits().iter().map(|visit| visit.bits).collect();
        let end = held_out_demonstrations(run, &after)?;
        record_absorbed(ledger, absorbed(&before, &end), "eval_data");
    }
    let start = run.file("model").or_else(|| run.file("adapter")).filter(|folder| folder.exists());
    let Some(start) = start else {
        ledger.missing.push("gain and KL: the model that the run began with is gone; put it back".into());
        return Ok(());
    };
    let before = LanguageModel::load_frozen(&start, cpu, options.dtype)?;
    let file = options.held_out.clone().or_else(|| run.file("eval_data")).filter(|file| file.exists());
    let asked = match &file {
        Some(file) => questions(file, options.questions)?,
        None => Vec::new(),
    };
    match &file {
        Some(file) if asked.len() > 1 => {
            tell("scoring held-out answers under both models");
            ledger.gain = Some(gain(&before, &after, &asked, file, ledger, rng)?);
            tell("drawing answers for the KL");
            let bits = divergences(&before, &after, &asked, options.max_tokens, options.seed)?;
            let kl = Estimate::mean(&bits, Unit::Bits, rng);
            ledger.cost.gain_per_kl =
                ledger.gain.as_ref().filter(|_| kl.stands_out()).map(|gain| gain.bits.value / kl.value);
            ledger.cost.kl = Some(kl);
        }
        _ => ledger
            .missing
            .push("gain and KL: give --held-out, rows of prompt and completion (or answer)".into()),
    }
    match &options.elsewhere {
        Some(file) => {
            tell("asking questions that no lesson touched");
            elsewhere(&before, &after, &questions(file, options.questions)?, options, rng, &mut ledger.cost)?;
        }
        None => ledger.missing.push(
            "what else moved: give --elsewhere, rows of prompt and completion that no lesson touched".into(),
        ),
    }
    Ok(())
}

fn record_absorbed(ledger: &mut Ledger, estimate: Option<Estimate>, data: &str) {
    match estimate {
        Some(bits) => {
            ledger.absorbed = Some(Absorbed {
                per_lesson: bits.value / bits.n as f64,
                per_label: bits.value / ledger.labels.max(1) as f64,
                per_second: bits.value / ledger.seconds,
                bits,
            });
        }
        None => {
            ledger.missing.push(format!("absorbed bits: teach with {data}, held-out rows of the same kind"));
        }
    }
}

/// Bits of each held-out row of `sft`, encoded as the run did.
fn held_out_demonstrations(run: &Run, model: &LanguageModel) -> Result<Vec<f64>> {
    let Some(path) = run.file("eval_data").filter(|file| file.exists()) else { return Ok(Vec::new()) };
    if !run.config.contains_key("completion_only_loss") {
        // Pre-training cuts texts into pieces: no row is a lesson.
        return Ok(Vec::new());
    }
    let config = SftConfig::from_map(run.config.clone())?;
    let rows = dataset::read(&path)?;
    let (stop, mut ignore) = (AtomicBool::new(false), |_| {});
    let mut host = Host { stop: &stop, events: &mut ignore, command: &[] };
    let rows = sft::encode(&model.encoder(), &rows, &config, &path, &mut host)?;
    code_lengths(model, &rows)
}

/// Verdicts: what held-out ones cost under the finished reward model.
fn of_verdicts(
    run: &Run,
    folder: &Path,
    options: &Options,
    cpu: &Arc<Cpu>,
    ledger: &mut Ledger,
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    ledger.missing.push("gain and KL: a reward model writes no answers".into());
    tell("scoring held-out verdicts");
    let mut end = Vec::new();
    if let Some(path) = run.file("eval_data").filter(|file| file.exists()) {
        let config = RewardConfig::from_map(run.config.clone())?;
        let mut model = RewardModel::load_on(folder, cpu, options.dtype)?;
        let (stop, mut ignore) = (AtomicBool::new(false), |_| {});
        let mut host = Host { stop: &stop, events: &mut ignore, command: &[] };
        let lessons = read_lessons(model.files(), &dataset::read(&path)?, &config, &path, &mut host)?;
        end = model.surprisals(&lessons)?.iter().map(|nats| nats / std::f64::consts::LN_2).collect();
    }
    let before: Vec<f64> = run.first_visits().iter().map(|visit| visit.bits).collect();
    if !before.is_empty() {
        record_absorbed(ledger, absorbed(&before, &end), "eval_data");
    }
    Ok(())
}

fn gain(
    before: &LanguageModel,
    after: &LanguageModel,
    asked: &[Question],
    file: &Path,
    ledger: &Ledger,
    rng: &mut Rng,
) -> Result<Gain> {
    let place = file.display().to_string();
    let old = code_lengths(before, &encode(before, asked, &place)?)?;
    let new = code_lengths(after, &encode(after, asked, &place)?)?;
    let paired: Vec<(f64, f64)> = old.iter().copied().zip(new.iter().copied()).collect();
    let differences: Vec<f64> = paired.iter().map(|(old, new)| old - new).collect();
    let bits = Estimate::mean(&differences, Unit::Bits, rng);
    let odds: Vec<f64> = paired.iter().map(|(old, new)| log_odds(*new) - log_odds(*old)).collect();
    Ok(Gain {
        data: place,
        before: Estimate::mean(&old, Unit::Bits, rng),
        after: Estimate::mean(&new, Unit::Bits, rng),
        log_odds: Estimate::mean(&odds, Unit::LogOdds, rng),
        per_thousand: 1000.0 * bits.value / ledger.lessons.max(1) as f64,
        per_second: bits.value / ledger.seconds,
        bits,
    })
}

/// ln P/(1 − P) of what costs so many bits; P is kept below 1 − 10⁻⁶, which f32 cannot tell from 1.
fn log_odds(bits: f64) -> f64 {
    let p = (-bits * std::f64::consts::LN_2).exp().min(1.0 - 1e-6);
    -bits * std::f64::consts::LN_2 - (1.0 - p).ln()
}

fn elsewhere(
    before: &LanguageModel,
    after: &LanguageModel,
    asked: &[Question],
    options: &Options,
    rng: &mut Rng,
    cost: &mut Cost,
) -> Result<()> {
    let old = right(before, asked, options.max_tokens)?;
    let new = right(after, asked, options.max_tokens)?;
    let change: Vec<f64> = old.iter().zip(&new).map(|(old, new)| new - old).collect();
    cost.elsewhere_before = Some(Estimate::mean(&old, Unit::Share, rng));
    cost.elsewhere_after = Some(Estimate::mean(&new, Unit::Share, rng));
    cost.elsewhere = Some(Estimate::mean(&change, Unit::Share, rng));
    Ok(())
}

/// A line about what a ledger will take, from the sizes of its files.
pub fn cost(run: &Path, options: &Options) -> Result<String> {
    let run = Run::read(run)?;
    let rows: usize = run.lines.iter().map(|line| line.rows.len()).sum();
    let model = run.config.get("model").and_then(Value::as_str).unwrap_or_default();
    Ok(format!(
        "{}: {rows} lessons and {} files of rollouts are read; up to {} answers are scored twice and drawn {}, with {model} and \
         the model it became in memory",
        run.path.display(),
        run.rollouts.len(),
        options.questions,
        if options.elsewhere.is_some() { "three times" } else { "once" },
    ))
}
