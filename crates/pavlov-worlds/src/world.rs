//! A world: story, question, and the one right answer.

use pavlov_schema::rng::{Rng, Stream};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::fact::Fact;
use crate::query::{INCONSISTENT, Query, Value};
use crate::{contradiction, counting, family, movement, ordering, pick};

/// What a world is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Things put into containers and carried about.
    Movement,
    /// Who is taller, older, faster, heavier.
    Ordering,
    /// How many are left.
    Counting,
    /// Who is whose mother, grandfather, sister.
    Family,
    /// A story of movement, ordering or family that contradicts itself.
    Contradiction,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::Movement, Self::Ordering, Self::Counting, Self::Family, Self::Contradiction];
}

/// Which of two disjoint sets of worlds.
///
/// A hash of the prompt's text decides, so a held-out prompt is in no training set, whatever the seeds, indices and
/// configurations the two were made with. One prompt in eight is held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Worlds to learn from.
    Train,
    /// Worlds to measure on.
    HeldOut,
}

impl Split {
    /// The set that a prompt belongs to.
    pub fn of(prompt: &str) -> Self {
        if text_hash(prompt).is_multiple_of(8) { Self::HeldOut } else { Self::Train }
    }
}

/// FNV-1a over the bytes, then MurmurHash3's finalizer. Written here because the split must never change: the standard
/// library's hasher may differ between releases. The finalizer is needed because FNV's lowest bits depend on the lowest
/// bits of the text alone, and the split reads the lowest bits.
fn text_hash(text: &str) -> u64 {
    let mut hash = text.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^ (hash >> 33)
}

/// What a kind's generator makes: the statements, the question, and the value that answers it.
pub(crate) struct Draft {
    pub(crate) facts: Vec<Fact>,
    pub(crate) query: Query,
    /// None if the facts contradict each other.
    pub(crate) truth: Option<Value>,
}

/// A small world with known truth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct World {
    /// The statements, one space between sentences.
    pub story: String,
    /// One sentence, with its question mark.
    pub question: String,
    /// The one right answer, a sentence.
    pub answer: String,
    /// What the world is about.
    pub kind: Kind,
    /// Whether all statements can be true; if not, the answer is [`INCONSISTENT`].
    pub consistent: bool,
    /// The story, structured.
    pub facts: Vec<Fact>,
    /// The question, structured.
    pub query: Query,
    /// The answer's value; none if the story contradicts itself.
    pub truth: Option<Value>,
}

impl World {
    fn new(kind: Kind, draft: Draft) -> Self {
        let sentences: Vec<String> = draft.facts.iter().map(Fact::to_string).collect();
        Self {
            story: sentences.join(" "),
            question: draft.query.to_string(),
            answer: draft.truth.map_or_else(|| INCONSISTENT.to_owned(), |value| draft.query.answer(value)),
            kind,
            consistent: draft.truth.is_some(),
            facts: draft.facts,
            query: draft.query,
            truth: draft.truth,
        }
    }

    /// Story, question and a line feed, which is a token of its own: an answer's tokens are the same after the prompt
    /// as alone.
    pub fn prompt(&self) -> String {
        format!("{} {}\n", self.story, self.question)
    }

    /// How good an answer is, in quality points from 0 to 1, for simulated raters:
    ///
    /// - 1 for the right answer;
    /// - 0.3 + 0.2·near for an answer of the right form with a wrong value. For counts, near = max(0, 1 − |n − n*|/5),
    ///   with n* the right count; otherwise, and in a story that contradicts itself, near is 1 if the value is
    ///   mentioned in the story and 0 if not;
    /// - 0.3 for "That is inconsistent." about a consistent story;
    /// - 0 for anything else.
    ///
    /// White space around the answer is ignored.
    pub fn quality(&self, completion: &str) -> f64 {
        let completion = completion.trim();
        if completion == self.answer {
            return 1.0;
        }
        if completion == INCONSISTENT {
            return 0.3;
        }
        match self.query.choices().into_iter().find(|&value| self.query.answer(value) == completion) {
            Some(value) => 0.3 + 0.2 * self.near(value),
            None => 0.0,
        }
    }

    /// How near a wrong value is to being right, from 0 to 1.
    fn near(&self, value: Value) -> f64 {
        if let (Value::Number(n), Some(Value::Number(truth))) = (value, self.truth) {
            return (1.0 - f64::from(n.abs_diff(truth)) / 5.0).max(0.0);
        }
        f64::from(u8::from(self.mentions(value)))
    }

    /// Whether the story contains the value as a word.
    pub(crate) fn mentions(&self, value: Value) -> bool {
        let value = value.to_string();
        self.story.split(|c: char| !c.is_alphanumeric()).any(|word| word == value)
    }
}

/// The world of a seed and index, from the wanted set. It depends on nothing else: any subset of the indices can be made
/// in any order.
pub fn generate(seed: u64, index: u64, config: &Config, split: Split) -> World {
    // Draws until a world falls into the wanted set: on average 8 for `HeldOut` and 8/7 for `Train`. It ends because
    // even the narrowest configuration has tens of thousands of prompts, and the hash scatters them over both sets.
    let mut attempt = 0;
    loop {
        let world = draw(&mut Rng::new(seed, Stream::World, attempt, index), config);
        if Split::of(&world.prompt()) == split {
            return world;
        }
        attempt += 1;
    }
}

/// A world of either set.
fn draw(rng: &mut Rng, config: &Config) -> World {
    let kind = draw_kind(rng, config);
    let settings = config.settings();
    let n = pick::between(rng, settings.min_statements, settings.max_statements);
    let draft = match kind {
        Kind::Movement => movement::draft(rng, config, n, false),
        Kind::Ordering => ordering::draft(rng, config, n, false),
        Kind::Counting => counting::draft(rng, config, n),
        Kind::Family => family::draft(rng, config, n),
        Kind::Contradiction => contradiction::draft(rng, config, n),
    };
    World::new(kind, draft)
}

/// A kind, by the weights.
fn draw_kind(rng: &mut Rng, config: &Config) -> Kind {
    let weights = config.settings().kinds.by_kind();
    let mut left = rng.uniform_f64() * weights.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut chosen = Kind::Movement;
    for (kind, weight) in weights.into_iter().filter(|&(_, weight)| weight > 0.0) {
        chosen = kind;
        if left < weight {
            break;
        }
        left -= weight;
    }
    chosen
}

/// 1 if the completion, without the white space around it, is the right answer, else 0 (reward points).
pub fn verify(world: &World, completion: &str) -> f64 {
    f64::from(u8::from(completion.trim() == world.answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fixed() {
        // FNV-1a of "" and "a" are the published 0xcbf29ce484222325 and 0xaf63dc4c8601ec8c; the finalizer, applied to
        // them in Python, gives these.
        assert_eq!(text_hash(""), 0xEFD0_1F60_BA99_2926);
        assert_eq!(text_hash("a"), 0x82A2_A958_A9BE_CE5B);
    }

    #[test]
    fn quality_follows_its_formula() {
        let facts = vec![
            Fact::Has { who: "Ana", count: 3, item: "apple" },
            Fact::Found { who: "Ana", count: 1, item: "apple" },
        ];
        let query = Query::Count { who: "Ana", item: "apple" };
        let world = World::new(Kind::Counting, Draft { facts, query, truth: Some(Value::Number(4)) });
        assert_eq!(world.story, "Ana has 3 apples. Ana found 1 apple.");
        for (completion, quality) in [
            (" Ana has 4 apples.\n", 1.0),
            ("Ana has 3 apples.", 0.3 + 0.2 * 0.8),
            ("Ana has 1 apple.", 0.3 + 0.2 * 0.4),
            ("Ana has 20 apples.", 0.3),
            ("That is inconsistent.", 0.3),
            ("Ana has 1 apples.", 0.0),
            ("Ana has 4 apples. Ana", 0.0),
            ("", 0.0),
        ] {
            assert!((world.quality(completion) - quality).abs() < 1e-12, "{completion:?}");
            assert_eq!(verify(&world, completion) > 0.5, quality > 0.99);
        }
    }

    #[test]
    fn quality_rewards_a_name_from_the_story() {
        let facts = vec![Fact::Compare {
            scale: crate::Scale::Age,
            pole: crate::Pole::More,
            who: "Ana",
            than: "Ben",
        }];
        let query = Query::Extreme { scale: crate::Scale::Age, pole: crate::Pole::More };
        let world = World::new(Kind::Ordering, Draft { facts, query, truth: Some(Value::Word("Ana")) });
        let tenths =
            ["Ana is the oldest.", "Ben is the oldest.", "Leo is the oldest.", "Ben is the tallest."]
                .map(|answer| (10.0 * world.quality(answer)).round() as i32);
        assert_eq!(tenths, [10, 5, 3, 0]);
    }
}
