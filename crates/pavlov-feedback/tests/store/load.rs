//! A database as large as a year of work, and how long its questions take. The figures of `pavlov bench feedback` are taken over
//! HTTP; these are the store's own.

use std::time::{Duration, Instant};

use pavlov_feedback::reply::Pick;
use pavlov_feedback::settings::Settings;
use pavlov_feedback::store::{AccountId, ProjectId, Read, Served, Submission, Write};

use crate::setup::{Place, pair, picks, plain};

/// Claims and answers `n` times in one change; how often there was something.
fn answers(
    w: &mut Write<'_>,
    project: ProjectId,
    rater: AccountId,
    n: usize,
) -> pavlov_feedback::Result<usize> {
    for i in 0..n {
        let Served::Task(lease) = w.claim(project, rater)? else { return Ok(i) };
        let key = lease.code.clone();
        let submission = Submission { lease: lease.code, key, reply: picks(Pick::Left), active_ms: 4_000 };
        w.submit(rater, submission)?;
    }
    Ok(n)
}

/// The longest of some tries.
fn longest(tries: usize, mut question: impl FnMut()) -> Duration {
    let time = |_| {
        let start = Instant::now();
        question();
        start.elapsed()
    };
    (0..tries).map(time).max().unwrap()
}

fn fill(place: &Place, tasks: usize, raters: &[AccountId], target: usize) -> usize {
    for start in (0..tasks).step_by(5_000) {
        let some = (start..(start + 5_000).min(tasks)).map(|i| pair(&format!("prompt {i}")));
        place.add(some.collect()).unwrap();
    }
    let (project, mut said) = (place.project, 0);
    while said < target {
        let before = said;
        for &rater in raters {
            said += place.store.write_now(move |w| answers(w, project, rater, 200)).unwrap();
        }
        if said == before {
            break;
        }
    }
    said
}

/// No question of a page or program takes longer than this many milliseconds.
fn questions_are_quick(place: &Place, raters: &[AccountId], limit: u64) {
    let (project, rater) = (place.project, raters[0]);
    let read = |question: fn(&Read<'_>, ProjectId, AccountId) -> pavlov_feedback::Result<()>| {
        longest(20, || place.store.read_now(move |r| question(r, project, rater)).unwrap())
    };
    let mut turn = raters.iter().cycle();
    let claim = longest(200, || {
        let rater = *turn.next().unwrap();
        place.store.write_now(move |w| answers(w, project, rater, 1)).unwrap();
    });
    let times = [
        ("claim and submit", claim),
        ("progress", read(|r, p, _| r.progress(p).map(drop))),
        ("session statistics", read(|r, p, a| r.session_stats(p, a).map(drop))),
        ("own answers", read(|r, p, a| r.my_answers(p, a, None, 50).map(drop))),
        ("members", read(|r, p, _| r.members(p).map(drop))),
        ("tasks", read(|r, p, _| r.tasks(p, pavlov_feedback::store::TaskState::Done, None, 50).map(drop))),
        ("sealed records", longest(20, || drop(place.store.sealed_now(project, 5, 100).unwrap()))),
    ];
    for (name, time) in times {
        println!("{name}: {:.1} ms at most", time.as_secs_f64() * 1e3);
        assert!(time < Duration::from_millis(limit), "{name} takes {time:?}");
    }
}

fn place(overlap: u32) -> (Place, Vec<AccountId>) {
    let settings = Settings { overlap, max_overlap: overlap, max_open_tasks: 1_000_000, ..plain() };
    let place = Place::new(settings);
    let raters = (0..50).map(|i| place.rater(&format!("rater {i}"))).collect();
    (place, raters)
}

#[test]
fn a_small_year() {
    let (place, raters) = place(10);
    let start = Instant::now();
    let said = fill(&place, 500, &raters, 4_000);
    println!("{:.0} answers a second, many in one change", said as f64 / start.elapsed().as_secs_f64());
    assert!(said >= 4_000, "{said}");
    questions_are_quick(&place, &raters, 1_000);
}

#[test]
#[ignore = "minutes: 100,000 tasks and 1,000,000 judgments"]
fn a_large_year() {
    let (place, raters) = place(10);
    let start = Instant::now();
    let said = fill(&place, 100_000, &raters, 999_000);
    println!(
        "{said} judgments, {:.0} a second, many in one change",
        said as f64 / start.elapsed().as_secs_f64()
    );
    println!("{:.0} MB", std::fs::metadata(place.store.path()).unwrap().len() as f64 / 1e6);
    assert!(said >= 999_000, "{said}");
    questions_are_quick(&place, &raters, 100);
}
