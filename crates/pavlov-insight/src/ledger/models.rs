//! What takes the models of a run: what was absorbed, what became of held-out answers, and what else moved.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pavlov_engine::Cpu;
use pavlov_lm::LanguageModel;
use pavlov_schema::rng::Rng;
use pavlov_schema::rollout::Rollout;
use pavlov_schema::rollout_file;
use pavlov_schema::{Value, dataset, files};
use pavlov_train::loops::reward_model::{REWARD_FILE, RewardConfig, RewardModel, read_lessons};
use pavlov_train::loops::sft::{self, SftConfig};
use pavlov_train::run::Host;
use pavlov_train::settings::Settings;

use super::answers::{Question, code_lengths, divergences, encode, questions, right};
use super::bits::absorbed;
use super::report::{Absorbed, CodedBy, Cost, Gain, Ledger, Lesson, NAME};
use super::run::Run;
use super::verdicts::{Group, learned};
use super::{Asked, Options};
use crate::parts::{Key, Parts};
use crate::{Error, Estimate, Result, Unit};

/// Rows, questions or verdicts that are one part of the measurement.
const AT_ONCE: usize = 128;

/// A measurement under way.
struct Measuring<'a, 'b> {
    run: &'a Run,
    options: &'a Options,
    asked: &'a mut Asked<'b>,
    parts: Parts,
    /// What was told last: the files of rollouts are many, and one thing.
    told: String,
}

/// Measures what takes models; returns the parts, to be finished once the ledger is kept.
pub(super) fn with_models(
    run: &Run,
    options: &Options,
    cpu: &Arc<Cpu>,
    rng: &mut Rng,
    ledger: &mut Ledger,
    asked: &mut Asked<'_>,
) -> Result<Parts> {
    let Some(folder) = run.taught() else {
        ledger.missing.push("absorbed, gain and KL: the run has no model/ yet; let it finish".into());
        return Ok(Parts::nowhere());
    };
    let start = run.file("model").or_else(|| run.file("adapter")).filter(|folder| folder.exists());
    let load = |folder: &Path| LanguageModel::load_frozen(folder, cpu, options.dtype);
    let after = load(&folder)?;
    let judges = folder.join(REWARD_FILE).exists();
    let before = start.filter(|_| !judges).map(|folder| load(&folder)).transpose()?;
    let mut measuring = Measuring::begin(run, options, [before.as_ref(), Some(&after)], asked)?;
    if judges {
        drop(after);
        ledger.missing.push("gain and KL: a reward model writes no answers".into());
        measuring.verdicts(&folder, cpu, ledger)?;
        return Ok(measuring.parts);
    }
    if run.kind == Lesson::Demonstration {
        measuring.demonstrations(&after, ledger)?;
    }
    let Some(before) = before else {
        ledger.missing.push("gain and KL: the model that the run began with is gone; put it back".into());
        return Ok(measuring.parts);
    };
    if run.kind == Lesson::Reward {
        measuring.rewards(&before, rng, ledger)?;
    }
    measuring.moved(&before, &after, rng, ledger)?;
    Ok(measuring.parts)
}

impl<'a, 'b> Measuring<'a, 'b> {
    /// Goes on with the parts that an interrupted measurement of the same things left.
    fn begin(
        run: &'a Run,
        options: &'a Options,
        models: [Option<&LanguageModel>; 2],
        asked: &'a mut Asked<'b>,
    ) -> Result<Self> {
        let weights = models.map(|model| model.map(|model| model.params.compute_digest()));
        let read = [run.file("eval_data"), options.held_out.clone(), options.elsewhere.clone()];
        let read = read.into_iter().flatten().filter(|file| file.exists()).chain(run.rollouts.clone());
        let read = read.map(|file| files::digest(&file)).collect::<pavlov_schema::Result<Vec<_>>>()?;
        let Options { held_out, elsewhere, questions, max_tokens, agreement: _, seed, dtype } = options;
        let asked_of = (held_out, elsewhere, questions, max_tokens, seed, dtype);
        let parts = Parts::open(&run.path, NAME, &Key::of(&(asked_of, &run.config, weights, read)))?;
        if parts.left() > 0 {
            (asked.tell)("going on from where it was interrupted");
        }
        Ok(Self { run, options, asked, parts, told: String::new() })
    }

    /// One number of each item, some items at a time: each part is kept, and a wish to stop is granted between them. `measure` is
    /// told the place of its first item.
    fn each<T>(
        &mut self,
        what: &str,
        items: &[T],
        mut measure: impl FnMut(&[T], usize) -> Result<Vec<f64>>,
    ) -> Result<Vec<f64>> {
        if self.told != what {
            (self.asked.tell)(what);
            what.clone_into(&mut self.told);
        }
        let mut found = Vec::with_capacity(items.len());
        for (i, items) in items.chunks(AT_ONCE).enumerate() {
            let go_on = (self.asked.go_on)();
            let part =
                self.parts.next(|| if go_on { measure(items, i * AT_ONCE) } else { Err(Error::Stopped) })?;
            found.extend::<Vec<f64>>(part);
        }
        Ok(found)
    }

    /// What held-out demonstrations, encoded as the run did, cost at the end.
    fn demonstrations(&mut self, after: &LanguageModel, ledger: &mut Ledger) -> Result<()> {
        let before: Vec<f64> = self.run.first_visits().iter().map(|visit| visit.bits).collect();
        let mut end = Vec::new();
        let path = self.run.file("eval_data").filter(|file| file.exists());
        // Pre-training cuts texts into pieces: no row is a lesson.
        let path = path.filter(|_| self.run.config.contains_key("completion_only_loss"));
        if let Some(path) = path {
            let config = SftConfig::from_map(self.run.config.clone())?;
            let rows = dataset::read(&path)?;
            let (stop, mut ignore) = (AtomicBool::new(false), |_| {});
            let mut host = Host { stop: &stop, events: &mut ignore, command: &[] };
            let rows = sft::encode(&after.encoder(), &rows, &config, &path, &mut host)?;
            end = self.each("scoring held-out lessons", &rows, |rows, _| code_lengths(after, rows))?;
        }
        record(ledger, absorbed(&before, &end), "eval_data");
        Ok(())
    }

    /// What held-out verdicts cost under the finished reward model.
    fn verdicts(&mut self, folder: &Path, cpu: &Arc<Cpu>, ledger: &mut Ledger) -> Result<()> {
        let mut end = Vec::new();
        if let Some(path) = self.run.file("eval_data").filter(|file| file.exists()) {
            let config = RewardConfig::from_map(self.run.config.clone())?;
            let mut model = RewardModel::load_on(folder, cpu, self.options.dtype)?;
            let (stop, mut ignore) = (AtomicBool::new(false), |_| {});
            let mut host = Host { stop: &stop, events: &mut ignore, command: &[] };
            let lessons = read_lessons(model.files(), &dataset::read(&path)?, &config, &path, &mut host)?;
            let bits = |nats: Vec<f64>| nats.iter().map(|nats| nats / std::f64::consts::LN_2).collect();
            end = self.each("scoring held-out verdicts", &lessons, |lessons, _| {
                Ok(bits(model.surprisals(lessons)?))
            })?;
        }
        let before: Vec<f64> = self.run.first_visits().iter().map(|visit| visit.bits).collect();
        if !before.is_empty() {
            record(ledger, absorbed(&before, &end), "eval_data");
        }
        Ok(())
    }

    /// What the policy came to know of the verdicts on its own answers ([`super::verdicts`]).
    fn rewards(&mut self, before: &LanguageModel, rng: &mut Rng, ledger: &mut Ledger) -> Result<()> {
        let config = &self.run.config;
        if config.get("credit").and_then(Value::as_str).is_some_and(|path| !path.is_empty()) {
            let why =
                "absorbed bits of rewards: the answers are of another policy, which knew other verdicts";
            ledger.missing.push(why.into());
            return Ok(());
        }
        let temperature = config.get("temperature").and_then(Value::as_f64).unwrap_or(1.0) as f32;
        let mut groups = Vec::new();
        for path in &self.run.rollouts {
            let answers: Vec<_> = rollout_file::read(path)?.into_iter().map(|(_, answer)| answer).collect();
            let rollouts: Vec<&Rollout> = answers.iter().map(|answer| &answer.scored.rollout).collect();
            let ratios =
                self.each("scoring rewarded answers under the model before", &rollouts, |rollouts, _| {
                    let (decoder, params) = (&before.decoder, &before.params);
                    let logps = crate::credit::log_probabilities(decoder, params, rollouts, temperature)?;
                    let sum = |logps: &[f32]| logps.iter().map(|logp| f64::from(*logp)).sum::<f64>();
                    let ratio =
                        |(rollout, logps): (&&Rollout, &Vec<f32>)| sum(&rollout.behaviour_logp) - sum(logps);
                    Ok(rollouts.iter().zip(&logps).map(ratio).collect())
                })?;
            let mut ratios = ratios.into_iter();
            for group in super::run::groups(&answers) {
                groups.push(Group {
                    rewards: group.iter().map(|answer| answer.scored.reward).collect(),
                    log_ratios: ratios.by_ref().take(group.len()).collect(),
                });
            }
        }
        match learned(&groups, rng) {
            Some(learned) => {
                let mut absorbed = Absorbed::of(learned.absorbed, ledger, CodedBy::LogRatio);
                absorbed.foretold = Some(learned.foretold);
                ledger.absorbed = Some(absorbed);
            }
            None => ledger.missing.push(
                "absorbed bits of rewards: too few groups of answers earned different rewards; teach longer"
                    .into(),
            ),
        }
        Ok(())
    }

    /// Held-out answers, the distance, and what else moved.
    fn moved(
        &mut self,
        before: &LanguageModel,
        after: &LanguageModel,
        rng: &mut Rng,
        ledger: &mut Ledger,
    ) -> Result<()> {
        let options = self.options;
        let file =
            options.held_out.clone().or_else(|| self.run.file("eval_data")).filter(|file| file.exists());
        let asked =
            file.as_deref().map(|file| questions(file, options.questions)).transpose()?.unwrap_or_default();
        match &file {
            Some(file) if asked.len() > 1 => {
                ledger.gain = Some(self.gain(before, after, &asked, file, ledger, rng)?);
                let bits = self.each("drawing answers for the KL", &asked, |asked, first| {
                    divergences(before, after, asked, (first, options.max_tokens), options.seed)
                })?;
                let kl = Estimate::mean(&bits, Unit::Bits, rng);
                ledger.cost.gain_per_kl =
                    ledger.gain.as_ref().filter(|_| kl.stands_out()).map(|gain| gain.bits.value / kl.value);
                ledger.cost.kl = Some(kl);
            }
            _ => ledger
                .missing
                .push("gain and KL: give --held-out, rows of prompt and completion (or answer)".into()),
        }
        if let Some(file) = &options.elsewhere {
            let asked = questions(file, options.questions)?;
            return self.elsewhere(before, after, &asked, rng, &mut ledger.cost);
        }
        let mend = "what else moved: give --elsewhere, rows of prompt and completion that no lesson touched";
        ledger.missing.push(mend.into());
        Ok(())
    }

    fn gain(
        &mut self,
        before: &LanguageModel,
        after: &LanguageModel,
        asked: &[Question],
        file: &Path,
        ledger: &Ledger,
        rng: &mut Rng,
    ) -> Result<Gain> {
        let place = file.display().to_string();
        let mut lengths = |model: &LanguageModel, what: &str| {
            let rows = encode(model, asked, &place)?;
            self.each(what, &rows, |rows, _| code_lengths(model, rows))
        };
        let old = lengths(before, "scoring held-out answers under the model before")?;
        let new = lengths(after, "and under the model after")?;
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

    fn elsewhere(
        &mut self,
        before: &LanguageModel,
        after: &LanguageModel,
        asked: &[Question],
        rng: &mut Rng,
        cost: &mut Cost,
    ) -> Result<()> {
        let longest = self.options.max_tokens;
        let mut right = |model: &LanguageModel, what: &str| {
            self.each(what, asked, |asked, _| right(model, asked, longest))
        };
        let old = right(before, "asking the model before questions that no lesson touched")?;
        let new = right(after, "and the model after")?;
        let change: Vec<f64> = old.iter().zip(&new).map(|(old, new)| new - old).collect();
        cost.elsewhere_before = Some(Estimate::mean(&old, Unit::Share, rng));
        cost.elsewhere_after = Some(Estimate::mean(&new, Unit::Share, rng));
        cost.elsewhere = Some(Estimate::mean(&change, Unit::Share, rng));
        Ok(())
    }
}

fn record(ledger: &mut Ledger, estimate: Option<Estimate>, data: &str) {
    match estimate {
        Some(bits) => ledger.absorbed = Some(Absorbed::of(bits, ledger, CodedBy::Itself)),
        None => {
            ledger.missing.push(format!("absorbed bits: teach with {data}, held-out rows of the same kind"));
        }
    }
}

/// ln P/(1 − P) of what costs so many bits; P is kept below 1 − 10⁻⁶, which f32 cannot tell from 1.
fn log_odds(bits: f64) -> f64 {
    let p = (-bits * std::f64::consts::LN_2).exp().min(1.0 - 1e-6);
    -bits * std::f64::consts::LN_2 - (1.0 - p).ln()
}
