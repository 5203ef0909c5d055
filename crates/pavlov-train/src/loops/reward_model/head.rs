//! From scores to probabilities: what a scalar output means, and the few learned numbers beside it.

use pavlov_engine::AdamWConfig;
use serde::{Deserialize, Serialize};

use super::lessons::{Lesson, Verdict};
use crate::loss::{
    Outcome, TieModel, bradley_terry, class_probabilities, expected_rating, joint_pairwise,
    joint_probability, ordinal, outcome_probabilities, plackett_luce, preference_probability,
    preference_with_ties, squared_error,
};

/// The law that turns scores into verdicts, with its learned numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Head {
    /// P(first better) = σ(difference), with ties by `ties` and its parameter `eta`. Without ties also of more answers than two
    /// ([`plackett_luce`]).
    Comparisons {
        /// The law of ties; none: they do not happen.
        ties: Option<TieModel>,
        /// η of the law of ties, in nats.
        eta: f64,
    },
    /// rating = `rating_mean` + `rating_std` · score.
    Regression {
        /// Mean of the ratings learned from, in points.
        rating_mean: f64,
        /// Their standard deviation, in points.
        rating_std: f64,
    },
    /// P(rating ≤ `lowest` + k) = σ(θₖ − score).
    Ordinal {
        /// The lowest rating, in points.
        lowest: f64,
        /// The free parameters of the thresholds θ ([`crate::loss::thresholds`]).
        free: Vec<f64>,
    },
    /// P(first better) = σ((score in this order − score in the other)/2).
    Joint,
}

/// A loss over lessons.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeadLoss {
    /// The loss, in nats a lesson (regression: a mean square).
    pub value: f64,
    /// Its derivative with respect to each score.
    pub d_scores: Vec<f32>,
    /// Its derivative with respect to each of [`Head::free`].
    pub d_free: Vec<f64>,
}

impl Head {
    /// Scores that a lesson has: one an answer, or one an order of two answers.
    pub fn is_joint(&self) -> bool {
        *self == Self::Joint
    }

    /// The learned numbers.
    pub fn free(&self) -> &[f64] {
        match self {
            Self::Comparisons { ties: Some(_), eta } => std::slice::from_ref(eta),
            Self::Ordinal { free, .. } => free,
            Self::Comparisons { ties: None, .. } | Self::Regression { .. } | Self::Joint => &[],
        }
    }

    /// The learned numbers, to be changed.
    pub fn free_mut(&mut self) -> &mut [f64] {
        match self {
            Self::Comparisons { ties: Some(_), eta } => std::slice::from_mut(eta),
            Self::Ordinal { free, .. } => free,
            Self::Comparisons { ties: None, .. } | Self::Regression { .. } | Self::Joint => &mut [],
        }
    }

    /// The loss of lessons with these scores, those of one lesson together. `total` is the number of lessons in the
    /// whole update; `center` is the weight of [`bradley_terry`]'s centring term.
    pub fn loss(&self, lessons: &[&Lesson], scores: &[f32], total: usize, center: f64) -> HeadLoss {
        match self {
            Self::Comparisons { ties: None, .. } => comparisons(lessons, scores, total, center),
            Self::Comparisons { ties: Some(model), eta } => {
                let (first, second) = unzip(scores);
                let outcomes: Vec<Outcome> = lessons.iter().map(|lesson| outcome(lesson)).collect();
                let loss = preference_with_ties(*model, &first, &second, &outcomes, *eta, total);
                HeadLoss {
                    value: loss.value,
                    d_scores: zip(&loss.d_first, &loss.d_second),
                    d_free: vec![loss.d_tie],
                }
            }
            Self::Joint => {
                let (ab, ba) = unzip(scores);
                let target = |lesson: &&Lesson| match outcome(lesson) {
                    Outcome::First => 1.0,
                    Outcome::Second => 0.0,
                    Outcome::Tie => 0.5,
                };
                let targets: Vec<f32> = lessons.iter().map(target).collect();
                let loss = joint_pairwise(&ab, &ba, &targets, total);
                HeadLoss { value: loss.value, d_scores: zip(&loss.d_first, &loss.d_second), d_free: vec![] }
            }
            Self::Regression { rating_mean, rating_std } => {
                let standard = |lesson: &&Lesson| ((rating(lesson) - rating_mean) / rating_std) as f32;
                let targets: Vec<f32> = lessons.iter().map(standard).collect();
                let loss = squared_error(scores, &targets, total);
                HeadLoss { value: loss.value, d_scores: loss.d_score, d_free: vec![] }
            }
            Self::Ordinal { lowest, free } => {
                let classes: Vec<usize> = lessons.iter().map(|lesson| class(lesson, *lowest)).collect();
                let loss = ordinal(scores, &classes, free, total);
                HeadLoss { value: loss.value, d_scores: loss.d_score, d_free: loss.d_free }
            }
        }
    }

    /// −log P(verdict) of each lesson, in nats, from its scores: none of a regression, whose loss is no code length.
    ///
    /// A margin is what the loss asks for beyond the verdict; it is no part of the verdict's probability.
    pub fn surprisals(&self, lessons: &[&Lesson], scores: &[f32]) -> Vec<f64> {
        if let Self::Regression { .. } = self {
            return Vec::new();
        }
        let surprisal = |(lesson, scores): (&Lesson, &[f32])| match lesson.verdict {
            Verdict::Pair { outcome, .. } => {
                let bare = Lesson {
                    verdict: Verdict::Pair { outcome, margin: 0.0 },
                    prompt: Vec::new(),
                    answers: vec![Vec::new(); scores.len()],
                    row: 0,
                };
                self.loss(&[&bare], scores, 1, 0.0).value
            }
            Verdict::Ranking(_) | Verdict::Rating(_) => self.loss(&[lesson], scores, 1, 0.0).value,
        };
        each(lessons, scores).map(surprisal).collect()
    }

    /// P(the first answer is better), a tie counting half, from the two scores of a pair.
    ///
    /// A model of ratings answers for the rating that each answer would get; one of regression has no law of noise, so
    /// that its answer is σ(difference in standard deviations), in the right order but not calibrated.
    pub fn preference(&self, first: f32, second: f32) -> f64 {
        match self {
            Self::Comparisons { ties: None, .. } | Self::Regression { .. } => {
                preference_probability(first, second)
            }
            Self::Comparisons { ties: Some(model), eta } => {
                let [better, _, tie] = outcome_probabilities(*model, first, second, *eta);
                better + tie / 2.0
            }
            Self::Joint => joint_probability(first, second),
            Self::Ordinal { free, .. } => {
                let (a, b) = (class_probabilities(first, free), class_probabilities(second, free));
                let mut below = 0.0;
                a.iter().zip(&b).fold(0.0, |sum, (a, b)| {
                    let more = sum + a * (below + b / 2.0);
                    below += b;
                    more
                })
            }
        }
    }

    /// P(the first answer is better | not a tie).
    pub(crate) fn decided(&self, first: f32, second: f32) -> f64 {
        match self {
            Self::Comparisons { ties: Some(model), eta } => {
                let [better, worse, _] = outcome_probabilities(*model, first, second, *eta);
                better / (better + worse)
            }
            _ => self.preference(first, second),
        }
    }

    /// The rating that a score means, in points; none where the model learned from comparisons.
    pub fn rating(&self, score: f32) -> Option<f64> {
        match self {
            Self::Regression { rating_mean, rating_std } => Some(rating_mean + rating_std * score as f64),
            Self::Ordinal { lowest, free } => Some(lowest + expected_rating(score, free)),
            Self::Comparisons { .. } | Self::Joint => None,
        }
    }
}

/// Each lesson with its own scores: one an answer, or, of a joint model, one an order of its two answers.
pub(super) fn each<'a, 'b>(
    lessons: &'b [&'a Lesson],
    scores: &'b [f32],
) -> impl Iterator<Item = (&'a Lesson, &'b [f32])> {
    lessons.iter().copied().scan(scores, |rest, lesson| {
        let (own, later) = rest.split_at(lesson.answers.len());
        *rest = later;
        Some((lesson, own))
    })
}

/// Pairs and rankings, of which ties were left out.
fn comparisons(lessons: &[&Lesson], scores: &[f32], total: usize, center: f64) -> HeadLoss {
    let mut sum = HeadLoss { d_scores: Vec::with_capacity(scores.len()), ..HeadLoss::default() };
    for (lesson, scores) in each(lessons, scores) {
        if let Verdict::Ranking(ranks) = &lesson.verdict {
            let loss = plackett_luce(scores, &[ranks], center, total);
            sum.value += loss.value;
            sum.d_scores.extend(loss.d_score);
            continue;
        }
        let winner = usize::from(outcome(lesson) == Outcome::Second);
        let (chosen, rejected) = (scores[winner], scores[1 - winner]);
        let loss = bradley_terry(&[chosen], &[rejected], &[margin(lesson)], center, total);
        let mut d_scores = [loss.d_first[0], loss.d_second[0]];
        d_scores.rotate_left(winner);
        sum.value += loss.value;
        sum.d_scores.extend(d_scores);
    }
    sum
}

fn unzip(scores: &[f32]) -> (Vec<f32>, Vec<f32>) {
    scores.chunks_exact(2).map(|pair| (pair[0], pair[1])).unzip()
}

fn zip(first: &[f32], second: &[f32]) -> Vec<f32> {
    first.iter().zip(second).flat_map(|(&first, &second)| [first, second]).collect()
}

/// Lessons of pairs and of ratings never meet, one `kind` reads the data; and those who ask this of rankings have looked before.
pub(crate) fn outcome(lesson: &Lesson) -> Outcome {
    match lesson.verdict {
        Verdict::Pair { outcome, .. } => outcome,
        Verdict::Ranking(_) | Verdict::Rating(_) => unreachable!("this head learns from pairs"),
    }
}

fn margin(lesson: &Lesson) -> f32 {
    match lesson.verdict {
        Verdict::Pair { margin, .. } => margin,
        Verdict::Ranking(_) | Verdict::Rating(_) => unreachable!("this head learns from pairs"),
    }
}

pub(crate) fn rating(lesson: &Lesson) -> f64 {
    match lesson.verdict {
        Verdict::Rating(rating) => rating,
        Verdict::Pair { .. } | Verdict::Ranking(_) => unreachable!("a rating is not a comparison"),
    }
}

pub(crate) fn class(lesson: &Lesson, lowest: f64) -> usize {
    (rating(lesson) - lowest).round() as usize
}

/// Adam for the learned numbers beside the decoder, in the order of operations of the engine's AdamW, without decay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScalarAdam {
    steps: u64,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl ScalarAdam {
    /// Moves `values` against `gradients`.
    pub fn step(&mut self, values: &mut [f64], gradients: &[f64], rate: f64, config: &AdamWConfig) {
        let AdamWConfig { beta1, beta2, eps, .. } = *config;
        self.steps += 1;
        self.first.resize(values.len(), 0.0);
        self.second.resize(values.len(), 0.0);
        let correction = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        let (first_correction, second_correction) = (correction(beta1), correction(beta2));
        for (((value, &g), first), second) in
            values.iter_mut().zip(gradients).zip(&mut self.first).zip(&mut self.second)
        {
            *first = beta1 * *first + (1.0 - beta1) * g;
            *second = beta2 * *second + (1.0 - beta2) * g * g;
            *value -= rate / first_correction * *first / ((*second / second_correction).sqrt() + eps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::spread_thresholds;

    fn pair(outcome: Outcome, margin: f32) -> Lesson {
        Lesson {
            prompt: vec![1],
            answers: vec![vec![2], vec![3]],
            verdict: Verdict::Pair { outcome, margin },
            row: 0,
        }
    }

    #[test]
    fn exchanging_a_pair_exchanges_the_derivatives() {
        let heads = [
            Head::Comparisons { ties: None, eta: 0.0 },
            Head::Comparisons { ties: Some(TieModel::Davidson), eta: 0.3 },
            Head::Comparisons { ties: Some(TieModel::RaoKupper), eta: -0.3 },
            Head::Joint,
        ];
        for head in heads {
            let (first, second) = (pair(Outcome::First, 0.0), pair(Outcome::Second, 0.0));
            let (a, b) =
                (head.loss(&[&first], &[0.7, -0.2], 1, 0.0), head.loss(&[&second], &[-0.2, 0.7], 1, 0.0));
            assert_eq!(
                (a.value, a.d_scores[0], a.d_scores[1]),
                (b.value, b.d_scores[1], b.d_scores[0]),
                "{head:?}"
            );
            assert!(a.d_scores[0] < 0.0 && a.d_scores[1] > 0.0);
            let p = head.preference(0.7, -0.2);
            assert!((p + head.preference(-0.2, 0.7) - 1.0).abs() < 1e-12 && p > 0.5);
        }
    }

    #[test]
    fn ratings_compare_by_the_rating_each_answer_would_get() {
        let head = Head::Ordinal { lowest: 1.0, free: spread_thresholds(2) };
        // Two classes at threshold 0: P(4 | s) = σ(s); better ⇔ high beats low, equal classes count half.
        let (p, q) = (1.0 / (1.0 + (-1.0_f64).exp()), 0.5);
        let by_hand = p * (1.0 - q) + 0.5 * (p * q + (1.0 - p) * (1.0 - q));
        assert!((head.preference(1.0, 0.0) - by_hand).abs() < 1e-12);
        assert!((head.rating(1.0).unwrap() - (1.0 + p)).abs() < 1e-12);
    }

    #[test]
    fn the_first_step_of_adam_is_the_rate() {
        let mut values = [1.0, -1.0];
        ScalarAdam::default().step(&mut values, &[0.5, -3.0], 0.1, &AdamWConfig::default());
        assert!((values[0] - 0.9).abs() < 1e-7 && (values[1] + 0.9).abs() < 1e-7, "{values:?}");
    }
}
