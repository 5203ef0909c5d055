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
    if let (Some(i), true) = (missing.first(), judges(before)) {
        return Err(Error::Question(format!(
            "prompt {}: has no `alternative` to the behaviour, and the model before writes none; add the column",
            prompts[*i].id
        )));
    }
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

/// The score of the behaviour and of the alternative in each case, of a model that judges.
fn scores(model: &LanguageModel, cases: &[Lesson]) -> Result<Vec<[f64; 2]>> {
    let (mut batch, mut activations) = (Batch::new(), Activations::new(true));
    let mut found = Vec::with_capacity(cases.len());
    for part in cases.chunks(super::lesson::CHUNK) {
        batch.clear();
        for case in part {
            let prompt = batch.forest.push(None, &case.prompt);
            for answer in &case.answers {
                let segment = batch.forest.push(Some(prompt), &answer.tokens);
                let read = batch.forest.row(segment, model.files.scored_position(&answer.tokens));
                batch.reads.push(read as u32);
            }
        }
        let outputs = model.decoder.forward(&model.params, &batch, 1.0, &mut activations)?;
        found.extend(outputs.scalars.chunks_exact(2).map(|pair| [f64::from(pair[0]), f64::from(pair[1])]));
    }
    Ok(found)
}

/// Whether a model judges answers and writes none.
pub fn judges(model: &LanguageModel) -> bool {
    !model.decoder.config().language_head
}

/// log π of the behaviour and of the alternative in each case, nats, or their scores where the model judges.
fn both(model: &LanguageModel, cases: &[Lesson]) -> Result<Vec<[f64; 2]>> {
    if judges(model) { scores(model, cases) } else { log_probabilities(model, cases) }
}

/// The log-odds of the behaviour against the alternative in each case, nats: log π(behaviour) − log π(alternative), or the
/// difference of their scores where the model judges.
pub fn log_odds(model: &LanguageModel, cases: &[Lesson]) -> Result<Vec<f64>> {
    Ok(both(model, cases)?.iter().map(|[behaviour, alternative]| behaviour - alternative).collect())
}

/// How much of a behaviour is in a model, as means over the cases.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Probability that the model writes it; of one that judges, σ of the log-odds: that it prefers it to the alternative.
    pub probability: f64,
    /// Its log-odds against the alternative, nats.
    pub log_odds: f64,
}

/// How much of the behaviour is in a model.
pub fn seen(model: &LanguageModel, cases: &[Lesson]) -> Result<Seen> {
    let (judges, n) = (judges(model), cases.len() as f64);
    let mut seen = Seen::default();
    for [behaviour, alternative] in both(model, cases)? {
        let odds = behaviour - alternative;
        seen.log_odds += odds / n;
        seen.probability += if judges { 1.0 / (1.0 + (-odds).exp()) } else { behaviour.exp() } / n;
    }
    Ok(seen)
}
