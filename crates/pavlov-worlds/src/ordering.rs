//! Who is taller, older, faster, heavier.

use pavlov_schema::rng::Rng;

use crate::config::Config;
use crate::fact::{Fact, Pole, Scale};
use crate::pick::{between, chance, one, several};
use crate::query::{Query, Value};
use crate::world::Draft;

/// Most people in one story.
const MOST_PEOPLE: usize = 6;

/// "`more` is taller than `less`" or "`less` is shorter than `more`".
fn compare(rng: &mut Rng, scale: Scale, more: &'static str, less: &'static str) -> Fact {
    if chance(rng, 0.5) {
        Fact::Compare { scale, pole: Pole::More, who: more, than: less }
    } else {
        Fact::Compare { scale, pole: Pole::Less, who: less, than: more }
    }
}

/// Two different positions of `0..m` in rising order.
fn two_positions(rng: &mut Rng, m: usize) -> (usize, usize) {
    let first = rng.below(m);
    let second = (first + 1 + rng.below(m - 1)) % m;
    (first.min(second), first.max(second))
}

/// A story of `n` statements whose chain orders all its people; with `lie`, one of them reverses the chain.
pub(crate) fn draft(rng: &mut Rng, config: &Config, n: usize, lie: bool) -> Draft {
    let scales = several(rng, &Scale::ALL, 2);
    let (asked, distracting) = (scales[0], scales[1]);
    let most = if lie { n } else { n + 1 };
    let m = between(rng, most.min(2 + n / 4), most.min(MOST_PEOPLE).min(config.names().len()));
    let people = several(rng, config.names(), m);
    let other_order = several(rng, &people, m);

    let mut facts: Vec<Fact> = people.windows(2).map(|pair| compare(rng, asked, pair[0], pair[1])).collect();
    if lie {
        let (above, below) = two_positions(rng, m);
        facts.push(compare(rng, asked, people[below], people[above]));
    }
    let mut tries = 0;
    while facts.len() < n {
        let (above, below) = two_positions(rng, m);
        // What the chain already implies, said again, so that a closing statement as such is no sign of a lie.
        let fact = if chance(rng, 0.5) {
            compare(rng, asked, people[above], people[below])
        } else {
            compare(rng, distracting, other_order[above], other_order[below])
        };
        tries += 1;
        // Two people have only four true comparisons: after a while a repeated one is accepted.
        if tries > 50 || !facts.contains(&fact) {
            facts.push(fact);
        }
    }
    rng.shuffle(&mut facts);

    let pole = one(rng, &[Pole::More, Pole::Less]);
    let (query, above, below) = if chance(rng, 0.25) {
        let (above, below) = two_positions(rng, m);
        let mut pair = [people[above], people[below]];
        rng.shuffle(&mut pair);
        (Query::Pair { scale: asked, pole, a: pair[0], b: pair[1] }, above, below)
    } else {
        (Query::Extreme { scale: asked, pole }, 0, m - 1)
    };
    let winner = if pole == Pole::More { people[above] } else { people[below] };
    Draft { facts, query, truth: (!lie).then_some(Value::Word(winner)) }
}
