//! Text from a model, as it is drawn: end tokens and stop strings end it, and half a character is never given out.

use pavlov_engine::{Control, Finish as Ended, SampleRequest, Sampler, SamplingParams};
use pavlov_schema::rollout::Finish;

use crate::model::LanguageModel;
use crate::tokenizer::{StreamDecoder, Tokenizer};
use crate::{Error, Result};

/// How text is generated.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// How tokens are drawn. Its stop tokens are the tokenizer's, whatever is set here.
    pub sampling: SamplingParams,
    /// Texts that end a completion; they are not part of it.
    pub stop: Vec<String>,
    /// Completions of each prompt, at least 1.
    pub n: usize,
    /// The seed of every random number.
    pub seed: u64,
    /// The place of the first prompt in its data set: prompts given in parts are answered as if given at once.
    pub first: usize,
    /// Completions drawn at the same time, at least 1: a matter of memory, not of what is drawn.
    pub max_batch: usize,
}

/// What a model wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The prompt's place, from 0.
    pub request: usize,
    /// The completion's place among those of its prompt, from 0.
    pub choice: usize,
    /// The completion without end token and stop string.
    pub text: String,
    /// Every token drawn, with the end token and those of the stop string.
    pub tokens: Vec<u32>,
    /// Per token, its log-probability under the distribution it was drawn from, in nats.
    pub logps: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

/// A piece of text that has just become certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The prompt's place, from 0.
    pub request: usize,
    /// The completion's place among those of its prompt, from 0.
    pub choice: usize,
    /// The text; pieces in order are [`Generation::text`].
    pub text: &'a str,
}

/// Samples completions of prompts (token ids, each at least one).
///
/// The text of a prompt depends on the seed and on its place in the data set, not on the other prompts.
/// `on_piece` is told of text as it comes and may end its completion, which then finishes with [`Finish::Stop`].
pub fn generate(
    model: &LanguageModel,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    on_piece: &mut dyn FnMut(Piece<'_>) -> Control,
) -> Result<Vec<Generation>> {
    if options.stop.iter().any(String::is_empty) {
        return Err(Error::Model("a stop string is empty; remove it".into()));
    }
    let tokenizer = &model.files.tokenizer;
    let n = options.n.max(1);
    let requests: Vec<SampleRequest> = prompts
        .iter()
        .enumerate()
        .map(|(i, prompt)| SampleRequest { prompt: prompt.clone(), n, stream: (options.first + i) as u64 })
        .collect();
    let mut sampling = options.sampling.clone();
    sampling.stop_tokens = tokenizer.stops().to_vec();

    let mut writings: Vec<Writing> =
        (0..prompts.len() * n).map(|_| Writing::new(tokenizer, &options.stop)).collect();
    // The sampler knows no error of ours: it is kept, and ends what is being drawn.
    let mut failed = None;
    let mut on_token = |request: usize, choice: usize, token: u32| {
        if failed.is_some() {
            return Control::Stop;
        }
        if tokenizer.stops().contains(&token) {
            return Control::Continue;
        }
        let writing = &mut writings[request * n + choice];
        match writing.push(token) {
            Ok(text) => {
                let told = if text.is_empty() {
                    Control::Continue
                } else {
                    on_piece(Piece { request, choice, text })
                };
                if writing.stopped { Control::Stop } else { told }
            }
            Err(error) => {
                failed = Some(error);
                Control::Stop
            }
        }
    };
    let mut sampler = Sampler::new(options.max_batch.max(1));
    let key = (options.seed, 0);
    let sampled = sampler.run(&model.decoder, &model.params, &requests, &sampling, key, &mut on_token)?;
    if let Some(error) = failed {
        return Err(error);
    }

    let mut generations = Vec::with_capacity(sampled.len());
    for one in sampled {
        let writing = &mut writings[one.request * n + one.choice];
        let rest = writing.finish()?;
        if !rest.is_empty() {
            on_piece(Piece { request: one.request, choice: one.choice, text: &rest });
        }
        generations.push(Generation {
            request: one.request,
            choice: one.choice,
            text: std::mem::take(&mut writing.text),
            tokens: one.tokens,
            logps: one.logps,
            finish: match one.finish {
                Ended::Stop => Finish::Eos,
                Ended::Length => Finish::Length,
                Ended::Callback => Finish::Stop,
            },
        });
    }
    generations.sort_by_key(|one| (one.request, one.choice));
    Ok(generations)
}

/// A completion being written. What could be the beginning of a stop string is held back until it is known not to be.
struct Writing<'a> {
    decoder: Option<StreamDecoder<'a>>,
    stop: &'a [String],
    /// Given out, then held back.
    text: String,
    given: usize,
    stopped: bool,
}

impl<'a> Writing<'a> {
    fn new(tokenizer: &'a Tokenizer, stop: &'a [String]) -> Self {
        Self { decoder: Some(tokenizer.stream(true)), stop, text: String::new(), given: 0, stopped: false }
    }

    /// Takes a token; returns the text that is certain now.
    fn push(&mut self, token: u32) -> Result<&str> {
        let Some(decoder) = self.decoder.as_mut().filter(|_| !self.stopped) else { return Ok("") };
        let new = decoder.push(token)?;
        Ok(self.take(&new, false))
    }

    /// The rest of the text, once no token follows.
    fn finish(&mut self) -> Result<String> {
        match self.decoder.take() {
            Some(decoder) if !self.stopped => {
                let new = decoder.finish()?;
                Ok(self.take(&new, true).to_owned())
            }
            _ => Ok(String::new()),
        }
    }

    fn take(&mut self, new: &str, all: bool) -> &str {
        self.text.push_str(new);
        let from = self.given;
        let open = &self.text[from..];
        let held = if let Some(at) = self.stop.iter().filter_map(|stop| open.find(stop.as_str())).min() {
            self.stopped = true;
            self.text.truncate(from + at);
            0
        } else if all {
            0
        } else {
            self.stop.iter().map(|stop| longest_overlap(open, stop)).max().unwrap_or(0)
        };
        self.given = self.text.len() - held;
        &self.text[from..self.given]
    }
}

/// The length of the longest end of `text` that is a beginning of `stop`.
fn longest_overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len());
    (1..=longest)
        .rev()
        .find(|n| stop.is_char_boundary(*n) && text.as_bytes().ends_with(&stop.as_bytes()[..*n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// One token a character, so that any stop string is cut anywhere.
    fn letters() -> Tokenizer {
        let vocab: serde_json::Map<String, serde_json::Value> =
            ('a'..='z').enumerate().map(|(id, letter)| (letter.to_string(), id.into())).collect();
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false},
            "post_processor": null, "decoder": {"type": "Fuse"},
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "z"},
        });
        Tokenizer::from_json(&json.to_string(), &BTreeMap::new()).unwrap()
    }

    /// The pieces that a text comes in, and whether it was stopped.
    fn pieces(text: &str, stop: &[&str]) -> (Vec<String>, bool) {
        let tokenizer = letters();
        let stop: Vec<String> = stop.iter().map(|&stop| stop.to_owned()).collect();
        let mut writing = Writing::new(&tokenizer, &stop);
        let mut pieces = Vec::new();
        for letter in text.bytes() {
            pieces.push(writing.push(u32::from(letter - b'a')).unwrap().to_owned());
        }
        pieces.push(writing.finish().unwrap());
        assert_eq!(pieces.concat(), writing.text);
        (pieces, writing.stopped)
    }

    #[test]
    fn text_is_given_out_as_it_comes() {
        assert_eq!(pieces("abc", &[]), (["a", "b", "c", ""].map(String::from).to_vec(), false));
    }

    #[test]
    fn what_may_become_a_stop_string_is_held_back_and_the_stop_string_left_out() {
        assert_eq!(
            pieces("abxaby", &["aby"]),
            (["", "", "abx", "", "", "", ""].map(String::from).to_vec(), true)
        );
        // The last "aa" may be the beginning of "aab" after one more letter.
        assert_eq!(pieces("aaab", &["aab"]), (["", "", "a", "", ""].map(String::from).to_vec(), true));
        // Held back to the end, then given out.
        assert_eq!(pieces("xab", &["abc"]), (["x", "", "", "ab"].map(String::from).to_vec(), false));
    }

    #[test]
    fn the_first_of_several_stop_strings_counts_and_nothing_after_it() {
        let (found, stopped) = pieces("hellostopmore", &["more", "stop", "p"]);
        assert_eq!((found.concat().as_str(), stopped), ("hello", true));
    }
}
