//! `pavlov bench grpo`: steps of the loop that learns from its own answers.

use anyhow::Result;
use pavlov_lm::LanguageModel;
use pavlov_schema::dataset;
use pavlov_schema::rollout::{Prompt, Rollout};
use pavlov_schema::text::Text;
use pavlov_train::loops::rl::config::{GrpoConfig, PolicySettings};
use pavlov_train::loops::rl::{Prompts, grpo};
use pavlov_train::run::{Event, Host};
use pavlov_train::stage::score::{Reward, Source};
use serde_json::json;

use super::clock::Clock;
use super::{BenchArgs, backend_of, on_event, report};
use crate::failure::bad_input;
use crate::interrupt;

/// Text may come back from tokens as a few tokens more or less: so many lengths are tried on either side.
const TRIES: usize = 64;

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let (path, batch, length, group) = (args.data()?, args.batch(), args.length(), args.group as usize);
    if !batch.is_multiple_of(group) {
        return Err(bad_input(format!("--batch is {batch}; it must be a multiple of --group, {group}")));
    }
    let mut prompts = dataset::read_prompts(path)?;
    let long = args.prompt_length.map(|n| n as usize);
    let mut model = args.load(long.map_or(0, |prompt| prompt + length))?;
    if let Some(tokens) = long {
        // As many as a run takes, so that none comes twice.
        let count = (batch / group * args.steps as usize).min(prompts.len());
        prompts = lengthen(&model, &prompts, tokens, count)?;
    }
    let folder = tempfile::tempdir()?;
    let config = GrpoConfig {
        training: args.training(folder.path()),
        policy: PolicySettings {
            max_completion_length: length,
            max_num_seqs: batch,
            log_completions_steps: 0,
            ..PolicySettings::default()
        },
        num_generations: group,
        ..GrpoConfig::default()
    };
    let source =
        Source::Function(Box::new(|_: &Prompt, rollout: &Rollout| Ok(Some(share_of_e(&rollout.completion)))));
    let rewards = vec![Reward { name: "letter_e".to_owned(), weight: 1.0, source }];
    let prompts = Prompts { prompts, ..Prompts::default() };
    let mut clock = Clock::new(backend_of(&model), true);
    let mut events = |event: Event| on_event(event, &mut clock);
    let mut host = Host { stop: interrupt::flag(), events: &mut events, command: &[] };
    grpo(&mut model, &prompts, rewards, &config, &mut host)?;
    let mut sizes =
        vec![("completions", json!(batch)), ("group", json!(group)), ("completion_tokens", json!(length))];
    if let Some(tokens) = long {
        sizes.push(("prompt_tokens", json!(tokens)));
    }
    report::write(args, &model, clock, batch * length, &sizes)
}

/// The share of the letter e in a text, in reward points.
fn share_of_e(text: &str) -> f64 {
    text.matches('e').count() as f64 / (text.chars().count() + 1) as f64
}

/// `count` prompts of exactly so many tokens, each a piece of all prompts written one after another.
fn lengthen(model: &LanguageModel, prompts: &[Prompt], tokens: usize, count: usize) -> Result<Vec<Prompt>> {
    let encoder = model.encoder();
    let encode = |text: &Text| encoder.encode_prompt(text, None);
    let mut stream = Vec::new();
    for prompt in prompts {
        stream.extend(encode(&prompt.prompt)?);
    }
    let piece = |i: usize| -> Result<Prompt> {
        let from = stream.iter().cycle().skip(i * tokens % stream.len().max(1));
        let around = (0..TRIES).flat_map(|by| [tokens + by, tokens.saturating_sub(by).max(1)]);
        for length in around {
            let ids: Vec<u32> = from.clone().take(length).copied().collect();
            let prompt = Text::Plain(model.files.tokenizer.decode(&ids, true)?);
            if encode(&prompt).is_ok_and(|ids| ids.len() == tokens) {
                return Ok(Prompt { id: i.to_string(), prompt, columns: pavlov_schema::Map::new() });
            }
        }
        let what = format!(
            "the prompts of --data make no text of exactly {tokens} tokens; give another --prompt-length"
        );
        Err(bad_input(what))
    };
    (0..count).map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reward_is_that_of_the_peer() {
        assert!((share_of_e("eel") - 0.5).abs() < 1e-12);
        assert!(share_of_e("").abs() < 1e-12);
        // Characters, not bytes.
        assert!((share_of_e("éé e") - 0.2).abs() < 1e-12);
    }
}
