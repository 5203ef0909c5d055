//! What reward models learned, and databases that were made before it could be told.

use pavlov_feedback::oidc::Identity;
use pavlov_feedback::quality::Cache;
use pavlov_feedback::reply::Pick;
use pavlov_feedback::{Clock, Error, Store};
use pavlov_schema::feedback::Learned;
use rusqlite::Connection;

use crate::place::{Place, plain};

fn lesson(run: &str, cursor: u64, accuracy: f64) -> Learned {
    let judgments = cursor.saturating_sub(1);
    Learned {
        run: run.into(),
        cursor,
        judgments,
        held_out: 10,
        accuracy,
        low: accuracy - 0.1,
        high: accuracy + 0.1,
    }
}

#[test]
fn a_lesson_told_twice_is_one_and_a_false_one_none() {
    let place = Place::new(plain());
    let project = place.project;
    place.tasks(3);
    let rater = place.rater("rater");
    for _ in 0..3 {
        place.answer(rater, Pick::Left);
    }
    let tell = |lesson: Learned| place.store.write_now(move |w| w.add_lesson(project, &lesson));
    // Nothing is sealed yet: nobody can have learned from it.
    assert!(matches!(tell(lesson("a", 2, 0.5)), Err(Error::Invalid(_))));
    place.pass(100);
    assert_eq!(place.sealed().1, 3);
    let cache = Cache::default();
    assert!(cache.get(&place.store, project).unwrap().lessons.is_empty());
    assert!(tell(lesson("b", 3, 0.7)).unwrap());
    assert!(tell(lesson("a", 3, 0.6)).unwrap());
    assert!(tell(lesson("b", 2, 0.5)).unwrap());
    assert!(!tell(lesson("b", 3, 0.7)).unwrap(), "told twice");
    assert!(matches!(tell(lesson("b", 3, 0.8)), Err(Error::Conflict(_))), "another under its name");
    assert!(matches!(tell(lesson("b", 4, 0.8)), Err(Error::Invalid(_))), "of records that nobody has");
    // Runs as they began, each in the order of the log; no record came meanwhile, yet the figures are new.
    let expected = [lesson("b", 2, 0.5), lesson("b", 3, 0.7), lesson("a", 3, 0.6)];
    assert_eq!(cache.get(&place.store, project).unwrap().lessons, expected);
    assert_eq!(place.reopened().store.read_now(move |r| r.lessons(project)).unwrap(), expected);
}

#[test]
fn a_database_of_the_first_version_is_brought_up_to_date_with_all_that_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feedback.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../../src/store/migrations/0001.sql")).unwrap();
    old.execute_batch(
        "INSERT INTO accounts VALUES (1, 'ac', 'owner', NULL, 1, 1000, NULL);
         INSERT INTO projects VALUES (1, 'pc', 'worlds', '{}', '', 1, 7, 1, 4, 1000, NULL);
         INSERT INTO members VALUES (1, 1, 'manager', 'p1', NULL, 1000, NULL);
         INSERT INTO tasks (id, code, project, kind, policy_version, role, overlap, submitted, state, shuffle, created_at)
             VALUES (1, 't', 1, 'pairwise', 3, 'live', 1, 1, 'done', 5, 1000);
         INSERT INTO words VALUES (1, '\"q\"', '[{\"id\":\"x\",\"text\":\"# a\\n- b\\n- **c**\"},{\"id\":\"y\",\"text\":\"b\"}]', NULL, NULL);
         INSERT INTO judgments (seq, id, project, task, rater, pass, record, payload, shown, idempotency_key, at_ms, seals_at_ms,
                                guideline_version, active_ms)
             VALUES (4, 'j', 1, 1, 1, 0, 'judgment', '{\"said\":{\"pairwise\":{\"choice\":\"b\"}}}', 'ba', 'k', 2000, 3000, 1, 900);
         INSERT INTO answers VALUES (1, 1, 0, 1, 4, 4, 'answered', 'live', 'b');
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    let store = Store::open(&path, Clock::system()).unwrap();
    let project = store.read_now(|r| r.project_called("worlds")).unwrap().id;
    let sealed = store.sealed_now(project, 0, 10).unwrap();
    assert_eq!((sealed.records.len(), sealed.records[0].id.as_str(), sealed.cursor), (1, "j", 4));
    // What is counted of new tasks was counted of old ones too.
    let styles = store.read_now(move |r| Ok(r.verdicts(project)?.tasks[0].styles.clone())).unwrap();
    assert_eq!(styles, [[15, 1, 2, 1], [1, 0, 0, 0]]);
    let told = lesson("a", 4, 0.5);
    let copy = told.clone();
    assert!(store.write_now(move |w| w.add_lesson(project, &copy)).unwrap());
    let identity = Identity { issuer: "https://id.example.org".into(), subject: "1".into() };
    let owner = store.read_now(|r| r.account_named("owner")).unwrap().unwrap();
    let (id, theirs) = (owner.id, identity.clone());
    store.write_now(move |w| w.connect(id, &theirs)).unwrap();
    drop(store);
    let version = || -> u32 {
        let db = Connection::open(&path).unwrap();
        db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    };
    let newest = version();
    assert!(newest > 1);
    // Once is enough: opened again, nothing is done twice.
    let store = Store::open(&path, Clock::system()).unwrap();
    assert_eq!(store.read_now(move |r| r.lessons(project)).unwrap(), [told]);
    assert_eq!(store.read_now(move |r| r.account_of(&identity)).unwrap(), Some(owner));
    drop(store);
    assert_eq!(version(), newest);
}
