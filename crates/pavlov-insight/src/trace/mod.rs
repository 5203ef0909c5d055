//! Which examples taught it? Scores of lessons for a behaviour, by words, activations and gradients.
//!
//! A behaviour is a set of cases: prompts with the answer that shows it and one that does not. A **case is a lesson** that pushes
//! for the one against the other, so that lessons and cases become vectors in the same way. Contrasting two answers to one
//! prompt, not the behaviour's likelihood, is what keeps style and subject out.

pub mod cases;
pub mod cure;
pub mod eigen;
pub mod ekfac;
pub mod features;
pub mod lesson;
pub mod linear;
pub mod measure;
pub mod report;
pub mod retrain;
pub mod score;
pub mod store;
pub mod text;
pub mod verify;

use std::path::Path;
use std::time::Instant;

use pavlov_lm::LanguageModel;
use pavlov_schema::rng::{Rng, Stream};

use crate::{Error, Estimate, Result, Unit};
use features::Features;
use lesson::{Labels, Lesson, Source};
use linear::SecondMoment;
use report::{Shown, TraceReport};
use score::{Checkpoint, Method, Scores, TextSearch, by_activation, by_gradient};
use store::Store;

/// The method that lessons are ranked by: `docs/validation.md` has the table.
pub const RANKED_BY: Method = Method::Logra;

/// How a behaviour is traced.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceOptions {
    /// Numbers that each layer's gradient is projected to, on either side.
    pub projection: usize,
    /// Layer of the residual stream, 0 to the number of blocks.
    pub layer: usize,
    /// Seed of projections, draws and intervals.
    pub seed: u64,
    /// What the vectors depend on beside these: models and data.
    pub key: String,
}

/// A checkpoint of the stage.
pub struct At<'a> {
    /// Its name, which names its vectors.
    pub name: String,
    /// The learning rate there.
    pub learning_rate: f64,
    /// The model.
    pub model: &'a LanguageModel,
}

/// Is told which checkpoint, from 0, turned how many lessons into vectors; says whether to go on.
pub type OnLessons<'a> = dyn FnMut(usize, usize) -> bool + 'a;

/// What data there is to trace to.
pub struct Survey {
    /// Lessons.
    pub lessons: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Most tokens that are worked on together.
    pub most: usize,
    search: TextSearch,
    first: Vec<Lesson>,
}

/// Goes through the data once: how much there is, for an estimate of what the rest will take, and its words counted.
pub fn survey(source: &Source, before: &LanguageModel, cases: &[Lesson]) -> Result<Survey> {
    let search = TextSearch::new(cases);
    let mut survey = Survey { lessons: 0, tokens: 0, most: 0, search, first: Vec::new() };
    source.each(&before.encoder(), &mut |chunk| {
        let tokens = tokens(chunk);
        survey.lessons += chunk.len();
        survey.tokens += tokens;
        survey.most = survey.most.max(tokens);
        survey.search.count(chunk);
        if survey.first.is_empty() {
            survey.first = chunk.to_vec();
        }
        Ok(())
    })?;
    if survey.lessons == 0 {
        return Err(Error::Question("the data has no lesson that pushes for an answer".into()));
    }
    Ok(survey)
}

fn tokens(lessons: &[Lesson]) -> usize {
    let of_answers = |lesson: &Lesson| lesson.answers.iter().map(|answer| answer.tokens.len()).sum::<usize>();
    lessons.iter().map(|lesson| lesson.prompt.len() + of_answers(lesson)).sum()
}

impl Survey {
    /// Bytes that scoring takes beside the weights of the models.
    pub fn bytes(&self, before: &LanguageModel, checkpoints: usize, options: &TraceOptions) -> Result<u64> {
        let features = Features::projected(before, options.projection, options.seed)?;
        let (moment, pass) = (SecondMoment::bytes(features.parts().into_iter()), features.bytes(self.most));
        // Of each checkpoint the second moment stays; scoring factors one at a time.
        Ok(moment.saturating_mul(1 + checkpoints as u64).saturating_add(pass))
    }

    /// Seconds that one checkpoint will take, by the first lessons.
    pub fn seconds(&self, before: &LanguageModel, options: &TraceOptions) -> Result<f64> {
        let features = Features::projected(before, options.projection, options.seed)?;
        let mut features = features.with_differences(options.layer)?;
        let started = Instant::now();
        features.of(&self.first)?;
        Ok(started.elapsed().as_secs_f64() * self.tokens as f64 / tokens(&self.first) as f64)
    }
}

/// Scores every lesson by every method, with a pass over the data for each checkpoint; the first is the model before, or of models
/// that judge, whose scores mean nothing before they were taught any, the one after. Vectors are kept in `cache`: a trace that was stopped goes on where it was, and another behaviour of the same run needs no new ones.
pub fn scores(
    source: &Source,
    survey: Survey,
    checkpoints: &[At<'_>],
    cases: &[Lesson],
    cache: &Path,
    options: &TraceOptions,
    on_lessons: &mut OnLessons<'_>,
) -> Result<Scores> {
    let Some(before) = checkpoints.first().map(|at| at.model) else {
        return Err(Error::Question("a trace needs a model".into()));
    };
    let mut search = survey.search;
    let mut scores = Scores::default();
    let mut scored = Vec::with_capacity(checkpoints.len());
    for (k, at) in checkpoints.iter().enumerate() {
        let TraceOptions { projection, layer, seed, .. } = *options;
        let mut features = Features::projected(at.model, projection, seed)?;
        let mut key = format!("gradients-{}-{projection}-{}", at.name, options.key);
        if k == 0 {
            features = features.with_differences(layer)?;
            key = format!("both-{layer}-{}-{projection}-{}", at.name, options.key);
        }
        let mut store = Store::open(cache, &key, features.width())?;
        source.each(&before.encoder(), &mut |chunk| {
            if k == 0 {
                search.score(chunk);
            }
            let missing: Vec<Lesson> =
                chunk.iter().filter(|lesson| !store.has(lesson.place)).cloned().collect();
            let found = features.of(&missing)?;
            store.add(missing.iter().map(|lesson| lesson.place).zip(found.iter().map(Vec::as_slice)))?;
            if on_lessons(k, chunk.len()) { Ok(()) } else { Err(Error::Stopped) }
        })?;
        let mut of_cases = Vec::with_capacity(cases.len());
        for chunk in cases.chunks(lesson::CHUNK) {
            of_cases.extend(features.of(chunk)?);
        }
        let mut moment = SecondMoment::new(features.parts().into_iter());
        store.each(&mut |_, vector| {
            moment.add(vector);
            Ok(())
        })?;
        if k == 0 {
            scores = search.finish();
            scores.extend(by_activation(&store, &of_cases, features.differences(), seed)?);
        }
        let (gradient, learning_rate) = (features.gradient(), at.learning_rate);
        scored.push(Checkpoint { store, cases: of_cases, gradient, learning_rate, moment });
    }
    scores.extend(by_gradient(&scored, options.seed)?);
    Ok(scores)
}

/// What the scores say of a behaviour, without verification. `after` is the taught model.
pub fn report(
    behaviour: &str,
    source: &Source,
    [before, after]: [&LanguageModel; 2],
    cases: &[Lesson],
    scores: &Scores,
    ranked_by: Method,
    seed: u64,
) -> Result<TraceReport> {
    let mut rng = Rng::new(seed, Stream::Bootstrap, 7, 0);
    let ranked = scores.ranked(ranked_by);
    let values = scores.by_method.get(&ranked_by).cloned().unwrap_or_default();
    let noise = scores.noise.get(&ranked_by).copied().unwrap_or(0.0);
    let (top, bottom) = report::listed(&ranked);
    let (labels, shown) = look_up(source, before, scores, &[&top[..], &bottom[..]].concat())?;
    let example = |i: &usize| {
        let all = scores.by_method.iter().map(|(method, values)| (*method, values[*i])).collect();
        let shown = shown.iter().find(|shown| shown.place == scores.places[*i])?;
        Some(report::example(shown.clone(), all, ranked_by, noise))
    };
    let mut contrast = |model: &LanguageModel| -> Result<Estimate> {
        Ok(Estimate::mean(&cases::log_odds(model, cases)?, Unit::LogOdds, &mut rng))
    };
    let contrast = [contrast(before)?, contrast(after)?];
    let mut report = TraceReport {
        behaviour: behaviour.to_owned(),
        cases: cases.len(),
        contrast,
        lessons: scores.places.len(),
        ranked_by,
        unit: String::new(),
        noise: scores.noise.clone(),
        above_noise: values.iter().filter(|score| **score > noise).count(),
        examples: top.iter().filter_map(example).collect(),
        opposed: bottom.iter().filter_map(example).collect(),
        groups: report::groupings(&labels, &values, &ranked, ranked_by.unit(), &mut rng),
        verified: None,
        cured: None,
        sentence: String::new(),
    };
    report.conclude();
    Ok(report)
}

/// The labels of all lessons, and some of them as people read them; `indices` are into the scores.
fn look_up(
    source: &Source,
    before: &LanguageModel,
    scores: &Scores,
    indices: &[usize],
) -> Result<(Vec<Labels>, Vec<Shown>)> {
    let wanted: std::collections::BTreeSet<usize> = indices.iter().map(|i| scores.places[*i]).collect();
    let (mut labels, mut shown) = (Vec::with_capacity(scores.places.len()), Vec::new());
    source.each(&before.encoder(), &mut |chunk| {
        for lesson in chunk {
            labels.push(lesson.labels.clone());
            if wanted.contains(&lesson.place) {
                let (place, kind, text) = (lesson.place, lesson.kind, lesson.text.clone());
                shown.push(Shown { place, kind, text, labels: lesson.labels.clone() });
            }
        }
        Ok(())
    })?;
    Ok((labels, shown))
}

impl TraceReport {
    /// Says the finding anew, after a verification.
    pub fn conclude(&mut self) {
        self.sentence = self.say();
        self.unit = self.say_unit();
    }
}
