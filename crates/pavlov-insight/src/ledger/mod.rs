//! How much did each lesson teach? Demonstrations, comparisons, ratings and rewards on one axis, in bits.
//!
//! Three numbers that can be wrong: what was *offered* (a ceiling), how much of it a step could *use* (gradient noise), and
//! what was *absorbed* (the prequential code above what lessons cost at the end that were not learned from). Beside them what else moved: KL
//! from the model that the run began with, and right answers to questions that no lesson touched.

mod answers;
pub mod bits;
mod models;
pub mod noise;
mod report;
mod run;
pub mod verdicts;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pavlov_engine::{Cpu, Dtype};
use pavlov_schema::comparison::Choice;
use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::row::Row;
use pavlov_schema::{Value, dataset};

pub use report::{Absorbed, CodedBy, Cost, Gain, Ledger, Lesson, NAME, Offered, Usable, figure};

use self::bits::{comparison_capacity, group_bits, mean, participation};
use self::models::with_models;
use self::noise::noise_scale;
use self::run::{Run, Visit};
use crate::parts::Parts;
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

/// Who asks for a ledger.
pub struct Asked<'a> {
    /// Hears what is being done.
    pub tell: &'a mut dyn FnMut(&str),
    /// Is asked between parts of the measurement whether it is to go on. What was measured is kept, and the next call goes on from
    /// there.
    pub go_on: &'a mut dyn FnMut() -> bool,
}

/// The ledger of a run, and the parts it was measured in, to be finished once it is kept.
pub fn measure(
    run: &Path,
    options: &Options,
    cpu: &Arc<Cpu>,
    asked: &mut Asked<'_>,
) -> Result<(Ledger, Parts)> {
    let run = Run::read(run)?;
    let mut rng = Rng::new(options.seed, Stream::Bootstrap, 0, 0);
    (asked.tell)("reading lessons");
    let mut ledger = of_run(&run, options, &mut rng)?;
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
    let parts = with_models(&run, options, cpu, &mut rng, &mut ledger, asked)?;
    Ok((ledger, parts))
}

/// The most bits that the lessons of a run could teach, as its ledger has them; none where their loss is no code length.
pub fn offered(run: &Path) -> Result<Option<Estimate>> {
    let (run, options) = (Run::read(run)?, Options::default());
    let mut rng = Rng::new(options.seed, Stream::Bootstrap, 0, 0);
    Ok(of_run(&run, &options, &mut rng)?.offered.bits)
}

/// What the files of a run say without its models.
fn of_run(run: &Run, options: &Options, rng: &mut Rng) -> Result<Ledger> {
    match run.kind {
        Lesson::Reward => of_rewards(run, rng),
        Lesson::Demonstration | Lesson::Comparison | Lesson::Rating => of_lessons(run, options, rng),
    }
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
    Ok(ledger)
}

/// A line about what a ledger will take, from the sizes of its files.
pub fn cost(run: &Path, options: &Options) -> Result<String> {
    let run = Run::read(run)?;
    let rows: usize = run.lines.iter().map(|line| line.rows.len()).sum();
    let model = run.config.get("model").and_then(Value::as_str).unwrap_or_default();
    Ok(format!(
        "{}: {rows} lessons and {} files of rollouts are read, whose answers are scored once; up to {} answers are scored twice and drawn {}, with {model} and \
         the model it became in memory",
        run.path.display(),
        run.rollouts.len(),
        options.questions,
        if options.elsewhere.is_some() { "three times" } else { "once" },
    ))
}
