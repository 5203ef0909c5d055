//! Which records of a log hold: what SQL says of a page against the rule over all of it.

use std::collections::BTreeSet;

use pavlov_feedback::reply::Pick;
use pavlov_feedback::store::{Standing, Version};
use pavlov_schema::feedback::standing;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::place::{Place, picks, plain};

/// Something that somebody does: what, who, and about which of their answers.
type Deed = (u8, usize, usize);

fn deed(place: &Place, raters: &[pavlov_feedback::store::AccountId], n: usize, (what, who, which): Deed) {
    let (project, rater, owner, key) = (place.project, raters[who], place.owner, format!("k{n}"));
    let mine = place.store.read_now(move |r| r.my_answers(project, rater, None, 20)).unwrap();
    let mine = mine.get(which % mine.len().max(1)).filter(|answer| answer.standing == Standing::Answered);
    let task = mine.map(|answer| answer.task.clone()).unwrap_or_default();
    let last = place.store.read_now(move |r| r.last_seq(project)).unwrap();
    // What cannot be done changes nothing.
    let done = place.store.write_now(move |w| {
        match what {
            0..=2 => {
                let pavlov_feedback::store::Served::Task(lease) = w.claim(project, rater)? else {
                    return Ok(());
                };
                let reply = picks([Pick::Left, Pick::Tie][which % 2]);
                let submission =
                    pavlov_feedback::store::Submission { lease: lease.code, key, reply, active_ms: 9 };
                drop(w.submit(rater, submission)?);
            }
            3 | 4 => drop(w.correct(project, rater, &task, picks(Pick::Right), &key, 9)?),
            5 => drop(w.undo(project, rater, &key)?),
            6 => drop(w.retract(project, rater, &task, "misread", &key)?),
            7 => drop(w.exclude(project, rater, Some(1 + which as u64 % last.max(1)), "odd", owner)?),
            8 => drop(w.exclude(project, rater, None, "odd", owner)?),
            _ => {
                for one in w.exclusions(project)?.iter().skip(which % 2) {
                    drop(w.lift_exclusion(project, &one.code, owner));
                }
            }
        }
        Ok(())
    });
    drop(done);
    place.pass([0, 20, 61][which % 3]);
}

/// All of the log up to `through`, `limit` records at a time.
fn versions(place: &Place, through: u64, limit: u32) -> Vec<Version> {
    let (project, mut all) = (place.project, Vec::<Version>::new());
    loop {
        let after = all.last().map_or(0, |last| last.record.seq);
        let page = place.store.read_now(move |r| r.versions(project, after, through, limit)).unwrap();
        let full = page.len() == limit as usize;
        all.extend(page);
        if !full {
            return all;
        }
    }
}

#[test]
fn what_holds_is_the_last_sealed_version_of_each_answer() {
    let mut runner = TestRunner::new(Config { cases: 40, ..Config::default() });
    let deeds = proptest::collection::vec((0_u8..10, 0_usize..3, 0_usize..30), 10..60);
    let seen = std::cell::Cell::new((0, 0));
    let run = runner.run(&deeds, |deeds| {
        let place = Place::new(plain());
        place.tasks(12);
        let raters = ["a", "b", "c"].map(|name| place.rater(name));
        for (n, one) in deeds.into_iter().enumerate() {
            deed(&place, &raters, n, one);
            if n % 5 != 4 {
                continue;
            }
            let (records, through) = place.sealed();
            let holds: BTreeSet<u64> = standing(&records).iter().map(|record| record.seq).collect();
            let wanted: Vec<Version> = records
                .into_iter()
                .map(|record| Version { holds: holds.contains(&record.seq), record })
                .collect();
            prop_assert_eq!(&versions(&place, through, 3), &wanted);
            let (held, not) = seen.get();
            seen.set((held + holds.len(), not + wanted.len() - holds.len()));
        }
        Ok(())
    });
    run.unwrap();
    let (held, not) = seen.get();
    assert!(held > 500 && not > 100, "{held} held, {not} did not: the deeds show too little");
}
