//! Tasks that put several answers in order.

use std::collections::BTreeSet;

use pavlov_feedback::reply::{Reply, ScreenSaid};
use pavlov_feedback::settings::Settings;
use pavlov_feedback::store::{AccountId, Idle, Lease, Logged, Submission, Submitted, TaskState};
use pavlov_feedback::{Error, Result};
use pavlov_schema::feedback::{Answer, NewResponse, NewTask, RecordKind, Said, TaskKind};
use pavlov_schema::ranking::Order;
use pavlov_schema::text::Text;

use crate::place::{Place, plain};

fn ranked() -> Settings {
    Settings { kind: TaskKind::Ranking, ..plain() }
}

/// A task of answers that are called by their place: `0`, `1`, …
fn group(prompt: &str, answers: usize) -> NewTask {
    let answer = |i: usize| NewResponse {
        policy: Some(format!("run/{i}")),
        ..NewResponse::new(i.to_string().as_str())
    };
    NewTask::new(prompt.into(), (0..answers).map(answer).collect())
}

fn gold(prompt: &str, ranks: &[u8], calibration: bool) -> NewTask {
    let said = Said::Ranking { ranks: ranks.to_vec(), all_bad: false };
    let gold = Answer { said, rationale: None, flags: Vec::new(), marks: Vec::new() };
    NewTask { gold: Some(gold), calibration, ..group(prompt, ranks.len()) }
}

/// The reply that puts answers in this order, the best first.
fn reply(ids: &[(Text, String)], order: &[&[usize]]) -> Reply {
    let id = |answer: &usize| {
        let text = Text::from(answer.to_string().as_str());
        ids.iter().find(|(known, _)| *known == text).unwrap().1.clone()
    };
    let order = order.iter().map(|equals| equals.iter().map(id).collect()).collect();
    let said = ScreenSaid::Ranking { order, all_bad: false };
    Reply { said, rationale: None, flags: Vec::new(), marks: Vec::new() }
}

fn ids(lease: &Lease) -> Vec<(Text, String)> {
    lease.responses.iter().map(|shown| (shown.text.clone(), shown.id.clone())).collect()
}

fn submit(place: &Place, rater: AccountId, lease: &Lease, order: &[&[usize]]) -> Result<Submitted> {
    let (lease, reply) = (lease.code.clone(), reply(&ids(lease), order));
    let submission = Submission { key: lease.clone(), lease, reply, active_ms: 4_000 };
    place.store.write_now(move |w| w.submit(rater, submission))
}

/// Claims and answers; the name of the task.
fn say(place: &Place, rater: AccountId, order: &[&[usize]]) -> Submitted {
    let lease = place.task(rater);
    submit(place, rater, &lease, order).unwrap()
}

fn state(place: &Place, logged: &Logged) -> TaskState {
    let (project, task) = (place.project, logged.task.clone());
    place.store.read_now(move |r| Ok(r.task(project, &task)?.state)).unwrap()
}

#[test]
fn every_order_is_drawn_and_the_drawn_one_is_kept() {
    let place = Place::new(Settings { repeat_share: 0.2, repeat_after: 3, ..ranked() });
    place.add((0..120).map(|i| group(&format!("prompt {i}"), 3)).collect()).unwrap();
    let ana = place.rater("ana");
    let (mut shown, mut drawn) = (Vec::new(), BTreeSet::new());
    for _ in 0..120 {
        let lease = place.task(ana);
        let texts: Vec<Text> = lease.responses.iter().map(|one| one.text.clone()).collect();
        drawn.insert(format!("{texts:?}"));
        shown.push(texts);
        submit(&place, ana, &lease, &[&[2], &[0, 1]]).unwrap();
    }
    // One of the six is missing once in a thousand million times.
    assert_eq!(drawn.len(), 6);
    place.pass(61);
    let (records, _) = place.sealed();
    assert_eq!(records.len(), 120);
    for (record, shown) in records.iter().zip(&shown) {
        let kept = record.shown.unwrap();
        let texts: Vec<&Text> = kept.answers().map(|answer| &record.responses[answer].text).collect();
        assert_eq!(texts, shown.iter().collect::<Vec<_>>());
        let said = Said::Ranking { ranks: vec![2, 2, 1], all_bad: false };
        assert_eq!(record.answer.as_ref().unwrap().said, said, "whatever the order on the screen");
        // A repeat comes from the other end.
        if record.repeat {
            let first = records.iter().find(|one| one.task == record.task && !one.repeat).unwrap();
            assert_eq!(kept, first.shown.map(Order::reversed).unwrap());
        }
    }
    assert!(records.iter().any(|record| record.repeat));
}

#[test]
fn people_agree_on_pairs_and_a_reviewer_decides() {
    let place = Place::new(Settings { overlap: 2, max_overlap: 2, ..ranked() });
    place.add(vec![group("alike", 3)]).unwrap();
    let [ana, ben] = ["ana", "ben"].map(|name| place.rater(name));
    say(&place, ana, &[&[0], &[1], &[2]]);
    let said = say(&place, ben, &[&[1], &[0], &[2]]);
    assert_eq!(state(&place, &said.logged), TaskState::Done, "two of three pairs are alike");
    place.add(vec![group("turned", 3)]).unwrap();
    say(&place, ana, &[&[0], &[1], &[2]]);
    let said = say(&place, ben, &[&[2], &[1], &[0]]);
    assert_eq!(state(&place, &said.logged), TaskState::Adjudicate);
    let (project, owner, task) = (place.project, place.owner, said.logged.task.clone());
    let decided = place.store.write_now(move |w| {
        let words = w.words(w.task(project, &task)?.id)?;
        let ids: Vec<_> = words.responses.into_iter().map(|one| (one.response.text, one.id)).collect();
        w.adjudicate(project, owner, &task, reply(&ids, &[&[1], &[0, 2]]), "k", 9)
    });
    assert_eq!(state(&place, &decided.unwrap()), TaskState::Done);
    place.pass(61);
    let (records, _) = place.sealed();
    let last = records.last().unwrap();
    assert_eq!((last.record, last.shown), (RecordKind::Adjudication, None));
    assert_eq!(last.judgment().unwrap().ranked().unwrap().ranks, [2, 1, 2]);
}

#[test]
fn gold_asks_for_what_it_tells_apart() {
    let place = Place::new(Settings { calibration: 2, calibration_pass: 0.75, ..ranked() });
    let known = [gold("best", &[1, 2, 2], true), gold("all", &[3, 2, 1], true)];
    place.add(known.into_iter().chain([group("live", 2)]).collect()).unwrap();
    let [good, bad] = ["good", "bad"].map(|name| place.rater(name));
    for (rater, right) in [(good, true), (bad, false)] {
        for _ in 0..2 {
            let lease = place.task(rater);
            // Of the one task it is asked which is the best, of the other for the whole order.
            let order: &[&[usize]] = match (lease.prompt == "best".into(), right) {
                (true, true) => &[&[0], &[2], &[1]],
                (true, false) => &[&[0, 1], &[2]],
                (false, true) => &[&[2], &[1], &[0]],
                (false, false) => &[&[2], &[0], &[1]],
            };
            let lesson = submit(&place, rater, &lease, order).unwrap().lesson.unwrap();
            assert_eq!(lesson.right, right, "{:?}", lease.prompt);
        }
    }
    assert_eq!(place.task(good).prompt, "live".into());
    assert!(matches!(place.nothing(bad), Idle::Paused(_)));
    let what = place.add(vec![gold("equal", &[1, 1], false)]).unwrap_err().to_string();
    assert!(what.contains("asks for nothing"), "{what}");
}

#[test]
fn an_order_is_undone_corrected_and_promoted() {
    let place = Place::new(Settings { promote_unanimous: 2, overlap: 2, ..ranked() });
    let added = place.add(vec![group("q", 4), {
        let mut same = group("same", 3);
        same.responses.fill(NewResponse::new("Yes."));
        same
    }]);
    let states: Vec<TaskState> = added.unwrap().iter().map(|one| one.state).collect();
    assert_eq!(states, [TaskState::Open, TaskState::Collapsed]);
    let [ana, ben] = ["ana", "ben"].map(|name| place.rater(name));
    let lease = place.task(ana);
    submit(&place, ana, &lease, &[&[0], &[1], &[2], &[3]]).unwrap();
    let project = place.project;
    let undone = place.store.write_now(move |w| w.undo(project, ana, "u")).unwrap();
    let again = undone.lease.unwrap();
    assert_eq!(ids(&again), ids(&lease), "the same order on the screen");
    assert_eq!(undone.answer.unwrap().said, Said::Ranking { ranks: vec![1, 2, 3, 4], all_bad: false });
    let left = ids(&again)[0].1.clone();
    let said = ScreenSaid::Ranking { order: vec![vec![left]], all_bad: false };
    let half = Submission {
        lease: again.code.clone(),
        key: "half".into(),
        reply: Reply { said, rationale: None, flags: Vec::new(), marks: Vec::new() },
        active_ms: 1,
    };
    let refused = place.store.write_now(move |w| w.submit(ana, half)).unwrap_err();
    assert!(matches!(&refused, Error::Invalid(what) if what.contains("leaves out")), "{refused:?}");
    let said = submit(&place, ana, &again, &[&[3], &[0, 1, 2]]).unwrap();
    place.pass(61);
    assert_eq!(place.sealed().0.len(), 1);
    let (task, better) = (said.logged.task.clone(), reply(&ids(&again), &[&[0], &[1, 2], &[3]]));
    place.store.write_now(move |w| w.correct(project, ana, &task, better, "c", 9)).unwrap();
    let said = say(&place, ben, &[&[0], &[2, 1], &[3]]);
    assert_eq!(state(&place, &said.logged), TaskState::Done);
    let gold = place.store.read_now(move |r| r.task_of_key(project, &format!("gold/{}", said.logged.task)));
    let gold = gold.unwrap().expect("two people said the same: it measures others from now on");
    let known = place.store.read_now(move |r| r.words(gold.id)).unwrap().gold.unwrap();
    assert_eq!(known.said, Said::Ranking { ranks: vec![1, 2, 2, 4], all_bad: false });
    place.pass(61);
    let last: Vec<RecordKind> = place.sealed().0.iter().map(|record| record.record).collect();
    assert_eq!(last, [RecordKind::Judgment, RecordKind::Correction, RecordKind::Judgment]);
}
