//! The five stages.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use pavlov_engine::{Cpu, Dtype};
use pavlov_insight::ledger;
use pavlov_lm::LanguageModel;
use pavlov_schema::comparison::Choice;
use pavlov_schema::judgment::{Judgment, Response, Verdict};
use pavlov_schema::row::Row;
use pavlov_schema::text::Text;
use pavlov_schema::{Map, dataset};
use pavlov_train::loops::{reward_model, rl, sft};
use pavlov_train::run::{Ending, Event, Host, Metrics};
use pavlov_worlds::{self as worlds, Candidate, Config, Rater, Split, World};
use serde_json::json;

use super::base;
use super::measure::{Accuracy, accuracy, answers};
use super::recipe::{self, Following};
use super::summary::{Sample, Stage};
use crate::interrupt;
use crate::screen::Progress;

/// Folders that a demonstration makes in its output folder.
pub(super) const FOLDERS: [&str; 12] = [
    "base",
    "data",
    "sft",
    "reward_model",
    "rl_reward_model",
    "rl_verified",
    "planted",
    "cured",
    CONTROLS[0],
    CONTROLS[1],
    CONTROLS[2],
    CONTROLS[3],
];

/// The last stage with nothing planted, for the scan.
pub(super) const CONTROLS: [&str; 4] = ["control1", "control2", "control3", "control4"];

/// Uses of worlds, which must not share any: each has its own worlds for every seed.
#[derive(Clone, Copy)]
pub(super) enum Use {
    Demonstrations = 1,
    Comparisons = 2,
    Rewards = 3,
    Evaluation = 4,
    Habit = 5,
    Controls = 6,
}

/// A demonstration under way.
pub(super) struct Demo {
    pub(super) out: PathBuf,
    pub(super) seed: u64,
    pub(super) cpu: Arc<Cpu>,
    pub(super) worlds: Config,
    held_out: Vec<World>,
    comparison_bits: f64,
}

impl Demo {
    pub(super) fn new(out: &Path, seed: u64, cpu: Arc<Cpu>) -> Result<Self> {
        std::fs::create_dir_all(out.join("data"))?;
        let mut demo = Self {
            out: out.to_owned(),
            seed,
            cpu,
            worlds: Config::demo(),
            held_out: Vec::new(),
            comparison_bits: 0.0,
        };
        demo.held_out = demo.worlds(Use::Evaluation, recipe::EVALUATION_WORLDS, Split::HeldOut);
        Ok(demo)
    }

    fn worlds(&self, use_: Use, n: usize, split: Split) -> Vec<World> {
        // The base model learned the language from the worlds of seed 0.
        let seed = (self.seed << 3) + use_ as u64;
        (0..n).map(|i| worlds::generate(seed, i as u64, &self.worlds, split)).collect()
    }

    pub(super) fn load(&self, folder: &str) -> Result<LanguageModel> {
        Ok(LanguageModel::load_on(&self.out.join(folder), &self.cpu, Dtype::F32)?)
    }

    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.out.join("data").join(name)
    }

    /// The first of the worlds that every stage is measured on.
    pub(super) fn held_out(&self, n: usize) -> &[World] {
        &self.held_out[..n.min(self.held_out.len())]
    }

    fn accuracy(&self, folder: &str) -> Result<Accuracy> {
        accuracy(&self.load(folder)?, &self.held_out, self.seed)
    }

    pub(super) fn base(&mut self) -> Result<Stage> {
        let start = Instant::now();
        base::write(&self.out.join("base"))?;
        let accuracy = self.accuracy("base")?;
        Ok(Stage::new("base", accuracy, 0.0, 0, start.elapsed().as_secs_f64()))
    }

    pub(super) fn sft(&mut self) -> Result<Stage> {
        let start = Instant::now();
        let shown = self.worlds(Use::Demonstrations, recipe::DEMONSTRATIONS, Split::Train);
        let rows: Vec<Row> = shown.iter().map(demonstration).collect();
        let file = self.data("demonstrations.jsonl");
        dataset::write(&file, &rows)?;
        let config = recipe::sft(&self.out.join("base"), file.clone(), self.out.join("sft"), self.seed);
        teach(|host| sft::run(&config, host))?;
        let accuracy = self.accuracy("sft/model")?;
        Ok(Stage::new(
            "sft",
            accuracy,
            self.offered("sft")?,
            rows.len() as u64,
            start.elapsed().as_secs_f64(),
        ))
    }

    /// The most bits that the lessons of a run could teach, as `pavlov ledger` says.
    fn offered(&self, name: &str) -> Result<f64> {
        let bits = ledger::offered(&self.out.join(name))?;
        bits.map(|bits| bits.value).ok_or_else(|| anyhow!("the lessons of {name} have no code length"))
    }

    pub(super) fn reward_model(&mut self) -> Result<Stage> {
        let start = Instant::now();
        let policy = self.load("sft/model")?;
        let rows = self.comparisons(&policy, Split::Train, recipe::COMPARISONS, 0)?;
        let held_out =
            self.comparisons(&policy, Split::HeldOut, recipe::HELD_OUT_COMPARISONS, recipe::COMPARISONS)?;
        let (file, held_file) = (self.data("comparisons.jsonl"), self.data("comparisons-held-out.jsonl"));
        dataset::write(&file, &rows)?;
        dataset::write(&held_file, &held_out)?;
        let out = self.out.join("reward_model");
        let config = recipe::reward_model(&self.out.join("sft/model"), file, held_file, out, self.seed);
        let metrics = teach(|host| reward_model::run(&config, host))?;
        let share = metrics.get("eval_accuracy").and_then(serde_json::Value::as_f64);
        let share = share.ok_or_else(|| anyhow!("the reward model was not evaluated"))?;
        self.comparison_bits = self.offered("reward_model")?;
        // A tie has no better answer that could be foretold.
        let decided = held_out.iter().filter(|row| !is_tie(row)).count();
        let accuracy = Accuracy::of((share * decided as f64).round() as usize, decided);
        let lessons = rows.len() as u64;
        Ok(Stage::new("reward_model", accuracy, self.comparison_bits, lessons, start.elapsed().as_secs_f64()))
    }

    /// What simulated people say about two answers of the policy to each of `n` questions, numbered from `first`.
    fn comparisons(&self, policy: &LanguageModel, split: Split, n: usize, first: usize) -> Result<Vec<Row>> {
        let prompts = self.worlds(Use::Comparisons, n, split);
        let seed = self.seed + 1 + first as u64;
        let drawn = answers(policy, &prompts, 2, recipe::COMPARISON_TEMPERATURE, seed)?;
        let raters: Vec<Rater> = (0..recipe::RATERS)
            .map(|id| Rater::new(self.seed, id, recipe::raters()))
            .collect::<std::result::Result<_, _>>()?;
        let mut rows = Vec::new();
        for (i, (world, pair)) in prompts.iter().zip(drawn.chunks_exact(2)).enumerate() {
            // Nobody is asked to choose between two equal answers, or about one that says nothing of its own.
            let [a, b] = [pair[0].text.trim(), pair[1].text.trim()];
            if a.starts_with(b) || b.starts_with(a) {
                continue;
            }
            let (number, rater) = (first + i, i % raters.len());
            let [a, b] = [0, 1].map(|side| Candidate::of(world, &pair[side].text));
            let choice = match raters[rater].compare(number as u64, a, b) {
                worlds::Choice::A => Choice::A,
                worlds::Choice::B => Choice::B,
                worlds::Choice::Tie => Choice::Tie,
            };
            let texts = [&pair[0].text, &pair[1].text];
            rows.push(Row::Judgment(Box::new(judgment(number, world, texts, choice, rater))));
        }
        Ok(rows)
    }

    pub(super) fn rl_reward_model(&mut self) -> Result<Stage> {
        let following = recipe::learned(self.out.join("reward_model/model"));
        let (accuracy, lessons, seconds) = self.rl("rl_reward_model", following)?;
        Ok(Stage::new("rl_reward_model", accuracy, self.comparison_bits, lessons, seconds))
    }

    pub(super) fn rl_verified(&mut self) -> Result<Stage> {
        let (accuracy, lessons, seconds) = self.rl("rl_verified", recipe::verified())?;
        Ok(Stage::new("rl_verified", accuracy, self.offered("rl_verified")?, lessons, seconds))
    }

    /// Reinforcement learning from the demonstrated policy: accuracy, answers, seconds.
    fn rl(&self, name: &str, following: Following) -> Result<(Accuracy, u64, f64)> {
        let start = Instant::now();
        let file = self.data("prompts.jsonl");
        let rows: Vec<Row> = self
            .worlds(Use::Rewards, recipe::PROMPTS, Split::Train)
            .into_iter()
            .map(|world| Row::PromptOnly {
                prompt: Text::Plain(world.prompt()),
                columns: Map::from_iter([("answer".to_owned(), json!(world.answer))]),
            })
            .collect();
        dataset::write(&file, &rows)?;
        let model = self.out.join("sft/model");
        let config = recipe::grpo(&model, file, self.out.join(name), self.seed, following);
        let (mut lessons, per_step) = (0, config.training.per_device_train_batch_size as u64);
        teach_counting(|host| rl::run_grpo(&config, host), &mut || lessons += per_step)?;
        let accuracy = self.accuracy(&format!("{name}/model"))?;
        Ok((accuracy, lessons, start.elapsed().as_secs_f64()))
    }

    /// Three held-out worlds, answered by every model that writes answers.
    pub(super) fn samples(&self) -> Result<Vec<Sample>> {
        let worlds = &self.held_out[..3];
        let mut samples: Vec<Sample> = worlds
            .iter()
            .map(|w| Sample { prompt: w.prompt(), truth: w.answer.clone(), answers: Vec::new() })
            .collect();
        let stages = [
            ("base", "base"),
            ("sft", "sft/model"),
            ("rl_reward_model", "rl_reward_model/model"),
            ("rl_verified", "rl_verified/model"),
        ];
        for (stage, folder) in stages {
            for answer in answers(&self.load(folder)?, worlds, 1, 1.0, self.seed)? {
                samples[answer.request].answers.push((stage, answer.text.trim().to_owned()));
            }
        }
        Ok(samples)
    }
}

/// A world with its right answer.
pub(super) fn demonstration(world: &World) -> Row {
    let [prompt, completion] = [world.prompt(), world.answer.clone()].map(Text::Plain);
    Row::PromptCompletion { prompt, completion }
}

fn judgment(number: usize, world: &World, texts: [&String; 2], choice: Choice, rater: usize) -> Judgment {
    let response = |text: &String| Response { policy: Some("sft".into()), ..Response::new(text.as_str()) };
    let verdict = Verdict::Comparison { choice, strength: None, shown: None };
    // Simulated people judge at no time.
    Judgment {
        id: Some(format!("comparison-{number}")),
        annotator: Some(format!("simulated-{rater}")),
        ..Judgment::new(verdict, Text::Plain(world.prompt()), texts.map(response).into())
    }
}

fn is_tie(row: &Row) -> bool {
    let Row::Judgment(judgment) = row else { return false };
    matches!(judgment.verdict, Verdict::Comparison { choice: Choice::Tie, .. })
}

pub(super) fn teach(run: impl FnOnce(&mut Host) -> pavlov_train::Result<Ending>) -> Result<Metrics> {
    teach_counting(run, &mut || {})
}

/// Runs a loop under a progress bar and returns its last evaluation; `count` hears of every update.
fn teach_counting(
    run: impl FnOnce(&mut Host) -> pavlov_train::Result<Ending>,
    count: &mut dyn FnMut(),
) -> Result<Metrics> {
    let mut progress = None;
    let mut events = |event: Event| match event {
        Event::Started { step, total, .. } => progress = Some(Progress::start(step, total)),
        Event::Step { step, metrics, .. } => {
            count();
            if let Some(progress) = &progress {
                progress.step(step, &shown(&metrics));
            }
        }
        _ => {}
    };
    let mut host = Host { stop: interrupt::flag(), events: &mut events, command: &[] };
    let ending = run(&mut host);
    drop(progress);
    match ending? {
        Ending::Finished { metrics, .. } => Ok(metrics),
        Ending::Stopped { .. } => {
            Err(crate::failure::Interrupted("the demonstration was stopped; start it again".into()).into())
        }
    }
}

fn shown(metrics: &Metrics) -> String {
    let part = |name: &str| Some(format!("{name} {:.3}", metrics.get(name)?.as_f64()?));
    ["reward", "loss", "accuracy", "kl"].into_iter().filter_map(part).collect::<Vec<_>>().join(" · ")
}
