//! From vectors to scores: which lessons push for the behaviour.

use std::collections::BTreeMap;
use std::ops::Range;

use pavlov_schema::rng::{Rng, Stream};
use serde::{Deserialize, Serialize};

use super::lesson::Lesson;
use super::linear::{Preconditioner, SecondMoment, dot, norm};
use super::store::Store;
use super::text::Corpus;
use crate::{Result, Unit};

/// LoGra's damping, relative to the mean of a block's diagonal.
pub const DAMPING: f64 = 0.1;
/// Queries with the behaviour and its alternative exchanged at random.
const SHUFFLES: usize = 20;
/// One lesson in so many is scored for these; of few lessons every one.
const SHUFFLED_LESSONS: usize = 2000;

/// How a lesson is scored. In every method more means that it pushes for the behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Words that prompt and answer share with the behaviour's.
    Bm25,
    /// The longest run of words shared with them.
    Span,
    /// Cosine of the differences of activations.
    Activation,
    /// Inner product of the gradients at the last checkpoint.
    GradientDot,
    /// Cosine of the gradients, mean over checkpoints.
    GradientCosine,
    /// Σ learning rate · inner product over checkpoints (TracIn; Pruthi et al., arXiv:2002.08484).
    Tracin,
    /// Influence (Koh and Liang, arXiv:1703.04730): the inner product in the damped inverse of the lessons' second moment, over
    /// their number; mean over checkpoints. To first order the nats by which the behaviour's log-odds fall without the lesson, at
    /// an optimum: what an epoch learns is less, in proportion.
    Logra,
    /// The same of lessons of unit length in that inverse.
    LograCosine,
}

impl Method {
    /// All.
    pub const ALL: [Self; 8] = [
        Self::Bm25,
        Self::Span,
        Self::Activation,
        Self::GradientDot,
        Self::GradientCosine,
        Self::Tracin,
        Self::Logra,
        Self::LograCosine,
    ];

    /// Its name, as `--rank-by` has it; files have `_` for its `-`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bm25 => "bm25",
            Self::Span => "span",
            Self::Activation => "activation",
            Self::GradientDot => "gradient-dot",
            Self::GradientCosine => "gradient-cosine",
            Self::Tracin => "tracin",
            Self::Logra => "logra",
            Self::LograCosine => "logra-cosine",
        }
    }

    /// What it compares lessons by, in a few words.
    pub fn compares(self) -> &'static str {
        match self {
            Self::Bm25 => "Shared words",
            Self::Span => "Longest shared run of words",
            Self::Activation => "Cosine of differences of activations",
            Self::GradientDot => "Inner product of gradients",
            Self::GradientCosine => "Cosine of gradients",
            Self::Tracin => "Learning rates times inner products, summed over checkpoints",
            Self::Logra => "Influence",
            Self::LograCosine => "Influence of lessons of unit length",
        }
    }

    /// What its scores count: only influence has a unit of its own, the others are cosines or known up to a factor.
    pub fn unit(self) -> Unit {
        if self.counts_nats() { Unit::LogOdds } else { Unit::Correlation }
    }

    /// Whether its scores foretell nats of the behaviour's log-odds, and so may be added up.
    pub fn counts_nats(self) -> bool {
        self == Self::Logra
    }
}

/// Scores of lessons.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Their places in the data.
    pub places: Vec<usize>,
    /// Of each method, in the order of the places.
    pub by_method: BTreeMap<Method, Vec<f64>>,
    /// What each method gives where the behaviour and its alternative are exchanged at random, in one of twenty cases.
    pub noise: BTreeMap<Method, f64>,
}

impl Scores {
    /// Adds other scores of the same lessons.
    ///
    /// # Panics
    /// If they are of others.
    pub fn extend(&mut self, other: Self) {
        if self.by_method.is_empty() {
            *self = other;
            return;
        }
        assert_eq!(self.places, other.places, "scores of other lessons");
        self.by_method.extend(other.by_method);
        self.noise.extend(other.noise);
    }

    /// The indices of the lessons, the highest first.
    pub fn ranked(&self, method: Method) -> Vec<usize> {
        let Some(scores) = self.by_method.get(&method) else { return Vec::new() };
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        order
    }
}

/// The mean query, and queries with each case's sign drawn at random: what a query without a behaviour looks like.
struct Queries {
    mean: Vec<f32>,
    shuffled: Vec<Vec<f32>>,
}

impl Queries {
    fn new(cases: &[Vec<f32>], place: &Range<usize>, seed: u64) -> Self {
        let mean_of = |sign: &mut dyn FnMut() -> f32| {
            let mut mean = vec![0.0; place.len()];
            for case in cases {
                let scale = sign() / cases.len() as f32;
                mean.iter_mut().zip(&case[place.clone()]).for_each(|(sum, x)| *sum += scale * x);
            }
            mean
        };
        let shuffled = (0..SHUFFLES)
            .map(|i| {
                let mut rng = Rng::new(seed, Stream::Bootstrap, 4, i as u64);
                mean_of(&mut || if rng.next_u32() & 1 == 0 { 1.0 } else { -1.0 })
            })
            .collect();
        Self { mean: mean_of(&mut || 1.0), shuffled }
    }
}

/// The value that one of twenty exceeds.
fn one_in_twenty(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * 19 / 20).copied().unwrap_or(f64::NAN)
}

/// Scores by differences of activations, which have this place in the vectors: the cosine with the mean of the cases'.
pub fn by_activation(store: &Store, cases: &[Vec<f32>], place: Range<usize>, seed: u64) -> Result<Scores> {
    let queries = Queries::new(cases, &place, seed);
    let every = store.len().div_ceil(SHUFFLED_LESSONS).max(1);
    let (mut scores, mut values, mut noise) = (Scores::default(), Vec::new(), Vec::new());
    store.each(&mut |lesson, vector| {
        let vector = &vector[place.clone()];
        let length = norm(vector);
        let cosine = |query: &[f32]| dot(query, vector) / (length * norm(query));
        if values.len() % every == 0 {
            noise.extend(queries.shuffled.iter().map(|query| cosine(query).abs()));
        }
        scores.places.push(lesson);
        values.push(cosine(&queries.mean));
        Ok(())
    })?;
    scores.by_method.insert(Method::Activation, values);
    scores.noise.insert(Method::Activation, one_in_twenty(noise));
    Ok(scores)
}

/// A checkpoint's vectors.
pub struct Checkpoint {
    /// Of the lessons.
    pub store: Store,
    /// Of the cases of the behaviour.
    pub cases: Vec<Vec<f32>>,
    /// The gradient's place in the vectors.
    pub gradient: Range<usize>,
    /// The learning rate there.
    pub learning_rate: f64,
    /// The second moment of the lessons' vectors.
    pub moment: SecondMoment,
}

/// Scores by gradients, averaged over checkpoints, of which the last is the last.
pub fn by_gradient(checkpoints: &[Checkpoint], seed: u64) -> Result<Scores> {
    let mut scores = Scores::default();
    let mut sums: BTreeMap<Method, Vec<f64>> = BTreeMap::new();
    let mut noises: BTreeMap<Method, Vec<f64>> = BTreeMap::new();
    for (k, checkpoint) in checkpoints.iter().enumerate() {
        let last = k + 1 == checkpoints.len();
        let preconditioner = checkpoint.moment.damped(DAMPING);
        let queries = Queries::new(&checkpoint.cases, &checkpoint.gradient, seed);
        let mean = Prepared::new(&queries.mean, &preconditioner);
        let shuffled: Vec<Prepared> =
            queries.shuffled.iter().map(|query| Prepared::new(query, &preconditioner)).collect();
        let every = checkpoint.store.len().div_ceil(SHUFFLED_LESSONS).max(1);
        let weights = Weights {
            last,
            rate: checkpoint.learning_rate,
            share: 1.0 / checkpoints.len() as f64,
            lessons: checkpoint.store.len() as f64,
        };
        let mut i = 0;
        checkpoint.store.each(&mut |place, vector| {
            let lesson = Measured::new(&vector[checkpoint.gradient.clone()], &preconditioner);
            if k == 0 {
                scores.places.push(place);
            }
            for (method, score) in mean.scores(&lesson, &weights) {
                let sums = sums.entry(method).or_default();
                if sums.len() <= i {
                    sums.push(0.0);
                }
                sums[i] += score;
            }
            if i % every == 0 {
                for (r, query) in shuffled.iter().enumerate() {
                    for (method, score) in query.scores(&lesson, &weights) {
                        let place = (i / every) * SHUFFLES + r;
                        let noise = noises.entry(method).or_default();
                        noise.resize(noise.len().max(place + 1), 0.0);
                        noise[place] += score;
                    }
                }
            }
            i += 1;
            Ok(())
        })?;
    }
    scores.by_method = sums;
    scores.noise = noises
        .into_iter()
        .map(|(method, noise)| (method, one_in_twenty(noise.into_iter().map(f64::abs).collect())))
        .collect();
    Ok(scores)
}

/// A lesson's vector with what every query needs of it.
struct Measured<'a> {
    vector: &'a [f32],
    length: f64,
    white_length: f64,
}

impl<'a> Measured<'a> {
    fn new(vector: &'a [f32], preconditioner: &Preconditioner) -> Self {
        Self { vector, length: norm(vector), white_length: norm(&preconditioner.whiten(vector)) }
    }
}

/// A query beside the damped inverse times it.
struct Prepared {
    plain: Vec<f32>,
    length: f64,
    solved: Vec<f32>,
    white_length: f64,
}

/// What a checkpoint's scores count.
struct Weights {
    last: bool,
    rate: f64,
    share: f64,
    lessons: f64,
}

impl Prepared {
    fn new(query: &[f32], preconditioner: &Preconditioner) -> Self {
        let white_length = norm(&preconditioner.whiten(query));
        Self { plain: query.to_vec(), length: norm(query), solved: preconditioner.apply(query), white_length }
    }

    fn scores(&self, lesson: &Measured<'_>, weights: &Weights) -> [(Method, f64); 5] {
        let plain = dot(&self.plain, lesson.vector);
        let solved = dot(&self.solved, lesson.vector);
        [
            (Method::GradientDot, if weights.last { plain } else { 0.0 }),
            (Method::GradientCosine, weights.share * plain / (self.length * lesson.length)),
            (Method::Tracin, weights.rate * plain),
            (Method::Logra, weights.share * solved / weights.lessons),
            (Method::LograCosine, weights.share * solved / (self.white_length * lesson.white_length)),
        ]
    }
}

/// Counts and scores words in two passes over lessons.
pub struct TextSearch {
    corpus: Corpus,
    scores: Scores,
}

impl TextSearch {
    /// For the prompts and answers of some cases.
    pub fn new(cases: &[Lesson]) -> Self {
        let texts: Vec<String> = cases.iter().map(|case| case.text.concat()).collect();
        Self { corpus: Corpus::new(texts.iter().map(String::as_str)), scores: Scores::default() }
    }

    /// The first pass.
    pub fn count(&mut self, lessons: &[Lesson]) {
        for lesson in lessons {
            let text = self.corpus.read(&lesson.text.concat());
            self.corpus.add(&text);
        }
    }

    /// The second pass.
    pub fn score(&mut self, lessons: &[Lesson]) {
        for lesson in lessons {
            let text = self.corpus.read(&lesson.text.concat());
            self.scores.places.push(lesson.place);
            self.scores.by_method.entry(Method::Bm25).or_default().push(self.corpus.bm25(&text));
            self.scores.by_method.entry(Method::Span).or_default().push(self.corpus.span(&text));
        }
    }

    /// The scores, which are then forgotten.
    pub fn finish(&mut self) -> Scores {
        std::mem::take(&mut self.scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files write words as `a_b`, options as `a-b`; but for that a method has one name.
    #[test]
    fn methods_have_the_names_of_their_files() {
        for method in Method::ALL {
            assert_eq!(serde_json::to_value(method).unwrap(), method.name().replace('-', "_"));
        }
    }
}
