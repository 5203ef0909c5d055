//! Two models on the same held-out questions: code lengths, distance, right answers.

use std::path::Path;

use pavlov_engine::{Activations, Batch, Control, SamplingParams};
use pavlov_lm::generate::{GenerateOptions, Generation, generate};
use pavlov_lm::{EncodeOptions, Encoded, LanguageModel};
use pavlov_schema::row::Row;
use pavlov_schema::text::Text;
use pavlov_schema::{Value, dataset};
use pavlov_train::stage::pack::pack_rows;

use crate::{Error, Result};

/// A question and its right answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Question {
    pub(super) prompt: Text,
    pub(super) answer: Text,
}

/// Questions with answers from a data set: `completion`, a demonstration of people, or a column `answer`. At most `most`.
pub(super) fn questions(path: &Path, most: usize) -> Result<Vec<Question>> {
    let rows = dataset::read(path)?;
    Ok(rows.iter().filter_map(question).take(most).collect())
}

fn question(row: &Row) -> Option<Question> {
    if let Row::PromptOnly { prompt, columns } = row {
        let answer = columns.get("answer").and_then(Value::as_str)?;
        return Some(Question { prompt: prompt.clone(), answer: Text::from(answer) });
    }
    let shown = row.demonstration()?;
    Some(Question { prompt: shown.prompt, answer: shown.response })
}

/// Tokens of a forward pass.
const BATCH_TOKENS: usize = 4096;

/// Questions and answers as tokens; `place` names them in errors.
pub(super) fn encode(model: &LanguageModel, questions: &[Question], place: &str) -> Result<Vec<Encoded>> {
    let options = EncodeOptions { max_length: None, completion_only: true, append_end: true };
    let encoder = model.encoder();
    questions
        .iter()
        .enumerate()
        .map(|(i, Question { prompt, answer })| {
            let row = Row::PromptCompletion { prompt: prompt.clone(), completion: answer.clone() };
            Ok(encoder.encode_row(&row, &options, &format!("{place}: row {}", i + 1))?)
        })
        .collect()
}

/// Bits of what is learned of each row.
pub(super) fn code_lengths(model: &LanguageModel, rows: &[Encoded]) -> Result<Vec<f64>> {
    let (mut bits, mut batch, mut activations) = (Vec::new(), Batch::new(), Activations::new(true));
    let mut rest = rows;
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|row| {
            tokens += row.tokens.len();
            tokens <= BATCH_TOKENS
        });
        let (now, later) = rest.split_at(fits.count().max(1));
        batch.clear();
        pack_rows(&mut batch, now.iter());
        let outputs = model.decoder.forward(&model.params, &batch, 1.0, &mut activations)?;
        let mut logp = outputs.logp.iter();
        for row in now {
            let learned = row.trained.iter().filter(|trained| **trained).count();
            bits.push(
                -logp.by_ref().take(learned).map(|&logp| f64::from(logp)).sum::<f64>()
                    / std::f64::consts::LN_2,
            );
        }
        rest = later;
    }
    Ok(bits)
}

/// One answer of the model's own to each question, drawn at `temperature`; `first` is the place of the first among all questions.
pub(super) fn draw(
    model: &LanguageModel,
    questions: &[Question],
    temperature: f32,
    (first, max_new_tokens): (usize, usize),
    seed: u64,
) -> Result<(Vec<Vec<u32>>, Vec<Generation>)> {
    let encoder = model.encoder();
    let prompts = questions
        .iter()
        .map(|question| Ok(encoder.encode_prompt(&question.prompt, None)?))
        .collect::<Result<Vec<Vec<u32>>>>()?;
    let options = GenerateOptions {
        sampling: SamplingParams { temperature, max_new_tokens, ..SamplingParams::default() },
        stop: Vec::new(),
        n: 1,
        seed,
        first,
        max_batch: 64,
    };
    let drawn = generate(model, &prompts, &options, &mut |_| Control::Continue)?;
    Ok((prompts, drawn))
}

/// log π(answer)/π_start(answer) of answers that `after` drew at temperature 1, in bits: their mean is KL(π‖π_start). `places` are the
/// place of the first question and the most tokens of an answer.
pub(super) fn divergences(
    before: &LanguageModel,
    after: &LanguageModel,
    questions: &[Question],
    places: (usize, usize),
    seed: u64,
) -> Result<Vec<f64>> {
    if before.decoder.config().vocab_size != after.decoder.config().vocab_size {
        return Err(Error::Question(
            "the model and the one it began with have other tokens: no KL between them".into(),
        ));
    }
    let (prompts, drawn) = draw(after, questions, 1.0, places, seed)?;
    let (mut batch, mut activations) = (Batch::new(), Activations::new(true));
    let mut bits = Vec::with_capacity(drawn.len());
    for part in drawn.chunks(32) {
        let score = |model: &LanguageModel, batch: &mut Batch, activations: &mut Activations| {
            batch.clear();
            for answer in part {
                let prompt = &prompts[answer.request];
                let segment = batch.forest.push(None, &[prompt.as_slice(), &answer.tokens].concat());
                for (i, &token) in answer.tokens.iter().enumerate() {
                    let row = batch.forest.row(segment, prompt.len() + i - 1) as u32;
                    batch.targets.push(pavlov_engine::Target { row, token });
                }
            }
            Ok::<_, Error>(model.decoder.forward(&model.params, batch, 1.0, activations)?.logp)
        };
        let new = score(after, &mut batch, &mut activations)?;
        let old = score(before, &mut batch, &mut activations)?;
        let mut differences = new.iter().zip(&old).map(|(new, old)| f64::from(*new) - f64::from(*old));
        for answer in part {
            let nats: f64 = differences.by_ref().take(answer.tokens.len()).sum();
            bits.push(nats / std::f64::consts::LN_2);
        }
    }
    Ok(bits)
}

/// Whether the most probable answer to each question is the right one, but for spaces around it.
pub(super) fn right(
    model: &LanguageModel,
    questions: &[Question],
    max_new_tokens: usize,
) -> Result<Vec<f64>> {
    let (_, drawn) = draw(model, questions, 0.0, (0, max_new_tokens), 0)?;
    let mut right = vec![0.0; questions.len()];
    for answer in drawn {
        let truth = match &questions[answer.request].answer {
            Text::Plain(text) => text.trim().to_owned(),
            Text::Chat(turns) => {
                turns.iter().map(|turn| turn.content.trim()).collect::<Vec<_>>().join("\n").trim().to_owned()
            }
        };
        right[answer.request] = f64::from(u8::from(answer.text.trim() == truth));
    }
    Ok(right)
}
