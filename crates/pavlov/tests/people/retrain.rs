//! A reward model that is taught anew as people go on judging.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pavlov_schema::rng::{Rng, Stream};
use pavlov_train::loops::reward_model::{RewardConfig, run};
use pavlov_train::run::{Ending, Event, Host};
use pavlov_train::settings::Settings;
use pavlov_worlds::{Config, Split, World, generate, imperfect_answer};
use serde_json::{Value, json};

use crate::client::Client;
use crate::learn::base;
use crate::raters::Raters;
use crate::server::{PROJECT, Server};

/// A project, and where its reward models go.
struct Place {
    folder: PathBuf,
    server: Server,
    trainer: Client,
}

impl Place {
    fn new(folder: &Path) -> Self {
        base(&folder.join("base"));
        let server = Server::start(&folder.join("feedback.db"));
        let token = server.trainer_token();
        std::fs::write(folder.join("token"), &token).unwrap();
        let trainer = Client::new(&server.url(), &token);
        Self { folder: folder.to_owned(), server, trainer }
    }

    /// Teaches in the folder `name`, or goes on there; stops before the `stop_before`th update from now.
    fn teach(&self, name: &str, more: Value, stop_before: Option<usize>) -> Ending {
        let out = self.folder.join(name);
        let Value::Object(mut map) = json!({
            "model": self.folder.join("base"), "output_dir": out, "threads": 1, "dtype": "f32", "max_length": 128,
            "data": format!("feedback:{PROJECT}"), "eval_data": format!("feedback:{PROJECT}"),
            "feedback_url": self.server.url(), "feedback_token_file": self.folder.join("token"),
            "per_device_train_batch_size": 8, "learning_rate": 1e-3, "num_train_epochs": 1, "save_steps": 0,
            "resume_from_checkpoint": out.exists(),
        }) else {
            panic!("no object")
        };
        let Value::Object(more) = more else { panic!("no object") };
        map.extend(more);
        let config = RewardConfig::from_map(map).unwrap();
        let (stop, mut updates) = (AtomicBool::new(false), 0);
        let mut events = |event: Event| match event {
            Event::Step { .. } => {
                updates += 1;
                stop.store(stop_before == Some(updates + 1), Ordering::SeqCst);
            }
            Event::Note(line) => eprintln!("{line}"),
            _ => {}
        };
        run(&config, &mut Host { stop: &stop, events: &mut events, command: &[] }).unwrap()
    }

    fn send(&self, worlds: &[World], pair: impl Fn(usize, &World) -> [String; 2]) {
        let task = |(i, world): (usize, &World)| {
            let [a, b] = pair(i, world);
            json!({"prompt": world.prompt(), "responses": [{"text": a}, {"text": b}]})
        };
        for tasks in worlds.chunks(500) {
            let tasks: Vec<Value> = tasks.iter().enumerate().map(task).collect();
            self.trainer.post("tasks", &json!({ "tasks": tasks }));
        }
    }

    /// As the quality page has them.
    fn lessons(&self) -> Vec<Value> {
        self.trainer.get("quality")["lessons"].as_array().unwrap().clone()
    }

    /// Until nothing waits for an answer.
    fn wait_for_raters(&self) {
        while self.trainer.get("progress")["open"] != 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn finished(ending: &Ending) -> bool {
    matches!(ending, Ending::Finished { .. })
}

fn worlds(n: u64) -> Vec<World> {
    (0..n).map(|i| generate(79, i, &Config::demo(), Split::Train)).collect()
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
    let place = Place::new(folder.path());
    let worlds = worlds(300);
    let raters = Raters::start(&place.server, &worlds, 2);
    // What is easy to tell from an answer: the right one, and one to another question.
    let pair = |i: usize, world: &World| [world.answer.clone(), worlds[(i + 7) % 300].answer.clone()];
    let held_out = place.folder.join("held-out.jsonl");
    let strangers: Vec<World> = (0..200).map(|i| generate(80, i, &Config::demo(), Split::HeldOut)).collect();
    let row = |(world, other): (&World, &World)| {
        let row = json!({"prompt": world.prompt(), "chosen": world.answer, "rejected": other.answer});
        (world.answer != other.answer).then(|| row.to_string() + "\n")
    };
    let rows: String = strangers.iter().zip(&strangers[7..]).filter_map(row).collect();
    std::fs::write(&held_out, rows).unwrap();
    let every = |until: u64| json!({"retrain_every": 20, "retrain_until": until, "eval_data": held_out, "learning_rate": 2e-4});
    std::thread::scope(|scope| {
        // It waits for people, and is stopped and resumed in between.
        let learner = scope.spawn(|| {
            let first = place.teach("watch", every(0), Some(3));
            assert!(!finished(&first), "stopped in a round");
            assert!(finished(&place.teach("watch", every(180), None)));
        });
        place.send(&worlds[..32], pair);
        while place.lessons().is_empty() && !learner.is_finished() {
            std::thread::sleep(Duration::from_millis(50));
        }
        place.send(&worlds[32..], pair);
        learner.join().unwrap();
    });
    // What was told is told once, whatever happened.
    assert!(finished(&place.teach("watch", every(180), None)));
    let lessons = place.lessons();
    let judgments: Vec<f64> = lessons.iter().map(|lesson| number(lesson, "judgments")).collect();
    assert!(lessons.len() >= 2 && judgments.is_sorted_by(|a, b| a + 20.0 <= *b), "{lessons:?}");
    let (first, last) = (&lessons[0], &lessons[lessons.len() - 1]);
    assert!(number(last, "judgments") >= 180.0);
    assert!(number(last, "low") > number(first, "high"), "{lessons:?}");
    assert!(lessons.iter().all(|lesson| lesson["run"] == first["run"]));

    // A round is what one run of all that holds is, and broken off in the middle it is the same.
    place.wait_for_raters();
    raters.end();
    let once = json!({"retrain_every": 1, "retrain_until": 1});
    assert!(!finished(&place.teach("again", once.clone(), Some(9))));
    assert!(finished(&place.teach("again", once, None)));
    assert!(finished(&place.teach("once", json!({}), None)));
    assert_eq!(weights(&place.folder.join("again")), weights(&place.folder.join("once")));
    assert_eq!(place.lessons().len(), lessons.len() + 1);
}

/// `cargo test -p pavlov --test people -- --ignored --nocapture retrain` prints the figures of docs/feedback.md.
#[test]
#[ignore = "minutes: held-out accuracy over judgments collected"]
fn accuracy_over_judgments_collected() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    let worlds = worlds(6000);
    let raters = Raters::start(&place.server, &worlds, 2);
    // Two answers as careless people give them, of which one in two is right.
    let pair = |i: usize, world: &World| {
        let mut rng = Rng::new(79, Stream::World, 1000, i as u64);
        let first = imperfect_answer(&mut rng, world, 0.5);
        let other = |_| imperfect_answer(&mut rng, world, 0.5);
        let second = (0..100).map(other).find(|second| *second != first).unwrap();
        [first, second]
    };
    place.send(&worlds, pair);
    let settings = json!({"retrain_every": 500, "retrain_until": 3000, "per_device_train_batch_size": 32,
        "learning_rate": 5e-4, "num_train_epochs": 2});
    assert!(finished(&place.teach("watch", settings, None)));
    raters.end();
    let lessons = place.lessons();
    for lesson in &lessons {
        eprintln!("{lesson}");
    }
    assert!(number(&lessons[lessons.len() - 1], "accuracy") > number(&lessons[0], "accuracy"));
}
