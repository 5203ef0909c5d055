//! `pavlov bench dpo`: updates on comparisons by the DPO loss. There is no loop of it yet; its step is here, of the parts
//! that the loops are made of.

use anyhow::Result;
use pavlov_engine::{Activations, AdamW, Batch, OutputGradients, Parameters};
use pavlov_lm::{LanguageModel, split_pair};

use pavlov_schema::comparison::Choice;
use pavlov_schema::dataset;
use pavlov_schema::row::Row;
use pavlov_train::loss::{Answers, dpo};
use pavlov_train::run::update;
use pavlov_train::stage::order::{Batching, Order, Planned};
use pavlov_train::stage::pack::pack_scored_answers;
use serde_json::json;
use std::path::Path;

use super::clock::Clock;
use super::{BenchArgs, backend_of, report};
use crate::failure::bad_input;
use crate::screen;

/// How far the policy may go from its reference, TRL's default.
const BETA: f64 = 0.1;

/// A prompt, its better and its worse answer, in tokens.
struct Pair {
    prompt: Vec<u32>,
    answers: [Vec<u32>; 2],
}

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let (path, batch, length) = (args.data()?, args.batch(), args.length());
    let rows = dataset::read(path)?;
    let mut model = args.load(length)?;
    let pairs = read_pairs(&model, &rows, length, path)?;
    super::enough(path, pairs.len(), batch)?;
    let training = args.training(Path::new(""));
    let tokens = |pair: &Pair| pair.prompt.len() + pair.answers.iter().map(Vec::len).sum::<usize>();
    let order = Order::new(pairs.iter().map(tokens).collect(), Batching::Rows(batch), &training);
    let planned: Vec<Planned> = order.updates(0).take(args.steps as usize).collect();
    let schedule = training.schedule(u64::from(args.steps))?;

    // What the reference says is known before learning begins.
    let mut work = Work { batch: Batch::new(), activations: Activations::new(false) };
    let mut reference = Vec::new();
    for step in &planned {
        reference.push(work.forward(&model, step.rows().iter().map(|&row| &pairs[row]))?);
    }
    let mut optimizer = AdamW::new(&model.decoder, training.adamw());
    let mut gradients = model.decoder.gradients();
    let mut clock = Clock::new(backend_of(&model), true);
    clock.start();
    for (i, (step, reference)) in planned.iter().zip(&reference).enumerate() {
        let rows = step.rows();
        gradients.zero();
        work.accumulate(&model, rows.iter().map(|&row| &pairs[row]), reference, &mut gradients)?;
        let rate = training.learning_rate * schedule.factor(i);
        let clip = training.max_grad_norm;
        update(&mut model.params, &gradients, &mut optimizer, rate, clip, (i as u64 + 1, &rows))?;
        clock.step();
    }
    let sizes = [("pairs", json!(batch)), ("length", json!(length))];
    report::write(args, &model, clock, 2 * batch * length, &sizes)
}

/// Comparisons in tokens, answers cut where they pass `length` with their prompt.
fn read_pairs(model: &LanguageModel, rows: &[Row], length: usize, path: &Path) -> Result<Vec<Pair>> {
    let mut pairs = Vec::with_capacity(rows.len());
    for (i, row) in rows.iter().enumerate() {
        let place = format!("{}: row {}", path.display(), i + 1);
        let Some(comparison) = row.comparison() else {
            return Err(bad_input(format!("{place}: is no comparison; give it `chosen` and `rejected`")));
        };
        let (better, worse) = match comparison.choice {
            Choice::A => (&comparison.a, &comparison.b),
            Choice::B => (&comparison.b, &comparison.a),
            Choice::Tie | Choice::BothBad => continue,
        };
        let prompt = Some(&comparison.prompt).filter(|prompt| !prompt.is_empty());
        let (prompt, better, worse) =
            split_pair(prompt, better, worse).map_err(|e| bad_input(format!("{place}: {e}")))?;
        let encoded = model.encoder().encode_answers(&prompt, &[better, worse], &place)?;
        let room = length.saturating_sub(encoded.prompt.len());
        if let (Ok(mut answers), true) = (<[Vec<u32>; 2]>::try_from(encoded.answers), room > 0) {
            for answer in &mut answers {
                answer.truncate(room);
            }
            pairs.push(Pair { prompt: encoded.prompt, answers });
        }
    }
    if pairs.len() < rows.len() {
        let left = rows.len() - pairs.len();
        let line = format!(
            "{left} of {} rows are left out: undecided, or no room for an answer in {length} tokens",
            rows.len()
        );
        screen::line(&format!("note: {}: {line}", path.display()));
    }
    Ok(pairs)
}

/// Buffers of forward and backward passes, kept between updates.
struct Work {
    batch: Batch,
    activations: Activations,
}

impl Work {
    /// Σ log π of each answer, two of a pair together.
    fn forward<'a>(
        &mut self,
        model: &LanguageModel,
        pairs: impl Iterator<Item = &'a Pair> + Clone,
    ) -> Result<[Vec<f32>; 2]> {
        self.batch.clear();
        for pair in pairs.clone() {
            pack_scored_answers(&mut self.batch, &pair.prompt, pair.answers.iter().map(Vec::as_slice));
        }
        let outputs = model.decoder.forward(&model.params, &self.batch, 1.0, &mut self.activations)?;
        let mut logps = outputs.logp.into_iter();
        let mut sum = |answer: &Vec<u32>| logps.by_ref().take(answer.len()).sum::<f32>();
        let (chosen, rejected) = pairs.map(|pair| (sum(&pair.answers[0]), sum(&pair.answers[1]))).unzip();
        Ok([chosen, rejected])
    }

    /// Adds the gradient of the loss of an update to `gradients`.
    fn accumulate<'a>(
        &mut self,
        model: &LanguageModel,
        pairs: impl Iterator<Item = &'a Pair> + Clone,
        [ref_chosen, ref_rejected]: &[Vec<f32>; 2],
        gradients: &mut Parameters,
    ) -> Result<()> {
        let [chosen, rejected] = self.forward(model, pairs.clone())?;
        let policy = Answers { chosen: &chosen, rejected: &rejected };
        let reference = Answers { chosen: ref_chosen, rejected: ref_rejected };
        let loss = dpo(policy, reference, BETA, chosen.len());
        let mut derivatives = OutputGradients::default();
        for ((pair, first), second) in pairs.zip(&loss.d_first).zip(&loss.d_second) {
            derivatives.logp.extend(std::iter::repeat_n(first, pair.answers[0].len()));
            derivatives.logp.extend(std::iter::repeat_n(second, pair.answers[1].len()));
        }
        let acts = &mut self.activations;
        model.decoder.backward(&model.params, &self.batch, 1.0, &derivatives, acts, gradients)?;
        Ok(())
    }
}
