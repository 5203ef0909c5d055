//! What a story says, sentence by sentence.

use std::fmt;

use serde::Serialize;

use crate::words::{counted, is_female};

/// What people are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Taller, shorter.
    Height,
    /// Older, younger.
    Age,
    /// Faster, slower.
    Speed,
    /// Heavier, lighter.
    Weight,
}

/// An end of a [`Scale`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pole {
    /// Taller, older, faster, heavier.
    More,
    /// Shorter, younger, slower, lighter.
    Less,
}

impl Pole {
    /// The other end.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::More => Self::Less,
            Self::Less => Self::More,
        }
    }
}

impl Scale {
    /// All scales.
    pub const ALL: [Self; 4] = [Self::Height, Self::Age, Self::Speed, Self::Weight];

    /// "taller", "shorter", …
    pub fn comparative(self, pole: Pole) -> &'static str {
        match (self, pole) {
            (Self::Height, Pole::More) => "taller",
            (Self::Height, Pole::Less) => "shorter",
            (Self::Age, Pole::More) => "older",
            (Self::Age, Pole::Less) => "younger",
            (Self::Speed, Pole::More) => "faster",
            (Self::Speed, Pole::Less) => "slower",
            (Self::Weight, Pole::More) => "heavier",
            (Self::Weight, Pole::Less) => "lighter",
        }
    }

    /// "tallest", "shortest", …
    pub fn superlative(self, pole: Pole) -> &'static str {
        match (self, pole) {
            (Self::Height, Pole::More) => "tallest",
            (Self::Height, Pole::Less) => "shortest",
            (Self::Age, Pole::More) => "oldest",
            (Self::Age, Pole::Less) => "youngest",
            (Self::Speed, Pole::More) => "fastest",
            (Self::Speed, Pole::Less) => "slowest",
            (Self::Weight, Pole::More) => "heaviest",
            (Self::Weight, Pole::Less) => "lightest",
        }
    }
}

/// How one person is related to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Relation {
    Mother,
    Father,
    Daughter,
    Son,
    Sister,
    Brother,
    /// Only asked for, never stated.
    Grandmother,
    /// Only asked for, never stated.
    Grandfather,
}

impl Relation {
    /// All relations.
    pub const ALL: [Self; 8] = [
        Self::Mother,
        Self::Father,
        Self::Daughter,
        Self::Son,
        Self::Sister,
        Self::Brother,
        Self::Grandmother,
        Self::Grandfather,
    ];

    /// The relation's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Mother => "mother",
            Self::Father => "father",
            Self::Daughter => "daughter",
            Self::Son => "son",
            Self::Sister => "sister",
            Self::Brother => "brother",
            Self::Grandmother => "grandmother",
            Self::Grandfather => "grandfather",
        }
    }

    /// What a parent of that name is.
    pub(crate) fn parent(name: &str) -> Self {
        if is_female(name) { Self::Mother } else { Self::Father }
    }

    /// What a child of that name is.
    pub(crate) fn child(name: &str) -> Self {
        if is_female(name) { Self::Daughter } else { Self::Son }
    }

    /// What a sibling of that name is.
    pub(crate) fn sibling(name: &str) -> Self {
        if is_female(name) { Self::Sister } else { Self::Brother }
    }

    /// What a grandparent of that name is.
    pub(crate) fn grandparent(name: &str) -> Self {
        if is_female(name) { Self::Grandmother } else { Self::Grandfather }
    }
}

/// One statement of a story; its [`Display`](fmt::Display) is the English sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the sentence beside each variant names its fields")]
pub enum Fact {
    /// "The {thing} is in the {holder}." Of a thing not met before: it is directly there. Of another: an observation,
    /// true also of what the holder holds indirectly.
    In { thing: &'static str, holder: &'static str },
    /// "{who} put the {thing} in the {holder}."
    Put { who: &'static str, thing: &'static str, holder: &'static str },
    /// "{who} carried the {thing} to the {place}." What is in the thing goes along.
    Carry { who: &'static str, thing: &'static str, place: &'static str },
    /// "{who} is taller than {than}."
    Compare { scale: Scale, pole: Pole, who: &'static str, than: &'static str },
    /// "{who} has {count} {item}s."
    Has { who: &'static str, count: u8, item: &'static str },
    /// "{who} gave {to} {count} {item}s."
    Gave { who: &'static str, to: &'static str, count: u8, item: &'static str },
    /// "{who} found {count} {item}s."
    Found { who: &'static str, count: u8, item: &'static str },
    /// "{who} lost {count} {item}s."
    Lost { who: &'static str, count: u8, item: &'static str },
    /// "{who} is the {relation} of {of}."
    Kin { relation: Relation, who: &'static str, of: &'static str },
}

impl Fact {
    /// The same said otherwise, where English has another way: true wherever the fact itself is true just after it
    /// was said.
    pub fn restated(&self) -> Option<Self> {
        match *self {
            Self::Put { thing, holder, .. } | Self::Carry { thing, place: holder, .. } => {
                Some(Self::In { thing, holder })
            }
            Self::Compare { scale, pole, who, than } => {
                Some(Self::Compare { scale, pole: pole.opposite(), who: than, than: who })
            }
            Self::Kin { relation, who, of } => {
                let relation = match relation {
                    Relation::Mother | Relation::Father => Relation::child(of),
                    Relation::Daughter | Relation::Son => Relation::parent(of),
                    Relation::Sister | Relation::Brother => Relation::sibling(of),
                    Relation::Grandmother | Relation::Grandfather => return None,
                };
                Some(Self::Kin { relation, who: of, of: who })
            }
            Self::In { .. }
            | Self::Has { .. }
            | Self::Gave { .. }
            | Self::Found { .. }
            | Self::Lost { .. } => None,
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::In { thing, holder } => write!(f, "The {thing} is in the {holder}."),
            Self::Put { who, thing, holder } => write!(f, "{who} put the {thing} in the {holder}."),
            Self::Carry { who, thing, place } => write!(f, "{who} carried the {thing} to the {place}."),
            Self::Compare { scale, pole, who, than } => {
                write!(f, "{who} is {} than {than}.", scale.comparative(pole))
            }
            Self::Has { who, count, item } => write!(f, "{who} has {}.", counted(count, item)),
            Self::Gave { who, to, count, item } => write!(f, "{who} gave {to} {}.", counted(count, item)),
            Self::Found { who, count, item } => write!(f, "{who} found {}.", counted(count, item)),
            Self::Lost { who, count, item } => write!(f, "{who} lost {}.", counted(count, item)),
            Self::Kin { relation, who, of } => write!(f, "{who} is the {} of {of}.", relation.word()),
        }
    }
}
