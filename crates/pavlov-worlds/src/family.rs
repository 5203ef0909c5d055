//! Mothers, fathers, children, siblings and grandparents.

use std::collections::BTreeSet;

use pavlov_schema::rng::Rng;

use crate::config::Config;
use crate::fact::{Fact, Relation};
use crate::pick::{chance, one, several};
use crate::query::{Query, Value};
use crate::words::is_female;
use crate::world::Draft;

type Pairs = BTreeSet<(&'static str, &'static str)>;

/// What a set of family statements implies: siblings share both parents, and who shares a parent is a sibling.
struct Kinship {
    /// (parent, child).
    parents: Pairs,
    /// Both orders of each pair.
    siblings: Pairs,
}

impl Kinship {
    /// The closure of the statements; none if they contradict each other: somebody with two mothers or two fathers, or
    /// somebody among their own ancestors.
    fn of(facts: &[Fact]) -> Option<Self> {
        let mut kin = Self { parents: Pairs::new(), siblings: Pairs::new() };
        for fact in facts {
            if let Fact::Kin { relation, who, of } = *fact {
                match relation {
                    Relation::Mother | Relation::Father => kin.parents.insert((who, of)),
                    Relation::Daughter | Relation::Son => kin.parents.insert((of, who)),
                    _ => kin.siblings.insert((who, of)),
                };
            }
        }
        while kin.grow() {}
        kin.is_consistent().then_some(kin)
    }

    /// One round of the rules; false if nothing is new.
    fn grow(&mut self) -> bool {
        let before = self.parents.len() + self.siblings.len();
        let mut siblings: Pairs = self.siblings.iter().map(|&(a, b)| (b, a)).collect();
        for &(parent, a) in &self.parents {
            let others = self.parents.iter().filter(|&&(p, b)| p == parent && b != a);
            siblings.extend(others.map(|&(_, b)| (a, b)));
        }
        for &(a, b) in &self.siblings {
            siblings.extend(self.siblings.iter().filter(|&&(x, c)| x == b && c != a).map(|&(_, c)| (a, c)));
        }
        self.siblings.extend(siblings);
        let shared: Vec<_> = self
            .siblings
            .iter()
            .flat_map(|&(a, b)| self.parents.iter().filter(move |&&(_, c)| c == a).map(move |&(p, _)| (p, b)))
            .collect();
        self.parents.extend(shared);
        self.parents.len() + self.siblings.len() > before
    }

    fn is_consistent(&self) -> bool {
        let one_each = self.parents.iter().all(|&(a, child)| {
            self.parents.iter().all(|&(b, c)| c != child || a == b || is_female(a) != is_female(b))
        });
        let mut ancestors = self.parents.clone();
        loop {
            let further: Vec<_> = ancestors
                .iter()
                .flat_map(|&(a, b)| {
                    self.parents.iter().filter(move |&&(p, _)| p == b).map(move |&(_, c)| (a, c))
                })
                .collect();
            let before = ancestors.len();
            ancestors.extend(further);
            if ancestors.len() == before {
                break;
            }
        }
        one_each && ancestors.iter().all(|(a, b)| a != b)
    }

    /// Everybody known to be that relation of that person.
    fn relatives(&self, relation: Relation, of: &str) -> BTreeSet<&'static str> {
        let before = |pairs: &Pairs, x: &str| -> Vec<&'static str> {
            pairs.iter().filter(|&&(_, b)| b == x).map(|&(a, _)| a).collect()
        };
        let found = match relation {
            Relation::Mother | Relation::Father => before(&self.parents, of),
            Relation::Sister | Relation::Brother => before(&self.siblings, of),
            Relation::Grandmother | Relation::Grandfather => {
                before(&self.parents, of).iter().flat_map(|p| before(&self.parents, p)).collect()
            }
            Relation::Daughter | Relation::Son => {
                self.parents.iter().filter(|&&(p, _)| p == of).map(|&(_, c)| c).collect()
            }
        };
        let female = matches!(
            relation,
            Relation::Mother | Relation::Daughter | Relation::Sister | Relation::Grandmother
        );
        found.into_iter().filter(|name| is_female(name) == female).collect()
    }
}

/// "`parent` is the mother of `child`" or "`child` is the son of `parent`".
fn parent(rng: &mut Rng, parent: &'static str, child: &'static str) -> Fact {
    if chance(rng, 0.5) {
        Fact::Kin { relation: Relation::parent(parent), who: parent, of: child }
    } else {
        Fact::Kin { relation: Relation::child(child), who: child, of: parent }
    }
}

/// "`a` is the sister of `b`" or the same from the other side.
fn sibling(rng: &mut Rng, a: &'static str, b: &'static str) -> Fact {
    let (who, of) = if chance(rng, 0.5) { (a, b) } else { (b, a) };
    Fact::Kin { relation: Relation::sibling(who), who, of }
}

/// Adds statements up to `n`: mostly about somebody new, sometimes an earlier one said otherwise. `keeps` says whether
/// the story may become this.
fn distract(
    rng: &mut Rng,
    facts: &mut Vec<Fact>,
    n: usize,
    fresh: &mut Vec<&'static str>,
    keeps: impl Fn(&[Fact]) -> bool,
) {
    while facts.len() < n {
        let known: Vec<&'static str> = facts
            .iter()
            .filter_map(|fact| if let Fact::Kin { who, of, .. } = fact { Some([*who, *of]) } else { None })
            .flatten()
            .collect();
        let again = one(rng, facts);
        let mut fact = again.restated().unwrap_or(again);
        if chance(rng, 0.75)
            && let Some(&newcomer) = fresh.last()
        {
            let somebody = one(rng, &known);
            let candidate = match rng.below(3) {
                0 => parent(rng, newcomer, somebody),
                1 => parent(rng, somebody, newcomer),
                _ => sibling(rng, newcomer, somebody),
            };
            facts.push(candidate);
            let kept = keeps(facts);
            facts.pop();
            if kept {
                fact = candidate;
                fresh.pop();
            }
        }
        facts.push(fact);
    }
    rng.shuffle(facts);
}

/// A story of `n` statements in which exactly one person answers the question.
pub(crate) fn draft(rng: &mut Rng, config: &Config, n: usize) -> Draft {
    let mut fresh = several(rng, config.names(), usize::MAX);
    let [answer, via, of, between] = [fresh.pop(), fresh.pop(), fresh.pop(), fresh.pop()]
        .map(|name| name.expect("a Config has at least 6 names"));
    let draw = rng.uniform();
    let long = n >= 3 && chance(rng, 0.25);
    let (relation, mut facts) = if draw < 0.45 {
        let generation = if long {
            vec![parent(rng, answer, between), sibling(rng, between, via), parent(rng, via, of)]
        } else {
            vec![parent(rng, answer, via), parent(rng, via, of)]
        };
        (Relation::grandparent(answer), generation)
    } else if draw < 0.75 {
        let facts = if chance(rng, 0.5) {
            vec![parent(rng, answer, via), sibling(rng, via, of)]
        } else {
            vec![parent(rng, answer, of)]
        };
        (Relation::parent(answer), facts)
    } else {
        let facts = if chance(rng, 0.6) {
            vec![parent(rng, via, answer), parent(rng, via, of)]
        } else {
            vec![sibling(rng, answer, of)]
        };
        (Relation::sibling(answer), facts)
    };
    distract(rng, &mut facts, n, &mut fresh, |facts| {
        Kinship::of(facts).is_some_and(|kin| kin.relatives(relation, of).into_iter().eq([answer]))
    });
    Draft { facts, query: Query::Relative { relation, of }, truth: Some(Value::Word(answer)) }
}

/// A story of `n` statements in which somebody is their own ancestor or has two mothers or two fathers.
pub(crate) fn contradiction(rng: &mut Rng, config: &Config, n: usize) -> Draft {
    let mut fresh = several(rng, config.names(), usize::MAX);
    let mut take = || fresh.pop().expect("a Config has at least 6 names");
    let (a, b, c) = (take(), take(), take());
    let (mut facts, relation, of) = if chance(rng, 0.4) {
        // Of three names two are of one gender: two mothers or two fathers for the third.
        let (first, second, child) = if is_female(a) == is_female(b) {
            (a, b, c)
        } else if is_female(a) == is_female(c) {
            (a, c, b)
        } else {
            (b, c, a)
        };
        let facts = vec![parent(rng, first, child), parent(rng, second, child)];
        (facts, Relation::parent(first), child)
    } else if n >= 3 && chance(rng, 0.6) {
        let facts = vec![parent(rng, a, b), parent(rng, b, c), parent(rng, c, a)];
        (facts, Relation::grandparent(a), c)
    } else {
        (vec![parent(rng, a, b), parent(rng, b, a)], Relation::parent(a), b)
    };
    // Whatever is added to a contradiction leaves one.
    distract(rng, &mut facts, n, &mut fresh, |_| true);
    Draft { facts, query: Query::Relative { relation, of }, truth: None }
}
