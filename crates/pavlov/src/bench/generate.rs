//! `pavlov bench generate`: answers from the sampler, each of exactly `--length` tokens.

use anyhow::Result;
use pavlov_engine::{Control, SampleRequest, Sampler, SamplingParams};
use pavlov_lm::LanguageModel;
use pavlov_schema::dataset;
use pavlov_schema::rng::{Rng, Stream};
use serde_json::json;

use super::clock::Clock;
use super::{BenchArgs, backend_of, report};
use crate::failure::bad_input;

/// Tokens of a prompt, where nothing else is asked.
const PROMPT: usize = 64;

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let (batch, prompt, length) =
        (args.batch(), args.prompt_length.map_or(PROMPT, |n| n as usize), args.length());
    let model = args.load(prompt + length)?;
    let requests: Vec<SampleRequest> = prompts(args, &model, prompt)?
        .into_iter()
        .enumerate()
        .map(|(i, prompt)| SampleRequest { prompt, n: 1, stream: i as u64 })
        .collect();
    // Without a stop token nothing ends an answer early.
    let sampling = SamplingParams { max_new_tokens: length, ..SamplingParams::default() };
    let mut sampler = Sampler::new(batch);
    let mut clock = Clock::new(backend_of(&model), args.profile);
    clock.start();
    for step in 0..=args.steps {
        let key = (0, u64::from(step));
        let go_on = &mut |_: usize, _: usize, _: u32| Control::Continue;
        let answers = sampler.run(&model.decoder, &model.params, &requests, &sampling, key, go_on)?;
        assert!(answers.iter().all(|answer| answer.tokens.len() == length), "nothing ends an answer early");
        clock.step();
    }
    let sizes = [("batch", json!(batch)), ("prompt_tokens", json!(prompt)), ("new_tokens", json!(length))];
    report::write(args, &model, clock, batch * length, &sizes)
}

/// Prompts of equal length: those of the data cut, or filled up with what follows; without data, random tokens.
fn prompts(args: &BenchArgs, model: &LanguageModel, length: usize) -> Result<Vec<Vec<u32>>> {
    let batch = args.batch();
    let Some(path) = &args.data else {
        let mut rng = Rng::new(0, Stream::Data, 0, 0);
        let vocabulary = model.decoder.config().vocab_size;
        return Ok((0..batch).map(|_| (0..length).map(|_| rng.below(vocabulary) as u32).collect()).collect());
    };
    let rows = dataset::read_prompts(path)?;
    if rows.is_empty() {
        return Err(bad_input(format!("{}: has no prompt; give it one", path.display())));
    }
    let encoder = model.encoder();
    let tokens =
        rows.iter().map(|row| encoder.encode_prompt(&row.prompt, None)).collect::<Result<Vec<_>, _>>()?;
    let prompt =
        |i: usize| tokens.iter().cycle().skip(i % tokens.len()).flatten().take(length).copied().collect();
    Ok((0..batch).map(prompt).collect())
}
