//! The figures.

use std::collections::{BTreeMap, BTreeSet};

use pavlov_schema::comparison::Choice;
use pavlov_schema::rng::{Rng, Stream};

use super::{Agreement, Disagreement, Quality, policies, rankings, raters};
use crate::queue::settle;
use crate::stats::Interval;
use crate::stats::agreement::{Label, Level, Measure, by_item, kappas};
use crate::stats::bias::binomial;
use crate::stats::people::LEAST_OVERLAP;
use crate::store::{AccountId, Judged, JudgedTask, TaskRole, Verdict, Verdicts, Voice};

/// Resamples of an interval of agreement.
const RESAMPLES: usize = 200;
/// Disagreements that are listed.
const LISTED: usize = 100;
const DAY: i64 = 86_400_000;

/// The answers that are not excluded, and whose they are.
pub(super) struct Answers {
    verdicts: Verdicts,
    /// Pseudonyms, by [`Judged::rater`].
    pub(super) names: Vec<String>,
}

impl Answers {
    /// Leaves excluded answers out, and numbers those who gave the others in the order of their accounts.
    pub(super) fn new(mut verdicts: Verdicts, names: &BTreeMap<AccountId, String>) -> Self {
        verdicts.answers.retain(|one| !one.excluded);
        let account = |one: &Judged| verdicts.raters[one.rater as usize];
        let raters: BTreeSet<AccountId> = verdicts.answers.iter().map(account).collect();
        let place: BTreeMap<AccountId, u32> = raters.iter().copied().zip(0..).collect();
        for one in &mut verdicts.answers {
            one.rater = place[&verdicts.raters[one.rater as usize]];
        }
        let name = |rater| names.get(rater).cloned().unwrap_or_else(|| "left the project".into());
        Self { verdicts, names: raters.iter().map(name).collect() }
    }

    pub(super) fn all(&self) -> &[Judged] {
        &self.verdicts.answers
    }

    /// A sample of what people say: of live tasks, the first look, and nothing that was chosen for its information.
    pub(super) fn fair(&self) -> impl Iterator<Item = &Judged> {
        self.all().iter().filter(|one| self.is_fair(one))
    }

    pub(super) fn is_fair(&self, one: &Judged) -> bool {
        self.task(one).role == TaskRole::Live && one.pass == 0 && !one.informed
    }

    pub(super) fn task(&self, one: &Judged) -> &JudgedTask {
        &self.verdicts.tasks[one.task as usize]
    }

    pub(super) fn said(&self, one: &Judged) -> &Verdict {
        &self.verdicts.said[one.said as usize]
    }

    pub(super) fn policy(&self, number: u32) -> &str {
        &self.verdicts.policies[number as usize]
    }

    pub(super) fn choice(&self, one: &Judged) -> Option<Choice> {
        match self.said(one).voice {
            Voice::Choice(choice) => Some(choice),
            Voice::Ranking(_) | Voice::Scores(_) | Voice::Text => None,
        }
    }

    /// Whether a decided comparison went to the left answer.
    pub(super) fn went_left(&self, one: &Judged) -> Option<bool> {
        match self.choice(one)? {
            Choice::A => Some(one.shown?.at(0) == Some(0)),
            Choice::B => Some(one.shown?.at(0) == Some(1)),
            Choice::Tie | Choice::BothBad => None,
        }
    }

    pub(super) fn label(one: &Judged, value: f64) -> Label {
        Label { item: one.task as usize, rater: one.rater as usize, value }
    }

    /// The points of each question, as labels of fair answers.
    pub(super) fn scores(&self) -> BTreeMap<&str, Vec<(&Judged, f64)>> {
        let mut questions: BTreeMap<&str, Vec<(&Judged, f64)>> = BTreeMap::new();
        for one in self.fair() {
            if let Voice::Scores(scores) = &self.said(one).voice {
                for (question, value) in scores {
                    questions.entry(question).or_default().push((one, *value));
                }
            }
        }
        questions
    }
}

/// Quality of a project's answers; `names` are the pseudonyms.
pub fn of(verdicts: Verdicts, names: &BTreeMap<AccountId, String>) -> Quality {
    let all = verdicts.answers.len();
    let answers = Answers::new(verdicts, names);
    let kept = answers.all().len();
    let mut days: BTreeMap<i64, usize> = BTreeMap::new();
    for answer in answers.all() {
        *days.entry(answer.at_ms.div_euclid(DAY) * DAY).or_default() += 1;
    }
    let choices: Vec<Label> = answers.fair().filter_map(|one| choice(&answers, one)).collect();
    let mut quality = Quality {
        answers: kept,
        excluded: all - kept,
        exclusion_rate: (all - kept) as f64 / all.max(1) as f64,
        days: days.into_iter().collect(),
        agreement: agreements(&answers, &choices),
        disagreements: disagreements(&answers),
        kappas: kappas(&choices).into_iter().filter(|pair| pair.items >= LEAST_OVERLAP).collect(),
        raters: raters::all(&answers, &choices),
        ratings: policies::ratings(&answers),
        ..Quality::default()
    };
    drop(choices);
    let (mut left, mut decided) = (0, 0);
    for went_left in answers.fair().filter_map(|one| answers.went_left(one)) {
        (left, decided) = (left + usize::from(went_left), decided + 1);
    }
    quality.left = Interval::share(left, decided);
    quality.left_p = (decided > 0).then(|| binomial(left, decided, 0.5));
    policies::strengths(&mut quality, answers);
    quality
}

/// A comparison's choice as a numbered class.
fn choice(answers: &Answers, one: &Judged) -> Option<Label> {
    let value = match answers.choice(one)? {
        Choice::A => 0.0,
        Choice::B => 1.0,
        Choice::Tie => 2.0,
        Choice::BothBad => 3.0,
    };
    Some(Answers::label(one, value))
}

fn agreements(answers: &Answers, choices: &[Label]) -> Vec<Agreement> {
    let mut rng = Rng::new(0, Stream::Bootstrap, 0, 0);
    let nominal = Measure::Alpha(Level::Nominal);
    let mut found = Vec::new();
    if !choices.is_empty() {
        let units = by_item(choices);
        // The choices of a comparison have no order.
        let [raw, nominal] = units.intervals([Measure::Raw, nominal], RESAMPLES, &mut rng);
        found.push(Agreement { question: "choice".into(), items: units.len(), raw, nominal, ordinal: None });
    }
    for (question, scores) in answers.scores() {
        let labels: Vec<Label> = scores.into_iter().map(|(one, value)| Answers::label(one, value)).collect();
        let units = by_item(&labels);
        let measures = [Measure::Raw, nominal, Measure::Alpha(Level::Ordinal)];
        let [raw, nominal, ordinal] = units.intervals(measures, RESAMPLES, &mut rng);
        found.push(Agreement { question: question.into(), items: units.len(), raw, nominal, ordinal });
    }
    found.extend(rankings::agreement(answers, RESAMPLES));
    found
}

fn disagreements(answers: &Answers) -> Vec<Disagreement> {
    let fair: Vec<&Judged> = answers.fair().collect();
    let mut found: Vec<(i64, &[&Judged])> = fair
        .chunk_by(|a, b| a.task == b.task)
        .filter(|said| said.iter().any(|one| one.said != said[0].said))
        .filter(|said| {
            let verdicts: Vec<String> = said.iter().map(|one| answers.said(one).short.clone()).collect();
            !settle::agree(&verdicts)
        })
        .filter_map(|said| Some((said.iter().map(|one| one.at_ms).max()?, said)))
        .collect();
    found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let who = |one: &&Judged| (answers.names[one.rater as usize].clone(), answers.said(one).short.clone());
    let shown = |said: &[&Judged]| Disagreement {
        task: answers.task(said[0]).code.clone(),
        said: said.iter().map(who).collect(),
    };
    found.into_iter().take(LISTED).map(|(_, said)| shown(said)).collect()
}
