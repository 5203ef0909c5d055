//! People as a reward: fresh answers are sent to a project of the feedback application, and what raters say about them, once it can no
//! longer be undone, is the reward.
//!
//! A task's key names the run, the update, the place in the batch, and a digest of the texts: asked again after a restart of either
//! side, it is the same task, and other texts are never taken for it.
//!
//! The policy waits, so no answer that it learns from is about an older policy: its staleness is 0 by construction, and what comes
//! after a batch was left behind is in the log and never learned from here. How long it waits is limited by `timeout`; what then
//! happens, by [`OnTimeout`]. A task that was withdrawn is waited for no longer.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pavlov_schema::comparison::Choice;
use pavlov_schema::feedback::{Answer, NewResponse, NewTask, RecordKind, Said, SealedRecord, TaskKind};
use pavlov_schema::rollout::{Prompt, Rollout};
use pavlov_schema::text::Text;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::feedback_client::{FeedbackClient, FeedbackSettings, Patience};
use crate::{Error, Result};

/// What is shown in place of an answer without a character.
const EMPTY: &str = "(no answer)";

/// The shortest and the longest time between two looks at where tasks stand.
const LOOKS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// A question to people.
struct Asked {
    key: String,
    task: NewTask,
    /// The server's name of it, once it was sent.
    code: String,
}

/// A project's raters.
#[derive(Debug)]
pub struct People {
    client: FeedbackClient,
    /// The run's name, in keys and as the policy's.
    run: String,
    temperature: f64,
    overlap: u32,
    timeout: f64,
    on_timeout: OnTimeout,
    cursor: u64,
    /// By key and answer: who, and what. Kept whole: a resumed run may ask about what was answered long ago.
    said: BTreeMap<String, BTreeMap<String, Answer>>,
    /// Keys that a reviewer has decided, which outweighs what others say.
    decided: BTreeSet<String>,
    /// Keys whose two answers are the same to a reader: nobody is asked.
    same: BTreeSet<String>,
    /// Keys that were given up: nothing is learned from an answer that nobody judged.
    left: BTreeSet<String>,
}

/// What a batch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Tasks without an answer.
    pub awaited: usize,
    /// Of them those that the project holds back, as their answers name the model: raters see them once a manager says so.
    pub held: usize,
    /// Tasks of the batch.
    pub of: usize,
}

/// What happens when no answer came for `timeout` seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// The run ends with an error; its tasks stay with the raters, and a resumed run waits for them again.
    #[default]
    Stop,
    /// What nobody has judged is withdrawn, so that nobody's time is spent on it, nothing is learned from it, and the run goes on.
    Skip,
}

/// What people are asked about, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct PeopleSettings {
    /// The project's name or code.
    pub project: String,
    /// People who shall answer each task.
    pub overlap: u32,
    /// Seconds to wait for the next answer.
    pub timeout: f64,
    /// What happens then.
    pub on_timeout: OnTimeout,
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
            on_timeout: people.on_timeout,
            cursor: 0,
            said: BTreeMap::new(),
            decided: BTreeSet::new(),
            same: BTreeSet::new(),
            left: BTreeSet::new(),
        })
    }

    /// Asks which of each two consecutive answers is better, and waits. How many were left without an answer; `None`: `waiting`
    /// said no.
    pub fn ask_pairs(
        &mut self,
        prompts: &[Prompt],
        rollouts: &[Rollout],
        waiting: &mut dyn FnMut(Waiting) -> bool,
    ) -> Result<Option<usize>> {
        self.ask(prompts, &rollouts.chunks_exact(2).collect::<Vec<_>>(), TaskKind::Pairwise, waiting)
    }

    /// Asks how good each answer is, and waits; as [`Self::ask_pairs`].
    pub fn ask_each(
        &mut self,
        prompts: &[Prompt],
        rollouts: &[Rollout],
        waiting: &mut dyn FnMut(Waiting) -> bool,
    ) -> Result<Option<usize>> {
        self.ask(prompts, &rollouts.chunks_exact(1).collect::<Vec<_>>(), TaskKind::Pointwise, waiting)
    }

    /// P(the first is better) of each two consecutive answers, as people said: a tie and two bad ones are one half. So is a pair
    /// that nobody judged, which teaches nothing.
    pub fn preferences(&self, rollouts: &[Rollout]) -> Result<Vec<f64>> {
        let share = |answer: &Answer| match &answer.said {
            Said::Pairwise { choice: Choice::A, .. } => Some(1.0),
            Said::Pairwise { choice: Choice::B, .. } => Some(0.0),
            Said::Pairwise { choice: Choice::Tie | Choice::BothBad, .. } => Some(0.5),
            Said::Ranking { .. }
            | Said::Pointwise { .. }
            | Said::Demonstration { .. }
            | Said::Edit { .. } => None,
        };
        let pairs = rollouts.chunks_exact(2).enumerate();
        pairs.map(|(place, pair)| Ok(self.mean(&self.key(place, pair), share)?.unwrap_or(0.5))).collect()
    }

    /// Each answer's place on its scale, from 0 to 1: of several questions, their mean. An answer that nobody judged has the mean of
    /// the others to its prompt, so that it is neither better nor worse: it teaches nothing.
    pub fn points(&self, rollouts: &[Rollout]) -> Result<Vec<f64>> {
        let share = |answer: &Answer| {
            let Said::Pointwise { scores } = &answer.said else { return None };
            let shares =
                scores.iter().map(|score| (score.value - score.scale.0) / (score.scale.1 - score.scale.0));
            Some(shares.sum::<f64>() / scores.len() as f64)
        };
        let mut points = Vec::with_capacity(rollouts.len());
        for group in rollouts.chunk_by(|a, b| a.prompt_index == b.prompt_index) {
            let place = points.len();
            let key = |i: usize| self.key(place + i, std::slice::from_ref(&group[i]));
            let known: Vec<Option<f64>> =
                (0..group.len()).map(|i| self.mean(&key(i), share)).collect::<Result<_>>()?;
            let others = mean(known.iter().flatten().copied()).unwrap_or(0.5);
            points.extend(known.into_iter().map(|one| one.unwrap_or(others)));
        }
        Ok(points)
    }

    /// The mean of what people said; none of what was given up.
    fn mean(&self, key: &str, share: impl Fn(&Answer) -> Option<f64>) -> Result<Option<f64>> {
        if self.same.contains(key) {
            return Ok(Some(0.5));
        }
        let said = self.said.get(key).into_iter().flat_map(BTreeMap::values).filter_map(share);
        match mean(said) {
            None if !self.left.contains(key) => {
                let problem = format!("nobody answered {key}; ask before the answers are used");
                Err(Error::Feedback { url: self.run.clone(), problem })
            }
            mean => Ok(mean),
        }
    }

    fn ask(
        &mut self,
        prompts: &[Prompt],
        groups: &[&[Rollout]],
        kind: TaskKind,
        waiting: &mut dyn FnMut(Waiting) -> bool,
    ) -> Result<Option<usize>> {
        let mut open: Vec<Asked> = Vec::with_capacity(groups.len());
        for (place, group) in groups.iter().enumerate() {
            let (key, code) = (self.key(place, group), String::new());
            open.push(Asked { task: self.task(key.clone(), prompts, group, kind), key, code });
        }
        let all: Vec<String> = open.iter().map(|one| one.key.clone()).collect();
        let stands = Cell::new(Waiting { awaited: all.len(), held: 0, of: all.len() });
        let mut go_on = || waiting(stands.get());
        let mut patience = Patience::new(self.timeout, &mut go_on);
        let (mut look, mut pause) = (Instant::now(), LOOKS[0]);
        loop {
            // Now and then also whether tasks were withdrawn.
            if Instant::now() >= look {
                let Some(held) = self.send(&mut open, &mut patience)? else { return Ok(None) };
                stands.set(Waiting { held, ..stands.get() });
                look = Instant::now() + pause;
                pause = (pause * 2).min(LOOKS[1]);
            }
            // Of all, not of what was missing: an answer may have been taken back.
            let missing = all.iter().filter(|key| !self.is_settled(key)).count();
            if missing == 0 {
                break;
            }
            let before = stands.replace(Waiting { awaited: missing, ..stands.get() });
            if missing < before.awaited {
                // Somebody is at it.
                patience.renew();
            } else if patience.is_over() {
                if self.on_timeout == OnTimeout::Stop {
                    return Err(self.nobody_came(stands.get()));
                }
                if !self.leave(&open, &mut patience)? {
                    return Ok(None);
                }
                break;
            }
            let Some(page) = self.client.records(self.cursor, true, &mut patience)? else { return Ok(None) };
            self.cursor = page.cursor;
            page.records.into_iter().for_each(|record| self.hear(record));
        }
        let unanswered = |key: &&String| self.left.contains(*key) && self.answers(key) == 0;
        Ok(Some(all.iter().filter(unanswered).count()))
    }

    /// Sends what is not settled; a task sent before only tells where it stands. How many are held back; `None`: told to stop.
    fn send(&mut self, asked: &mut [Asked], patience: &mut Patience) -> Result<Option<usize>> {
        let mut open: Vec<&mut Asked> = asked.iter_mut().filter(|one| !self.is_settled(&one.key)).collect();
        let tasks: Vec<NewTask> = open.iter().map(|one| one.task.clone()).collect();
        let Some(added) = self.client.send(&tasks, patience)? else { return Ok(None) };
        let held = added.iter().filter(|added| added.state == "held").count();
        for (one, added) in open.iter_mut().zip(added) {
            match added.state.as_str() {
                "collapsed" => drop(self.same.insert(one.key.clone())),
                "withdrawn" => drop(self.left.insert(one.key.clone())),
                _ => one.code = added.task,
            }
        }
        Ok(Some(held))
    }

    /// Gives up what is not answered, and tells the raters. False: told to stop.
    fn leave(&mut self, asked: &[Asked], patience: &mut Patience) -> Result<bool> {
        let open: Vec<&Asked> = asked.iter().filter(|one| !self.is_settled(&one.key)).collect();
        let codes: Vec<&str> = open.iter().map(|one| one.code.as_str()).collect();
        let Some(()) = self.client.withdraw(&codes, patience)? else { return Ok(false) };
        self.left.extend(open.iter().map(|one| one.key.clone()));
        Ok(true)
    }

    fn hear(&mut self, record: SealedRecord) {
        let Some(key) = record.key.filter(|_| !record.gold && !record.repeat) else { return };
        let decides = record.record == RecordKind::Adjudication;
        if self.decided.contains(&key) && !decides {
            return;
        }
        let answers = self.said.entry(key.clone()).or_default();
        if decides {
            answers.clear();
            self.decided.insert(key);
        }
        match record.answer {
            Some(answer) => drop(answers.insert(record.answer_id, answer)),
            None => drop(answers.remove(&record.answer_id)),
        }
    }

    fn nobody_came(&self, Waiting { awaited, held, of }: Waiting) -> Error {
        let held = match held {
            0 => String::new(),
            held => format!(" ({held} are held back: show or withdraw them on the project's page of tasks)"),
        };
        let problem = format!(
            "{awaited} of {of} answers are missing{held} and none came for {} s; resume when people are there, or go on without \
             them: on_timeout = \"skip\"",
            self.timeout
        );
        Error::Feedback { url: self.run.clone(), problem }
    }

    fn answers(&self, key: &str) -> usize {
        self.said.get(key).map_or(0, BTreeMap::len)
    }

    fn is_settled(&self, key: &str) -> bool {
        let known = [&self.same, &self.left, &self.decided].into_iter().any(|keys| keys.contains(key));
        known || self.answers(key) >= self.overlap as usize
    }

    fn task(&self, key: String, prompts: &[Prompt], group: &[Rollout], kind: TaskKind) -> NewTask {
        let response = |rollout: &Rollout| NewResponse {
            policy: Some(format!("{}/{}", self.run, rollout.policy_version)),
            seed: Some(rollout.seed),
            sampling: Some(json!({ "temperature": self.temperature })),
            token_logprobs: Some(rollout.behaviour_logp.clone()),
            ..NewResponse::new(Text::from(shown(&rollout.completion)))
        };
        NewTask {
            key: Some(key),
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

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

/// An answer as people see it.
fn shown(completion: &str) -> &str {
    if completion.trim().is_empty() { EMPTY } else { completion }
}
