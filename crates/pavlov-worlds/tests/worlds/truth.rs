//! Every answer against an exact solver that reads only the English text: it parses the sentences itself and shares no
//! code with the generator.

use std::collections::{BTreeMap, BTreeSet};

use pavlov_worlds::{Config, INCONSISTENT, Kind, Split, World, generate};

const WORLDS: u64 = 3000;

/// The words of each sentence, without stops.
fn sentences(text: &str) -> Vec<Vec<String>> {
    text.split_inclusive(['.', '?'])
        .map(|sentence| {
            let words =
                sentence.split_whitespace().map(|word| word.trim_end_matches(['.', '?', ',']).to_owned());
            words.collect::<Vec<_>>()
        })
        .filter(|words| !words.is_empty())
        .collect()
}

/// The right answer to a world's text, or none if the story contradicts itself.
fn solve(story: &str, question: &str) -> Option<String> {
    let story = sentences(story);
    let question = sentences(question).remove(0);
    let words: Vec<&str> = question.iter().map(String::as_str).collect();
    match words[..] {
        ["Where" | "What", ..] => solve_movement(&story, words[3], words[0] == "Where"),
        ["Who", "is", "the", relation, "of", of] => solve_family(&story, relation, of),
        ["Who", ..] => solve_ordering(&story, &words),
        ["How", ..] => Some(solve_counting(&story, &words)),
        _ => panic!("no question: {question:?}"),
    }
}

/// What each thing is directly in is replayed step by step; an observation must agree with it.
fn solve_movement(story: &[Vec<String>], asked: &str, wants_place: bool) -> Option<String> {
    let mut within: BTreeMap<&str, &str> = BTreeMap::new();
    let chain = |within: &BTreeMap<&str, &str>, thing: &str| -> Vec<String> {
        std::iter::successors(within.get(thing).copied(), |at| within.get(at).copied())
            .map(str::to_owned)
            .collect()
    };
    let mut carried_to: BTreeSet<&str> = BTreeSet::new();
    for sentence in story {
        let words: Vec<&str> = sentence.iter().map(String::as_str).collect();
        match words[..] {
            ["The", thing, "is", "in", "the", holder] if within.contains_key(thing) => {
                if !chain(&within, thing).iter().any(|at| at == holder) {
                    return None;
                }
            }
            ["The", thing, "is", "in", "the", holder]
            | [_, "put", "the", thing, "in", "the", holder]
            | [_, "carried", "the", thing, "to", "the", holder] => {
                assert!(
                    holder != thing && !chain(&within, holder).iter().any(|at| at == thing),
                    "{sentence:?}"
                );
                within.insert(thing, holder);
                if words[1] == "carried" {
                    carried_to.insert(holder);
                }
            }
            _ => panic!("no movement: {sentence:?}"),
        }
    }
    assert!(carried_to.iter().all(|place| !within.contains_key(place)), "a place was moved: {story:?}");
    let chain = chain(&within, asked);
    let at = if wants_place { chain.last() } else { chain.first() };
    Some(format!("The {asked} is in the {}.", at.expect("the thing is somewhere")))
}

const SCALES: [[&str; 4]; 4] = [
    ["taller", "shorter", "tallest", "shortest"],
    ["older", "younger", "oldest", "youngest"],
    ["faster", "slower", "fastest", "slowest"],
    ["heavier", "lighter", "heaviest", "lightest"],
];

/// All orders of the people are tried: the answer must be the same in all that fit.
fn solve_ordering(story: &[Vec<String>], question: &[&str]) -> Option<String> {
    let mut answers = BTreeSet::new();
    for scale in SCALES {
        let pairs: Vec<(&str, &str)> = story
            .iter()
            .filter(|s| scale.contains(&s[2].as_str()))
            .map(|s| if s[2] == scale[0] { (&*s[0], &*s[4]) } else { (&*s[4], &*s[0]) })
            .collect();
        let people: BTreeSet<&str> = pairs.iter().flat_map(|&(a, b)| [a, b]).collect();
        let people: Vec<&str> = people.into_iter().collect();
        let mut fitting = 0;
        for order in permutations(people.len()) {
            let at =
                |name: &str| order[people.iter().position(|&p| p == name).expect("a person of the story")];
            if pairs.iter().all(|&(more, less)| at(more) < at(less)) {
                fitting += 1;
                let by_rank =
                    |rank| people[order.iter().position(|&r| r == rank).expect("every rank is taken")];
                let word = question.iter().find_map(|&word| scale.iter().position(|&s| s == word));
                answers.extend(word.map(|word| match word {
                    0 if at(question[3]) < at(question[5]) => format!("{} is {}.", question[3], scale[0]),
                    0 => format!("{} is {}.", question[5], scale[0]),
                    1 if at(question[3]) > at(question[5]) => format!("{} is {}.", question[3], scale[1]),
                    1 => format!("{} is {}.", question[5], scale[1]),
                    2 => format!("{} is the {}.", by_rank(0), scale[2]),
                    _ => format!("{} is the {}.", by_rank(people.len() - 1), scale[3]),
                }));
            }
        }
        if fitting == 0 {
            return None;
        }
    }
    assert_eq!(answers.len(), 1, "{story:?} {question:?}");
    answers.pop_first()
}

/// Every order of `0..n`, each as the rank of every item.
fn permutations(n: usize) -> Vec<Vec<usize>> {
    let Some(last) = n.checked_sub(1) else { return vec![vec![]] };
    let extend = |order: &Vec<usize>, at: usize| {
        let mut order = order.clone();
        order.insert(at, last);
        order
    };
    permutations(last).iter().flat_map(|order| (0..n).map(move |at| extend(order, at))).collect()
}

/// Accounts are kept; no one may give or lose what they do not have.
fn solve_counting(story: &[Vec<String>], question: &[&str]) -> String {
    let one = |item: &str| item.trim_end_matches('s').to_owned();
    let mut accounts: BTreeMap<(String, String), i32> = BTreeMap::new();
    for sentence in story {
        let words: Vec<&str> = sentence.iter().map(String::as_str).collect();
        let (count, item) =
            (words[words.len() - 2].parse::<i32>().expect("a number"), words[words.len() - 1]);
        assert_eq!(count == 1, !item.ends_with('s'), "{sentence:?}");
        if words[1] == "has" {
            assert_eq!(accounts.insert((words[0].into(), one(item)), count), None);
            continue;
        }
        let mut change = |who: &str, by: i32| {
            let account = accounts.get_mut(&(who.to_owned(), one(item))).expect("a known account");
            *account += by;
            assert!((0..=20).contains(account), "{story:?}");
        };
        match words[1] {
            "gave" => {
                change(words[0], -count);
                change(words[2], count);
            }
            "found" => change(words[0], count),
            "lost" => change(words[0], -count),
            _ => panic!("no counting: {sentence:?}"),
        }
    }
    let item = one(question[2]);
    let of = |who: &str| accounts[&(who.to_owned(), item.clone())];
    let (subject, count) = if question[3] == "does" {
        (format!("{} has", question[4]), of(question[4]))
    } else {
        ("They have".to_owned(), of(question[4]) + of(question[6]))
    };
    format!("{subject} {count} {item}{}.", if count == 1 { "" } else { "s" })
}

/// The rules of kinship by boolean matrices until nothing changes; then the one person who fits.
fn solve_family(story: &[Vec<String>], relation: &str, of: &str) -> Option<String> {
    let names: BTreeSet<&str> = story.iter().flat_map(|s| [&*s[0], &*s[5]]).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let n = names.len();
    let number = |name: &str| names.iter().position(|&x| x == name).expect("a person of the story");
    let (mut parent, mut sibling) = (vec![vec![false; n]; n], vec![vec![false; n]; n]);
    let mut female: Vec<Option<bool>> = vec![None; n];
    for sentence in story {
        let (who, of) = (number(&sentence[0]), number(&sentence[5]));
        match &*sentence[3] {
            "mother" | "father" => parent[who][of] = true,
            "daughter" | "son" => parent[of][who] = true,
            _ => sibling[who][of] = true,
        }
        let is_female = Some(["mother", "daughter", "sister"].contains(&&*sentence[3]));
        assert!(female[who].is_none() || female[who] == is_female, "{story:?}");
        female[who] = is_female;
    }
    // Who is never the subject of a sentence has a name that tells: in this lexicon a woman's ends in a.
    let female: Vec<bool> = names
        .iter()
        .zip(female)
        .map(|(name, stated)| {
            let told = name.ends_with('a') || *name == "Cleo";
            assert!(stated.is_none_or(|stated| stated == told), "{name}");
            told
        })
        .collect();
    for _ in 0..n * n {
        for (a, b, c) in (0..n * n * n).map(|i| (i / n / n, i / n % n, i % n)) {
            sibling[b][a] |= sibling[a][b];
            sibling[a][c] |= a != c && sibling[a][b] && sibling[b][c];
            sibling[b][c] |= b != c && parent[a][b] && parent[a][c];
            parent[a][c] |= parent[a][b] && sibling[b][c];
        }
    }
    let mut ancestor = parent.clone();
    for (b, a, c) in (0..n * n * n).map(|i| (i / n / n, i / n % n, i % n)) {
        ancestor[a][c] |= ancestor[a][b] && ancestor[b][c];
    }
    let two_of_a_kind = (0..n).any(|child| {
        [true, false].iter().any(|&f| (0..n).filter(|&p| parent[p][child] && female[p] == f).count() > 1)
    });
    if two_of_a_kind || (0..n).any(|a| ancestor[a][a]) {
        return None;
    }
    let of_number = number(of);
    let fits = |who: usize| match relation {
        "mother" | "father" => parent[who][of_number],
        "sister" | "brother" => sibling[who][of_number],
        _ => (0..n).any(|via| parent[who][via] && parent[via][of_number]),
    };
    let wanted = ["mother", "sister", "grandmother"].contains(&relation);
    let found: Vec<usize> = (0..n).filter(|&who| female[who] == wanted && fits(who)).collect();
    assert_eq!(found.len(), 1, "{story:?} {relation} {of}");
    Some(format!("The {relation} of {of} is {}.", names[found[0]]))
}

fn check(world: &World) {
    let solved = solve(&world.story, &world.question);
    assert_eq!(solved.is_some(), world.consistent, "{}", world.prompt());
    assert_eq!(solved.as_deref().unwrap_or(INCONSISTENT), world.answer, "{}", world.prompt());
    assert_eq!(world.consistent, world.kind != Kind::Contradiction);
    assert_eq!(world.consistent, world.truth.is_some());
}

#[test]
fn every_answer_is_what_the_text_implies() {
    for config in [Config::demo(), Config::large()] {
        let mut seen = BTreeMap::new();
        for index in 0..WORLDS {
            let split = if index % 2 == 0 { Split::Train } else { Split::HeldOut };
            let world = generate(11, index, &config, split);
            check(&world);
            assert_eq!(sentences(&world.story).len(), world.facts.len());
            let settings = config.settings();
            assert!((settings.min_statements..=settings.max_statements).contains(&world.facts.len()));
            *seen.entry(world.kind).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 5);
    }
}

#[test]
fn the_narrowest_and_the_widest_settings_make_worlds() {
    let mut settings = Config::demo().settings().clone();
    (settings.max_statements, settings.people, settings.things) = (2, 6, 2);
    (settings.containers, settings.places, settings.largest_start, settings.largest_change) = (2, 3, 2, 1);
    let narrow = Config::new(settings).unwrap();
    let mut settings = Config::large().settings().clone();
    (settings.min_statements, settings.max_statements) = (12, 12);
    (settings.largest_start, settings.largest_change) = (12, 8);
    let wide = Config::new(settings).unwrap();
    for config in [narrow, wide] {
        (0..300).for_each(|index| check(&generate(2, index, &config, Split::HeldOut)));
    }
}

#[test]
fn a_restatement_changes_nothing() {
    for index in 0..WORLDS {
        let world = generate(12, index, &Config::large(), Split::Train);
        let said = world.facts.iter().flat_map(|fact| [Some(*fact), fact.restated()]).flatten();
        let story = said.map(|fact| fact.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(solve(&story, &world.question).unwrap_or(INCONSISTENT.into()), world.answer, "{story}");
    }
}
