//! How much of a gain of reward is length: Kitagawa's decomposition (1955) over buckets of length.
//!
//! With p the share of answers in a bucket, m their mean reward, ′ the trained model:
//! Σ p′m′ − Σ pm = Σ p′(m′ − m) + Σ (p′ − p)m. The first sum is what is gained at equal length, the second what comes of answers
//! being longer or shorter (Singhal et al., arXiv:2310.03716, report the first as the non-length gain).

use pavlov_schema::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::{Estimate, Unit};

/// Buckets, of equal shares of all answers.
const BUCKETS: usize = 8;

/// An answer's length in tokens and its reward.
pub type Answer = (f64, f64);

/// A gain of reward and what it is made of, reward points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthSplit {
    /// The trained model's mean reward minus the reference's.
    pub gain: Estimate,
    /// What of it is gained at equal length.
    pub at_equal_length: Estimate,
    /// What of it comes of other lengths.
    pub by_length: Estimate,
    /// Share of the trained model's answers whose length the reference never has: they count as gained by length, at the
    /// reference's nearest bucket.
    pub beyond_reference: f64,
    /// Mean tokens of an answer of the reference and of the trained model.
    pub tokens: [f64; 2],
}

impl LengthSplit {
    /// What was found, in words.
    pub fn sentence(&self) -> String {
        let [before, now] = self.tokens;
        format!(
            "Reward: {:+.3} points ({:+.3} to {:+.3}), of which {:+.3} at equal length and {:+.3} by length ({before:.1} tokens \
             before, {now:.1} now).",
            self.gain.value, self.gain.low, self.gain.high, self.at_equal_length.value, self.by_length.value,
        )
    }
}

/// Splits the gain over questions, each with the answers of the reference and of the trained model. No question gives NaN.
pub fn split(questions: &[(Vec<Answer>, Vec<Answer>)], rng: &mut Rng) -> LengthSplit {
    let edges = edges(questions);
    let indices: Vec<usize> = (0..questions.len()).collect();
    let parts = |sample: &[usize]| decompose(sample.iter().map(|i| &questions[*i]), &edges);
    let estimate = |rng: &mut Rng, part: fn(&Parts) -> f64| {
        Estimate::of(&indices, Unit::RewardPoints, rng, |sample| part(&parts(sample)))
    };
    let whole = parts(&indices);
    LengthSplit {
        gain: estimate(rng, |p| p.equal + p.length),
        at_equal_length: estimate(rng, |p| p.equal),
        by_length: estimate(rng, |p| p.length),
        beyond_reference: whole.beyond,
        tokens: whole.tokens,
    }
}

/// Upper edges of the buckets but the last.
fn edges(questions: &[(Vec<Answer>, Vec<Answer>)]) -> Vec<f64> {
    let mut lengths: Vec<f64> = questions.iter().flat_map(|(r, m)| r.iter().chain(m)).map(|a| a.0).collect();
    lengths.sort_by(f64::total_cmp);
    let mut edges: Vec<f64> =
        (1..BUCKETS).filter_map(|i| lengths.get(i * lengths.len() / BUCKETS).copied()).collect();
    edges.dedup();
    edges
}

struct Parts {
    equal: f64,
    length: f64,
    beyond: f64,
    tokens: [f64; 2],
}

fn decompose<'a>(questions: impl Iterator<Item = &'a (Vec<Answer>, Vec<Answer>)>, edges: &[f64]) -> Parts {
    // By model and bucket: answers and their summed reward.
    let mut cells = [vec![(0.0, 0.0); edges.len() + 1], vec![(0.0, 0.0); edges.len() + 1]];
    let (mut counts, mut tokens) = ([0.0; 2], [0.0; 2]);
    for question in questions {
        for (side, answers) in [&question.0, &question.1].into_iter().enumerate() {
            for (length, reward) in answers {
                let cell = &mut cells[side][edges.partition_point(|edge| edge < length)];
                *cell = (cell.0 + 1.0, cell.1 + reward);
                counts[side] += 1.0;
                tokens[side] += length;
            }
        }
    }
    let [reference, model] = &cells;
    let known: Vec<usize> = (0..reference.len()).filter(|b| reference[*b].0 > 0.0).collect();
    let mut parts = Parts {
        equal: 0.0,
        length: 0.0,
        beyond: 0.0,
        tokens: [tokens[0] / counts[0], tokens[1] / counts[1]],
    };
    if known.is_empty() {
        return Parts { equal: f64::NAN, length: f64::NAN, ..parts };
    }
    for bucket in 0..reference.len() {
        let (share, shared) = (model[bucket].0 / counts[1], model[bucket].1 / counts[1]);
        // The nearest bucket of the reference that has answers; of two equally near ones the shorter.
        let nearest = known.iter().copied().min_by_key(|b| b.abs_diff(bucket)).unwrap_or(bucket);
        let before = reference[nearest].1 / reference[nearest].0;
        parts.length += (share - reference[bucket].0 / counts[0]) * before;
        if nearest == bucket {
            parts.equal += shared - share * before;
        } else {
            parts.length += shared - share * before;
            parts.beyond += share;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rng::Stream;

    use super::*;

    /// Answers of 10 or 20 tokens, the longer ones with `share`; reward = slope·tokens + bonus.
    fn answers(n: usize, share: f64, bonus: f64, rng: &mut Rng) -> Vec<Vec<Answer>> {
        (0..n)
            .map(|_| {
                let length = if rng.uniform_f64() < share { 20.0 } else { 10.0 };
                vec![(length, 0.1 * length + bonus)]
            })
            .collect()
    }

    fn measured(model_share: f64, bonus: f64) -> LengthSplit {
        let mut rng = Rng::new(2, Stream::Bootstrap, 0, 0);
        let reference = answers(2000, 0.3, 0.0, &mut rng);
        let model = answers(2000, model_share, bonus, &mut rng);
        split(&reference.into_iter().zip(model).collect::<Vec<_>>(), &mut rng)
    }

    #[test]
    fn a_gain_of_length_and_a_gain_at_equal_length_are_told_apart() {
        let only_length = measured(0.8, 0.0);
        // 0.5 more answers are 10 tokens longer, 0.1 points a token.
        assert!((only_length.gain.value - 0.5).abs() < 0.05, "{only_length:?}");
        assert!(only_length.at_equal_length.value.abs() < 1e-9);
        let only_better = measured(0.3, 0.4);
        assert!((only_better.at_equal_length.value - 0.4).abs() < 1e-9, "{only_better:?}");
        assert!(only_better.by_length.low < 0.0 && only_better.by_length.high > 0.0);
        for split in [only_length, only_better] {
            let sum = split.at_equal_length.value + split.by_length.value;
            assert!((sum - split.gain.value).abs() < 1e-9);
        }
    }

    #[test]
    fn lengths_that_the_reference_never_has_count_as_length() {
        let questions = vec![(vec![(10.0, 1.0)], vec![(30.0, 3.0)]); 20];
        let split = split(&questions, &mut Rng::new(0, Stream::Bootstrap, 0, 0));
        assert_eq!((split.gain.value, split.by_length.value, split.beyond_reference), (2.0, 2.0, 1.0));
    }
}
