//! One answer, all tiers.

use std::ops::Range;
use std::time::Instant;

use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::rollout::{Credited, Rollout, Scored};
use serde::{Deserialize, Serialize};

use super::bisect::search;
use super::forwards::Forwards;
use super::rank::spearman;
use super::segment::{Cut, Mark, cut, mark_tokens, pieces};
use super::surrogate::{Surrogate, surrogate};
use super::values::{Concentration, Node, Profile, concentration, profile};
use super::verdict::{Verdict, verdict};
use super::writer::Writer;
use crate::{Estimate, Result, Unit};

/// How much is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effort {
    /// What the parts of an answer are.
    pub cut: Cut,
    /// Whether tier B is measured.
    pub ablate: bool,
    /// Whether tier C is measured.
    pub values: bool,
    /// Tier B: coalitions that are fitted, one draw each.
    pub ablations: usize,
    /// Tier B: coalitions that the fit is checked on.
    pub held_out: usize,
    /// Tier B: draws of each of those.
    pub draws: usize,
    /// Tier C: continuations of a prefix in each of the two sets.
    pub rollouts: usize,
    /// Tier C: most prefixes that are continued.
    pub prefixes: usize,
    /// Names the random numbers of the measurement.
    pub seed: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            cut: Cut::Adaptive,
            ablate: true,
            values: true,
            ablations: 384,
            held_out: 32,
            draws: 8,
            rollouts: 64,
            prefixes: 24,
            seed: 0,
        }
    }
}

/// What an answer's credit costs to measure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Answers that are written, in whole or in part.
    pub answers: usize,
    /// Tokens that are written, if what is written is as long as the answer.
    pub tokens: usize,
}

/// What tier B measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ablated {
    /// The fit.
    #[serde(flatten)]
    pub surrogate: Surrogate,
    /// Mean reward of answers written anew from the prompt, in reward points.
    pub nothing_kept: f64,
}

/// What tier C measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Valued {
    /// Values and credit between neighbouring prefixes, the finest there are.
    #[serde(flatten)]
    pub profile: Profile,
    /// Credit of the parts, in reward points.
    pub segments: Vec<Estimate>,
    /// Concentration over the parts.
    pub concentration: Concentration,
}

/// How far two tiers agree on the parts of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// The two.
    pub between: [String; 2],
    /// Spearman's ρ over parts; its noise floor is what shuffled parts reach in one of twenty cases.
    pub rho: Estimate,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its tokens.
    pub tokens: Range<usize>,
    /// Its text.
    pub text: String,
}

/// Which part of one answer earned its reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerCredit {
    /// The prompt's name.
    pub prompt_id: String,
    /// Its place among the answers to the prompt.
    pub choice: usize,
    /// The prompt as the policy saw it.
    pub prompt: String,
    /// The answer.
    pub completion: String,
    /// What it earned, in reward points.
    pub reward: f64,
    /// The text of each token.
    pub tokens: Vec<String>,
    /// Parts of the answer: what tiers B and C credit.
    pub parts: Vec<Part>,
    /// log π − log-probability when it was written, mean over tokens, in nats: far from 0, the answer is another policy's.
    pub off_policy: f64,
    /// Tier A.
    pub forwards: Forwards,
    /// Tier B.
    pub ablated: Option<Ablated>,
    /// Tier C.
    pub values: Option<Valued>,
    /// People's marks, per token.
    pub marks: Option<Vec<f64>>,
    /// How far tiers, and people, agree.
    pub agreement: Vec<Agreement>,
    /// The word for it; needs tier C.
    pub verdict: Option<Verdict>,
    /// What was found, in words.
    pub sentences: Vec<String>,
    /// Answers written to find it.
    pub written: usize,
}

/// What is asked about.
pub struct Subject<'a> {
    /// The answer.
    pub scored: &'a Scored,
    /// What tier A says about it.
    pub forwards: Forwards,
    /// log π of each token under the policy that is asked.
    pub logp: &'a [f32],
    /// People's marks; empty if nobody marked it.
    pub marks: &'a [Mark],
}

impl Effort {
    /// What one answer of so many tokens costs at most.
    pub fn cost(&self, tokens: usize) -> Cost {
        let ablations = if self.ablate { self.ablations + self.held_out * self.draws } else { 0 };
        let continued = if self.values || self.ablate { 2 * self.rollouts } else { 0 };
        let prefixes = if self.values { self.prefixes } else { 1 };
        // Half of the segments are written anew, and half of an answer follows a prefix.
        Cost {
            answers: ablations + prefixes * continued,
            tokens: (ablations + (prefixes + 1) * continued) * tokens.div_ceil(2),
        }
    }

    /// Seconds that a token of [`Effort::cost`] takes, by a trial of the first of an answer's ablations and continuations: these
    /// read a prefix of the answer for what they write, which on a long prompt takes longer than the writing. `writer` must be at its
    /// prompt.
    ///
    /// # Errors
    /// Those of writing and of rewards.
    pub fn seconds_a_token(&self, writer: &mut Writer, answer: &[u32]) -> Result<f64> {
        const TRIED: usize = 16;
        let started = Instant::now();
        let trial = Self { ablations: TRIED, held_out: 0, rollouts: TRIED / 4, prefixes: 2, ..self.clone() };
        if trial.ablate {
            let parts = cut(&pieces(writer.tokenizer(), answer)?, trial.cut);
            writer.ablate(answer, &parts, coalitions(parts.len(), TRIED, trial.seed, 0), 1)?;
        }
        // Half of an answer follows a prefix.
        let places = if trial.values { vec![0, answer.len() / 2] } else { vec![0] };
        writer.nodes(answer, &places, trial.rollouts)?;
        Ok(started.elapsed().as_secs_f64() / trial.cost(answer.len()).tokens.max(1) as f64)
    }
}

/// Measures one answer. `writer` must be at its prompt.
pub fn credit_answer(writer: &mut Writer, subject: &Subject, effort: &Effort) -> Result<AnswerCredit> {
    let rollout = &subject.scored.rollout;
    let tokens = pieces(writer.tokenizer(), &rollout.tokens)?;
    let parts = cut(&tokens, effort.cut);
    let written = writer.written;
    let stream = |purpose: u64| Rng::new(effort.seed, Stream::Bootstrap, purpose, 0);

    // 1. The reward itself, and whether it is always the same.
    let asked = effort.ablate || effort.values;
    let reward = if asked { mean(&writer.reward_of(&rollout.tokens)?) } else { subject.scored.reward };
    // 2. Tier C: parts first, then what stands out in them.
    let measure =
        |places: &[usize], writer: &mut Writer| writer.nodes(&rollout.tokens, places, effort.rollouts);
    let values = if effort.values {
        let nodes = search(&parts, effort.prefixes, &mut |places| measure(places, writer))?;
        Some(valued(&nodes, &parts, reward, &mut stream(1)))
    } else {
        None
    };
    // 3. Tier B.
    let ablated = if effort.ablate {
        let nothing_kept = match &values {
            Some(values) => values.profile.values[0].value,
            None => mean(&measure(&[0], writer)?[0].sets.concat()),
        };
        let fitted = coalitions(parts.len(), effort.ablations, effort.seed, 0);
        let fitted = writer.ablate(&rollout.tokens, &parts, fitted, 1)?;
        let held_out = coalitions(parts.len(), effort.held_out, effort.seed, 1);
        let held_out = writer.ablate(&rollout.tokens, &parts, held_out, effort.draws)?;
        let surrogate = surrogate(&fitted, &held_out, reward, nothing_kept, &mut stream(2));
        Some(Ablated { surrogate, nothing_kept })
    } else {
        None
    };
    // 4. What it comes to.
    let marks = if subject.marks.is_empty() { None } else { Some(mark_tokens(subject.marks, &tokens)?) };
    let verdict = values
        .as_ref()
        .map(|values| verdict(&values.concentration, ablated.as_ref().map(|ablated| &ablated.surrogate)));
    let parts = parts.into_iter().map(|range| Part { text: tokens[range.clone()].concat(), tokens: range });
    let gaps = subject.logp.iter().zip(&rollout.behaviour_logp).map(|(a, b)| f64::from(a - b));
    let mut credit = AnswerCredit {
        prompt_id: rollout.prompt_id.clone(),
        choice: rollout.choice,
        prompt: rollout.prompt_text.clone(),
        completion: rollout.completion.clone(),
        reward,
        parts: parts.collect(),
        off_policy: if rollout.behaviour_logp.is_empty() { 0.0 } else { mean(&gaps.collect::<Vec<_>>()) },
        forwards: subject.forwards.clone(),
        ablated,
        values,
        marks,
        agreement: Vec::new(),
        verdict,
        sentences: Vec::new(),
        written: writer.written - written,
        tokens,
    };
    credit.agreement = credit.agreements(&mut stream(3));
    credit.sentences = super::words::sentences(&credit);
    Ok(credit)
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

/// Random coalitions: each segment is kept with probability ½.
fn coalitions(segments: usize, n: usize, seed: u64, purpose: u64) -> Vec<Vec<bool>> {
    let mut rng = Rng::new(seed, Stream::Probe, purpose, 0);
    (0..n).map(|_| (0..segments).map(|_| rng.below(2) == 1).collect()).collect()
}

fn valued(nodes: &[Node], parts: &[Range<usize>], reward: f64, rng: &mut Rng) -> Valued {
    let is_boundary = |node: &&Node| {
        parts.iter().any(|part| part.start == node.at) || parts.last().is_some_and(|part| part.end == node.at)
    };
    let coarse: Vec<Node> = nodes.iter().filter(is_boundary).cloned().collect();
    Valued {
        profile: profile(nodes, reward, rng),
        segments: profile(&coarse, reward, rng).deltas,
        concentration: concentration(&coarse, reward, rng),
    }
}

impl AnswerCredit {
    /// Credit of tier C for each token, in reward points: that of its stretch, even over the stretch's tokens.
    pub fn value_tokens(&self) -> Option<Vec<f64>> {
        let profile = &self.values.as_ref()?.profile;
        Some(spread(&profile.spans, &profile.deltas, self.tokens.len()))
    }

    /// As [`AnswerCredit::value_tokens`], in bits; `None` for rewards of more than two outcomes.
    pub fn bit_tokens(&self) -> Option<Vec<f64>> {
        let profile = &self.values.as_ref()?.profile;
        (!profile.bits.is_empty()).then(|| spread(&profile.spans, &profile.bits, self.tokens.len()))
    }

    /// Credit of tier B for each token, in reward points: that of its segment, even over the segment's tokens.
    pub fn ablated_tokens(&self) -> Option<Vec<f64>> {
        let spans: Vec<Range<usize>> = self.parts.iter().map(|part| part.tokens.clone()).collect();
        Some(spread(&spans, &self.ablated.as_ref()?.surrogate.credits, self.tokens.len()))
    }

    /// The best credit there is, as weights to train on, with what they are: tier C's advantage of each stretch for each of
    /// its tokens (VinePPO), else tier B's, else what forward passes say.
    pub fn weights(&self) -> Option<(Vec<f32>, &'static str)> {
        let whole = |spans: &[Range<usize>], numbers: &[Estimate]| {
            let mut weights = vec![0.0; self.tokens.len()];
            for (span, number) in spans.iter().zip(numbers) {
                weights[span.clone()].fill(number.value as f32);
            }
            weights
        };
        let narrow = |numbers: &[f64]| numbers.iter().map(|&x| x as f32).collect();
        let parts: Vec<Range<usize>> = self.parts.iter().map(|part| part.tokens.clone()).collect();
        let Forwards { prefix, log_ratio, .. } = &self.forwards;
        match (&self.values, &self.ablated) {
            (Some(values), _) => {
                Some((whole(&values.profile.spans, &values.profile.deltas), "insight_values"))
            }
            (None, Some(ablated)) => Some((whole(&parts, &ablated.surrogate.credits), "insight_ablation")),
            (None, None) if !prefix.is_empty() => Some((narrow(prefix), "insight_prefix")),
            (None, None) if !log_ratio.is_empty() => Some((narrow(log_ratio), "insight_log_ratio")),
            (None, None) => None,
        }
    }

    /// The answer as a later run trains on it; `None` without any credit.
    pub fn credited(&self, rollout: &Rollout) -> Option<Credited> {
        let (weights, method) = self.weights()?;
        let advantage = match (&self.values, &self.ablated) {
            (Some(values), _) => values.profile.total.value,
            (None, Some(ablated)) => self.reward - ablated.nothing_kept,
            (None, None) => weights.iter().map(|&w| f64::from(w)).sum(),
        };
        let scored = Scored { rollout: rollout.clone(), reward: self.reward, parts: Vec::new() };
        Some(Credited { scored, advantage, weights, method: method.to_owned() })
    }

    /// Spearman's ρ between any two views of the parts.
    fn agreements(&self, rng: &mut Rng) -> Vec<Agreement> {
        let over_parts = |numbers: &[f64]| -> Option<Vec<f64>> {
            let sum = |part: &Part| numbers[part.tokens.clone()].iter().sum();
            (!numbers.is_empty()).then(|| self.parts.iter().map(sum).collect())
        };
        let values = |estimates: &[Estimate]| estimates.iter().map(|estimate| estimate.value).collect();
        let views: Vec<(&str, Option<Vec<f64>>)> = vec![
            ("log_ratio", over_parts(&self.forwards.log_ratio)),
            ("prefix", over_parts(&self.forwards.prefix)),
            ("attention", over_parts(&self.forwards.attention)),
            ("ablation", self.ablated.as_ref().map(|ablated| values(&ablated.surrogate.credits))),
            ("values", self.values.as_ref().map(|own| values(&own.segments))),
            ("marks", self.marks.as_ref().and_then(|marks| over_parts(marks))),
        ];
        let views: Vec<(&str, Vec<f64>)> =
            views.into_iter().filter_map(|(name, view)| Some((name, view?))).collect();
        let mut found = Vec::new();
        for (i, (a, x)) in views.iter().enumerate() {
            for (b, y) in &views[i + 1..] {
                // Attention has no sign: it is compared with sizes.
                let sized = *a == "attention" || *b == "attention";
                let size =
                    |x: &[f64]| -> Vec<f64> { x.iter().map(|x| if sized { x.abs() } else { *x }).collect() };
                if let Some(rho) = correlation(&size(x), &size(y), rng) {
                    found.push(Agreement { between: [(*a).to_owned(), (*b).to_owned()], rho });
                }
            }
        }
        found
    }
}

/// Each number even over the tokens of its span.
fn spread(spans: &[Range<usize>], numbers: &[Estimate], tokens: usize) -> Vec<f64> {
    let mut all = vec![0.0; tokens];
    for (span, number) in spans.iter().zip(numbers) {
        all[span.clone()].fill(number.value / span.len() as f64);
    }
    all
}

fn correlation(a: &[f64], b: &[f64], rng: &mut Rng) -> Option<Estimate> {
    spearman(a, b)?;
    let pairs: Vec<(f64, f64)> = a.iter().copied().zip(b.iter().copied()).collect();
    let statistic = |pairs: &[(f64, f64)]| {
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        spearman(&a, &b).unwrap_or(f64::NAN)
    };
    let mut shuffled = b.to_vec();
    let mut by_chance: Vec<f64> = (0..200)
        .map(|_| {
            rng.shuffle(&mut shuffled);
            spearman(a, &shuffled).unwrap_or(0.0).abs()
        })
        .collect();
    by_chance.sort_by(f64::total_cmp);
    Some(Estimate::of(&pairs, Unit::Correlation, rng, statistic).above(by_chance[190]))
}
