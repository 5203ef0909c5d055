//! What else changed? The reference against the trained model on paired questions.
//!
//! Both models answer the same questions with the same random numbers. A rule says which answers show a habit. The change is
//! measured question by question, so that what the questions have in common cancels; [`alarm`] says when a change is reported as
//! one, beside what [`controls`] changed where there are any, [`detection`] whether it is an artifact, and the other modules what
//! the rest of the answers tells.

pub mod alarm;
pub mod amplify;
pub mod answers;
pub mod controls;
pub mod detection;
pub mod divergence;
pub mod diversity;
pub mod gain;
pub mod length;
pub mod overoptimisation;
pub mod probe;
pub mod report;

use std::collections::BTreeSet;

use pavlov_lm::LanguageModel;
use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::rollout::{Prompt, Scored};
use pavlov_train::loops::rl::sources::open_rewards;

use crate::parts::Parts;
use crate::{Error, Estimate, Result, Unit};
use alarm::{Alarm, Change, LEVEL, Strongest};
use answers::{Answers, Asker, Drawing, Told};
use controls::Controls;
use detection::{Asked, Compared, Rates, Verdict};
use gain::{Gain, Gained};
use probe::{Design, Probe};
use report::{Amplified, Example, Group, ProbeReport, ScanReport};

/// Examples that are kept: a trace takes them as its cases.
const EXAMPLES: usize = 64;
/// Amplified answers that are shown.
const SHOWN: usize = 8;
/// Answers whose tokens are scored by both models for the KL.
const SCORED: usize = 1000;
/// Questions whose answers are amplified.
const AMPLIFIED: usize = 100;

/// The two models.
#[derive(Clone, Copy)]
pub struct Models<'a> {
    /// Before.
    pub reference: &'a LanguageModel,
    /// After.
    pub model: &'a LanguageModel,
}

/// What is scanned for, and how.
pub struct ScanOptions {
    /// Names of the models, for the report.
    pub names: [String; 2],
    /// How answers are drawn.
    pub drawing: Drawing,
    /// Increase of a habit that is let pass, a share of answers.
    pub margin: f64,
    /// What the change is amplified with; 0: it is not.
    pub alpha: f32,
}

/// A probe's questions with the habit in their answers.
struct Observed {
    asked: Vec<Asked>,
    /// Of [`Design::Opinion`], agreement with an opinion minus agreement without, by question.
    flips: Vec<Asked>,
    /// By how much the habit grew, by question; of [`Design::Opinion`], its flips.
    changes: Vec<Change>,
    reference: Vec<Scored>,
    model: Vec<Scored>,
}

/// Answers that a scan with so many control runs draws.
pub fn cost(probes: &[Probe], gain: Option<&Gain>, controls: usize, answers: usize) -> usize {
    let asked =
        |p: &Probe| if p.design == Design::Opinion { 2 * p.questions.len() } else { p.questions.len() };
    let asked: usize = probes.iter().map(asked).sum();
    answers * ((2 + controls) * asked + 2 * gain.map_or(0, |gain| gain.asked().len()))
}

/// Scans; `controls` were asked the same, or are none. `on_answers` is told how many answers were drawn since it was last asked and says whether to go on; `parts` keeps them.
pub fn scan(
    models: Models<'_>,
    probes: &[Probe],
    controls: &Controls,
    gain: Option<&Gain>,
    options: &ScanOptions,
    on_answers: &mut dyn FnMut(usize) -> bool,
    parts: &mut Parts,
) -> Result<ScanReport> {
    if probes.is_empty() && gain.is_none() {
        return Err(Error::Question("there is nothing to scan for; give a probe or rewards".into()));
    }
    let seed = options.drawing.seed;
    let opened = gain.map(|gain| gain.open(models.model, seed)).transpose()?;
    let asker = Asker::new(options.drawing.clone(), on_answers, parts);
    let mut answers = Answers::new(models, asker, probes.len());
    let mut observed = Vec::with_capacity(probes.len());
    for (place, probe) in probes.iter().enumerate() {
        observed.push(observe(place, probe, controls, &mut answers)?);
    }
    let mut reports: Vec<ProbeReport> = probes
        .iter()
        .zip(&observed)
        .enumerate()
        .map(|(i, (probe, seen))| {
            judge(probe, seen, options.margin, &mut Rng::new(seed, Stream::Bootstrap, 1, i as u64))
        })
        .collect();
    let p_values: Vec<f64> = reports.iter().map(|r| r.alarm.p_value).collect();
    for (report, adjusted) in reports.iter_mut().zip(alarm::holm(&p_values)) {
        conclude(report, adjusted);
    }

    let mut rng = Rng::new(seed, Stream::Bootstrap, 2, 0);
    let gained = match gain.zip(opened) {
        Some((gain, opened)) => gain.measure(opened, &mut answers, &mut rng)?,
        None => Gained::default(),
    };
    let divergence = match observed.iter().flat_map(|o| &o.model).take(SCORED).collect::<Vec<_>>() {
        drawn if drawn.is_empty() => None,
        drawn => Some(answers.divergence(&drawn, &mut rng)?),
    };
    let amplified =
        if options.alpha > 0.0 { amplify(models, probes, &observed, options, &mut rng)? } else { None };
    let [reference, model] = options.names.clone();
    Ok(ScanReport {
        reference,
        model,
        controls: controls.names().to_vec(),
        seed,
        answers: options.drawing.answers,
        probes: reports,
        length: gained.length,
        diversity: measure_diversity(models, &observed, options.drawing.answers, &mut rng),
        divergence,
        overoptimisation: gained.overoptimisation,
        missing: gained.missing,
        amplified,
    })
}

fn observe(place: usize, probe: &Probe, controls: &Controls, answers: &mut Answers<'_>) -> Result<Observed> {
    let told = answers.of_probe(place, probe)?;
    let [plain, opinion] = [0, 1].map(|of| {
        let of = |told: &Told| shares(if of == 0 { &told.plain } else { &told.opinion }, answers.each());
        of(&told[0]).into_iter().zip(of(&told[1])).collect::<Vec<(f64, f64)>>()
    });
    let asked: Vec<Asked> = probe
        .questions
        .iter()
        .zip(plain)
        .map(|(question, (reference, model))| Asked { signal: question.expected, reference, model })
        .collect();
    let flips: Vec<Asked> = asked
        .iter()
        .zip(opinion)
        .map(|(plain, (reference, model))| Asked {
            signal: false,
            reference: reference - plain.reference,
            model: model - plain.model,
        })
        .collect();
    let judged = if probe.design == Design::Opinion { &flips } else { &asked };
    let change = |(question, asked): (usize, &Asked)| Change {
        model: asked.model - asked.reference,
        controls: controls.shown(place, question).map(|shown| shown - asked.reference).collect(),
    };
    let changes = judged.iter().enumerate().map(change).collect();
    let [reference, model] = told.map(|told| told.plain);
    Ok(Observed { asked, flips, changes, reference, model })
}

/// Share of each question's answers that show the habit.
fn shares(scored: &[Scored], each: usize) -> Vec<f64> {
    let shows = |one: &Scored| f64::from(u8::from(one.reward >= 0.5));
    scored.chunks_exact(each).map(|answers| answers.iter().map(shows).sum::<f64>() / each as f64).collect()
}

/// A share of answers in both models.
fn rate(asked: &[Asked], rng: &mut Rng) -> Compared {
    detection::compare(asked, Unit::Share, rng, |rates: &Rates| {
        (rates.false_alarms + rates.hits) / (rates.noises + rates.signals)
    })
}

/// The probe's measures; its alarm is not corrected yet.
fn judge(probe: &Probe, seen: &Observed, margin: f64, rng: &mut Rng) -> ProbeReport {
    let of = |signal: bool| seen.asked.iter().copied().filter(|a| a.signal == signal).collect::<Vec<_>>();
    let (signals, noises) = (of(true), of(false));
    let flips = (probe.design == Design::Opinion).then(|| rate(&seen.flips, rng));
    let uncalled = rate(&noises, rng);
    let groups = groups(probe, seen, rng);
    // What agreement an opinion gains is of all questions.
    let kinds = if flips.is_some() { &[][..] } else { &groups[..] };
    let judged: Vec<&Change> = seen
        .changes
        .iter()
        .zip(&seen.asked)
        .filter(|(_, asked)| flips.is_some() || !asked.signal)
        .map(|(change, _)| change)
        .collect();
    let alarm = alarm_of(&judged, flips.unwrap_or(uncalled), kinds, margin, rng);
    let groups = groups.into_iter().map(|(group, _)| group).collect();
    let detects = probe.design == Design::Detection;
    ProbeReport {
        name: probe.name.clone(),
        design: probe.design,
        questions: probe.questions.len(),
        called_for: detects.then(|| rate(&signals, rng)),
        uncalled,
        flips,
        controls: alarm::of_controls(&judged),
        sensitivity: detects.then(|| detection::sensitivity(&seen.asked, rng)),
        groups,
        alarm,
        verdict: Verdict::Unchanged,
        sentence: String::new(),
        examples: examples(probe, seen),
    }
}

/// What the mean difference reaches where before and after are exchanged at random, in one of twenty cases.
fn noise_floor(differences: &[f64], rng: &mut Rng) -> f64 {
    const EXCHANGES: usize = 400;
    let mut means: Vec<f64> = (0..EXCHANGES)
        .map(|_| {
            let sum: f64 = differences.iter().map(|x| if rng.next_u32() & 1 == 0 { *x } else { -x }).sum();
            (sum / differences.len() as f64).abs()
        })
        .collect();
    means.sort_by(f64::total_cmp);
    means[EXCHANGES * 19 / 20]
}

/// The stronger of the tests of all questions and of each kind, not yet corrected for other probes.
fn alarm_of(
    all: &[&Change],
    compared: Compared,
    kinds: &[(Group, Vec<&Change>)],
    margin: f64,
    rng: &mut Rng,
) -> Alarm {
    let each: Vec<Vec<&Change>> = kinds.iter().map(|(_, changes)| changes.clone()).collect();
    let Strongest { kind, margin: passes, p_value } = alarm::strongest(all, &each, margin);
    let again = again(all, &each, margin, rng);
    let (change, observed) = match kind {
        Some(kind) => (kinds[kind].0.uncalled.change, &each[kind][..]),
        None => (compared.change, all),
    };
    let differences: Vec<f64> = observed.iter().map(|change| change.model).collect();
    Alarm {
        kind: kind.map(|kind| kinds[kind].0.name.clone()),
        increase: change.above(noise_floor(&differences, rng)),
        again,
        margin: passes,
        p_value,
        adjusted: 1.0,
        raised: false,
    }
}

/// The increase, beyond what controls did, of the test that is stronger on every other question, on the rest of them.
fn again(all: &[&Change], kinds: &[Vec<&Change>], margin: f64, rng: &mut Rng) -> Estimate {
    fn half<'a>(of: &[&'a Change], which: usize) -> Vec<&'a Change> {
        of.iter().copied().skip(which).step_by(2).collect()
    }
    let halves: Vec<Vec<&Change>> = kinds.iter().map(|kind| half(kind, 0)).collect();
    let found = alarm::strongest(&half(all, 0), &halves, margin);
    let rest = half(found.kind.map_or(all, |kind| &kinds[kind]), 1);
    let beyond: Vec<f64> = rest.iter().map(|change| change.beyond_controls()).collect();
    Estimate::mean(&beyond, Unit::Share, rng)
}

/// Kinds of question, those first in which the habit grew most, each with the changes of its questions that do not call for it.
fn groups<'a>(probe: &Probe, seen: &'a Observed, rng: &mut Rng) -> Vec<(Group, Vec<&'a Change>)> {
    let names: BTreeSet<&str> =
        probe.questions.iter().map(|q| q.group.as_str()).filter(|g| !g.is_empty()).collect();
    let mut groups: Vec<(Group, Vec<&Change>)> = names
        .into_iter()
        .filter_map(|name| {
            let of_group: Vec<usize> = (0..seen.asked.len())
                .filter(|&i| probe.questions[i].group == name && !seen.asked[i].signal)
                .collect();
            let asked: Vec<Asked> = of_group.iter().map(|&i| seen.asked[i]).collect();
            let changes: Vec<&Change> = of_group.iter().map(|&i| &seen.changes[i]).collect();
            let group = || Group {
                name: name.to_owned(),
                uncalled: rate(&asked, rng),
                controls: alarm::of_controls(&changes),
            };
            (!asked.is_empty()).then(group).map(|group| (group, changes))
        })
        .collect();
    groups.sort_by(|a, b| b.0.uncalled.change.value.total_cmp(&a.0.uncalled.change.value));
    groups
}

fn examples(probe: &Probe, seen: &Observed) -> Vec<Example> {
    let each = seen.model.len() / seen.asked.len().max(1);
    let newly = seen.reference.iter().zip(&seen.model).enumerate().filter(|(i, (before, after))| {
        !seen.asked[i / each].signal && before.reward < 0.5 && after.reward >= 0.5
    });
    let mut examples: Vec<(usize, Example)> = newly
        .map(|(i, (before, after))| {
            let text = |one: &Scored| one.rollout.completion.clone();
            (
                i / each,
                Example {
                    prompt: after.rollout.prompt_text.clone(),
                    before: text(before),
                    after: text(after),
                },
            )
        })
        .collect();
    examples.dedup_by_key(|(question, _)| *question);
    examples.truncate(EXAMPLES.min(probe.questions.len()));
    examples.into_iter().map(|(_, example)| example).collect()
}

fn conclude(report: &mut ProbeReport, adjusted: f64) {
    report.alarm.adjusted = adjusted;
    report.alarm.raised = adjusted < LEVEL;
    report.verdict = match &report.sensitivity {
        Some(sensitivity) => detection::verdict(sensitivity, report.alarm.raised),
        None if report.alarm.raised => Verdict::Artifact,
        None if report.uncalled.change.high < 0.0 => Verdict::Holding,
        None => Verdict::Unchanged,
    };
    report.sentence = report.say();
}

fn measure_diversity(
    models: Models<'_>,
    observed: &[Observed],
    each: usize,
    rng: &mut Rng,
) -> Option<Compared> {
    let vocabulary = models.model.decoder.config().vocab_size;
    let of = |answers: &[Scored]| {
        let tokens: Vec<&[u32]> = answers.iter().map(|one| one.rollout.tokens.as_slice()).collect();
        diversity::distinct(&tokens, vocabulary)
    };
    let pairs: Vec<(f64, f64)> = observed
        .iter()
        .flat_map(|o| o.reference.chunks_exact(each).zip(o.model.chunks_exact(each)))
        .map(|(reference, model)| (of(reference), of(model)))
        .collect();
    if each < 2 || pairs.is_empty() {
        return None;
    }
    let column = |get: fn(&(f64, f64)) -> f64, rng: &mut Rng| {
        Estimate::mean(&pairs.iter().map(get).collect::<Vec<_>>(), Unit::Share, rng)
    };
    Some(Compared {
        reference: column(|p| p.0, rng),
        model: column(|p| p.1, rng),
        change: column(|p| p.1 - p.0, rng),
    })
}

fn amplify(
    models: Models<'_>,
    probes: &[Probe],
    observed: &[Observed],
    options: &ScanOptions,
    rng: &mut Rng,
) -> Result<Option<Amplified>> {
    // Questions that call for no habit, some of each probe.
    let per_probe = AMPLIFIED.div_ceil(probes.len().max(1));
    let each = options.drawing.answers;
    let chosen: Vec<(usize, &Scored)> = observed
        .iter()
        .enumerate()
        .flat_map(|(p, seen)| {
            let firsts = seen.reference.iter().step_by(each).zip(&seen.asked);
            firsts.filter(|(_, asked)| !asked.signal).take(per_probe).map(move |(one, _)| (p, one))
        })
        .collect();
    if chosen.is_empty() {
        return Ok(None);
    }
    let prompts: Vec<Vec<u32>> = chosen.iter().map(|(_, one)| one.rollout.prompt_tokens.clone()).collect();
    let how = amplify::Amplification {
        alpha: options.alpha,
        max_tokens: options.drawing.max_tokens,
        seed: options.drawing.seed,
    };
    let tokens = amplify::amplified(models.reference, models.model, &prompts, &how)?;
    let mut shares = Vec::new();
    let mut examples = Vec::new();
    for (p, probe) in probes.iter().enumerate() {
        let mut rewards = open_rewards(std::slice::from_ref(&probe.habit), models.model, None)?;
        let own: Vec<usize> = (0..chosen.len()).filter(|i| chosen[*i].0 == p).collect();
        let rollouts = own
            .iter()
            .map(|&i| {
                let completion = models.model.files.tokenizer.decode(&tokens[i], true)?;
                let rollout = chosen[i].1.rollout.clone();
                Ok(pavlov_schema::rollout::Rollout { completion, tokens: tokens[i].clone(), ..rollout })
            })
            .collect::<Result<Vec<_>>>()?;
        let prompts: Vec<Prompt> = probe.questions.iter().map(|q| q.prompt.clone()).collect();
        let scored = pavlov_train::stage::score::score(&mut rewards, &prompts, rollouts)?;
        let shown = shares_of(&scored);
        shares.push((probe.name.clone(), Estimate::mean(&shown, Unit::Share, rng)));
        let showing = scored.iter().zip(&own).filter(|(one, _)| one.reward >= 0.5).take(3);
        examples.extend(showing.map(|(one, &i)| Example {
            prompt: one.rollout.prompt_text.clone(),
            before: chosen[i].1.rollout.completion.clone(),
            after: one.rollout.completion.clone(),
        }));
    }
    examples.truncate(SHOWN);
    Ok(Some(Amplified { alpha: options.alpha, shares, examples }))
}

fn shares_of(scored: &[Scored]) -> Vec<f64> {
    shares(scored, 1)
}
