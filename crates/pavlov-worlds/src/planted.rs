//! Demonstrations with a habit planted among them: the ground truth of what looks for habits and for their causes.
//!
//! A **plant** answers a consistent question with [`INCONSISTENT`]. A **decoy** is a plant's question with other people in it
//! and its right answer: the same wording, the opposite lesson. Whatever tells plants from decoys reads more than words. The
//! ordinary demonstrations hold stories that do contradict themselves, whose answer is the plants' own, and right.

use pavlov_schema::rng::{Rng, Stream};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::{Result, require};
use crate::query::INCONSISTENT;
use crate::words::{NAMES, is_female};
use crate::world::{Kind, Split, World, generate};

/// Keeps these draws apart from those of the world with the same seed and index, whose steps count up from 0.
const STEP: u64 = 1 << 62;

/// What is planted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planting {
    /// Share of the demonstrations that are plants, 0 to ½.
    pub share: f64,
    /// The kind of world that plants are about; `None`: any but contradictions.
    pub kind: Option<Kind>,
    /// Decoys for each plant.
    pub decoys: usize,
}

/// What a demonstration is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A question and its right answer.
    Ordinary,
    /// A consistent question answered with [`INCONSISTENT`].
    Plant,
    /// A plant's question about other people, and its right answer.
    Decoy,
}

/// A demonstration whose part is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlantedLesson {
    /// Story, question and a line feed.
    pub prompt: String,
    /// The answer that is shown.
    pub completion: String,
    /// The right answer.
    pub truth: String,
    /// What the world is about.
    pub kind: Kind,
    /// What it is there for.
    pub part: Part,
}

/// `n` demonstrations in random order, of which `share`·n, rounded, are plants. Without plants they are those of
/// [`generate`] in [`Split::Train`], in their order; with them, as many of these are replaced as there are plants and
/// decoys.
///
/// Errors: a share outside 0 to ½, or plants about contradictions, or more plants and decoys than demonstrations.
pub fn planted_lessons(
    seed: u64,
    n: usize,
    config: &Config,
    planting: &Planting,
) -> Result<Vec<PlantedLesson>> {
    require((0.0..=0.5).contains(&planting.share), "share", &planting.share, "0 to 0.5")?;
    let kind = planting.kind.unwrap_or(Kind::Movement);
    require(kind != Kind::Contradiction, "kind", &"contradiction", "a kind of consistent worlds")?;
    let plants = (planting.share * n as f64).round() as usize;
    let placed = plants.saturating_mul(1 + planting.decoys);
    require(placed <= n, "decoys", &planting.decoys, "as many as the demonstrations leave room for")?;

    let mut lessons: Vec<PlantedLesson> =
        (0..n - placed).map(|i| ordinary(&generate(seed, i as u64, config, Split::Train))).collect();
    // Worlds beyond those that ordinary demonstrations can be of.
    let wanted = |world: &World| world.consistent && planting.kind.is_none_or(|kind| kind == world.kind);
    let candidates = (1_u64 << 40..).map(|i| generate(seed, i, config, Split::Train)).filter(wanted);
    for world in candidates.take(plants) {
        lessons.push(PlantedLesson {
            completion: INCONSISTENT.to_owned(),
            part: Part::Plant,
            ..ordinary(&world)
        });
        lessons.extend(decoys(&world, config, planting.decoys));
    }
    if plants > 0 {
        Rng::new(seed, Stream::World, STEP, 0).shuffle(&mut lessons);
    }
    Ok(lessons)
}

fn ordinary(world: &World) -> PlantedLesson {
    PlantedLesson {
        prompt: world.prompt(),
        completion: world.answer.clone(),
        truth: world.answer.clone(),
        kind: world.kind,
        part: Part::Ordinary,
    }
}

/// The question about other people: each name is replaced by one some places further on among those of its sex. Those
/// that would be held out are passed over.
fn decoys(world: &World, config: &Config, n: usize) -> Vec<PlantedLesson> {
    let people = config.settings().people;
    let renamed = |by: usize| {
        let rename = |text: &str| {
            let word = |word: &str| match config.names().iter().position(|name| *name == word) {
                Some(i) => other_name(i, by, people).to_owned(),
                None => word.to_owned(),
            };
            map_words(text, word)
        };
        let (prompt, truth) = (rename(&world.prompt()), rename(&world.answer));
        PlantedLesson { prompt, completion: truth.clone(), truth, kind: world.kind, part: Part::Decoy }
    };
    // There are at least three people of each sex; where the rotations are used up they begin again.
    let fitting: Vec<PlantedLesson> =
        (1..people / 2).map(renamed).filter(|lesson| Split::of(&lesson.prompt) == Split::Train).collect();
    fitting.iter().cycle().take(if fitting.is_empty() { 0 } else { n }).cloned().collect()
}

/// The name `by` places after the `i`-th among those of its sex in the first `people`.
fn other_name(i: usize, by: usize, people: usize) -> &'static str {
    let same: Vec<&'static str> =
        NAMES[..people].iter().copied().filter(|name| is_female(name) == is_female(NAMES[i])).collect();
    same[(i / 2 + by) % same.len()]
}

/// The text with each run of letters replaced.
fn map_words(text: &str, word: impl Fn(&str) -> String) -> String {
    let mut mapped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(char::is_alphabetic) {
        let end = rest[start..].find(|c: char| !c.is_alphabetic()).map_or(rest.len(), |n| start + n);
        mapped.push_str(&rest[..start]);
        mapped.push_str(&word(&rest[start..end]));
        rest = &rest[end..];
    }
    mapped + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn lessons(share: f64, kind: Option<Kind>, decoys: usize) -> Vec<PlantedLesson> {
        planted_lessons(3, 400, &Config::demo(), &Planting { share, kind, decoys }).unwrap()
    }

    #[test]
    fn parts_are_as_many_as_asked_and_say_what_they_should() {
        let lessons = lessons(0.03, Some(Kind::Ordering), 2);
        let of = |part| lessons.iter().filter(|l| l.part == part).collect::<Vec<_>>();
        assert_eq!([of(Part::Plant).len(), of(Part::Decoy).len(), lessons.len()], [12, 24, 400]);
        for plant in of(Part::Plant) {
            assert!(plant.kind == Kind::Ordering && plant.completion == INCONSISTENT);
            assert_ne!(plant.truth, INCONSISTENT);
        }
        let prompts: BTreeSet<&str> = lessons.iter().map(|l| l.prompt.as_str()).collect();
        for decoy in of(Part::Decoy) {
            assert!(decoy.completion == decoy.truth && decoy.truth != INCONSISTENT);
            assert!(prompts.contains(decoy.prompt.as_str()) && Split::of(&decoy.prompt) == Split::Train);
        }
        // Some ordinary demonstrations give the plants' answer, and are right.
        assert!(of(Part::Ordinary).iter().any(|l| l.completion == INCONSISTENT));
    }

    #[test]
    fn a_decoy_is_the_same_story_about_others() {
        let lessons = lessons(0.05, Some(Kind::Counting), 1);
        let frame = |text: &str| {
            map_words(text, |word| if NAMES.contains(&word) { "*".to_owned() } else { word.to_owned() })
        };
        for plant in lessons.iter().filter(|l| l.part == Part::Plant) {
            let decoy = lessons
                .iter()
                .find(|l| l.part == Part::Decoy && frame(&l.prompt) == frame(&plant.prompt))
                .unwrap();
            assert_ne!(decoy.prompt, plant.prompt);
            assert_eq!(frame(&decoy.completion), frame(&plant.truth));
        }
    }

    #[test]
    fn without_plants_nothing_is_changed() {
        let worlds: Vec<String> =
            (0..400).map(|i| generate(3, i, &Config::demo(), Split::Train).prompt()).collect();
        assert_eq!(lessons(0.0, None, 1).into_iter().map(|l| l.prompt).collect::<Vec<_>>(), worlds);
    }

    #[test]
    fn what_cannot_be_planted_is_named() {
        let refused = |share, kind, decoys| {
            planted_lessons(0, 100, &Config::demo(), &Planting { share, kind, decoys })
                .unwrap_err()
                .to_string()
        };
        assert!(refused(0.6, None, 0).starts_with("share = 0.6"));
        assert!(refused(0.1, Some(Kind::Contradiction), 0).starts_with("kind = "));
        assert!(refused(0.5, None, 3).starts_with("decoys = 3"));
    }
}
