//! `pavlov sample`: a model continues prompts.

use anyhow::Result;
use pavlov_engine::Control;
use pavlov_lm::generate::{GenerateOptions, Generation, Piece, generate};
use pavlov_schema::dataset;
use pavlov_schema::rollout::{Finish, Prompt};
use pavlov_schema::text::Text;
use pavlov_schema::{Map, Value};
use serde::Serialize;

use crate::args::SampleArgs;
use crate::failure::bad_input;
use crate::stdout;

/// Prompts that are answered before anything of theirs is shown.
const PROMPTS_AT_A_TIME: usize = 64;

/// An answer as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    choice: usize,
    prompt: &'a Text,
    completion: &'a str,
    tokens: &'a [u32],
    /// Under the distribution drawn from, in nats.
    logprobs: &'a [f32],
    finish: Finish,
}

pub(crate) fn run(args: &SampleArgs) -> Result<()> {
    let prompts = match (&args.prompt, &args.data) {
        (Some(text), _) if text.is_empty() => return Err(bad_input("--prompt: is empty; give it text")),
        (Some(text), _) => {
            vec![Prompt { id: "0".into(), prompt: Text::Plain(text.clone()), columns: Map::new() }]
        }
        (None, Some(file)) => dataset::read_prompts(file)?,
        (None, None) => return Err(bad_input("give --prompt TEXT or --data FILE")),
    };
    let model = super::load_speaker(&args.model)?;
    let mut tokens = Vec::with_capacity(prompts.len());
    for (i, prompt) in prompts.iter().enumerate() {
        let place = match &args.data {
            Some(file) => format!("{}: row {}", file.display(), i + 1),
            None => "--prompt".to_owned(),
        };
        let tools = prompt.columns.get("tools").and_then(Value::as_array).map(Vec::as_slice);
        let encoded = model.encoder().encode_prompt(&prompt.prompt, tools);
        let encoded = encoded.map_err(|error| bad_input(format!("{place}: {error}")))?;
        super::check_room(&model, &encoded, &place)?;
        tokens.push(encoded);
    }

    let (n, max_batch) = (args.n as usize, args.batch as usize);
    let mut options = GenerateOptions { n, max_batch, ..super::generate_options(&args.sampling) };
    let streams = !args.json && prompts.len() == 1 && n == 1;
    for (part, prompts) in tokens.chunks(PROMPTS_AT_A_TIME).zip(prompts.chunks(PROMPTS_AT_A_TIME)) {
        let mut failed = None;
        let mut on_piece = |piece: Piece<'_>| match stdout::text(piece.text) {
            Ok(()) => Control::Continue,
            Err(error) => {
                failed = Some(error);
                Control::Stop
            }
        };
        let mut silent = |_: Piece<'_>| Control::Continue;
        let answers = if streams {
            generate(&model, part, &options, &mut on_piece)?
        } else {
            generate(&model, part, &options, &mut silent)?
        };
        if let Some(error) = failed {
            return Err(error);
        }
        for answer in &answers {
            show(answer, &prompts[answer.request], options.first, args.json, streams)?;
        }
        options.first += part.len();
    }
    Ok(())
}

fn show(answer: &Generation, prompt: &Prompt, first: usize, json: bool, streamed: bool) -> Result<()> {
    if json {
        return stdout::json(&Line {
            id: &prompt.id,
            choice: answer.choice,
            prompt: &prompt.prompt,
            completion: &answer.text,
            tokens: &answer.tokens,
            logprobs: &answer.logps,
            finish: answer.finish,
        });
    }
    if streamed {
        return stdout::text("\n");
    }
    let ended = match answer.finish {
        Finish::Eos => "ended by itself",
        Finish::Stop => "ended at a stop string",
        Finish::Length => "cut at the longest length",
    };
    let (prompt, choice) = (first + answer.request + 1, answer.choice + 1);
    stdout::text(&format!("--- prompt {prompt}, answer {choice} ({ended})\n{}\n", answer.text))
}
