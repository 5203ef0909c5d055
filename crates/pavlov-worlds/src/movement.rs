//! Things put into containers and carried about.

use std::collections::BTreeMap;

use pavlov_schema::rng::Rng;

use crate::config::Config;
use crate::fact::Fact;
use crate::pick::{chance, one, several};
use crate::query::{Query, Value};
use crate::words::PLACES;
use crate::world::Draft;

/// What directly holds each thing met so far.
#[derive(Default)]
struct Scene(BTreeMap<&'static str, &'static str>);

impl Scene {
    /// The place the thing is in, through all containers, if the story has said it.
    fn place_of(&self, thing: &str) -> Option<&'static str> {
        let mut holder = *self.0.get(thing)?;
        while !PLACES.contains(&holder) {
            holder = self.0.get(holder)?;
        }
        Some(holder)
    }

    /// Whether `holder` is the thing or somewhere inside it, so that the thing cannot go into it.
    fn is_inside(&self, holder: &'static str, thing: &str) -> bool {
        let mut at = holder;
        loop {
            if at == thing {
                return true;
            }
            match self.0.get(at) {
                Some(next) => at = next,
                None => return false,
            }
        }
    }

    /// A statement that moves the thing to a new place (a container only if `nest`), or first says where it is; none if
    /// nothing would change.
    fn relocate(
        &mut self,
        rng: &mut Rng,
        config: &Config,
        thing: &'static str,
        into: Option<&'static str>,
    ) -> Option<Fact> {
        let holder = into.unwrap_or_else(|| one(rng, config.places()));
        if self.0.get(thing) == Some(&holder) || self.is_inside(holder, thing) {
            return None;
        }
        let is_new = self.0.insert(thing, holder).is_none();
        let who = one(rng, config.names());
        if is_new && chance(rng, 0.4) {
            Some(Fact::In { thing, holder })
        } else if into.is_none() && chance(rng, 0.6) {
            Some(Fact::Carry { who, thing, place: holder })
        } else {
            Some(Fact::Put { who, thing, holder })
        }
    }
}

/// A story of `n` statements; with `lie`, one of them says that the thing asked for is in a place where it is not.
pub(crate) fn draft(rng: &mut Rng, config: &Config, n: usize, lie: bool) -> Draft {
    // An attempt fails if the thing asked for was never mentioned, or not located before the lie, and often if the
    // answer is obvious; about one in five succeeds.
    loop {
        if let Some(draft) = attempt(rng, config, n, lie) {
            return draft;
        }
    }
}

fn attempt(rng: &mut Rng, config: &Config, n: usize, lie: bool) -> Option<Draft> {
    let things = several(rng, config.things(), 2);
    let containers = several(rng, config.containers(), 2);
    let (target, main, other) = (things[0], containers[0], containers[1]);
    let lie_at = lie.then(|| 1 + rng.below(n - 1));
    let mut scene = Scene::default();
    let mut facts = Vec::with_capacity(n);
    while facts.len() < n {
        if lie_at == Some(facts.len()) {
            let place = scene.place_of(target)?;
            let elsewhere: Vec<_> = config.places().iter().copied().filter(|&p| p != place).collect();
            facts.push(Fact::In { thing: target, holder: one(rng, &elsewhere) });
            continue;
        }
        let draw = rng.uniform();
        let fact = if draw < 0.4 {
            let into = chance(rng, 0.7).then(|| one(rng, &containers));
            scene.relocate(rng, config, target, into)
        } else if draw < 0.75 {
            let into = chance(rng, 0.2).then_some(other);
            scene.relocate(rng, config, main, into)
        } else if draw < 0.9 {
            let thing = one(rng, &[things[1], other]);
            let into = chance(rng, 0.3).then_some(main);
            scene.relocate(rng, config, thing, into)
        } else {
            // A true observation, so that observations as such are no sign of a lie.
            scene.place_of(target).map(|holder| Fact::In { thing: target, holder })
        };
        facts.extend(fact.filter(|fact| facts.last() != Some(fact)));
    }
    let (holder, place) = (*scene.0.get(target)?, scene.place_of(target));
    let (query, value) = match place {
        // With a container between, the place has to be worked out.
        Some(place) if chance(rng, if place == holder { 0.6 } else { 0.8 }) => {
            (Query::Place { thing: target }, place)
        }
        _ => (Query::Holder { thing: target }, holder),
    };
    // Random stories seldom ask for what follows from two statements, and too often for the last place named.
    let nested = matches!(query, Query::Place { .. }) && place != Some(holder);
    let obvious = last_named(&facts, place == Some(value)) == Some(value);
    let keep = match (nested, obvious) {
        (true, false) => 1.0,
        (true, true) => 0.27,
        (false, false) => 0.35,
        (false, true) => 0.06,
    };
    if !chance(rng, if lie { 1.0 } else { keep }) {
        return None;
    }
    Some(Draft { facts, query, truth: (!lie).then_some(Value::Word(value)) })
}

/// The holder of the last statement, or of the last about a place.
fn last_named(facts: &[Fact], only_places: bool) -> Option<&'static str> {
    facts.iter().rev().find_map(|fact| match *fact {
        Fact::In { holder, .. } | Fact::Put { holder, .. } | Fact::Carry { place: holder, .. } => {
            (!only_places || PLACES.contains(&holder)).then_some(holder)
        }
        _ => None,
    })
}
