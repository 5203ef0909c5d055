//! Who gets which task.

use std::collections::BTreeMap;
use std::thread;

use pavlov_feedback::Error;
use pavlov_feedback::reply::Pick;
use pavlov_feedback::settings::{Selection, Settings};
use pavlov_feedback::store::{Idle, Served, TaskState, Verdicts};
use pavlov_schema::comparison::Choice;
use pavlov_schema::feedback::{Answer, NewTask, RecordKind, Said};

use crate::place::{Place, pair, plain};

/// Answers what it is given until there is nothing; how much that was.
fn work(place: &Place, name: &str) -> usize {
    let rater = place.rater(name);
    let mut answered = 0;
    while let Served::Task(lease) = place.claim(rater) {
        place.submit(rater, &lease, &lease.code, Pick::Left).unwrap();
        answered += 1;
    }
    answered
}

fn verdicts(place: &Place) -> Verdicts {
    let project = place.project;
    place.store.read_now(move |r| r.verdicts(project)).unwrap()
}

#[test]
fn fifty_at_once_share_nothing_and_strand_nothing() {
    let place = Place::new(plain());
    place.tasks(200);
    let answered: usize = thread::scope(|scope| {
        let place = &place;
        // Ten of them take a task and are never seen again.
        let gone = |i| {
            let rater = place.rater(&format!("gone{i}"));
            place.task(rater);
            0
        };
        let one = |i| scope.spawn(move || if i < 10 { gone(i) } else { work(place, &format!("rater{i}")) });
        let all: Vec<_> = (0..50).map(one).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((answered, place.progress().open), (190, 10));
    let late = place.rater("late");
    assert_eq!(place.nothing(late), Idle::NotNow, "ten are still held");
    place.pass(301);
    for _ in 0..10 {
        place.answer(late, Pick::Left);
    }
    assert_eq!(place.nothing(late), Idle::Done);
    let mut per_task = BTreeMap::new();
    for answer in verdicts(&place).answers {
        *per_task.entry(answer.task).or_insert(0) += 1;
    }
    assert_eq!(per_task.len(), 200);
    assert!(per_task.values().all(|&n| n == 1), "{per_task:?}");
}

#[test]
fn places_are_leases_and_answers() {
    let place = Place::new(Settings { overlap: 2, ..plain() });
    place.tasks(1);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| place.rater(name));
    let lease = place.task(a);
    place.answer(b, Pick::Tie);
    assert_eq!(place.nothing(c), Idle::NotNow);
    place.store.write_now(move |w| w.release(a, &lease.code)).unwrap();
    let held = place.task(c);
    assert_eq!(place.nothing(d), Idle::NotNow);
    // A sign of life holds it; without one it goes to the next.
    place.pass(200);
    let code = held.code.clone();
    place.store.write_now(move |w| w.heartbeat(c, &code)).unwrap();
    place.pass(200);
    assert_eq!(place.nothing(d), Idle::NotNow);
    place.pass(101);
    let taken = place.task(d);
    let code = held.code.clone();
    let lost = place.store.write_now(move |w| w.heartbeat(c, &code)).unwrap_err();
    assert_eq!(lost, Error::LeaseLost);
    // What was said under the lost lease counts all the same.
    place.submit(d, &taken, "k", Pick::Tie).unwrap();
    place.submit(c, &held, "k", Pick::Tie).unwrap();
    assert_eq!((place.progress().answered, place.progress().done), (3, 1));
}

#[test]
fn a_lease_that_ran_out_is_taken_up_again_while_there_is_a_place() {
    let place = Place::new(plain());
    place.tasks(1);
    let [a, b] = ["a", "b"].map(|name| place.rater(name));
    let lease = place.task(a);
    place.pass(400);
    let code = lease.code.clone();
    place.store.write_now(move |w| w.heartbeat(a, &code)).unwrap();
    assert_eq!(place.nothing(b), Idle::NotNow);
    assert_eq!(place.task(a).code, lease.code);
}

#[test]
fn nobody_gets_a_task_twice() {
    let place = Place::new(Settings { overlap: 3, ..plain() });
    place.tasks(20);
    let [a, b] = ["a", "b"].map(|name| place.rater(name));
    for _ in 0..20 {
        place.answer(a, Pick::Left);
    }
    assert_eq!(place.nothing(a), Idle::NotNow);
    // A task passed on goes to others and does not come back, unless the skip is undone.
    let (project, lease) = (place.project, place.task(b));
    let code = lease.code.clone();
    place.store.write_now(move |w| w.skip(b, &code, "s", "not mine")).unwrap();
    for _ in 0..19 {
        let next = place.task(b);
        assert_ne!(next.task, lease.task);
        place.submit(b, &next, &next.code, Pick::Left).unwrap();
        place.pass(1);
    }
    assert_eq!(place.nothing(b), Idle::NotNow);
    let c = place.rater("c");
    let tasks: Vec<String> = (0..20).map(|_| place.answer(c, Pick::Left).logged.task).collect();
    assert!(tasks.contains(&lease.task));
    place.pass(100);
    let sealed = place.store.write_now(move |w| w.undo(project, b, "u")).unwrap_err();
    assert_eq!(sealed, Error::Sealed);
}

#[test]
fn a_skip_can_be_undone() {
    let place = Place::new(plain());
    place.tasks(1);
    let (project, a) = (place.project, place.rater("a"));
    let lease = place.task(a);
    let code = lease.code.clone();
    place.store.write_now(move |w| w.skip(a, &code, "s", "")).unwrap();
    assert_eq!(place.nothing(a), Idle::NotNow);
    let undone = place.store.write_now(move |w| w.undo(project, a, "u")).unwrap();
    assert_eq!(undone.lease.unwrap().task, lease.task);
    place.answer(a, Pick::Left);
    assert_eq!((place.progress().answered, place.progress().skipped), (1, 0));
}

#[test]
fn nobody_judges_their_own_words() {
    let place = Place::new(plain());
    let [a, b] = ["a", "b"].map(|name| place.rater(name));
    let project = place.project;
    let name = place.store.read_now(move |r| r.member(project, a)).unwrap().unwrap().pseudonym;
    place.add(vec![NewTask { author: Some(name), ..pair("p") }]).unwrap();
    assert_eq!(place.nothing(a), Idle::NotNow);
    place.answer(b, Pick::Left);
}

#[test]
fn nothing_has_its_reason() {
    let place = Place::new(plain());
    let (project, a) = (place.project, place.rater("a"));
    assert_eq!(place.nothing(a), Idle::NotNow);
    place.tasks(1);
    place.store.write_now(move |w| w.set_paused(project, a, Some("left rate"))).unwrap();
    assert_eq!(place.nothing(a), Idle::Paused("left rate".into()));
    place.store.write_now(move |w| w.set_paused(project, a, None)).unwrap();
    place.store.write_now(move |w| w.set_closed(project, true)).unwrap();
    assert_eq!(place.nothing(a), Idle::Closed);
    place.store.write_now(move |w| w.set_closed(project, false)).unwrap();
    place.answer(a, Pick::Left);
    assert_eq!(place.nothing(a), Idle::Done);
}

#[test]
fn who_disagrees_brings_more_people_and_then_a_reviewer() {
    let place = Place::new(Settings { overlap: 2, max_overlap: 4, ..plain() });
    place.tasks(1);
    let raters = ["a", "b", "c", "d"].map(|name| place.rater(name));
    let (project, owner) = (place.project, place.owner);
    let first = place.prefer(raters[0], true);
    place.prefer(raters[1], false);
    assert_eq!(place.progress().open, 1, "one against one asks more");
    place.prefer(raters[2], true);
    place.prefer(raters[3], false);
    assert_eq!((place.progress().open, place.progress().adjudicate), (0, 1));
    let task = first.logged.task.clone();
    let decide = |key: &'static str| {
        let task = task.clone();
        let reply = crate::place::picks(Pick::Right);
        place.store.write_now(move |w| w.adjudicate(project, owner, &task, reply, key, 9))
    };
    let decided = decide("k").unwrap();
    assert_eq!(decide("k").unwrap().seq, decided.seq);
    assert!(matches!(decide("other"), Err(Error::Conflict(_))));
    assert_eq!((place.progress().adjudicate, place.progress().done), (0, 1));
    place.pass(61);
    let (records, _) = place.sealed();
    let last = records.last().unwrap();
    assert_eq!(last.record, RecordKind::Adjudication);
    let Said::Pairwise { choice, .. } = last.answer.as_ref().unwrap().said else { panic!() };
    assert_eq!(choice, Choice::B, "the right one is the task's second");
}

fn gold(prompt: &str, calibration: bool) -> NewTask {
    let said = Said::Pairwise { choice: Choice::A, strength: None, edit: None };
    let gold = Answer { said, rationale: None, flags: Vec::new(), marks: Vec::new() };
    NewTask { gold: Some(gold), calibration, explanation: Some("since".into()), ..pair(prompt) }
}

#[test]
fn gold_is_served_like_any_other_and_teaches_nothing() {
    let place = Place::new(Settings { gold_share: 0.5, ..plain() });
    place.tasks(40);
    place.add((0..40).map(|i| gold(&format!("gold {i}"), false)).collect()).unwrap();
    let a = place.rater("a");
    for _ in 0..40 {
        let lease = place.task(a);
        assert!(!lease.calibration);
        let submitted = place.submit(a, &lease, &lease.code, Pick::Tie).unwrap();
        assert_eq!(submitted.lesson, None, "the page would tell that it was gold");
    }
    place.pass(61);
    let served = place.sealed().0.iter().filter(|record| record.gold).count();
    assert!((8..=32).contains(&served), "{served} of 40 at a share of a half");
    assert_eq!((place.progress().gold, place.progress().done), (40, 40 - served as u64));
    let Verdicts { tasks, said, answers, .. } = verdicts(&place);
    let known = answers.iter().filter_map(|one| Some((tasks[one.task as usize].gold.as_ref()?, one)));
    let known: Vec<bool> = known.map(|(gold, one)| said[one.said as usize].short == *gold).collect();
    assert_eq!((known.len(), known.contains(&true)), (served, false), "a tie is not the right answer");
}

#[test]
fn calibration_comes_first_and_a_failed_one_waits_for_a_person() {
    let place = Place::new(Settings { calibration: 2, calibration_pass: 0.75, ..plain() });
    place.tasks(3);
    place.add((0..2).map(|i| gold(&format!("gold {i}"), true)).collect()).unwrap();
    let [good, bad] = ["good", "bad"].map(|name| place.rater(name));
    for rater in [good, bad] {
        for _ in 0..2 {
            let lesson = place.prefer(rater, rater == good).lesson.unwrap();
            assert_eq!((lesson.right, lesson.explanation.as_deref()), (rater == good, Some("since")));
        }
    }
    assert!(!place.task(good).calibration);
    let Idle::Paused(reason) = place.nothing(bad) else { panic!() };
    assert!(reason.contains("0 of 2"), "{reason}");
    let project = place.project;
    let undo = place.store.write_now(move |w| w.undo(project, good, "u")).unwrap_err();
    assert!(matches!(undo, Error::Conflict(_)), "the solution was told: {undo}");
    place.store.write_now(move |w| w.set_paused(project, bad, None)).unwrap();
    assert!(!place.task(bad).calibration);
}

#[test]
fn repeats_come_later_and_swapped() {
    let place = Place::new(Settings { repeat_share: 0.5, repeat_after: 5, ..plain() });
    place.tasks(60);
    let a = place.rater("a");
    let mut seen: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut repeats = 0;
    for turn in 0..60 {
        let lease = place.task(a);
        let left = lease.responses[0].id.clone();
        if let Some((first, before)) = seen.insert(lease.task.clone(), (turn, left.clone())) {
            assert!(turn > first + 5 && left != before, "turn {turn} repeats {first}");
            repeats += 1;
        }
        place.submit(a, &lease, &lease.code, Pick::Left).unwrap();
    }
    assert!((10..=45).contains(&repeats), "{repeats} of 60 at a share of a half");
    place.pass(61);
    let marked = place.sealed().0.iter().filter(|record| record.repeat).count();
    assert_eq!(marked, repeats);
    assert_eq!(place.progress().done, 60 - repeats as u64);
}

#[test]
fn the_newest_policy_first_and_no_more_than_the_cap() {
    let place = Place::new(Settings { max_open_tasks: 4, max_staleness: Some(2), ..plain() });
    let of = |version: u64, key: &str| NewTask {
        policy_version: version,
        key: Some(key.into()),
        ..pair(&format!("of {version}, {key}"))
    };
    place.add(vec![of(1, "a"), of(1, "b"), of(2, "c")]).unwrap();
    let refused = place.add(vec![of(3, "d"), of(3, "e")]).unwrap_err();
    assert_eq!(refused, Error::Full { open: 3, cap: 4 });
    assert_eq!(place.progress().open, 3, "all or none");
    place.add(vec![of(3, "d")]).unwrap();
    // What was sent before is no new task, also when the queue is full.
    let again = place.add(vec![of(3, "d"), of(1, "a")]).unwrap();
    assert!(again.iter().all(|added| added.existed));
    let rater = place.rater("r");
    let project = place.project;
    let version =
        |code: String| place.store.read_now(move |r| Ok(r.task(project, &code)?.policy_version)).unwrap();
    assert_eq!(version(place.answer(rater, Pick::Left).logged.task), 3);
    assert_eq!(version(place.answer(rater, Pick::Left).logged.task), 2);
    // Version 4 leaves those of version 1 behind.
    place.add(vec![of(4, "f")]).unwrap();
    assert_eq!((place.progress().withdrawn, place.progress().open), (2, 1));
}

#[test]
fn informative_pairs_come_more_often_with_their_chances_on_record() {
    let settings = Settings { selection: Selection::Information, uniform_share: 0.2, ..plain() };
    let place = Place::new(settings);
    // Half of the outcomes are open, half all but certain.
    let predicted = |i: usize| if i.is_multiple_of(2) { 0.5 } else { 0.999 };
    let tasks = (0..400).map(|i| NewTask { predicted: Some(predicted(i)), ..pair(&format!("p{i}")) });
    place.add(tasks.collect()).unwrap();
    let a = place.rater("a");
    let n = 150;
    for _ in 0..n {
        place.answer(a, Pick::Left);
    }
    place.pass(61);
    let propensity: BTreeMap<u64, f64> =
        place.sealed().0.iter().map(|record| (record.seq, record.propensity.unwrap())).collect();
    let answers = verdicts(&place).answers;
    let uniform = answers.iter().filter(|answer| !answer.informed).count();
    // Four deviations of a binomial around a fifth.
    assert!((10..=50).contains(&uniform), "{uniform} of {n} uniform at a share of 0.2");
    let informed: Vec<f64> =
        answers.iter().filter(|answer| answer.informed).map(|answer| propensity[&answer.seq]).collect();
    assert_eq!((answers.len(), informed.len() + uniform), (n, n));
    // An open outcome weighs 88 times a certain one; few of these are left for the informed part to draw.
    let open = informed.iter().filter(|&&p| p > 0.03).count();
    assert!(open * 10 > informed.len() * 9, "{open} of {}", informed.len());
    assert!(informed.iter().all(|p| (0.2 / 32.0..=1.0).contains(p)), "{informed:?}");
}

#[test]
fn left_and_right_are_even() {
    let place = Place::new(Settings { max_open_tasks: 1000, ..plain() });
    place.tasks(400);
    let a = place.rater("a");
    let mut first_left = 0;
    for _ in 0..400 {
        let lease = place.task(a);
        first_left += usize::from(lease.responses[0].text == "the first answer".into());
        place.submit(a, &lease, &lease.code, Pick::Left).unwrap();
    }
    // Four deviations of a fair coin.
    assert!((160..=240).contains(&first_left), "{first_left} of 400");
}

#[test]
fn pairs_that_are_not_worth_asking_or_tell_too_much() {
    let place = Place::new(plain());
    let mut same = pair("same");
    same.responses[1].text = " The FIRST answer ".into();
    let mut leak = pair("leak");
    leak.responses[1].text = "I am Claude, made by Anthropic.".into();
    let added = place.add(vec![same, leak]).unwrap();
    assert_eq!(added[0].state, TaskState::Collapsed);
    assert_eq!(added[1].state, TaskState::Held);
    let (project, a) = (place.project, place.rater("a"));
    assert_eq!(place.nothing(a), Idle::NotNow);
    let code = added[1].task.clone();
    place.store.write_now(move |w| w.release_held(project, &code)).unwrap();
    assert_eq!(place.answer(a, Pick::Left).logged.task, added[1].task);
}

#[test]
fn unanimous_tasks_become_gold_and_the_audit_log_says_so() {
    let place = Place::new(Settings { overlap: 3, promote_unanimous: 3, ..plain() });
    place.tasks(2);
    for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
        let rater = place.rater(name);
        // One task on which they agree, one on which they do not.
        for _ in 0..2 {
            let lease = place.task(rater);
            let agreed = lease.prompt == "prompt 0".into();
            let pick = if agreed || i == 0 { Pick::Tie } else { Pick::BothBad };
            place.submit(rater, &lease, &lease.code, pick).unwrap();
        }
    }
    assert_eq!((place.progress().done, place.progress().gold), (2, 1));
    let project = place.project;
    let audit = place.store.read_now(move |r| r.audit_entries(Some(project), u64::MAX, 10)).unwrap();
    assert_eq!((audit.len(), audit[0].action.as_str()), (1, "task.promote"));
}
