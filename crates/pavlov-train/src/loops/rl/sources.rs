//! `rewards` and `judge` as a configuration writes them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pavlov_lm::LanguageModel;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::config::PolicySettings;
use crate::loops::reward_model::RewardModel;
use crate::reward::{FeedbackSettings, OnTimeout, People, PeopleSettings, ProgramReward, Rule, RuleReward};
use crate::run::TrainingConfig;
use crate::stage::score::{Judge, Reward, Source};
use crate::{Error, Result};

/// One entry of `rewards`: `{ rule = "numeric", column = "answer" }`, `{ program = ["python3", "reward.py"] }` or
/// `{ model = "runs/reward/model" }`, each with `weight` (1) and `name`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct RewardEntry {
    /// Its name in metrics and rollout files, if not the source's own.
    pub name: Option<String>,
    /// What its points are multiplied with in the sum.
    pub weight: f64,
    /// What gives the points.
    pub source: SourceEntry,
}

/// Where points or verdicts come from.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceEntry {
    /// A built-in rule.
    Rule(Rule),
    /// A program and its arguments, and how many seconds it may take for a batch.
    Program {
        /// The argument vector.
        argv: Vec<String>,
        /// Seconds a batch.
        timeout: f64,
    },
    /// The folder of a reward model.
    Model(PathBuf),
    /// The raters of a project of the feedback application.
    People(PeopleSettings),
}

/// The value of `judge`: `{ model = "runs/reward/model" }` or `{ program = ["python3", "judge.py"] }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub enum JudgeEntry {
    /// A program and its arguments, and how many seconds it may take for a batch.
    Program {
        /// The argument vector.
        argv: Vec<String>,
        /// Seconds a batch.
        timeout: f64,
    },
    /// The folder of a reward model.
    Model(PathBuf),
    /// The raters of a project of the feedback application.
    People(PeopleSettings),
}

/// Who asks people.
#[derive(Clone, Debug)]
pub struct Asking<'a> {
    /// Where the application is.
    pub feedback: &'a FeedbackSettings,
    /// The run's name.
    pub run: String,
    /// What answers are drawn with.
    pub temperature: f64,
}

impl<'a> Asking<'a> {
    /// The run of `output_dir`'s name.
    pub fn new(training: &TrainingConfig, policy: &PolicySettings, feedback: &'a FeedbackSettings) -> Self {
        let run = training.output_dir.file_name().map(|name| name.to_string_lossy().into_owned());
        Self { feedback, run: run.unwrap_or_else(|| "run".into()), temperature: policy.temperature }
    }

    fn people(&self, settings: &PeopleSettings) -> Result<Box<People>> {
        Ok(Box::new(People::new(self.feedback, settings, &self.run, self.temperature)?))
    }
}

/// Seconds people may take for their next answer unless a configuration says otherwise: a day.
const PATIENCE: f64 = 86_400.0;
/// Seconds a program may take for a batch unless it says otherwise.
const TIMEOUT: f64 = 60.0;

impl SourceEntry {
    /// Takes the source's own keys; what is left in `map` belongs to a rule or to nobody.
    fn take(map: &mut Map<String, Value>) -> std::result::Result<Self, String> {
        let kinds = ["rule", "program", "model", "people"].into_iter().filter(|kind| map.contains_key(*kind));
        let kinds: Vec<&str> = kinds.collect();
        match kinds.as_slice() {
            ["rule"] => {
                let rule = Value::Object(std::mem::take(map));
                serde_json::from_value(rule).map(Self::Rule).map_err(|e| e.to_string())
            }
            ["program"] => {
                let argv = map.shift_remove("program").unwrap_or_default();
                let argv: Vec<String> = serde_json::from_value(argv).map_err(|_| {
                    "`program` must be a list of texts: the program and its arguments".to_owned()
                })?;
                Ok(Self::Program { argv, timeout: seconds(map, TIMEOUT)? })
            }
            ["model"] => match map.shift_remove("model") {
                Some(Value::String(folder)) => Ok(Self::Model(folder.into())),
                _ => Err("`model` must be the folder of a reward model".into()),
            },
            ["people"] => {
                let project = match map.shift_remove("people") {
                    Some(Value::String(project)) if !project.is_empty() => project,
                    _ => return Err("`people` must be the name of a project".into()),
                };
                let overlap = match map.shift_remove("overlap") {
                    None => 1,
                    Some(overlap) => overlap
                        .as_u64()
                        .filter(|people| (1..=100).contains(people))
                        .ok_or_else(|| format!("`overlap` is {overlap}; give it 1 to 100 people"))?
                        as u32,
                };
                let on_timeout = match map.shift_remove("on_timeout") {
                    None => OnTimeout::default(),
                    Some(given) => serde_json::from_value(given.clone())
                        .map_err(|_| format!("`on_timeout` is {given}; give it \"stop\" or \"skip\""))?,
                };
                let timeout = seconds(map, PATIENCE)?;
                Ok(Self::People(PeopleSettings { project, overlap, timeout, on_timeout }))
            }
            _ => Err("needs one of `rule`, `program`, `model` and `people`".into()),
        }
    }

    fn put(self, map: &mut Map<String, Value>) {
        match self {
            Self::Rule(rule) => {
                // A rule is a struct of texts and numbers: it always has a JSON form, an object.
                if let Ok(Value::Object(rule)) = serde_json::to_value(rule) {
                    map.extend(rule.into_iter().filter(|(_, value)| !value.is_null()));
                }
            }
            Self::Program { argv, timeout } => {
                map.insert("program".into(), argv.into());
                map.insert("timeout".into(), timeout.into());
            }
            Self::Model(folder) => {
                map.insert("model".into(), folder.to_string_lossy().into());
            }
            Self::People(PeopleSettings { project, overlap, timeout, on_timeout }) => {
                map.insert("people".into(), project.into());
                map.insert("overlap".into(), overlap.into());
                map.insert("timeout".into(), timeout.into());
                map.insert("on_timeout".into(), json!(on_timeout));
            }
        }
    }
}

/// Takes `timeout`, in seconds.
fn seconds(map: &mut Map<String, Value>, otherwise: f64) -> std::result::Result<f64, String> {
    match map.shift_remove("timeout") {
        None => Ok(otherwise),
        Some(timeout) => timeout
            .as_f64()
            .filter(|seconds| *seconds > 0.0 && *seconds <= 1e7)
            .ok_or_else(|| format!("`timeout` is {timeout}; give it seconds above 0")),
    }
}

impl RewardEntry {
    /// What it is called in metrics and rollout files.
    pub fn name(&self) -> &str {
        let own = match &self.source {
            SourceEntry::Rule(rule) => rule.name(),
            SourceEntry::Program { .. } => "program",
            SourceEntry::Model(_) => "reward_model",
            SourceEntry::People(_) => "people",
        };
        self.name.as_deref().unwrap_or(own)
    }
}

/// Opens the rewards of a configuration: rules are checked, programs started, reward models loaded beside the policy. Only
/// a run that is `asking` may ask people.
///
/// Errors: no reward at all, or two of one name.
pub fn open_rewards(
    entries: &[RewardEntry],
    policy: &LanguageModel,
    asking: Option<&Asking<'_>>,
) -> Result<Vec<Reward>> {
    let mut rewards: Vec<Reward> = Vec::with_capacity(entries.len());
    for entry in entries {
        let source = match &entry.source {
            SourceEntry::Rule(rule) => Source::Rule(RuleReward::new(rule.clone())?),
            SourceEntry::Program { argv, timeout } => Source::Program(start(argv, *timeout)?),
            SourceEntry::Model(folder) => {
                let model = load(folder, policy)?;
                if model.head().is_joint() {
                    let problem =
                        "compares two answers and gives no points; use it as the judge of pavlov pairwise";
                    return Err(Error::setting("rewards", format!("{} {problem}", folder.display())));
                }
                Source::Model(Box::new(model))
            }
            SourceEntry::People(people) => {
                let asking = asking.ok_or_else(|| {
                    let problem = "asks people, who answer a run that learns; a measurement takes a rule, a program \
                                   or a reward model";
                    Error::setting("rewards", problem)
                })?;
                Source::People(asking.people(people)?)
            }
        };
        let name = entry.name().to_owned();
        if rewards.iter().any(|reward| reward.name == name) {
            let problem = format!("two are named '{name}'; give one another name = …");
            return Err(Error::setting("rewards", problem));
        }
        if !entry.weight.is_finite() {
            return Err(Error::setting("rewards", format!("the weight of '{name}' is not a finite number")));
        }
        rewards.push(Reward { name, weight: entry.weight, source });
    }
    if rewards.is_empty() {
        let problem = "is empty; give one, as rewards = [{ rule = \"exact\", column = \"answer\" }]";
        return Err(Error::setting("rewards", problem));
    }
    Ok(rewards)
}

/// Opens the judge of a configuration.
pub fn open_judge(entry: &JudgeEntry, policy: &LanguageModel, asking: &Asking) -> Result<Judge> {
    match entry {
        JudgeEntry::Program { argv, timeout } => Ok(Judge::Program(start(argv, *timeout)?)),
        JudgeEntry::Model(folder) => Ok(Judge::Model(Box::new(load(folder, policy)?))),
        JudgeEntry::People(people) => Ok(Judge::People(asking.people(people)?)),
    }
}

/// A reward model on the policy's threads, whose chat template tells the policy's date.
fn load(folder: &Path, policy: &LanguageModel) -> Result<RewardModel> {
    let mut model = RewardModel::load_on(folder, policy.decoder.backend(), policy.params.dtype())?;
    model.set_now(policy.files.now());
    Ok(model)
}

fn start(argv: &[String], timeout: f64) -> Result<ProgramReward> {
    ProgramReward::start(argv, Duration::from_secs_f64(timeout))
}

fn nothing_left(map: &Map<String, Value>) -> std::result::Result<(), String> {
    match map.keys().next() {
        Some(key) => Err(format!("`{key}` is no key of this source; remove it")),
        None => Ok(()),
    }
}

impl TryFrom<Map<String, Value>> for RewardEntry {
    type Error = String;

    fn try_from(mut map: Map<String, Value>) -> std::result::Result<Self, String> {
        let name = match map.shift_remove("name") {
            None => None,
            Some(Value::String(name)) if !name.is_empty() => Some(name),
            Some(_) => return Err("`name` must be text".into()),
        };
        let weight = match map.shift_remove("weight") {
            None => 1.0,
            Some(weight) => {
                weight.as_f64().ok_or_else(|| format!("`weight` is {weight}; give it a number"))?
            }
        };
        let source = SourceEntry::take(&mut map)?;
        nothing_left(&map)?;
        Ok(Self { name, weight, source })
    }
}

impl From<RewardEntry> for Map<String, Value> {
    fn from(entry: RewardEntry) -> Self {
        let mut map = Map::new();
        entry.source.put(&mut map);
        if let Some(name) = entry.name {
            map.insert("name".into(), name.into());
        }
        map.insert("weight".into(), entry.weight.into());
        map
    }
}

impl TryFrom<Map<String, Value>> for JudgeEntry {
    type Error = String;

    fn try_from(mut map: Map<String, Value>) -> std::result::Result<Self, String> {
        let source = SourceEntry::take(&mut map)?;
        nothing_left(&map)?;
        match source {
            SourceEntry::Rule(_) => {
                Err("a rule gives points; put it in `rewards`, whose points are compared".into())
            }
            SourceEntry::Program { argv, timeout } => Ok(Self::Program { argv, timeout }),
            SourceEntry::Model(folder) => Ok(Self::Model(folder)),
            SourceEntry::People(people) => Ok(Self::People(people)),
        }
    }
}

impl From<JudgeEntry> for Map<String, Value> {
    fn from(entry: JudgeEntry) -> Self {
        let mut map = Map::new();
        match entry {
            JudgeEntry::Program { argv, timeout } => SourceEntry::Program { argv, timeout },
            JudgeEntry::Model(folder) => SourceEntry::Model(folder),
            JudgeEntry::People(people) => SourceEntry::People(people),
        }
        .put(&mut map);
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_read_and_written() {
        for value in [
            json!({"rule": "exact", "column": "answer", "ignore_case": false, "weight": 1.0}),
            json!({"program": ["python3", "r.py"], "timeout": 5.0, "name": "mine", "weight": 0.5}),
            json!({"model": "runs/reward", "weight": -1.0}),
            json!({"people": "worlds", "overlap": 2, "timeout": 60.0, "on_timeout": "skip", "weight": 1.0}),
        ] {
            let entry: RewardEntry = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(entry).unwrap(), value);
        }
        let judge = json!({"model": "runs/reward"});
        assert_eq!(
            serde_json::to_value(serde_json::from_value::<JudgeEntry>(judge.clone()).unwrap()).unwrap(),
            judge
        );
        let entry: RewardEntry = serde_json::from_value(json!({"program": ["x"]})).unwrap();
        assert_eq!(entry.source, SourceEntry::Program { argv: vec!["x".into()], timeout: 60.0 });
    }

    #[test]
    fn says_what_is_wrong() {
        let refused = |value| serde_json::from_value::<RewardEntry>(value).unwrap_err().to_string();
        assert!(refused(json!({"weight": 1})).contains("one of `rule`, `program`, `model` and `people`"));
        assert!(refused(json!({"model": "a", "program": ["b"]})).contains("one of"));
        assert!(refused(json!({"model": "a", "wieght": 2})).contains("`wieght` is no key"));
        assert!(refused(json!({"rule": "exact", "column": "a", "wieght": 2})).contains("wieght"));
        assert!(refused(json!({"program": "python3 r.py"})).contains("list of texts"));
        assert!(refused(json!({"program": ["x"], "timeout": 0})).contains("seconds above 0"));
        assert!(refused(json!({"people": "x", "on_timeout": "wait"})).contains(r#""stop" or "skip""#));
        let judge =
            serde_json::from_value::<JudgeEntry>(json!({"rule": "exact", "column": "a"})).unwrap_err();
        assert!(judge.to_string().contains("put it in `rewards`"));
    }
}
