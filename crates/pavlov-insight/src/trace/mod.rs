//! Which examples taught it? Scores of lessons for a behaviour, by words, activations and gradients.
//!
//! A behaviour is a set of cases: prompts with the answer that shows it and one that does not. A **case is a lesson** that pushes
//! for the one against the other, so that lessons and cases become vectors in the same way. Contrasting two answers to one
//! prompt, not the behaviour's likelihood, is what keeps style and subject out.

pub mod cases;
pub mod cure;
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

use pavlov_lm::LanguageModel;
use pavlov_schema::rng::{Rng, Stream};

use crate::{Error, Estimate, Result, Unit};
use features::{ActivationDifferences, Features, Gradients};
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
    /// Most tokens of the model's own answers.
    pub longest: usize,
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

/// What a pass over the data is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Counting words.
    Words,
    /// Differences of activations.
    Activations,
    /// Gradients at a checkpoint.
    Gradients,
    /// Scoring words.
    Search,
}

/// Is told of lessons that were worked on; says whether to go on.
pub type OnLessons<'a> = dyn FnMut(Pass, usize) -> bool + 'a;

/// What data there is to trace to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Lessons.
    pub lessons: usize,
    /// Their tokens.
    pub tokens: usize,
}

/// Goes through the data once, for an estimate of what the rest will take.
pub fn extent(source: &Source, before: &LanguageModel) -> Result<Extent> {
    let mut extent = Extent::default();
    source.each(&before.encoder(), &mut |chunk| {
        extent.lessons += chunk.len();
        let tokens = |l: &Lesson| l.prompt.len() + l.answers.iter().map(|a| a.tokens.len()).sum::<usize>();
        extent.tokens += chunk.iter().map(tokens).sum::<usize>();
        Ok(())
    })?;
    if extent.lessons == 0 {
        return Err(Error::Question("the data has no lesson that pushes for an answer".into()));
    }
    Ok(extent)
}

/// Scores every lesson by every method. Vectors are kept in `cache`: a trace that was stopped goes on where it was, and another
/// behaviour of the same run needs no new ones.
pub fn scores(
    source: &Source,
    before: &LanguageModel,
    checkpoints: &[At<'_>],
    cases: &[Lesson],
    cache: &Path,
    options: &TraceOptions,
    on_lessons: &mut OnLessons<'_>,
) -> Result<Scores> {
    let mut search = TextSearch::new(cases);
    source.each(&before.encoder(), &mut |chunk| {
        search.count(chunk);
        go_on(on_lessons(Pass::Words, chunk.len()))
    })?;
    let spans: Vec<Vec<String>> = cases.iter().map(|case| text::words(&case.text.concat())).collect();
    source.each(&before.encoder(), &mut |chunk| {
        search.score(chunk, &spans);
        go_on(on_lessons(Pass::Search, chunk.len()))
    })?;
    let mut scores = search.finish();

    let mut activations = ActivationDifferences::new(before, options.layer, options.longest, options.seed)?;
    let key = format!("activations-{}-{}-{}", options.layer, options.longest, options.key);
    let (store, of_cases) = vectors(source, before, cases, &mut activations, (cache, &key), &mut |n| {
        on_lessons(Pass::Activations, n)
    })?;
    scores.extend(by_activation(&store, &of_cases, options.seed)?);

    let mut stores = Vec::with_capacity(checkpoints.len());
    for at in checkpoints {
        let mut gradients = Gradients::new(at.model, options.projection, options.seed)?;
        let key = format!("gradients-{}-{}-{}", at.name, options.projection, options.key);
        let (store, of_cases) = vectors(source, before, cases, &mut gradients, (cache, &key), &mut |n| {
            on_lessons(Pass::Gradients, n)
        })?;
        let mut moment = SecondMoment::new(gradients.parts().into_iter());
        store.each(&mut |_, vector| {
            moment.add(vector);
            Ok(())
        })?;
        stores.push((store, of_cases, at.learning_rate, moment));
    }
    let checkpoints: Vec<Checkpoint<'_>> = stores
        .iter_mut()
        .map(|(store, cases, learning_rate, moment)| Checkpoint {
            store,
            cases: std::mem::take(cases),
            learning_rate: *learning_rate,
            moment: moment.clone(),
        })
        .collect();
    scores.extend(by_gradient(&checkpoints, options.seed)?);
    Ok(scores)
}

fn go_on(yes: bool) -> Result<()> {
    if yes { Ok(()) } else { Err(Error::Stopped) }
}

/// The vectors of all lessons, as far as they are not there yet, and of the cases.
fn vectors(
    source: &Source,
    before: &LanguageModel,
    cases: &[Lesson],
    features: &mut dyn Features,
    (cache, key): (&Path, &str),
    on_lessons: &mut dyn FnMut(usize) -> bool,
) -> Result<(Store, Vec<Vec<f32>>)> {
    let mut store = Store::open(cache, key, features.width())?;
    source.each(&before.encoder(), &mut |chunk| {
        let missing: Vec<Lesson> = chunk.iter().filter(|lesson| !store.has(lesson.place)).cloned().collect();
        let found = features.of(&missing)?;
        store.add(missing.iter().map(|lesson| lesson.place).zip(found.iter().map(Vec::as_slice)))?;
        go_on(on_lessons(chunk.len()))
    })?;
    let mut of_cases = Vec::with_capacity(cases.len());
    for chunk in cases.chunks(lesson::CHUNK) {
        of_cases.extend(features.of(chunk)?);
    }
    Ok((store, of_cases))
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
        let found = cases::log_probabilities(model, cases)?;
        let gaps: Vec<f64> = found.iter().map(|[behaviour, alternative]| behaviour - alternative).collect();
        Ok(Estimate::mean(&gaps, Unit::LogOdds, &mut rng))
    };
    let contrast = [contrast(before)?, contrast(after)?];
    let mut report = TraceReport {
        behaviour: behaviour.to_owned(),
        cases: cases.len(),
        contrast,
        lessons: scores.places.len(),
        ranked_by,
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
    }
}
