//! The behaviour as cases: prompts, the answer that shows it, and one that does not.

use pavlov_engine::{Activations, Batch, Control, SampleRequest, Sampler, SamplingParams};
use pavlov_lm::LanguageModel;
use pavlov_schema::Value;
use pavlov_schema::rollout::Prompt;
use pavlov_schema::text::Text;
use serde::Deserialize;

use super::lesson::{Answer, Kind, Labels, Lesson};
use crate::{Error, Result};

/// Most cases: more only cost time.
pub const MOST: usize = 128;

/// Cases of a behaviour. The alternative is the column `alternative`, else `answer`, else the most probable answer of the model
/// before. Prompts whose alternative is the behaviour itself are left out; an error if none is left.
pub fn cases(
    before: &LanguageModel,
    prompts: &[Prompt],
    behaviour: &str,
    longest: usize,
) -> Result<Vec<Lesson>> {
    let encoder = before.encoder();
    let prompts = &prompts[..prompts.len().min(MOST)];
    let mut alternatives: Vec<Option<Text>> = prompts.iter().map(given).collect::<Result<_>>()?;
    let missing: Vec<usize> = (0..prompts.len()).filter(|i| alternatives[*i].is_none()).collect();
    let tokens = missing
        .iter()
        .map(|i| Ok(encoder.encode_prompt(&prompts[*i].prompt, None)?))
        .collect::<Result<Vec<_>>>()?;
    for (i, answer) in missing.iter().zip(greedy(before, &tokens, longest)?) {
        alternatives[*i] = Some(Text::Plain(before.files.tokenizer.decode(&answer, true)?));
    }
    let mut cases = Vec::new();
    for (i, (prompt, alternative)) in prompts.iter().zip(alternatives).enumerate() {
        let alternative = alternative.unwrap_or_else(|| Text::from(""));
        let texts = [Text::from(behaviour), alternative].map(|text| text.answering(&prompt.prompt));
        let plain = |text: &Text| matches!(text, Text::Plain(text) if text.trim().is_empty() || text.trim() == behaviour.trim());
        if texts[0] == texts[1] || plain(&texts[1]) {
            continue;
        }
        let encoded = encoder.encode_answers(&prompt.prompt, &texts, &format!("case {}", i + 1))?;
        let pushed = encoded.answers.into_iter().zip([1.0, -1.0]);
        let answers =
            pushed.map(|(tokens, share)| Answer { weights: vec![share; tokens.len()], tokens, share });
        let text = before.files.tokenizer.decode(&encoded.prompt, false)?;
        cases.push(Lesson {
            place: i,
            kind: Kind::Demonstration,
            answers: answers.collect(),
            prompt: encoded.prompt,
            text: [text, behaviour.to_owned()],
            labels: Labels::default(),
        });
    }
    if cases.is_empty() {
        return Err(Error::Question(
            "no prompt has an alternative to the behaviour; give prompts with a column `alternative`".into(),
        ));
    }
    Ok(cases)
}

fn given(prompt: &Prompt) -> Result<Option<Text>> {
    let column = prompt.columns.get("alternative").or_else(|| prompt.columns.get("answer"));
    match column {
        None | Some(Value::Null) => Ok(None),
        Some(value) => Text::deserialize(value.clone())
            .map(Some)
            .map_err(|e| Error::Question(format!("prompt {}: `alternative`: {e}; give it text", prompt.id))),
    }
}

/// The most probable answer to each prompt.
pub fn greedy(model: &LanguageModel, prompts: &[Vec<u32>], longest: usize) -> Result<Vec<Vec<u32>>> {
    let requests: Vec<SampleRequest> =
        prompts.iter().map(|prompt| SampleRequest { prompt: prompt.clone(), n: 1, stream: 0 }).collect();
    let sampling = SamplingParams {
        temperature: 0.0,
        max_new_tokens: longest,
        stop_tokens: model.files.tokenizer.stops().to_vec(),
        ..SamplingParams::default()
    };
    let mut sampler = Sampler::new(super::lesson::CHUNK);
    let go_on = &mut |_: usize, _: usize, _: u32| Control::Continue;
    let drawn = sampler.run(&model.decoder, &model.params, &requests, &sampling, (0, 0), go_on)?;
    Ok(drawn.into_iter().map(|one| one.tokens).collect())
}

/// log π of the behaviour and of the alternative in each case, nats.
pub fn log_probabilities(model: &LanguageModel, cases: &[Lesson]) -> Result<Vec<[f64; 2]>> {
    let (mut batch, mut activations) = (Batch::new(), Activations::new(true));
    let mut found = Vec::with_capacity(cases.len());
    for part in cases.chunks(super::lesson::CHUNK) {
        batch.clear();
        let mut ranges = Vec::new();
        for case in part {
            let prompt = batch.forest.push(None, &case.prompt);
            for answer in &case.answers {
                let segment = batch.forest.push(Some(prompt), &answer.tokens);
                ranges.push(batch.score_segment(segment));
            }
        }
        let outputs = model.decoder.forward(&model.params, &batch, 1.0, &mut activations)?;
        let sum =
            |range: &std::ops::Range<usize>| outputs.logp[range.clone()].iter().map(|x| f64::from(*x)).sum();
        found.extend(ranges.chunks_exact(2).map(|pair| [sum(&pair[0]), sum(&pair[1])]));
    }
    Ok(found)
}

/// The mean probability of the behaviour over the cases.
pub fn probability(model: &LanguageModel, cases: &[Lesson]) -> Result<f64> {
    let found = log_probabilities(model, cases)?;
    Ok(found.iter().map(|logps| logps[0].exp()).sum::<f64>() / found.len() as f64)
}
