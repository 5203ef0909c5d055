//! A reward model that is taught anew as people go on judging.

use std::path::Path;

use pavlov_schema::rng::{Rng, Stream};
use pavlov_worlds::{Config, Split, World, generate, imperfect_answer};
use serde_json::{Value, json};

use crate::place::Place;
use crate::raters::{Raters, comparing};
use crate::server;

fn worlds(n: u64) -> Vec<World> {
    (0..n).map(|i| generate(79, i, &Config::demo(), Split::Train)).collect()
}

fn task(world: &World, texts: &[&str]) -> Value {
    let responses: Vec<Value> = texts.iter().map(|text| json!({"text": text})).collect();
    json!({"prompt": world.prompt(), "responses": responses})
}

fn number(lesson: &Value, name: &str) -> f64 {
    lesson[name].as_f64().unwrap()
}

fn weights(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("model/model.safetensors")).unwrap()
}

#[test]
fn taught_anew_as_judgments_come_in_it_foretells_more_of_those_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), server::settings());
    let worlds = worlds(300);
    let raters = Raters::start(&place.server, 2, &comparing(&worlds));
    // What is easy to tell from an answer: the right one, and one to another question.
    let others = worlds.iter().cycle().skip(7);
    let tasks: Vec<Value> = worlds
        .iter()
        .zip(others)
        .map(|(world, other)| task(world, &[&world.answer, &other.answer]))
        .collect();
    let held_out = place.folder.join("held-out.jsonl");
    let strangers: Vec<World> = (0..120).map(|i| generate(80, i, &Config::demo(), Split::HeldOut)).collect();
    let row = |(world, other): (&World, &World)| {
        let row = json!({"prompt": world.prompt(), "chosen": world.answer, "rejected": other.answer});
        (world.answer != other.answer).then(|| row.to_string() + "\n")
    };
    let rows: String = strangers.iter().zip(&strangers[7..]).filter_map(row).collect();
    std::fs::write(&held_out, rows).unwrap();
    let watch = |every: u64, until: u64, stop_before: Option<usize>| {
        let more = json!({"retrain_every": every, "retrain_until": until, "eval_data": held_out, "learning_rate": 2e-4});
        place.teach("watch", more, stop_before)
    };
    // Stopped in the middle of a round, it goes on there.
    place.send(&tasks[..32]);
    place.wait_for_raters();
    assert!(!watch(20, 0, Some(3)) && watch(20, 20, None));
    assert_eq!(place.lessons().len(), 1);
    // It waits for people.
    std::thread::scope(|scope| {
        let learner = scope.spawn(|| watch(200, 220, None));
        place.send(&tasks[32..]);
        assert!(learner.join().unwrap());
    });
    // What was told is told once, whatever happens.
    assert!(watch(200, 220, None));
    let lessons = place.lessons();
    let [first, last] = &lessons[..] else { panic!("{lessons:?}") };
    assert!(number(first, "judgments") >= 20.0 && number(last, "judgments") >= 220.0, "{lessons:?}");
    assert!(number(last, "low") > number(first, "accuracy") && first["run"] == last["run"], "{lessons:?}");

    // A round is what one run of all that holds is, and broken off in the middle it is the same.
    place.wait_for_raters();
    raters.end();
    let once = json!({"retrain_every": 1, "retrain_until": 1});
    assert!(!place.teach("again", once.clone(), Some(9)));
    assert!(place.teach("again", once, None));
    assert!(place.teach("once", json!({}), None));
    assert_eq!(weights(&place.folder.join("again")), weights(&place.folder.join("once")));
    assert_eq!(place.lessons().len(), 3);
}

/// `cargo test -p pavlov --test people -- --ignored --nocapture retrain` prints the figures of docs/feedback.md.
#[test]
#[ignore = "minutes: held-out accuracy over judgments collected"]
fn accuracy_over_judgments_collected() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), server::settings());
    let worlds = worlds(8000);
    let raters = Raters::start(&place.server, 2, &comparing(&worlds));
    // Two answers as careless people give them, of which one in two is right.
    let pair = |(i, world): (usize, &World)| {
        let mut rng = Rng::new(79, Stream::World, 1000, i as u64);
        let first = imperfect_answer(&mut rng, world, 0.5);
        let other = |_| imperfect_answer(&mut rng, world, 0.5);
        let second = (0..100).map(other).find(|second| *second != first).unwrap();
        task(world, &[&first, &second])
    };
    place.send(&worlds.iter().enumerate().map(pair).collect::<Vec<_>>());
    let settings = json!({"retrain_every": 100, "retrain_until": 4000, "per_device_train_batch_size": 32,
        "learning_rate": 5e-4, "num_train_epochs": 2});
    assert!(place.teach("watch", settings, None));
    raters.end();
    let lessons = place.lessons();
    for lesson in &lessons {
        eprintln!("{lesson}");
    }
    assert!(number(&lessons[lessons.len() - 1], "accuracy") > number(&lessons[0], "accuracy"));
}
