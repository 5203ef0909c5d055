//! People as a reward: fresh answers are sent to a project of the feedback application, and what raters say about them, once it can no
//! longer be undone, is the reward.
//!
//! A task's key names the run, the update, the place in the batch, and a digest of the texts: asked again after a restart of either
//! side, it is the same task, and other texts are never taken for it. The policy waits, so what it learns from is its own.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use pavlov_schema::feedback::{Answer, NewResponse, NewTask, Said, TaskKind};
use pavlov_schema::judgment::Choice;
use pavlov_schema::rollout::{Prompt, Rollout};
use pavlov_schema::text::Text;
use serde_json::json;

use super::feedback_client::{FeedbackClient, FeedbackSettings, Patience};
use crate::{Error, Result};

/// What is shown in place of an answer without a character.
const EMPTY: &str = "(no answer)";

/// A project's raters.
#[derive(Debug)]
pub struct People {
    client: FeedbackClient,
    /// The run's name, in keys and as the policy's.
    run: String,
    temperature: f64,
    overlap: u32,
    timeout: f64,
    cursor: u64,
    /// By key and answer: who, and what. Kept whole: a resumed run may ask about what was answered long ago.
    said: BTreeMap<String, BTreeMap<String, Answer>>,
    /// Keys whose two answers are the same to a reader: nobody is asked.
    same: BTreeSet<String>,
}

/// What people are asked about, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct PeopleSettings {
    /// The project's name or code.
    pub project: String,
    /// People who shall answer each task.
    pub overlap: u32,
    /// Seconds to wait for the answers of a batch.
    pub timeout: f64,
}

impl People {
    /// `run` names the run; `temperature` is what its answers are drawn with.
    pub fn new(
        settings: &FeedbackSettings,
        people: &PeopleSettings,
        run: &str,
        temperature: f64,
    ) -> Result<Self> {
        Ok(Self {
            client: FeedbackClient::new(settings, &people.project)?,
            run: run.to_owned(),
            temperature,
            overlap: people.overlap,
            timeout: people.timeout,
            cursor: 0,
            said: BTreeMap::new(),
            same: BTreeSet::new(),
        })
    }

    /// Asks which of each two consecutive answers is better, and waits. False: `waiting` (told how many are awaited, of how
    /// many) said no.
    pub fn ask_pairs(
        &mut self,
        prompts: &[Prompt],
        rollouts: &[Rollout],
        waiting: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<bool> {
        self.ask(prompts, &rollouts.chunks_exact(2).collect::<Vec<_>>(), TaskKind::Pairwise, waiting)
    }

    /// Asks how good each answer is, and waits; as [`Self::ask_pairs`].
    pub fn ask_each(
        &mut self,
        prompts: &[Prompt],
        rollouts: &[Rollout],
        waiting: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<bool> {
        self.ask(prompts, &rollouts.chunks_exact(1).collect::<Vec<_>>(), TaskKind::Pointwise, waiting)
    }

    /// P(the first is better) of each two consecutive answers, as people said: a tie and two bad ones are one half.
    pub fn preferences(&self, rollouts: &[Rollout]) -> Result<Vec<f64>> {
        let share = |answer: &Answer| match &answer.said {
            Said::Pairwise { choice: Choice::A, .. } => Some(1.0),
            Said::Pairwise { choice: Choice::B, .. } => Some(0.0),
            Said::Pairwise { choice: Choice::Tie | Choice::BothBad, .. } => Some(0.5),
            Said::Pointwise { .. } | Said::Demonstration { .. } | Said::Edit { .. } => None,
        };
        let pairs = rollouts.chunks_exact(2).enumerate();
        pairs.map(|(place, pair)| self.mean(&self.key(place, pair), share)).collect()
    }

    /// Each answer's place on its scale, from 0 to 1: of several questions, their mean.
    pub fn points(&self, rollouts: &[Rollout]) -> Result<Vec<f64>> {
        let share = |answer: &Answer| {
            let Said::Pointwise { scores } = &answer.said else { return None };
            let shares =
                scores.iter().map(|score| (score.value - score.scale.0) / (score.scale.1 - score.scale.0));
            Some(shares.sum::<f64>() / scores.len() as f64)
        };
        rollouts
            .iter()
            .enumerate()
            .map(|(place, one)| self.mean(&self.key(place, std::slice::from_ref(one)), share))
            .collect()
    }

    fn mean(&self, key: &str, share: impl Fn(&Answer) -> Option<f64>) -> Result<f64> {
        if self.same.contains(key) {
            return Ok(0.5);
        }
        let shares: Vec<f64> =
            self.said.get(key).into_iter().flat_map(BTreeMap::values).filter_map(share).collect();
        if shares.is_empty() {
            let problem = format!("nobody answered {key}; ask before the answers are used");
            return Err(Error::Feedback { url: self.run.clone(), problem });
        }
        Ok(shares.iter().sum::<f64>() / shares.len() as f64)
    }

    fn ask(
        &mut self,
        prompts: &[Prompt],
        groups: &[&[Rollout]],
        kind: TaskKind,
        waiting: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<bool> {
        let tasks: Vec<NewTask> =
            groups.iter().enumerate().map(|(place, group)| self.task(prompts, place, group, kind)).collect();
        let keys: Vec<String> = tasks.iter().filter_map(|task| task.key.clone()).collect();
        let awaited = Cell::new(keys.len());
        let mut go_on = || waiting(awaited.get(), keys.len());
        let mut patience = Patience::new(self.timeout, &mut go_on);
        let Some(added) = self.client.send(&tasks, &mut patience)? else { return Ok(false) };
        let same = keys.iter().zip(&added).filter(|(_, added)| added.state == "collapsed");
        self.same.extend(same.map(|(key, _)| key.clone()));
        loop {
            let missing = keys.iter().filter(|key| !self.is_answered(key)).count();
            if missing == 0 {
                return Ok(true);
            }
            if missing < awaited.replace(missing) {
                // Somebody is at it.
                patience.renew();
            } else if patience.is_over() {
                let problem = format!(
                    "{missing} of {} answers are missing and none came for {} s; resume when people are there",
                    keys.len(),
                    self.timeout
                );
                return Err(Error::Feedback { url: self.run.clone(), problem });
            }
            let Some(page) = self.client.records(self.cursor, true, &mut patience)? else { return Ok(false) };
            self.cursor = page.cursor;
            for record in page.records {
                let Some(key) = record.key.filter(|_| !record.gold && !record.repeat) else { continue };
                let answers = self.said.entry(key).or_default();
                match record.answer {
                    Some(answer) => drop(answers.insert(record.answer_id, answer)),
                    None => drop(answers.remove(&record.answer_id)),
                }
            }
        }
    }

    fn is_answered(&self, key: &str) -> bool {
        self.same.contains(key) || self.said.get(key).is_some_and(|said| said.len() >= self.overlap as usize)
    }

    fn task(&self, prompts: &[Prompt], place: usize, group: &[Rollout], kind: TaskKind) -> NewTask {
        let response = |rollout: &Rollout| NewResponse {
            policy: Some(format!("{}/{}", self.run, rollout.policy_version)),
            seed: Some(rollout.seed),
            sampling: Some(json!({ "temperature": self.temperature })),
            token_logprobs: Some(rollout.behaviour_logp.clone()),
            ..NewResponse::new(Text::from(shown(&rollout.completion)))
        };
        NewTask {
            key: Some(self.key(place, group)),
            kind: Some(kind),
            policy_version: group[0].policy_version,
            overlap: Some(self.overlap),
            ..NewTask::new(
                prompts[group[0].prompt_index].prompt.clone(),
                group.iter().map(response).collect(),
            )
        }
    }

    fn key(&self, place: usize, group: &[Rollout]) -> String {
        let texts: Vec<&str> =
            std::iter::once(&*group[0].prompt_text).chain(group.iter().map(|one| &*one.completion)).collect();
        // Lengths keep "a" + "bc" and "ab" + "c" apart.
        let lengths: Vec<String> = texts.iter().map(|text| text.len().to_string()).collect();
        let digest = pavlov_schema::files::digest_of((lengths.join(",") + &texts.concat()).as_bytes());
        format!("{}/{}/{place}/{digest}", self.run, group[0].policy_version + 1)
    }
}

/// An answer as people see it.
fn shown(completion: &str) -> &str {
    if completion.trim().is_empty() { EMPTY } else { completion }
}
