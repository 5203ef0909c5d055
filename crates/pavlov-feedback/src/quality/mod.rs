//! From the answers that hold to what a manager's page shows, as JSON, numbers with intervals, and plots.
//!
//! Agreement, biases and strengths are of the live tasks that were not chosen for their information; excluded answers are counted
//! and left out. What cannot be said is absent.

mod at_hand;
mod compute;
pub mod plots;
mod policies;
mod rankings;
mod raters;
mod votes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use pavlov_schema::feedback::Learned;
use serde::Serialize;

use crate::Result;
use crate::clock::Millis;
use crate::stats::Interval;
use crate::stats::probe::Finding;
use crate::stats::style::Style;
use crate::store::{ProjectId, Store};

pub use at_hand::AtHand;
pub use compute::of;

/// What can be said about a project's answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Quality {
    /// The record through which it was computed.
    pub seq: u64,
    /// Answers that hold and are not excluded.
    pub answers: usize,
    /// Answers left out by exclusions.
    pub excluded: usize,
    /// Share of the answers that exclusions leave out. An alarm is due above [`EXCLUSION_ALARM`].
    pub exclusion_rate: f64,
    /// Answers of each day: its first millisecond, and how many.
    pub days: Vec<(Millis, usize)>,
    /// How far people say the same, by question.
    pub agreement: Vec<Agreement>,
    /// Share of decided comparisons that went to the left answer.
    pub left: Option<Interval>,
    /// The exact chance of so uneven a split.
    pub left_p: Option<f64>,
    /// Log-odds for being on the left.
    pub position: Option<Effect>,
    /// What each term of style that answers have does, all of them beside each other and the place on the screen.
    pub style: Vec<StyleEffect>,
    /// Strengths of policies, the best first.
    pub policies: Vec<Policy>,
    /// Groups of policies, where not all can be compared.
    pub not_comparable: Vec<Vec<String>>,
    /// Mean ratings of policies, question by question, the best first.
    pub ratings: Vec<Rating>,
    /// Steps after which Crowd-BT had converged; none where it says nothing.
    pub crowd_bt_steps: Option<usize>,
    /// Defects of the board; policies and raters go by their place in [`Quality::policy_names`] and [`Quality::raters`].
    pub findings: Vec<Finding>,
    /// Names of the policies, in the order of findings.
    pub policy_names: Vec<String>,
    /// Each rater.
    pub raters: Vec<RaterQuality>,
    /// Cohen's kappa of every two raters with [`crate::stats::people::LEAST_OVERLAP`] items in common.
    pub kappas: Vec<crate::stats::agreement::PairKappa>,
    /// Tasks about which people disagree, the newest first.
    pub disagreements: Vec<Disagreement>,
    /// Held-out accuracy of reward models over judgments collected, as training told it, one run after another.
    pub lessons: Vec<Learned>,
}

/// Share of excluded answers above which a manager is to look: honest votes may be thrown away.
pub const EXCLUSION_ALARM: f64 = 0.2;

/// Agreement on one question.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Agreement {
    /// `choice`, `ranking`, or the question's name.
    pub question: String,
    /// Items that several people answered.
    pub items: usize,
    /// Share of pairs of people who said the same; of rankings, of every two answers.
    pub raw: Option<Interval>,
    /// Krippendorff's alpha, nominal.
    pub nominal: Option<Interval>,
    /// Krippendorff's alpha, ordinal: of scores.
    pub ordinal: Option<Interval>,
}

/// An effect and the chance of one as large from nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Effect {
    /// Log-odds, nats.
    pub log_odds: Interval,
    /// Of the likelihood-ratio test; of a style of a Wald test by the larger of the clustered and the naive error.
    pub p: f64,
}

/// What a term of style does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct StyleEffect {
    /// Which.
    pub style: Style,
    /// Of a standard deviation of the difference between two answers; interval clustered by task and rater, or as if votes were independent
    /// where that is wider.
    #[serde(flatten)]
    pub effect: Effect,
}

/// A policy's strength.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = PolicyStrength)]
pub struct Policy {
    /// Its name.
    pub policy: String,
    /// Log-strength, nats; all sum to 0. Interval clustered by task and rater.
    pub strength: Interval,
    /// The same at equal style of answers: length, headers, lists and bold, where these are known.
    pub at_equal_style: Option<Interval>,
    /// Comparisons it was in.
    pub comparisons: usize,
}

/// How a policy's answers were rated.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = PolicyRating)]
pub struct Rating {
    /// The question.
    pub question: String,
    /// The policy.
    pub policy: String,
    /// Ratings.
    pub ratings: usize,
    /// Their mean, with an interval clustered by task and rater; none of fewer than two tasks.
    pub mean: Option<Interval>,
    /// The same without each rater's severity; none where too few raters share tasks to tell it.
    pub corrected: Option<Interval>,
}

/// One rater.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RaterQuality {
    /// The pseudonym.
    pub rater: String,
    /// Answers, gold and repeats too.
    pub answers: usize,
    /// Median time of an answer.
    pub median_ms: u64,
    /// Accuracy on gold: mean and interval of the Beta posterior.
    pub gold: Option<Interval>,
    /// Gold tasks answered.
    pub gold_answers: usize,
    /// Share of decided comparisons that went to the left.
    pub left: Option<Interval>,
    /// The chance of so uneven a split, adjusted for the number of raters.
    pub left_p: Option<f64>,
    /// Share of swapped repeats answered as before.
    pub consistency: Option<Interval>,
    /// The longest run of one and the same button.
    pub longest_run: usize,
    /// The run is too long for chance.
    pub straight_lining: bool,
    /// Share of answers given faster than the texts can be read.
    pub too_fast: f64,
    /// Accuracy by Dawid and Skene, of those with enough overlap.
    pub dawid_skene: Option<f64>,
    /// η of Crowd-BT: 1 judges as the policies' strengths say, ½ by chance, 0 against them. Of those with enough comparisons.
    pub crowd_bt: Option<Interval>,
    /// Points of the first question above what others give the same answers.
    pub severity: Option<f64>,
}

/// A task about which people disagree.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Disagreement {
    /// The task's code.
    pub task: String,
    /// Who said what.
    pub said: Vec<(String, String)>,
}

/// Quality, computed once for each state of the log. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// Held while figures are computed, so that many who ask at once wait for one computation.
    computing: Arc<Mutex<()>>,
    known: Arc<Mutex<BTreeMap<ProjectId, Known>>>,
    /// Projects of which figures are being computed for whoever asks next.
    running: Arc<Mutex<BTreeSet<ProjectId>>>,
}

/// The state of the log that figures are of, and the figures.
type Known = (Key, Arc<Quality>);

/// The last record, how many exclusions were made and lifted, and how many lessons were told.
type Key = (u64, usize, usize, usize);

impl Cache {
    /// The quality of a project; computed, if the log or the exclusions have changed since. Reads and computes on the calling
    /// thread, for up to seconds where answers are many: not for async code.
    pub fn get(&self, store: &Store, project: ProjectId) -> Result<Arc<Quality>> {
        let _turn = self.computing.lock();
        let (key, lessons) = store.read_now(move |r| {
            let (exclusions, lessons) = (r.exclusions(project)?, r.lessons(project)?);
            let lifted = exclusions.iter().filter(|one| one.lifted_at.is_some()).count();
            Ok(((r.last_seq(project)?, exclusions.len(), lifted, lessons.len()), lessons))
        })?;
        if let Some((known, quality)) = self.known.lock().ok().and_then(|known| known.get(&project).cloned())
            && known == key
        {
            return Ok(quality);
        }
        let (verdicts, names) = store.read_now(move |r| {
            let names =
                r.members(project)?.into_iter().map(|member| (member.account, member.pseudonym)).collect();
            Ok((r.verdicts(project)?, names))
        })?;
        let quality = Arc::new(Quality { seq: key.0, lessons, ..of(verdicts, &names) });
        if let Ok(mut known) = self.known.lock() {
            known.insert(project, (key, Arc::clone(&quality)));
        }
        Ok(quality)
    }
}
