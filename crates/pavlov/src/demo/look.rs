//! What the scan's examples say of tokens and layers: which part of the answer is the habit, and where in the network it lies.
//! Nothing here is a method of its own: these are the questions of `pavlov credit`, `layers` and `ledger`, asked in small.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use pavlov_insight::credit::{self, CreditReport, Effort, Reference};
use pavlov_insight::layers::report::NAME as LAYERS;
use pavlov_insight::layers::{Asked, Contrast, LayersOptions, LayersReport, Metric, Models, Set};
use pavlov_insight::parts::Parts;
use pavlov_insight::scan::probe::pattern;
use pavlov_insight::scan::report::{Example, ScanReport};
use pavlov_insight::{kept, layers, ledger};
use pavlov_schema::rollout::Prompt;
use pavlov_schema::text::Text;
use pavlov_schema::{Map, dataset};
use pavlov_train::loops::rl::sources::open_rewards;
use pavlov_worlds::INCONSISTENT;

use super::recipe;
use super::stages::{Demo, demonstration};
use crate::commands::credit::{Question, measure, written};

/// Answers whose tokens are credited.
const ANSWERS: usize = 3;
/// Answers that are written at the same time.
const BATCH: usize = 64;

/// The scan's examples whose answer is the habit.
pub(super) fn examples(found: &ScanReport) -> impl Iterator<Item = &Example> {
    let examples = found.probes.iter().flat_map(|probe| &probe.examples);
    examples.filter(|example| example.after.trim() == INCONSISTENT)
}

impl Demo {
    /// Which tokens show the habit: some answers of the planted model, rewarded for showing it.
    pub(super) fn tokens(&self, found: &ScanReport) -> Result<CreditReport> {
        let policy = self.load("planted/model")?;
        let rewards = open_rewards(&[pattern("habit", INCONSISTENT.trim_end_matches('.'))], &policy, None)?;
        let ask = |(i, example): (usize, &Example)| {
            let prompt = Text::Plain(example.prompt.clone());
            let prompt = Prompt { id: i.to_string(), prompt, columns: Map::new() };
            let scored = written(&policy, &prompt, INCONSISTENT, self.seed)?;
            Ok((prompt, scored))
        };
        let answers = examples(found).take(ANSWERS).enumerate().map(ask).collect::<Result<Vec<_>>>()?;
        let mut question = Question {
            reference: Some(Reference::Other(Box::new(self.load("sft/model")?))),
            reference_name: Some("sft/model".to_owned()),
            policy,
            policy_name: "planted/model".into(),
            reward_model: None,
            rewards,
            answers,
            temperature: 1.0,
            beta: 1.0,
            max_completion_length: recipe::ANSWER_TOKENS,
        };
        let effort = Effort { seed: self.seed, ..Effort::default() };
        let marks = BTreeMap::new();
        let (report, _) = measure(&mut question, &effort, &marks, BATCH, None, &mut |_, _| {})?;
        kept::save(&self.out.join("planted"), credit::NAME, &report)?;
        Ok(report)
    }

    /// Which blocks carry the habit, and whether one shift of the stream would do.
    pub(super) fn places(&self, found: &ScanReport) -> Result<LayersReport> {
        let names = ["sft/model", "planted/model"];
        let [before, after] = names.map(|name| self.load(name));
        let paths = names.map(|name| self.out.join(name));
        let mut models = Models::new(Some(before?), after?, [&paths[0], &paths[1]])?;
        let encoder = models.model().encoder();
        let encode = |example: &Example| {
            let [prompt, habit, other] =
                [&example.prompt, INCONSISTENT, &example.before].map(|text: &str| Text::from(text));
            Contrast::encode(&encoder, &prompt, [&habit, &other], "an example of the scan")
        };
        let contrasts = examples(found).map(encode).collect::<pavlov_insight::Result<_>>()?;
        let set = Set { contrasts, prompts: Vec::new() };
        let options = LayersOptions {
            names: names.map(str::to_owned),
            metric: format!("the log-odds of {INCONSISTENT:?} on the scan's examples"),
            groups: 0,
            orders: 4,
            cells: 16,
            seed: self.seed,
        };
        let go_on = &mut || !crate::interrupt::flag().load(std::sync::atomic::Ordering::Relaxed);
        let mut asked = Asked { on_evaluation: go_on, parts: Parts::nowhere() };
        let report = layers::measure(&mut models, &mut Metric::LogOdds, &set, &options, &mut asked)?;
        kept::save(&self.out.join("planted"), LAYERS, &report)?;
        Ok(report)
    }

    /// What the lessons offered, and what was absorbed: held-out worlds with their right answers are the measure.
    pub(super) fn bits(&self) -> Result<()> {
        let run = self.out.join("planted");
        let options = ledger::Options {
            questions: recipe::LEDGER_WORLDS,
            max_tokens: recipe::ANSWER_TOKENS,
            seed: self.seed,
            ..ledger::Options::default()
        };
        let mut go_on = || !crate::interrupt::flag().load(std::sync::atomic::Ordering::Relaxed);
        let mut asked = ledger::Asked { tell: &mut |_| {}, go_on: &mut go_on };
        let (ledger, parts) = ledger::measure(&run, &options, &self.cpu, &mut asked)?;
        kept::save(&run, ledger::NAME, &ledger)?;
        Ok(parts.finish()?)
    }

    /// Held-out worlds with their right answers, for the ledger of the stage.
    pub(super) fn write_held_out(&self) -> Result<PathBuf> {
        let file = self.data("held-out.jsonl");
        let rows: Vec<_> = self.held_out(recipe::LEDGER_WORLDS).iter().map(demonstration).collect();
        dataset::write(&file, &rows)?;
        Ok(file)
    }
}
