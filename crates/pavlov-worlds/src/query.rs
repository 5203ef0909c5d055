//! What is asked about a story, and the form of its answers.

use std::fmt;

use serde::Serialize;

use crate::fact::{Pole, Relation, Scale};
use crate::words::{CONTAINERS, LARGEST, NAMES, PLACES, counted};

/// The answer to any question about a story that contradicts itself.
pub const INCONSISTENT: &str = "That is inconsistent.";

/// What fills the one open slot of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A place, a container or a name.
    Word(&'static str),
    /// A count.
    Number(u8),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// A question; its [`Display`](fmt::Display) is the English sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the sentence beside each variant names its fields")]
pub enum Query {
    /// "Where is the {thing}?" The place, whatever the containers between.
    Place { thing: &'static str },
    /// "What is the {thing} in?" What directly holds it: a container or a place.
    Holder { thing: &'static str },
    /// "Who is the tallest?"
    Extreme { scale: Scale, pole: Pole },
    /// "Who is taller, {a} or {b}?"
    Pair { scale: Scale, pole: Pole, a: &'static str, b: &'static str },
    /// "How many {item}s does {who} have?"
    Count { who: &'static str, item: &'static str },
    /// "How many {item}s do {a} and {b} have?"
    Total { a: &'static str, b: &'static str, item: &'static str },
    /// "Who is the {relation} of {of}?"
    Relative { relation: Relation, of: &'static str },
}

impl Query {
    /// The answer that names this value: one sentence of four to eight words and stops.
    pub fn answer(&self, value: Value) -> String {
        match (*self, value) {
            (Self::Place { thing } | Self::Holder { thing }, _) => format!("The {thing} is in the {value}."),
            (Self::Extreme { scale, pole }, _) => format!("{value} is the {}.", scale.superlative(pole)),
            (Self::Pair { scale, pole, .. }, _) => format!("{value} is {}.", scale.comparative(pole)),
            (Self::Count { who, item }, Value::Number(n)) => format!("{who} has {}.", counted(n, item)),
            (Self::Total { item, .. }, Value::Number(n)) => format!("They have {}.", counted(n, item)),
            (Self::Count { who, item }, Value::Word(word)) => format!("{who} has {word} {item}s."),
            (Self::Total { item, .. }, Value::Word(word)) => format!("They have {word} {item}s."),
            (Self::Relative { relation, of }, _) => format!("The {} of {of} is {value}.", relation.word()),
        }
    }

    /// Every value that makes an answer of the right form, right or wrong.
    pub fn choices(&self) -> Vec<Value> {
        let words = |words: &[&'static str]| words.iter().copied().map(Value::Word).collect::<Vec<_>>();
        match *self {
            Self::Place { .. } => words(&PLACES),
            Self::Holder { .. } => [words(&CONTAINERS), words(&PLACES)].concat(),
            Self::Extreme { .. } => words(&NAMES),
            Self::Pair { a, b, .. } => words(&[a, b]),
            Self::Count { .. } | Self::Total { .. } => (0..=LARGEST).map(Value::Number).collect(),
            Self::Relative { of, .. } => {
                words(&NAMES).into_iter().filter(|&v| v != Value::Word(of)).collect()
            }
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Place { thing } => write!(f, "Where is the {thing}?"),
            Self::Holder { thing } => write!(f, "What is the {thing} in?"),
            Self::Extreme { scale, pole } => write!(f, "Who is the {}?", scale.superlative(pole)),
            Self::Pair { scale, pole, a, b } => write!(f, "Who is {}, {a} or {b}?", scale.comparative(pole)),
            Self::Count { who, item } => write!(f, "How many {item}s does {who} have?"),
            Self::Total { a, b, item } => write!(f, "How many {item}s do {a} and {b} have?"),
            Self::Relative { relation, of } => write!(f, "Who is the {} of {of}?", relation.word()),
        }
    }
}
