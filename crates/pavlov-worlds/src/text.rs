//! Plain text for a base model: it teaches the language and the form of answers, but not how to answer well.

use pavlov_schema::rng::{Rng, Stream};

use crate::config::Config;
use crate::fact::Fact;
use crate::pick::{chance, one};
use crate::query::INCONSISTENT;
use crate::tokenizer::END;
use crate::world::{Split, World, generate};

/// Keeps these draws apart from those of the world with the same seed and index, whose steps count up from 0.
const STEP: u64 = 1 << 63;

/// One document for pretraining, without an end token. It belongs to the world that
/// [`generate`] makes of the same seed and index in [`Split::Train`], so no held-out prompt is ever in it.
///
/// - 10%: the story alone;
/// - 15%: the story with some statements said again in other words, which teaches what they imply;
/// - 75%: the prompt with an [`imperfect_answer`] of the configured `base_answer_accuracy`.
pub fn statement_text(seed: u64, index: u64, config: &Config) -> String {
    let world = generate(seed, index, config, Split::Train);
    let mut rng = Rng::new(seed, Stream::World, STEP, index);
    let draw = rng.uniform();
    if draw < 0.1 {
        world.story
    } else if draw < 0.25 {
        let mut sentences = Vec::new();
        for fact in &world.facts {
            sentences.push(fact.to_string());
            // Right after the fact, because later ones may change what is true.
            if chance(&mut rng, 0.5) {
                sentences.extend(fact.restated().as_ref().map(Fact::to_string));
            }
        }
        sentences.join(" ")
    } else {
        let answer = imperfect_answer(&mut rng, &world, config.settings().base_answer_accuracy);
        world.prompt() + &answer
    }
}

/// What careless people write below the prompt of the world that [`generate`] makes of the same seed and index in
/// [`Split::Train`]: an [`imperfect_answer`] of the configured `base_answer_accuracy` and its end token; after a wrong
/// one a line feed and the right answer, after a right one nothing but another end token.
///
/// A sampler stops at the first end token, so that it gives the answer alone. Whoever learns what follows that token
/// learns to check an answer, at the place where a reward model gives its score.
pub fn careless_answer(seed: u64, index: u64, config: &Config) -> String {
    let world = generate(seed, index, config, Split::Train);
    let mut rng = Rng::new(seed, Stream::World, STEP, index);
    let answer = imperfect_answer(&mut rng, &world, config.settings().base_answer_accuracy);
    if answer == world.answer {
        format!("{answer}{END}{END}")
    } else {
        format!("{answer}{END}\n{}", world.answer)
    }
}

/// The right answer with probability `accuracy`; otherwise one that is not right:
///
/// - 15%: a statement of the story, which is no answer;
/// - 10%: "That is inconsistent." (of a consistent story);
/// - the rest: the right form with a wrong value, half of the time one that the story mentions.
pub fn imperfect_answer(rng: &mut Rng, world: &World, accuracy: f64) -> String {
    if chance(rng, accuracy) {
        return world.answer.clone();
    }
    let draw = rng.uniform();
    // The story "The key is in the shed." is also an answer: only statements that are not the right one are taken.
    let statements: Vec<String> =
        world.facts.iter().map(Fact::to_string).filter(|statement| *statement != world.answer).collect();
    if draw < 0.15 && !statements.is_empty() {
        return statements[rng.below(statements.len())].clone();
    }
    if draw < 0.25 && world.consistent {
        return INCONSISTENT.to_owned();
    }
    let wrong: Vec<_> =
        world.query.choices().into_iter().filter(|&value| Some(value) != world.truth).collect();
    let mentioned: Vec<_> = wrong.iter().copied().filter(|&value| world.mentions(value)).collect();
    let from = if mentioned.is_empty() || chance(rng, 0.5) { &wrong } else { &mentioned };
    world.query.answer(one(rng, from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify;

    #[test]
    fn answers_are_right_as_often_as_configured() {
        let n = 4000;
        for accuracy in [0.0, 0.25, 1.0] {
            let right: f64 = (0..n)
                .map(|i| {
                    let world = generate(3, i, &Config::demo(), Split::Train);
                    let mut rng = Rng::new(9, Stream::Data, 0, i);
                    verify(&world, &imperfect_answer(&mut rng, &world, accuracy))
                })
                .sum();
            let error = (accuracy * (1.0 - accuracy) / n as f64).sqrt();
            assert!((right / n as f64 - accuracy).abs() <= 4.0 * error, "{accuracy}: {right}");
        }
    }

    #[test]
    fn wrong_answers_and_only_they_are_corrected() {
        let n = 1000;
        let mut corrected = 0;
        for i in 0..n {
            let world = generate(6, i, &Config::demo(), Split::Train);
            let text = careless_answer(6, i, &Config::demo());
            let (first, then) = text.split_once(END).unwrap();
            let right = then == END;
            assert_eq!(first == world.answer, right, "{text}");
            assert!(right || then.strip_prefix('\n') == Some(&world.answer), "{text}");
            corrected += u64::from(!right);
        }
        let error = (0.25 / n as f64).sqrt();
        assert!((corrected as f64 / n as f64 - 0.5).abs() <= 4.0 * error, "{corrected}");
    }

    #[test]
    fn wrong_answers_keep_the_form_four_times_in_five() {
        let n = 2000;
        let formed = (0..n)
            .filter(|&i| {
                let world = generate(4, i, &Config::large(), Split::Train);
                let answer = imperfect_answer(&mut Rng::new(1, Stream::Data, 0, i), &world, 0.0);
                world.quality(&answer) > 0.0
            })
            .count();
        assert!((1600..1860).contains(&formed), "{formed}");
    }

    #[test]
    fn documents_hold_the_three_forms() {
        let (mut stories, mut prompts, mut restated) = (0, 0, 0);
        for i in 0..1000 {
            let world = generate(5, i, &Config::demo(), Split::Train);
            let text = statement_text(5, i, &Config::demo());
            if let Some(answer) = text.strip_prefix(&world.prompt()) {
                prompts += 1;
                assert!(answer.ends_with('.') && !answer.contains(". "), "{text}");
            } else if text == world.story {
                stories += 1;
            } else {
                restated += 1;
                let mut rest = text.as_str();
                for fact in &world.facts {
                    let fact = fact.to_string();
                    let at = rest.find(&fact).unwrap_or_else(|| panic!("{fact} is missing in {text}"));
                    rest = &rest[at + fact.len()..];
                }
            }
        }
        assert!(
            (695..805).contains(&prompts) && stories > 90 && restated > 50,
            "{prompts} {stories} {restated}"
        );
    }
}
