//! Rows of data sets as tokens, with the mask that says which of them are learned.
//!
//! The rules: a text is learned whole, an answer without its prompt, a conversation at the assistant's turns. Each turn
//! ends with an end token that is learned once, whatever the padding token is. A prompt's tokens are those a sampler
//! would be given. Nothing is cut or left out without being counted or refused.

use pavlov_schema::row::Row;
use pavlov_schema::text::{Message, Text};
use serde_json::Value;

use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use crate::turns::{Turns, turns};
use crate::{Error, Result};

/// How rows become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Longer rows are cut at their end to this many tokens. `None`: a row longer than the model's context is an error.
    pub max_length: Option<usize>,
    /// Learn completions and assistant turns only, not what comes before them.
    pub completion_only: bool,
    /// Append the end token to a row that does not end with one.
    pub append_end: bool,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self { max_length: None, completion_only: true, append_end: true }
    }
}

/// A row as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// For each token whether it is learned. The first never is: nothing comes before it.
    pub trained: Vec<bool>,
    /// How many of the tokens are the prompt; 0 where the row has none.
    pub prompt_tokens: usize,
    /// Tokens cut off by [`EncodeOptions::max_length`].
    pub cut: usize,
}

/// Answers to one prompt: each continues the same prompt tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedAnswers {
    /// The prompt's token ids.
    pub prompt: Vec<u32>,
    /// Each answer's token ids, with its end token.
    pub answers: Vec<Vec<u32>>,
}

/// Encodes rows for one model.
#[derive(Clone, Copy, Debug)]
pub struct Encoder<'a> {
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The chat template, which conversations need.
    pub template: Option<&'a ChatTemplate>,
    /// Number of token ids the model knows.
    pub vocab_size: usize,
    /// Longest sequence of the model, in tokens.
    pub max_positions: usize,
}

impl Encoder<'_> {
    /// A row as tokens. `place` names the row in errors, as `train.jsonl:17`.
    pub fn encode_row(&self, row: &Row, options: &EncodeOptions, place: &str) -> Result<Encoded> {
        self.row(row, options).and_then(|encoded| self.finish(encoded, options)).map_err(|e| at(place, &e))
    }

    /// The tokens a sampler continues: of a conversation, up to where the assistant begins to speak.
    pub fn encode_prompt(&self, prompt: &Text, tools: Option<&[Value]>) -> Result<Vec<u32>> {
        let tokens = match prompt {
            Text::Plain(text) => self.tokenizer.encode(text, true)?,
            Text::Chat(messages) => {
                if messages.last().is_none_or(|message| message.role == "assistant") {
                    let what = "the prompt has no message, or its last one is the assistant's; end it with the user's";
                    return Err(Error::Model(what.into()));
                }
                self.tokenizer.encode(&self.template()?.render(messages, tools, true)?.text, false)?
            }
        };
        if tokens.is_empty() {
            return Err(Error::Model("the prompt is empty; give it at least one token".into()));
        }
        self.in_vocabulary(&tokens)?;
        Ok(tokens)
    }

    /// Answers to one prompt as tokens, each up to its end token as a sampler would write it: the two of a pair, say.
    pub fn encode_answers(&self, prompt: &Text, answers: &[Text], place: &str) -> Result<EncodedAnswers> {
        let mut encoded = EncodedAnswers { prompt: Vec::new(), answers: Vec::with_capacity(answers.len()) };
        let prompt_ids = self.encode_prompt(prompt, None).map_err(|e| at(place, &e))?;
        for answer in answers {
            let one = self.completion(prompt, &prompt_ids, answer, None, true).map_err(|e| at(place, &e))?;
            let mut tokens = one.tokens;
            tokens.truncate(learned(&one.trained));
            let own = tokens.split_off(one.prompt_tokens);
            if own.is_empty() {
                return Err(at(place, &Error::Model("an answer is empty; remove the row".into())));
            }
            self.in_vocabulary(&own).map_err(|e| at(place, &e))?;
            encoded.prompt = tokens;
            encoded.answers.push(own);
        }
        Ok(encoded)
    }

    /// Checks that each beginning of a conversation is rendered, token by token, as the beginning of the whole: else
    /// what is learned in the middle of a conversation is not what a sampler sees there.
    pub fn check_prefix_stable(&self, messages: &[Message], tools: Option<&[Value]>) -> Result<()> {
        let template = self.template()?;
        let mut shorter: Vec<u32> = Vec::new();
        for end in 1..=messages.len() {
            let longer =
                self.tokenizer.encode(&template.render(&messages[..end], tools, false)?.text, false)?;
            if !longer.starts_with(&shorter) {
                return Err(unstable(end));
            }
            shorter = longer;
        }
        Ok(())
    }

    fn template(&self) -> Result<&ChatTemplate> {
        self.template.ok_or_else(|| {
            let what =
                "the model has none but the data is a conversation; add chat_template.jinja to its folder";
            Error::Template(what.into())
        })
    }

    fn row(&self, row: &Row, options: &EncodeOptions) -> Result<Encoded> {
        match row {
            Row::Text { text } => {
                let mut tokens = self.tokenizer.encode(text, true)?;
                if options.append_end {
                    self.append_end(&mut tokens)?;
                }
                Ok(all_trained(tokens, 0))
            }
            Row::InputIds { input_ids } => Ok(all_trained(input_ids.clone(), 0)),
            Row::Messages { messages, tools } => {
                let turns = turns(self.template()?, messages, tools.as_deref(), 0)?;
                let encoded = self.spans(&turns, options.append_end)?;
                Ok(if options.completion_only { encoded } else { all_trained(encoded.tokens, 0) })
            }
            Row::PromptCompletion { prompt, completion }
            | Row::Unpaired { prompt, completion, .. }
            | Row::Rating { prompt, completion, .. } => {
                let prompt_ids = self.encode_prompt(prompt, None)?;
                let encoded = self.completion(prompt, &prompt_ids, completion, None, options.append_end)?;
                let prompt_tokens = encoded.prompt_tokens;
                Ok(if options.completion_only { encoded } else { all_trained(encoded.tokens, prompt_tokens) })
            }
            Row::PromptOnly { .. } => {
                Err(Error::Model("a prompt alone has nothing to learn; add `completion`".into()))
            }
            Row::Preference { .. } | Row::Ranking { .. } | Row::Judgment(_) => Err(Error::Model(
                "a comparison of answers is not one text to learn; use it for preferences".into(),
            )),
        }
    }

    /// `prompt_ids` are the prompt's own tokens ([`Encoder::encode_prompt`]).
    fn completion(
        &self,
        prompt: &Text,
        prompt_ids: &[u32],
        completion: &Text,
        tools: Option<&[Value]>,
        end: bool,
    ) -> Result<Encoded> {
        match (prompt, completion) {
            (Text::Plain(prompt), Text::Plain(completion)) => self.plain(prompt, prompt_ids, completion, end),
            (Text::Chat(prompt), Text::Plain(text)) => {
                self.answer(prompt, prompt_ids, &[Message::new("assistant", text)], tools, end)
            }
            (Text::Chat(prompt), Text::Chat(messages)) => {
                self.answer(prompt, prompt_ids, messages, tools, end)
            }
            (Text::Plain(_), Text::Chat(_)) => {
                let what = "the prompt is a string but the completion is a conversation; make both the same";
                Err(Error::Model(what.into()))
            }
        }
    }

    fn plain(&self, prompt: &str, prompt_ids: &[u32], completion: &str, end: bool) -> Result<Encoded> {
        let prompt_tokens = prompt_ids.len();
        // Together, as other trainers do and as white space needs, unless that changes the prompt's own tokens.
        let mut tokens = self.tokenizer.encode(&format!("{prompt}{completion}"), true)?;
        if !tokens.starts_with(prompt_ids) {
            tokens = [prompt_ids, &self.tokenizer.encode(completion, false)?].concat();
        }
        if end {
            self.append_end(&mut tokens)?;
        }
        let trained = (0..tokens.len()).map(|i| i >= prompt_tokens).collect();
        Ok(Encoded { tokens, trained, prompt_tokens, cut: 0 })
    }

    fn answer(
        &self,
        prompt: &[Message],
        prompt_ids: &[u32],
        answer: &[Message],
        tools: Option<&[Value]>,
        end: bool,
    ) -> Result<Encoded> {
        let messages: Vec<Message> = prompt.iter().chain(answer).cloned().collect();
        let turns = turns(self.template()?, &messages, tools, prompt.len())?;
        let mut encoded = self.spans(&turns, end)?;
        if !encoded.tokens.starts_with(prompt_ids) {
            encoded = self.pieces(&turns, end)?;
        }
        encoded.prompt_tokens = prompt_ids.len();
        Ok(encoded)
    }

    /// A rendered conversation as tokens: together if no token crosses a border of what is learned, else in pieces.
    fn spans(&self, turns: &Turns, end: bool) -> Result<Encoded> {
        let whole = self.tokenizer.encode_with_offsets(&turns.text)?;
        let crossed = |border: &usize| whole.offsets.iter().any(|o| o.start < *border && *border < o.end);
        if turns.borders().any(|border| crossed(&border)) {
            return self.pieces(turns, end);
        }
        let turn_of = |start: usize| turns.trained.iter().position(|span| span.contains(&start));
        let owners: Vec<_> = whole.offsets.iter().map(|o| turn_of(o.start)).collect();
        self.mark(whole.ids, &owners, end)
    }

    fn pieces(&self, turns: &Turns, end: bool) -> Result<Encoded> {
        let (mut tokens, mut owners) = (Vec::new(), Vec::new());
        let mut start = 0;
        for border in turns.borders().chain([turns.text.len()]) {
            if border > start {
                let piece = self.tokenizer.encode(&turns.text[start..border], false)?;
                let owner = turns.trained.iter().position(|span| span.contains(&start));
                owners.resize(owners.len() + piece.len(), owner);
                tokens.extend(piece);
                start = border;
            }
        }
        self.mark(tokens, &owners, end)
    }

    /// Marks what is learned, given the turn that owns each token, so that each turn ends with one end token.
    fn mark(&self, mut tokens: Vec<u32>, owners: &[Option<usize>], end: bool) -> Result<Encoded> {
        let mut trained: Vec<bool> = owners.iter().map(Option::is_some).collect();
        let stop = |i: usize| tokens.get(i).is_some_and(|id| self.tokenizer.stops().contains(id));
        let mut first = 0;
        let mut append = false;
        while let Some(start) = (first..owners.len()).find(|i| owners[*i].is_some()) {
            let after = (start..owners.len()).find(|i| owners[*i] != owners[start]).unwrap_or(owners.len());
            first = after;
            if let Some(mut last) = (start..after).rev().find(|i| stop(*i)) {
                // Of several end tokens the sampler stops at the first; what follows it is the template's alone.
                while last > start && stop(last - 1) {
                    last -= 1;
                }
                trained[last + 1..after].fill(false);
            } else if stop(after) {
                trained[after] = true;
            } else if after == owners.len() {
                append = true;
            } else {
                let what = "it writes no end token after an assistant's turn, so its end could not be learned; \
                            add {{ eos_token }} there, or the token it writes to eos_token_id of generation_config.json";
                return Err(Error::Template(what.into()));
            }
        }
        if append && end {
            tokens.push(self.end()?);
            trained.push(true);
        }
        Ok(Encoded { tokens, trained, prompt_tokens: 0, cut: 0 })
    }

    fn end(&self) -> Result<u32> {
        self.tokenizer.eos().ok_or_else(|| {
            Error::Tokenizer("it has no end token; name one as eos_token in tokenizer_config.json".into())
        })
    }

    fn append_end(&self, tokens: &mut Vec<u32>) -> Result<()> {
        if tokens.last().is_none_or(|id| !self.tokenizer.stops().contains(id)) {
            tokens.push(self.end()?);
        }
        Ok(())
    }

    fn in_vocabulary(&self, tokens: &[u32]) -> Result<()> {
        match tokens.iter().find(|id| **id as usize >= self.vocab_size) {
            Some(id) => Err(Error::Tokenizer(format!(
                "token {id} is outside the model's vocabulary of {}; use the model's own tokenizer",
                self.vocab_size
            ))),
            None => Ok(()),
        }
    }

    fn finish(&self, mut encoded: Encoded, options: &EncodeOptions) -> Result<Encoded> {
        self.in_vocabulary(&encoded.tokens)?;
        if options.completion_only {
            // What a template writes after the last end token is seen by nothing that is learned.
            let length = learned(&encoded.trained);
            encoded.tokens.truncate(length);
            encoded.trained.truncate(length);
        }
        let length = encoded.tokens.len();
        if let Some(longest) = options.max_length.filter(|longest| *longest < length) {
            encoded.cut = length - longest;
            encoded.tokens.truncate(longest);
            encoded.trained.truncate(longest);
            encoded.prompt_tokens = encoded.prompt_tokens.min(longest);
        }
        let length = encoded.tokens.len();
        if length > self.max_positions {
            let what = format!(
                "it has {length} tokens, more than the model's context of {}; set max_length or shorten it",
                self.max_positions
            );
            return Err(Error::Model(what));
        }
        if let Some(first) = encoded.trained.first_mut() {
            *first = false;
        }
        if !encoded.trained.contains(&true) {
            let what = match encoded.cut {
                0 => "no token of it is learned; remove it or give it an answer".to_owned(),
                cut => format!(
                    "no token of it is learned after {cut} are cut off; raise max_length or remove it"
                ),
            };
            return Err(Error::Model(what));
        }
        Ok(encoded)
    }
}

/// Number of tokens up to the last that is learned.
fn learned(trained: &[bool]) -> usize {
    trained.iter().rposition(|trained| *trained).map_or(0, |last| last + 1)
}

fn all_trained(tokens: Vec<u32>, prompt_tokens: usize) -> Encoded {
    Encoded { trained: vec![true; tokens.len()], tokens, prompt_tokens, cut: 0 }
}

fn at(place: &str, error: &Error) -> Error {
    Error::Row { place: place.to_owned(), what: error.to_string() }
}

pub(crate) fn unstable(turn: usize) -> Error {
    Error::Template(format!(
        "it writes the beginning of the conversation differently once message {turn} follows, so a sampler never sees \
         what would be learned; mark the answers with {{% generation %}} in the template or keep one answer a row"
    ))
}
