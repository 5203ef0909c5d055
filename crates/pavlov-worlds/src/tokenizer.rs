//! A word-level tokenizer for every world, in Hugging Face's file formats.
//!
//! A token is a word, a number, a stop or a line feed; the spaces between them are implied, so that a word is one token
//! wherever it stands and a model cannot get spacing wrong. Text of worlds survives encoding and decoding unchanged.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::fact::{Pole, Relation, Scale};
use crate::words::{CONTAINERS, FRAME, ITEMS, LARGEST, NAMES, PLACES, THINGS};

/// Fills the unused places of a batch; identifier 0.
pub const PAD: &str = "<pad>";
/// Ends an answer and a document; identifier 1.
pub const END: &str = "<eos>";
/// Stands for any word of no world; identifier 2.
pub const UNKNOWN: &str = "<unk>";
/// The special tokens, in the order of their identifiers. There is none for the beginning.
pub const SPECIALS: [&str; 3] = [PAD, END, UNKNOWN];

/// A conversation as a prompt and its answer: a user's message ends with a line feed, as [`World::prompt`] does.
///
/// [`World::prompt`]: crate::World::prompt
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}{% if message['role'] == 'assistant' %}\
    {% generation %}{{ message['content'] + eos_token }}{% endgeneration %}\
    {% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}";

/// Every word, number and stop of every world, sorted, without the special tokens.
pub fn vocabulary() -> Vec<String> {
    let mut words: BTreeSet<String> = [&NAMES[..], &THINGS, &CONTAINERS, &PLACES, &ITEMS, &FRAME]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
    words.extend(ITEMS.iter().map(|item| format!("{item}s")));
    words.extend((0..=LARGEST).map(|n| n.to_string()));
    words.extend(Relation::ALL.iter().map(|relation| relation.word().to_owned()));
    for scale in Scale::ALL {
        for pole in [Pole::More, Pole::Less] {
            words.insert(scale.comparative(pole).to_owned());
            words.insert(scale.superlative(pole).to_owned());
        }
    }
    words.into_iter().collect()
}

/// The tokenizer as a `tokenizer.json`: the special tokens first, then the [`vocabulary`].
pub fn tokenizer_json() -> String {
    let words = SPECIALS.iter().map(|&special| special.to_owned()).chain(vocabulary());
    let vocab: Map<String, Value> = words.enumerate().map(|(id, word)| (word, json!(id))).collect();
    let added: Vec<Value> = SPECIALS
        .iter()
        .enumerate()
        .map(|(id, special)| {
            json!({"id": id, "content": special, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        // `invert` keeps what matches and removes the rest, the spaces.
        "pre_tokenizer": {
            "type": "Split", "pattern": {"Regex": r"\n|[.,?]|[^\s.,?]+"}, "behavior": "Removed", "invert": true
        },
        "post_processor": null,
        // WordPiece puts a space before every token but the first and takes it away before stops; there is none
        // around a line feed or an end token either.
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "WordPiece", "prefix": "##", "cleanup": true},
            {"type": "Fuse"},
            {"type": "Replace", "pattern": {"String": " \n"}, "content": "\n"},
            {"type": "Replace", "pattern": {"String": "\n "}, "content": "\n"},
            {"type": "Replace", "pattern": {"String": format!(" {END}")}, "content": END},
            {"type": "Replace", "pattern": {"String": format!("{END} ")}, "content": END},
        ]},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": UNKNOWN},
    });
    format!("{file:#}\n")
}

/// What the special tokens are for, by the names that chat templates and `tokenizer_config.json` use.
pub fn special_names() -> BTreeMap<String, String> {
    [("eos_token", END), ("pad_token", PAD), ("unk_token", UNKNOWN)]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vocabulary_is_sorted_small_and_without_repetition() {
        let words = vocabulary();
        assert!(words.is_sorted() && words.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(words.len() + SPECIALS.len() < 256, "{}", words.len());
        assert!(words.iter().all(|word| !word.contains(' ') && !SPECIALS.contains(&word.as_str())));
    }
}
