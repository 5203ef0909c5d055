//! Nothing that was said is lost, said twice, or changed afterwards.

use std::sync::atomic::Ordering;
use std::thread;

use pavlov_feedback::Error;
use pavlov_feedback::reply::Pick;
use pavlov_feedback::roles::Role;
use pavlov_feedback::settings::Settings;
use pavlov_feedback::store::{LogKind, NewProject, Served, Submission};
use pavlov_schema::feedback::RecordKind;
use pavlov_schema::rng::{Rng, Stream};

use crate::place::{Place, pair, picks, plain};

#[test]
fn one_key_is_one_judgment_however_often_it_is_sent() {
    let place = Place::new(Settings { overlap: 2, ..plain() });
    place.tasks(2);
    let a = place.rater("a");
    let lease = place.task(a);
    let seqs: Vec<u64> = thread::scope(|scope| {
        let send = || place.submit(a, &lease, "k", Pick::Left).unwrap().logged.seq;
        let all: Vec<_> = (0..16).map(|_| scope.spawn(send)).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(seqs.iter().all(|&seq| seq == seqs[0]), "{seqs:?}");
    let other = place.submit(a, &lease, "other", Pick::Right).unwrap_err();
    assert_eq!(other, Error::Answered, "another tab's answer");
    let next = place.task(a);
    let code = next.code.clone();
    let reused = place.store.write_now(move |w| w.skip(a, &code, "k", "")).unwrap_err();
    assert!(matches!(reused, Error::Conflict(_)));
    let place = place.reopened();
    let again = place.submit(a, &lease, "k", Pick::Left).unwrap().logged;
    assert_eq!((again.seq, again.repeated, place.progress().answered), (seqs[0], true, 1));
}

#[test]
fn a_stale_draft_changes_nothing() {
    let place = Place::new(plain());
    place.tasks(1);
    let a = place.rater("a");
    let lease = place.task(a);
    let code = lease.code.clone();
    let draft = |revision, body: &'static str| {
        let code = code.clone();
        place.store.write_now(move |w| w.save_draft(a, &code, revision, body))
    };
    draft(2, "newer").unwrap();
    draft(1, "older").unwrap();
    assert_eq!(place.task(a).draft.unwrap().body, "newer");
    // The tab was closed, the lease ran out: the draft is still there.
    place.pass(1000);
    let lease = place.task(a);
    assert_eq!(lease.draft.as_ref().unwrap().body, "newer");
    place.submit(a, &lease, "k", Pick::Left).unwrap();
    assert_eq!(draft(9, "from the other tab").unwrap_err(), Error::Answered);
    place.pass(61);
    assert_eq!(place.sealed().0.len(), 1);
}

#[test]
fn training_never_sees_what_was_undone_and_always_what_was_retracted() {
    let place = Place::new(plain());
    place.tasks(3);
    let (project, a) = (place.project, place.rater("a"));
    let undo = |key: &'static str| place.store.write_now(move |w| w.undo(project, a, key));
    // Said, undone, said anew.
    let lease = place.task(a);
    place.submit(a, &lease, "k1", Pick::Left).unwrap();
    let undone = undo("u1").unwrap();
    assert_eq!(undone.logged.kind, LogKind::Undo);
    let again = undone.lease.unwrap();
    assert_eq!((again.task.clone(), undone.answer.is_some()), (lease.task.clone(), true));
    assert_eq!(again.responses, lease.responses, "the order on the screen stays");
    assert!(undo("u1").unwrap().logged.repeated);
    place.submit(a, &again, "k2", Pick::BothBad).unwrap();
    place.pass(61);
    assert_eq!(undo("u2").unwrap_err(), Error::Sealed);
    let (records, cursor) = place.sealed();
    assert_eq!((records.len(), records[0].record), (1, RecordKind::Judgment));
    // Sealed, then retracted: a record of its own that names the answer.
    let task = lease.task.clone();
    place.store.write_now(move |w| w.retract(project, a, &task, "misread", "r")).unwrap();
    place.pass(61);
    let later = place.store.sealed_now(project, cursor, 10).unwrap();
    assert_eq!((later.records.len(), later.records[0].record), (1, RecordKind::Retraction));
    assert_eq!(later.records[0].answer_id, records[0].answer_id);
    // Undone and not said anew: never seen.
    place.answer(a, Pick::Left);
    undo("u3").unwrap();
    place.pass(61);
    assert_eq!(place.store.sealed_now(project, later.cursor, 10).unwrap().records, []);
}

#[test]
fn corrections_supersede_and_undo_steps_back_through_them() {
    let place = Place::new(plain());
    place.tasks(1);
    let (project, a) = (place.project, place.rater("a"));
    let task = place.answer(a, Pick::Tie).logged.task;
    let correct = |pick, key: &'static str| {
        let task = task.clone();
        place.store.write_now(move |w| w.correct(project, a, &task, picks(pick), key, 0))
    };
    let said = || {
        let answers = place.store.read_now(move |r| r.my_answers(project, a, None, 9)).unwrap();
        answers.into_iter().map(|answer| format!("{:?}", answer.answer.unwrap().said)).collect::<Vec<_>>()
    };
    let undo = |key: &'static str| place.store.write_now(move |w| w.undo(project, a, key));
    let tie = said();
    correct(Pick::BothBad, "c1").unwrap();
    let both_bad = said();
    assert_ne!(tie, both_bad);
    correct(Pick::Left, "c2").unwrap();
    assert_eq!(undo("u1").unwrap().lease, None);
    assert_eq!(said(), both_bad);
    undo("u2").unwrap();
    assert_eq!(said(), tie);
    let figures = || place.store.read_now(move |r| r.session_stats(project, a)).unwrap();
    assert_eq!((figures().today, figures().tally.answered), (1, 1));
    let taken = undo("u3").unwrap();
    assert!(taken.lease.is_some() && said().is_empty());
    assert_eq!((figures().today, figures().tally.answered), (0, 0));
    // Said again, and corrected only after training has seen it: both versions are records, of one answer.
    place.answer(a, Pick::Tie);
    place.pass(61);
    let (first, _) = place.sealed();
    assert_eq!(first.len(), 1);
    correct(Pick::BothBad, "c3").unwrap();
    place.pass(61);
    let (both, _) = place.sealed();
    assert_eq!((both.len(), both[1].record), (2, RecordKind::Correction));
    assert_eq!(both[0].answer_id, both[1].answer_id);
}

#[test]
fn the_cursor_never_misses_and_never_goes_back() {
    // Answers, undos, corrections, other windows, restarts and a clock that jumps both ways; a trainer that reads now and
    // then and keeps what it saw. At the end it knows what one who reads from the start knows.
    let mut place = Place::new(Settings { undo_window_s: 30, ..plain() });
    place.tasks(120);
    let raters = ["a", "b", "c"].map(|name| place.rater(name));
    let mut rng = Rng::new(5, Stream::Feedback, 0, 0);
    let (mut cursor, mut seen) = (0, Vec::new());
    for step in 0..400 {
        let rater = raters[rng.below(3)];
        let (project, key) = (place.project, format!("key {step}"));
        match rng.below(10) {
            0..4 => {
                if let Served::Task(lease) = place.claim(rater) {
                    place.submit(rater, &lease, &key, Pick::Left).unwrap();
                }
            }
            4 => drop(place.store.write_now(move |w| w.undo(project, rater, &key))),
            5 => {
                let mine = place.store.read_now(move |r| r.my_answers(project, rater, None, 3)).unwrap();
                if let Some(answer) = mine.get(rng.below(3)) {
                    let task = answer.task.clone();
                    let correct = move |w: &mut pavlov_feedback::store::Write<'_>| {
                        w.correct(project, rater, &task, picks(Pick::Tie), &key, 0)
                    };
                    place.store.write_now(correct).unwrap();
                }
            }
            6 => {
                let window = [0, 5, 30, 90][rng.below(4)];
                let settings = Settings { undo_window_s: window, ..plain() };
                place.store.write_now(move |w| w.set_settings(project, &settings)).unwrap();
            }
            7 => place.pass(rng.below(120) as i64 - 60),
            8 => {
                let page = place.store.sealed_now(project, cursor, 1 + rng.below(5) as u32).unwrap();
                assert!(page.cursor >= cursor, "the cursor went back");
                assert!(page.records.iter().all(|record| record.seq > cursor));
                cursor = page.cursor;
                seen.extend(page.records);
            }
            _ if rng.below(8) == 0 => place = place.reopened(),
            _ => place.pass(7),
        }
    }
    place.time.fetch_add(100_000_000, Ordering::SeqCst);
    let rest = place.store.sealed_now(place.project, cursor, 10_000).unwrap();
    seen.extend(rest.records);
    let (all, _) = place.sealed();
    assert!(all.len() > 60, "{} records", all.len());
    assert_eq!(seen, all);
}

#[test]
fn what_is_sealed_is_what_a_walk_over_the_log_finds() {
    // Two projects share the log; windows change, and the clock goes on by steps that leave some open.
    let place = Place::new(plain());
    let a = place.rater("a");
    let owner = place.owner;
    let new = NewProject { name: "other".into(), settings: plain(), guidelines: String::new() };
    let other = place.store.write_now(move |w| w.create_project(&new, owner)).unwrap().id;
    place.store.write_now(move |w| w.set_member(other, a, Role::Rater)).unwrap();
    let projects = [place.project, other];
    for project in projects {
        let tasks: Vec<_> = (0..60).map(|i| pair(&format!("prompt {i}"))).collect();
        place.store.write_now(move |w| w.add_tasks(project, &tasks)).unwrap();
    }
    let mut rng = Rng::new(6, Stream::Feedback, 0, 0);
    let (mut log, mut sealed) = ([Vec::new(), Vec::new()], [0, 0]);
    for step in 0..200 {
        let which = rng.below(2);
        let project = projects[which];
        match rng.below(4) {
            0 | 1 => {
                let served = place.store.write_now(move |w| w.claim(project, a)).unwrap();
                if let Served::Task(lease) = served {
                    let said = place.submit(a, &lease, &format!("key {step}"), Pick::Left).unwrap();
                    log[which].push((said.logged.seq, said.logged.seals_at));
                }
            }
            2 => {
                let settings = Settings { undo_window_s: [0, 5, 30, 90][rng.below(4)], ..plain() };
                place.store.write_now(move |w| w.set_settings(project, &settings)).unwrap();
            }
            _ => place.pass(rng.below(20) as i64),
        }
        let (now, found) = place.store.write_now(move |w| Ok((w.now(), w.seal(project)?))).unwrap();
        let over = log[which].iter().take_while(|(_, seals_at)| *seals_at <= now);
        sealed[which] = over.last().map_or(0, |(seq, _)| *seq);
        assert_eq!(found, sealed[which], "step {step}");
    }
    assert!(log.iter().all(|log| log.len() > 30) && sealed.iter().all(|seq| *seq > 30), "{sealed:?}");
}

#[test]
fn what_training_saw_stays_sealed_whatever_the_clock_does() {
    let place = Place::new(plain());
    place.tasks(1);
    let (project, a) = (place.project, place.rater("a"));
    place.answer(a, Pick::Left);
    place.pass(61);
    assert_eq!(place.sealed().0.len(), 1);
    // The machine comes up with a clock that is a day behind.
    place.pass(-86_400);
    let place = place.reopened();
    let undo = place.store.write_now(move |w| w.undo(project, a, "u")).unwrap_err();
    assert_eq!(undo, Error::Sealed);
    assert_eq!(place.sealed().0.len(), 1);
}

#[test]
fn the_database_itself_refuses_to_rewrite_the_log() {
    let place = Place::new(plain());
    place.tasks(1);
    let a = place.rater("a");
    place.answer(a, Pick::Left);
    let project = place.project;
    let audit = serde_json::json!({});
    place.store.write_now(move |w| w.audit(Some(project), "x", "y.z", "o", &audit)).unwrap();
    let db = rusqlite::Connection::open(place.store.path()).unwrap();
    for (sql, wanted) in [
        ("UPDATE judgments SET payload = '{}'", "append-only"),
        ("DELETE FROM judgments", "append-only"),
        ("UPDATE audit SET actor = 'z'", "append-only"),
        ("DELETE FROM audit", "append-only"),
        ("UPDATE words SET prompt = '\"\"'", "never change"),
        ("DELETE FROM tasks", "never deleted"),
    ] {
        let error = db.execute(sql, []).unwrap_err().to_string();
        assert!(error.contains(wanted), "{sql}: {error}");
    }
}

#[test]
fn one_change_that_fails_or_panics_takes_no_other_along() {
    let place = Place::new(plain());
    place.tasks(50);
    let a = place.rater("a");
    let panics = place.store.write_now(|_| -> pavlov_feedback::Result<()> { panic!("on purpose") });
    assert!(matches!(panics, Err(Error::Bug(what)) if what.contains("on purpose")));
    let project = place.project;
    thread::scope(|scope| {
        for i in 0..8 {
            let store = &place.store;
            scope.spawn(move || {
                for j in 0..25 {
                    let half_done = store.write_now(move |w| {
                        w.create_account(&format!("half {i} {j}"), None, false)?;
                        Err::<(), _>(Error::invalid("no"))
                    });
                    assert!(half_done.is_err());
                }
            });
        }
        for _ in 0..50 {
            place.answer(a, Pick::Left);
        }
    });
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method is not general in its lifetime"
    )]
    let names = place.store.read_now(|r| r.accounts()).unwrap();
    assert!(names.iter().all(|account| !account.name.starts_with("half")));
    let unknown = Submission { lease: "none".into(), key: "k".into(), reply: picks(Pick::Tie), active_ms: 0 };
    assert_eq!(place.store.write_now(move |w| w.submit(a, unknown)).unwrap_err(), Error::LeaseLost);
    assert_eq!(place.store.read_now(move |r| r.progress(project)).unwrap().done, 50);
}

#[test]
fn a_backup_is_a_database() {
    let place = Place::new(plain());
    place.tasks(1);
    let a = place.rater("a");
    place.answer(a, Pick::Left);
    let copy = place.folder().join("copy.db");
    place.store.backup(&copy).unwrap();
    assert!(place.store.backup(&copy).unwrap_err().to_string().contains("copy.db: exists"));
    let nowhere = place.folder().join("nowhere/copy.db");
    assert!(place.store.backup(&nowhere).unwrap_err().to_string().contains("nowhere/copy.db: "));
    // What a killed one left is in nobody's way, and nothing is left beside the copy.
    std::fs::write(place.folder().join(".tmp-second.db"), "half a copy").unwrap();
    place.store.backup(&place.folder().join("second.db")).unwrap();
    let names = std::fs::read_dir(place.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(".tmp-")));
    let store = pavlov_feedback::Store::open(&copy, pavlov_feedback::Clock::system()).unwrap();
    let project = store.read_now(|r| r.project_called("worlds")).unwrap();
    assert_eq!(store.read_now(move |r| r.progress(project.id)).unwrap().answered, 1);
}

/// Whose disk is full must be able to make a backup all the same; and nobody waits for whoever writes just then.
#[test]
fn a_database_that_is_up_to_date_is_opened_without_a_write() {
    let place = Place::new(plain());
    place.tasks(1);
    let other = rusqlite::Connection::open(place.store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = std::time::Instant::now();
    let store = pavlov_feedback::Store::open(place.store.path(), pavlov_feedback::Clock::system()).unwrap();
    store.backup(&place.folder().join("copy.db")).unwrap();
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "it waited for the lock");
    other.execute_batch("ROLLBACK").unwrap();
}
