//! Rows → lessons: comparisons and ratings as tokens.

use std::path::Path;

use pavlov_lm::{ModelFiles, split_pair};
use pavlov_schema::comparison::{Choice, Comparison};
use pavlov_schema::ranking::Ranked;
use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::row::Row;
use pavlov_schema::text::Text;

use super::config::{Kind, RatingLoss, RewardConfig, Ties};
use super::head::{Head, rating};
use crate::loss::{Outcome, spread_thresholds};
use crate::run::{Event, Host};
use crate::{Error, Result};

/// More classes than this are no scale of whole points that people use.
const MOST_CLASSES: f64 = 101.0;

/// A verdict.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// On two answers.
    Pair {
        /// Which is better.
        outcome: Outcome,
        /// By how many reward points the better one should lead; 0 where the row says nothing.
        margin: f32,
    },
    /// On several answers: the rank of each, 1 the best; equals share one.
    Ranking(Vec<u8>),
    /// On one answer, in points.
    Rating(f64),
}

/// Answers to one prompt and the verdict on them.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// The prompt's token ids.
    pub prompt: Vec<u32>,
    /// Two answers or more, or one; each with its end token.
    pub answers: Vec<Vec<u32>>,
    /// What was said of them.
    pub verdict: Verdict,
    /// Its row in the data, from 0.
    pub row: usize,
}

impl Lesson {
    /// Tokens of the longest sequence that a forward pass has of it.
    fn longest(&self, joint: bool) -> usize {
        let answers = self.answers.iter().map(Vec::len);
        self.prompt.len() + if joint { answers.sum::<usize>() } else { answers.max().unwrap_or(0) }
    }

    /// Tokens that a forward pass reads.
    pub(crate) fn tokens(&self, joint: bool) -> usize {
        let answers = self.answers.iter().map(Vec::len).sum::<usize>();
        self.prompt.len() + if joint { 2 * answers } else { answers }
    }
}

/// Reads rows as the lessons that `config.kind` learns from; `path` names them in errors. What is left out is told.
///
/// A ranking is one lesson where answers are scored alone and ties are left out; a law of ties and a joint model know pairs alone
/// and learn from each two of its answers. Answers are put in an order drawn at random, so that "the first is better" is
/// neither always nor never right, which would make its calibration meaningless.
pub fn read_lessons(
    files: &ModelFiles,
    rows: &[Row],
    config: &RewardConfig,
    path: &Path,
    host: &mut Host,
) -> Result<Vec<Lesson>> {
    let (mut lessons, mut long, mut undecided) = (Vec::with_capacity(rows.len()), 0, 0);
    let longest = config.max_length.min(files.config.decoder.max_positions);
    for (i, row) in rows.iter().enumerate() {
        let place = format!("{}: row {}", path.display(), i + 1);
        let found = match config.kind {
            Kind::Comparisons | Kind::Joint => compare(files, row, config, i, &place)?,
            Kind::Ratings => vec![rate(files, row, i, &place)?],
        };
        undecided += usize::from(found.is_empty());
        let fits = |lesson: &Lesson| lesson.longest(config.kind == Kind::Joint) <= longest;
        long += usize::from(!found.iter().all(fits));
        lessons.extend(found.into_iter().filter(fits));
    }
    let mut tell = |count: usize, why: &str| {
        if count > 0 {
            let line = format!("{}: {count} of {} rows are left out: {why}", path.display(), rows.len());
            (host.events)(Event::Note(line));
        }
    };
    tell(long, &format!("longer than {longest} tokens (max_length)"));
    tell(undecided, "no answer is better than another (set ties to learn from ties)");
    if lessons.is_empty() {
        return Err(Error::setting("data", format!("{} has no row to learn from", path.display())));
    }
    Ok(lessons)
}

/// Whether a row is of the kind that `config` learns from, and says something.
pub(super) fn teaches(row: &Row, config: &RewardConfig) -> bool {
    match config.kind {
        Kind::Ratings => row.rated().is_some(),
        Kind::Comparisons | Kind::Joint => {
            let mut said: Vec<Comparison> = row.comparison().into_iter().collect();
            said.extend(row.ranked().iter().flat_map(Ranked::comparisons));
            said.iter().any(|one| outcome(one.choice, config).is_some())
        }
    }
}

/// What is learned from a choice, if anything is.
fn outcome(choice: Choice, config: &RewardConfig) -> Option<Outcome> {
    match choice {
        Choice::A => Some(Outcome::First),
        Choice::B => Some(Outcome::Second),
        Choice::Tie if config.kind == Kind::Joint || config.ties != Ties::None => Some(Outcome::Tie),
        Choice::Tie | Choice::BothBad => None,
    }
}

/// What a row says about which of its answers is better: nothing, one lesson, or one for each two answers of a ranking.
fn compare(
    files: &ModelFiles,
    row: &Row,
    config: &RewardConfig,
    index: usize,
    place: &str,
) -> Result<Vec<Lesson>> {
    let Some(ranked) = row.ranked() else {
        let comparison = row.comparison().ok_or_else(|| Error::Row {
            place: place.to_owned(),
            problem: "is no comparison; give it `chosen` and `rejected`, or `completions` and `ranks`".into(),
        })?;
        return Ok(pair(files, &comparison, config, (0, index), place)?.into_iter().collect());
    };
    if bradley_terry(config) {
        return Ok(rank(files, &ranked, config, index, place)?.into_iter().collect());
    }
    let two = |(n, comparison): (usize, &Comparison)| {
        pair(files, comparison, config, (n as u64, index), place).transpose()
    };
    ranked.comparisons().iter().enumerate().filter_map(two).collect()
}

/// Whether answers are scored alone and the better one is all that is learned.
fn bradley_terry(config: &RewardConfig) -> bool {
    config.kind == Kind::Comparisons && config.ties == Ties::None
}

fn rank(
    files: &ModelFiles,
    ranked: &Ranked,
    config: &RewardConfig,
    index: usize,
    place: &str,
) -> Result<Option<Lesson>> {
    if ranked.ranks.iter().all(|rank| *rank == 1) {
        return Ok(None);
    }
    let mut order: Vec<usize> = (0..ranked.ranks.len()).collect();
    Rng::new(config.training.seed, Stream::Evaluation, 0, index as u64).shuffle(&mut order);
    let texts: Vec<Text> = order.iter().map(|&i| ranked.responses[i].clone()).collect();
    let (prompt, answers) = encode(files, &ranked.prompt, &texts, false, place)?;
    let ranks = order.iter().map(|&i| ranked.ranks[i]).collect();
    Ok(Some(Lesson { prompt, answers, verdict: Verdict::Ranking(ranks), row: index }))
}

/// The lesson of a comparison, if it decides something; `number` tells the comparisons of one row apart.
fn pair(
    files: &ModelFiles,
    comparison: &Comparison,
    config: &RewardConfig,
    (number, index): (u64, usize),
    place: &str,
) -> Result<Option<Lesson>> {
    let wrong = |problem: &str| Error::Row { place: place.to_owned(), problem: problem.to_owned() };
    let Some(outcome) = outcome(comparison.choice, config) else { return Ok(None) };
    let margin = comparison.margin.unwrap_or(0.0) as f32;
    if margin != 0.0 && !bradley_terry(config) {
        return Err(wrong(
            "has a margin, which only kind = \"comparisons\" with ties = \"none\" learns; remove the column",
        ));
    }
    let prompt = Some(&comparison.prompt).filter(|prompt| !prompt.is_empty());
    let (prompt, a, b) =
        split_pair(prompt, &comparison.a, &comparison.b).map_err(|e| wrong(&e.to_string()))?;
    let (prompt, mut answers) = encode(files, &prompt, &[a, b], config.kind == Kind::Joint, place)?;
    let swapped = Rng::new(config.training.seed, Stream::Evaluation, number, index as u64).below(2) == 1;
    let outcome = match (swapped, outcome) {
        (true, Outcome::First) => Outcome::Second,
        (true, Outcome::Second) => Outcome::First,
        (_, outcome) => outcome,
    };
    if swapped {
        answers.reverse();
    }
    Ok(Some(Lesson { prompt, answers, verdict: Verdict::Pair { outcome, margin }, row: index }))
}

fn rate(files: &ModelFiles, row: &Row, index: usize, place: &str) -> Result<Lesson> {
    let rated = row.rated().ok_or_else(|| Error::Row {
        place: place.to_owned(),
        problem: "is no rating; give it `completion` and `score`, or `rating` and `scale`".into(),
    })?;
    let (prompt, answers) = encode(files, &rated.prompt, &[rated.response], false, place)?;
    Ok(Lesson { prompt, answers, verdict: Verdict::Rating(rated.rating), row: index })
}

/// A prompt and its answers, as tokens.
pub(crate) type Group = (Vec<u32>, Vec<Vec<u32>>);

/// A prompt and its answers as tokens. What follows the token at which transformers reads the score is cut off: it
/// cannot change the score. A joint model is ours alone and keeps the end tokens.
pub(crate) fn encode(
    files: &ModelFiles,
    prompt: &Text,
    answers: &[Text],
    joint: bool,
    place: &str,
) -> Result<Group> {
    let encoded = files.encoder().encode_answers(prompt, answers, place)?;
    let mut answers = encoded.answers;
    if !joint {
        for answer in &mut answers {
            answer.truncate(files.scored_position(answer) + 1);
        }
    }
    Ok((encoded.prompt, answers))
}

/// The head that lessons ask for, before it has learned; `rows` are those the lessons are from.
pub fn new_head(config: &RewardConfig, rows: &[Row], lessons: &[Lesson]) -> Result<Head> {
    match (config.kind, config.rating_loss) {
        (Kind::Joint, _) => Ok(Head::Joint),
        (Kind::Comparisons, _) => Ok(Head::Comparisons { ties: config.ties.model(), eta: 0.0 }),
        (Kind::Ratings, RatingLoss::Regression) => {
            let n = lessons.len() as f64;
            let mean = lessons.iter().map(rating).sum::<f64>() / n;
            let variance = lessons.iter().map(|lesson| (rating(lesson) - mean).powi(2)).sum::<f64>() / n;
            if variance > 0.0 {
                return Ok(Head::Regression { rating_mean: mean, rating_std: variance.sqrt() });
            }
            Err(Error::setting("data", format!("every rating is {mean}, so there is nothing to learn")))
        }
        (Kind::Ratings, RatingLoss::Ordinal) => {
            let (lowest, highest) = common_scale(&config.training.data, rows, lessons)?;
            Ok(Head::Ordinal { lowest, free: spread_thresholds((highest - lowest) as usize + 1) })
        }
    }
}

/// Refuses held-out ratings that the head has no class for.
pub fn check_held_out(head: &Head, path: &Path, rows: &[Row], lessons: &[Lesson]) -> Result<()> {
    let Head::Ordinal { lowest, free } = head else { return Ok(()) };
    let scale = common_scale(path, rows, lessons)?;
    let (low, high) = (*lowest, lowest + free.len() as f64);
    if scale == (low, high) {
        return Ok(());
    }
    let problem =
        format!("rates from {} to {} but data from {low} to {high}; make them the same", scale.0, scale.1);
    Err(Error::setting("eval_data", problem))
}

/// The one scale of all lessons, of whole points.
fn common_scale(path: &Path, rows: &[Row], lessons: &[Lesson]) -> Result<(f64, f64)> {
    let mut common = None;
    for lesson in lessons {
        let wrong = |problem: String| {
            let place = format!("{}: row {}", path.display(), lesson.row + 1);
            Error::Row { place, problem: format!("{problem}, or set rating_loss = \"regression\"") }
        };
        let Some((low, high)) = rows[lesson.row].rated().and_then(|rated| rated.scale) else {
            return Err(wrong("has no `scale`; add it".into()));
        };
        let points = rating(lesson) - low;
        if points.fract() != 0.0 || (high - low).fract() != 0.0 || high - low >= MOST_CLASSES {
            return Err(wrong(format!(
                "rates {} from {low} to {high}, no whole points; round it",
                rating(lesson)
            )));
        }
        let (common_low, common_high) = *common.get_or_insert((low, high));
        if (common_low, common_high) != (low, high) {
            return Err(wrong(format!(
                "rates from {low} to {high}, the rows before it from {common_low} to {common_high}; make them the same"
            )));
        }
    }
    common.ok_or_else(|| Error::setting("data", "has no rating"))
}
