//! One round: a task is sent, claimed, answered, sealed and read.

use pavlov_feedback::reply::Pick;
use pavlov_feedback::store::{Idle, Served};
use pavlov_schema::comparison::Choice;
use pavlov_schema::feedback::{RecordKind, Said};

use crate::place::{Place, plain};

#[test]
fn an_answer_goes_from_the_rater_to_training() {
    let place = Place::new(plain());
    let ana = place.rater("ana");
    assert_eq!(place.claim(ana), Served::Nothing(Idle::NotNow));
    place.tasks(1);
    let lease = place.task(ana);
    assert_eq!(place.task(ana).code, lease.code, "coming again gives another task");
    assert_eq!(place.progress().latency_ms, None);
    place.pass(7);
    let left_is_first = lease.responses[0].text == "the first answer".into();
    let submitted = place.submit(ana, &lease, "k1", Pick::Left).unwrap();
    assert!(!submitted.logged.repeated);
    assert_eq!(place.progress().latency_ms, Some(7_000));
    let again = place.submit(ana, &lease, "k1", Pick::Left).unwrap();
    assert_eq!((again.logged.seq, again.logged.repeated), (submitted.logged.seq, true));
    assert_eq!(place.claim(ana), Served::Nothing(Idle::Done));

    assert_eq!(place.store.sealed_now(place.project, 0, 10).unwrap().records, []);
    place.pass(61);
    let sealed = place.store.sealed_now(place.project, 0, 10).unwrap();
    assert_eq!((sealed.records.len(), sealed.cursor), (1, submitted.logged.seq));
    let record = &sealed.records[0];
    assert_eq!((record.record, record.task.as_str()), (RecordKind::Judgment, lease.task.as_str()));
    let Said::Pairwise { choice, .. } = record.answer.as_ref().unwrap().said else { panic!() };
    assert_eq!(choice, if left_is_first { Choice::A } else { Choice::B });
    assert_eq!(record.responses[0].policy.as_deref(), Some("run/1"));
    record.judgment().unwrap().validate().unwrap();
    assert_eq!(place.store.sealed_now(place.project, sealed.cursor, 10).unwrap().records, []);
}

#[test]
fn a_judgment_names_the_guidelines_it_was_made_under() {
    let place = Place::new(plain());
    place.tasks(3);
    let (ana, project, owner) = (place.rater("ana"), place.project, place.owner);
    let new =
        |text: &'static str| place.store.write_now(move |w| w.set_guidelines(project, text, owner)).unwrap();
    place.answer(ana, Pick::Left);
    assert_eq!(new("Be strict."), 2);
    place.answer(ana, Pick::Left);
    assert_eq!(new("Be strict."), 2, "the same words are no new version");
    place.answer(ana, Pick::Left);
    place.pass(61);
    let versions: Vec<u32> = place.sealed().0.iter().map(|record| record.guideline_version).collect();
    assert_eq!(versions, [1, 2, 2]);
}
