//! The answers that are asked about, and the models and rewards to ask: of a run, or from the command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use pavlov_engine::{Cpu, Dtype};
use pavlov_insight::credit::{Mark, Reference};
use pavlov_lm::LanguageModel;
use pavlov_schema::rollout::{Finish, Prompt, Rollout, Scored};
use pavlov_schema::rollout_file;
use pavlov_schema::text::{Message, Text};
use pavlov_schema::{Map, Value, dataset};
use pavlov_train::Error as TrainError;
use pavlov_train::loops::reward_model::RewardModel;
use pavlov_train::loops::rl::config::{GrpoConfig, PairwiseConfig, PolicySettings};
use pavlov_train::loops::rl::sources::{RewardEntry, SourceEntry, open_rewards};
use pavlov_train::run::TrainingConfig;
use pavlov_train::settings::{Settings, read_assignment, read_toml};
use pavlov_train::stage::score::{Reward, score};
use serde::Deserialize;

use super::args::{CreditArgs, Elsewhere};
use crate::commands::{load_on, reward_entry, speaker};
use crate::failure::bad_input;

/// Everything that is asked, and asked about.
pub(crate) struct Question {
    pub(crate) policy: LanguageModel,
    pub(crate) policy_name: PathBuf,
    pub(crate) reference: Option<Reference>,
    pub(crate) reference_name: Option<String>,
    pub(crate) reward_model: Option<RewardModel>,
    pub(crate) rewards: Vec<Reward>,
    /// The answers with their prompts.
    pub(crate) answers: Vec<(Prompt, Scored)>,
    pub(crate) temperature: f32,
    pub(crate) beta: f64,
    pub(crate) max_completion_length: usize,
}

/// Whom the question is put to, and about what.
enum Asked<'a> {
    /// A run, about its own answers.
    Run(Run),
    /// A run, about an answer from elsewhere.
    RunElsewhere(Run, &'a Elsewhere),
    /// The model of this folder, about an answer from elsewhere.
    Model(&'a Path, &'a Elsewhere),
}

/// A run, and what its configuration says.
struct Run {
    folder: PathBuf,
    training: TrainingConfig,
    policy: PolicySettings,
}

impl Question {
    pub(super) fn of(args: &CreditArgs) -> Result<Self> {
        let asked = Asked::of(args)?;
        let run = asked.run();
        let (backend, dtype) = (args.measure.compute.cpu(), args.measure.compute.dtype());
        let policy_name = asked.policy(args)?;
        let policy = speaker(load_on(&policy_name, None, &backend, dtype)?, &policy_name)?;
        let (reference, reference_name) = reference(args, run, &policy, (&backend, dtype))?;
        let entries = asked.rewards(args)?;
        let mut rewards = open_rewards(&entries, &policy, None)?;
        let folders = entries.iter().filter_map(|entry| match &entry.source {
            SourceEntry::Model(folder) => Some(folder.clone()),
            SourceEntry::Rule(_) | SourceEntry::Program { .. } | SourceEntry::People(_) => None,
        });
        let folder = args.reward_model.clone().or_else(|| folders.into_iter().next());
        let mut reward_model =
            folder.map(|folder| RewardModel::load_on(&folder, &backend, dtype)).transpose()?;
        if let Some(model) = &mut reward_model {
            model.set_now(policy.files.now());
        }
        let answers = match &asked {
            Asked::Run(run) => of_run(args, run)?,
            Asked::RunElsewhere(run, answer) => {
                let prompt = prompted(&answer.prompt, &dataset::read_prompts(&run.training.data)?);
                vec![of_flags(answer, prompt, &policy, &mut rewards, args.measure.seed)?]
            }
            Asked::Model(_, answer) => {
                let prompt = prompted(&answer.prompt, &[]);
                vec![of_flags(answer, prompt, &policy, &mut rewards, args.measure.seed)?]
            }
        };
        let own = run.map(|run| &run.policy);
        Ok(Self {
            policy,
            policy_name,
            reference,
            reference_name,
            reward_model,
            rewards,
            answers,
            temperature: args.temperature.or(own.map(|own| own.temperature as f32)).unwrap_or(1.0),
            beta: own.map(|own| own.beta).filter(|beta| *beta > 0.0).unwrap_or(1.0),
            max_completion_length: args
                .max_tokens
                .map(|tokens| tokens as usize)
                .or(own.map(|own| own.max_completion_length))
                .unwrap_or(256),
        })
    }
}

impl<'a> Asked<'a> {
    fn of(args: &'a CreditArgs) -> Result<Self> {
        match (&args.run, &args.model, &args.elsewhere) {
            (Some(run), _, None) => Ok(Self::Run(Run::read(run)?)),
            (Some(run), _, Some(answer)) => Ok(Self::RunElsewhere(Run::read(run)?, answer)),
            (None, Some(model), Some(answer)) if !args.rewards.is_empty() => Ok(Self::Model(model, answer)),
            (None, _, _) => Err(bad_input("give a RUN, or --model, --reward, --prompt and --response")),
        }
    }

    fn run(&self) -> Option<&Run> {
        match self {
            Self::Run(run) | Self::RunElsewhere(run, _) => Some(run),
            Self::Model(..) => None,
        }
    }

    /// The folder of the policy.
    fn policy(&self, args: &CreditArgs) -> Result<PathBuf> {
        match (self, &args.model) {
            (Self::Model(folder, _), _) => Ok(folder.to_path_buf()),
            (Self::Run(_) | Self::RunElsewhere(..), Some(folder)) => Ok(folder.clone()),
            (Self::Run(run) | Self::RunElsewhere(run, _), None) => final_model(&run.folder),
        }
    }

    fn rewards(&self, args: &CreditArgs) -> Result<Vec<RewardEntry>> {
        match self.run().filter(|_| args.rewards.is_empty()) {
            None => args.rewards.iter().map(|text| reward_entry("--reward", text)).collect(),
            Some(run) if !run.policy.rewards.is_empty() => Ok(run.policy.rewards.clone()),
            Some(_) => {
                let what = "--reward: is needed: the run learned from a judge, and one answer alone earns nothing from it";
                Err(bad_input(what))
            }
        }
    }
}

impl Run {
    fn read(folder: &Path) -> Result<Self> {
        let map = read_toml(&folder.join("config.toml"))?;
        let pairwise = PairwiseConfig::from_map(map.clone()).map(|own| (own.training, own.policy));
        let grpo = GrpoConfig::from_map(map).map(|own| (own.training, own.policy));
        let (training, policy) = grpo.or(pairwise).map_err(|_| {
            let what = "is no run of grpo or pairwise, so that it has no rewards and no answers; give the answer with \
                        --model, --reward, --prompt and --response";
            bad_input(format!("{}: {what}", folder.display()))
        })?;
        Ok(Self { folder: folder.to_owned(), training, policy })
    }
}

fn final_model(run: &Path) -> Result<PathBuf> {
    let folder = run.join("model");
    if folder.is_dir() {
        return Ok(folder);
    }
    let what = "has no final model; name a checkpoint with --model";
    Err(bad_input(format!("{}: {what}", run.display())))
}

/// The policy of the beginning: of an adapter its base, else the run's reference or the model it began with.
fn reference(
    args: &CreditArgs,
    run: Option<&Run>,
    policy: &LanguageModel,
    (backend, dtype): (&Arc<Cpu>, Dtype),
) -> Result<(Option<Reference>, Option<String>)> {
    let of_run = || {
        let run = run?;
        Some(run.policy.ref_model.clone().unwrap_or_else(|| run.training.model.clone()))
    };
    if args.reference.is_none() && policy.adapter.is_some() {
        let base = Reference::Base(Box::new(policy.decoder.without_adapter()));
        return Ok((Some(base), Some("the policy without its adapter".to_owned())));
    }
    let given = args.reference.clone().or_else(|| of_run().filter(|folder| folder.is_dir()));
    let Some(folder) = given else { return Ok((None, None)) };
    let model = LanguageModel::load_frozen(&folder, backend, dtype)?;
    let vocabularies = [&model, policy].map(|model| model.decoder.config().vocab_size);
    if !model.decoder.config().language_head || vocabularies[0] != vocabularies[1] {
        let what = "is no language model over the policy's tokens; name another with --reference";
        return Err(bad_input(format!("{}: {what}", folder.display())));
    }
    Ok((Some(Reference::Other(Box::new(model))), Some(folder.display().to_string())))
}

/// The answers of one update, those first whose advantage is largest in size.
fn of_run(args: &CreditArgs, run: &Run) -> Result<Vec<(Prompt, Scored)>> {
    let prompts = dataset::read_prompts(&run.training.data)?;
    let file = match args.step {
        Some(step) => run.folder.join(format!("rollouts/step-{step:06}.parquet")),
        None => last_rollouts(&run.folder)?,
    };
    let mut answers: Vec<_> = rollout_file::read(&file)?.into_iter().map(|(_, credited)| credited).collect();
    answers.sort_by(|a, b| b.advantage.abs().total_cmp(&a.advantage.abs()));
    answers.truncate(args.answers as usize);
    // Answers to one prompt lie together, so that they share its forward pass.
    answers.sort_by_key(|answer| (answer.scored.rollout.prompt_index, answer.scored.rollout.choice));
    let with_prompt = |scored: Scored| {
        let index = scored.rollout.prompt_index;
        let prompt = prompts.get(index).cloned().ok_or_else(|| {
            let data = run.training.data.display();
            bad_input(format!(
                "{data}: has no row {}, which the run answered; give back the run's data",
                index + 1
            ))
        })?;
        Ok((prompt, scored))
    };
    answers.into_iter().map(|answer| with_prompt(answer.scored)).collect()
}

fn last_rollouts(folder: &Path) -> Result<PathBuf> {
    let rollouts = folder.join("rollouts");
    let found = std::fs::read_dir(&rollouts).with_context(|| rollouts.display().to_string())?;
    let files = found.filter_map(|entry| Some(entry.ok()?.path()));
    let last = files.filter(|path| path.extension().is_some_and(|e| e == "parquet")).max();
    last.ok_or_else(|| {
        bad_input(format!("{}: has no rollout file; name a run that has some", rollouts.display()))
    })
}

/// The prompt of these words: the first of a run's that asks them, which has what the rewards read; else the words alone, said by a
/// user where the others are conversations.
fn prompted(words: &str, others: &[Prompt]) -> Prompt {
    let asks = |prompt: &&Prompt| match &prompt.prompt {
        Text::Plain(text) => text == words,
        Text::Chat(messages) => messages.last().is_some_and(|last| last.content == words),
    };
    others.iter().find(asks).cloned().unwrap_or_else(|| {
        let prompt = match others.first() {
            Some(Prompt { prompt: Text::Chat(_), .. }) => Text::Chat(vec![Message::new("user", words)]),
            _ => Text::from(words),
        };
        Prompt { id: "0".into(), prompt, columns: Map::new() }
    })
}

/// The answer from elsewhere, with what it earns, and what `--column` says beside its prompt.
fn of_flags(
    answer: &Elsewhere,
    mut prompt: Prompt,
    policy: &LanguageModel,
    rewards: &mut [Reward],
    seed: u64,
) -> Result<(Prompt, Scored)> {
    for column in &answer.columns {
        let (key, value) = read_assignment(column)?;
        // `answer=4` is what a reward reads as text.
        let value = match value {
            Value::Number(number) => Value::from(number.to_string()),
            other => other,
        };
        prompt.columns.insert(key, value);
    }
    let rollouts = vec![written(policy, &prompt, &answer.response, seed)?.rollout];
    let scored = score(rewards, std::slice::from_ref(&prompt), rollouts).map_err(|error| match error {
        TrainError::Reference { rule, column, .. } if !prompt.columns.contains_key(&column) => {
            let what = format!("reads '{column}', which is not beside the prompt");
            bad_input(format!("--column: reward rule '{rule}' {what}; give it as --column {column}=…"))
        }
        error => error.into(),
    })?;
    let scored = scored.into_iter().next().expect("an answer for an answer");
    Ok((prompt, scored))
}

/// An answer as if the policy had written it. Nobody scored it: its reward is not a number.
pub(crate) fn written(policy: &LanguageModel, prompt: &Prompt, response: &str, seed: u64) -> Result<Scored> {
    let encoded = policy.encoder().encode_answers(&prompt.prompt, &[Text::from(response)], "--prompt")?;
    let tokens = encoded.answers.into_iter().next().unwrap_or_default();
    let ended = tokens.last().is_some_and(|last| policy.files.tokenizer.stops().contains(last));
    let rollout = Rollout {
        prompt_id: prompt.id.clone(),
        prompt_index: 0,
        choice: 0,
        prompt_text: policy.files.tokenizer.decode(&encoded.prompt, false)?,
        prompt_tokens: encoded.prompt,
        completion: policy.files.tokenizer.decode(&tokens, true)?,
        tokens,
        behaviour_logp: Vec::new(),
        finish: if ended { Finish::Eos } else { Finish::Length },
        seed,
        policy_version: 0,
    };
    Ok(Scored { rollout, reward: f64::NAN, parts: Vec::new() })
}

/// A line of marks: of a judgment, or of one answer.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    responses: Vec<Response>,
    #[serde(default)]
    completion: Option<String>,
    #[serde(default)]
    marks: Vec<Mark>,
}

#[derive(Deserialize)]
struct Response {
    text: Value,
}

/// Marks by the text of the answer they are on. Lines without marks are passed over.
pub(super) fn read_marks(path: &Path) -> Result<BTreeMap<String, Vec<Mark>>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut marks: BTreeMap<String, Vec<Mark>> = BTreeMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |what: String| bad_input(format!("{}:{}: {what}", path.display(), number + 1));
        let line: Line = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        for mark in line.marks {
            let text = match (&line.completion, line.responses.get(mark.response)) {
                (Some(text), _) | (None, Some(Response { text: Value::String(text) })) => text.clone(),
                _ => return Err(wrong(format!("marks answer {}, which it does not have", mark.response))),
            };
            marks.entry(text).or_default().push(mark);
        }
    }
    Ok(marks)
}
