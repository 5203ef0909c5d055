//! The worlds as a population: balance, baselines that read nothing, and the split.

use std::collections::{BTreeMap, BTreeSet};

use pavlov_worlds::{Config, Fact, INCONSISTENT, Kind, Query, Split, Value, World, generate, statement_text};

const WORLDS: u64 = 8000;

fn worlds(config: &Config) -> Vec<World> {
    (0..WORLDS).map(|index| generate(21, index, config, Split::Train)).collect()
}

/// How often each answer comes, as shares.
fn shares<'a>(answers: impl Iterator<Item = &'a str>) -> Vec<f64> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    answers.for_each(|answer| *counts.entry(answer).or_insert(0) += 1);
    let n = f64::from(counts.values().sum::<u32>());
    counts.into_values().map(|count| f64::from(count) / n).collect()
}

#[test]
fn kinds_come_by_their_weights() {
    for config in [Config::demo(), Config::large()] {
        let worlds = worlds(&config);
        let weights = &config.settings().kinds;
        for (kind, p) in [
            (Kind::Movement, weights.movement),
            (Kind::Ordering, weights.ordering),
            (Kind::Counting, weights.counting),
            (Kind::Family, weights.family),
            (Kind::Contradiction, weights.contradiction),
        ] {
            let share = worlds.iter().filter(|w| w.kind == kind).count() as f64 / WORLDS as f64;
            assert!((share - p).abs() < 4.0 * (p * (1.0 - p) / WORLDS as f64).sqrt(), "{kind:?} {share}");
        }
    }
}

#[test]
fn no_single_answer_goes_far() {
    for config in [Config::demo(), Config::large()] {
        let worlds = worlds(&config);
        let all = shares(worlds.iter().map(|w| w.answer.as_str()));
        assert!(all.iter().all(|&share| share < 0.15), "over the mixture");
        for kind in Kind::ALL {
            let of_kind = shares(worlds.iter().filter(|w| w.kind == kind).map(|w| w.answer.as_str()));
            let most = of_kind.iter().copied().fold(0.0, f64::max);
            let entropy: f64 = of_kind.iter().map(|p| -p * p.log2()).sum();
            println!("{kind:?}: commonest answer {most:.3}, entropy {entropy:.2} bits");
            if kind == Kind::Contradiction {
                assert_eq!(of_kind, [1.0], "their one answer is {INCONSISTENT}");
            } else {
                assert!(most < 0.15 && entropy > 4.0, "{kind:?} {most} {entropy}");
            }
        }
    }
}

/// The commonest answer to each key among one half of the worlds, tried on the other half.
fn baseline(worlds: &[World], key: impl Fn(&World) -> String) -> f64 {
    let (learn, test) = worlds.split_at(worlds.len() / 2);
    let mut counts: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
    for world in learn {
        *counts.entry(key(world)).or_default().entry(world.answer.clone()).or_default() += 1;
    }
    let right = test.iter().filter(|world| {
        counts
            .get(&key(world))
            .and_then(|answers| answers.iter().max_by_key(|(_, n)| **n))
            .is_some_and(|(answer, _)| *answer == world.answer)
    });
    right.count() as f64 / test.len() as f64
}

#[test]
fn the_question_alone_does_not_tell_the_answer() {
    for config in [Config::demo(), Config::large()] {
        let worlds: Vec<World> = (0..5 * WORLDS).map(|i| generate(22, i, &config, Split::Train)).collect();
        let by_question = baseline(&worlds, |world| world.question.clone());
        println!("best guess from the question: {by_question:.3}");
        assert!(by_question < 0.25, "{by_question}");
        for kind in [Kind::Movement, Kind::Ordering, Kind::Counting, Kind::Family] {
            let of_kind: Vec<World> = worlds.iter().filter(|world| world.kind == kind).cloned().collect();
            let share = baseline(&of_kind, |world| world.question.clone());
            println!("{kind:?} from the question: {share:.3}");
            assert!(share < 0.25, "{kind:?} {share}");
        }
    }
}

/// A quarter of the stories of movement, at least, ask for a place that follows only from two statements or more: the
/// thing is in a container, the container is somewhere.
#[test]
fn containers_have_to_be_followed() {
    for config in [Config::demo(), Config::large()] {
        let worlds = worlds(&config);
        let movement: Vec<&World> = worlds.iter().filter(|world| world.kind == Kind::Movement).collect();
        let nested = movement.iter().filter(|world| {
            let Query::Place { thing } = world.query else { return false };
            let direct = world.facts.iter().rev().find_map(|fact| match *fact {
                Fact::In { thing: t, holder } | Fact::Put { thing: t, holder, .. } if t == thing => {
                    Some(holder)
                }
                Fact::Carry { thing: t, place, .. } if t == thing => Some(place),
                _ => None,
            });
            direct.map(Value::Word) != world.truth
        });
        let share = nested.count() as f64 / movement.len() as f64;
        println!("movement through containers: {share:.3}");
        assert!(share > 0.25, "{share}");
    }
}

/// Answers by a word of the story at a fixed place are no short cut either: the last word that fits is right less than
/// half the time.
#[test]
fn the_last_word_that_fits_is_often_wrong() {
    for config in [Config::demo(), Config::large()] {
        let worlds = worlds(&config);
        for kind in [Kind::Movement, Kind::Ordering, Kind::Counting, Kind::Family] {
            let of_kind: Vec<&World> = worlds.iter().filter(|world| world.kind == kind).collect();
            let right = of_kind.iter().filter(|world| {
                let choices = world.query.choices();
                let words: Vec<&str> = world.story.split(|c: char| !c.is_alphanumeric()).collect();
                let last = words.iter().rev().find_map(|w| choices.iter().find(|v| v.to_string() == *w));
                last.is_some_and(|value| world.query.answer(*value) == world.answer)
            });
            let share = right.count() as f64 / of_kind.len() as f64;
            println!("{kind:?} by the last word that fits: {share:.3}");
            assert!(share < 0.5, "{kind:?} {share}");
        }
    }
}

/// Forms of sentences without the words that fill them: "Ana is taller than Ben." and its like are all one.
fn skeleton(world: &World) -> String {
    let variant = |debug: String| debug.split([' ', '{']).next().unwrap_or_default().to_owned();
    let facts: Vec<String> = world.facts.iter().map(|fact| variant(format!("{fact:?}"))).collect();
    format!("{} {}", facts.join(" "), variant(format!("{:?}", world.query)))
}

/// A guesser that sees only the forms of the sentences, and has the commonest verdict for each, finds few
/// contradictions: they have to be read.
#[test]
fn the_forms_of_the_sentences_do_not_betray_a_contradiction() {
    for config in [Config::demo(), Config::large()] {
        let worlds: Vec<World> = (0..5 * WORLDS).map(|i| generate(23, i, &config, Split::Train)).collect();
        let (learn, test) = worlds.split_at(worlds.len() / 2);
        let mut counts: BTreeMap<String, i32> = BTreeMap::new();
        for world in learn {
            *counts.entry(skeleton(world)).or_default() += if world.consistent { -1 } else { 1 };
        }
        let contradictions: Vec<&World> = test.iter().filter(|world| !world.consistent).collect();
        let found =
            contradictions.iter().filter(|w| counts.get(&skeleton(w)).is_some_and(|&n| n > 0)).count();
        let share = found as f64 / contradictions.len() as f64;
        println!("contradictions found by form: {share:.3}");
        assert!(share < 0.25, "{share}");
    }
}

#[test]
fn no_held_out_prompt_is_in_any_training_set() {
    let held_out: BTreeSet<String> =
        (0..2000).map(|i| generate(5, i, &Config::demo(), Split::HeldOut).prompt()).collect();
    for (seed, config) in [(5, Config::demo()), (6, Config::demo()), (5, Config::large())] {
        for index in 0..WORLDS {
            let world = generate(seed, index, &config, Split::Train);
            assert!(!held_out.contains(&world.prompt()));
            assert_eq!(Split::of(&world.prompt()), Split::Train);
            let text = statement_text(seed, index, &config);
            let prompt = text.split_inclusive('\n').next().unwrap_or_default();
            assert!(!held_out.contains(prompt), "{text}");
        }
    }
}

#[test]
fn a_world_depends_on_its_seed_and_index_alone() {
    let config = Config::large();
    let make = |seed, index| generate(seed, index, &config, Split::Train);
    let forward: Vec<World> = (0..50).map(|i| make(1, i)).collect();
    let backward: Vec<World> = (0..50).rev().map(|i| make(1, i)).collect();
    assert!(forward.iter().eq(backward.iter().rev()));
    let distinct: BTreeSet<String> =
        (0..4).flat_map(|seed| (0..250).map(move |i| (seed, i))).map(|(s, i)| make(s, i).prompt()).collect();
    assert!(distinct.len() > 990, "{}", distinct.len());
}
