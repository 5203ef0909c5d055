//! `pavlov logprobs`: how likely a model finds texts, token by token.

use std::path::Path;

use anyhow::Result;
use pavlov_engine::{Activations, Batch};
use pavlov_lm::{EncodeOptions, LanguageModel};
use pavlov_schema::dataset;
use pavlov_schema::row::Row;
use serde::Serialize;

use crate::args::{LogprobsArgs, ModelArgs};
use crate::failure::bad_input;
use crate::stdout;

/// Tokens of a forward pass, unless one row alone has more.
const BATCH_TOKENS: usize = 4096;

/// A row's numbers.
#[derive(Serialize)]
struct Line<'a> {
    tokens: &'a [u32],
    /// In nats; the first is null, nothing comes before it.
    logprobs: Vec<Option<f32>>,
}

pub(crate) fn run(args: &LogprobsArgs) -> Result<()> {
    let rows = dataset::read(&args.data)?;
    // As a trainer holds it: the figures are those that training starts from.
    let ModelArgs { model: folder, adapter, compute } = &args.model;
    let model = super::load_on(folder, adapter.as_deref(), &compute.cpu(), compute.exact_dtype())?;
    let model = super::speaker(model, folder)?;
    let mut scorer = Scorer { model: &model, batch: Batch::new(), activations: Activations::new(true) };
    let mut table = Table::default();
    let mut waiting: Vec<Vec<u32>> = Vec::new();
    let mut show = |tokens: &[Vec<u32>]| -> Result<()> {
        for (tokens, logprobs) in tokens.iter().zip(scorer.score(tokens)?) {
            if args.json {
                let logprobs = std::iter::once(None).chain(logprobs.into_iter().map(Some)).collect();
                stdout::json(&Line { tokens, logprobs })?;
            } else {
                table.add(&logprobs)?;
            }
        }
        Ok(())
    };
    for (i, row) in rows.iter().enumerate() {
        let tokens = encode(&model, row, &args.data, i + 1)?;
        let open: usize = waiting.iter().map(Vec::len).sum();
        if !waiting.is_empty() && open + tokens.len() > BATCH_TOKENS {
            show(&waiting)?;
            waiting.clear();
        }
        waiting.push(tokens);
    }
    show(&waiting)?;
    if args.json { Ok(()) } else { table.finish() }
}

/// A row's tokens, exactly as written: no end token is added.
fn encode(model: &LanguageModel, row: &Row, file: &Path, number: usize) -> Result<Vec<u32>> {
    let place = format!("{}: row {number}", file.display());
    let tokens = match row {
        // As they are: a single token, of which nothing can be scored, is no error here.
        Row::Text { text } => model.files.tokenizer.encode(text, true)?,
        Row::InputIds { input_ids } => input_ids.clone(),
        row => {
            let options = EncodeOptions { max_length: None, completion_only: false, append_end: false };
            model.encoder().encode_row(row, &options, &place)?.tokens
        }
    };
    let config = model.decoder.config();
    if tokens.is_empty() {
        return Err(bad_input(format!("{place}: has no token; give it text")));
    }
    if let Some(id) = tokens.iter().find(|id| **id as usize >= config.vocab_size) {
        let size = config.vocab_size;
        return Err(bad_input(format!("{place}: token {id} is outside the model's vocabulary of {size}")));
    }
    if tokens.len() > config.max_positions {
        let (length, context) = (tokens.len(), config.max_positions);
        let what = format!("has {length} tokens, more than the model's context of {context}; shorten it");
        return Err(bad_input(format!("{place}: {what}")));
    }
    Ok(tokens)
}

struct Scorer<'a> {
    model: &'a LanguageModel,
    batch: Batch,
    activations: Activations,
}

impl Scorer<'_> {
    /// The log-probability of every token of each row but its first, in nats.
    fn score(&mut self, rows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        self.batch.clear();
        let mut ranges = Vec::with_capacity(rows.len());
        for tokens in rows {
            let segment = self.batch.forest.push(None, tokens);
            ranges.push(self.batch.score_segment(segment));
        }
        if self.batch.targets.is_empty() {
            return Ok(vec![Vec::new(); rows.len()]);
        }
        let model = self.model;
        let outputs = model.decoder.forward(&model.params, &self.batch, 1.0, &mut self.activations)?;
        Ok(ranges.into_iter().map(|range| outputs.logp[range].to_vec()).collect())
    }
}

/// Rows for people: how many tokens, and how likely.
#[derive(Default)]
struct Table {
    rows: usize,
    tokens: usize,
    sum: f64,
}

impl Table {
    fn add(&mut self, logprobs: &[f32]) -> Result<()> {
        if self.rows == 0 {
            stdout::text("   row   tokens   mean log-prob (nats)   perplexity\n")?;
        }
        self.rows += 1;
        let sum: f64 = logprobs.iter().map(|&logp| f64::from(logp)).sum();
        self.tokens += logprobs.len();
        self.sum += sum;
        stdout::text(&line(&self.rows.to_string(), logprobs.len(), sum))
    }

    fn finish(&self) -> Result<()> {
        stdout::text(&line("all", self.tokens, self.sum))
    }
}

/// `tokens` counts those that are scored.
fn line(name: &str, tokens: usize, sum: f64) -> String {
    if tokens == 0 {
        return format!("{name:>6} {tokens:>8} {:>22} {:>12}\n", "-", "-");
    }
    let mean = sum / tokens as f64;
    format!("{name:>6} {tokens:>8} {mean:>22.4} {:>12.4}\n", (-mean).exp())
}
