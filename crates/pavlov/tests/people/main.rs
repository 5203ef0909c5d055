//! The loop closed: simulated raters answer over the HTTP API while a policy learns from what they say, and the same run is fed by the
//! same raters directly. Servers and trainers stop and start again meanwhile.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod client;
mod killed;
mod learn;
mod paths;
mod place;
mod raters;
mod retrain;
mod server;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use learn::{Course, Direct, accuracy, base, learn, model_bytes, prompts};
use raters::{Raters, comparing};
use server::Server;

/// A run fed directly and one over HTTP; the latter's server restarts, and its trainer stops, so many times.
fn both(folder: &Path, course: &Course, interruptions: usize) -> (Vec<u8>, Vec<u8>) {
    let prompts = prompts(course);
    base(&folder.join("base"));
    learn(folder, "direct", course, &prompts, &Direct::Yes, &std::sync::atomic::AtomicBool::new(false));

    let mut server = Server::start(&folder.join("feedback.db"), server::settings());
    let token = folder.join("token");
    std::fs::write(&token, server.trainer_token()).unwrap();
    let raters = Raters::start(&server, 3, &comparing(&prompts));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let people = Direct::No { url: server.url(), token: &token };
    std::thread::scope(|scope| {
        let trainer = scope.spawn(|| {
            let mut starts = 0;
            // A wish to stop is answered with a checkpoint; then the run goes on from it, as often as it takes.
            while !learn(folder, "people", course, &prompts, &people, &stop) {
                stop.store(false, Ordering::SeqCst);
                starts += 1;
            }
            starts
        });
        for turn in 0..interruptions {
            std::thread::sleep(Duration::from_millis(150 + 170 * (turn as u64 % 5)));
            if turn % 2 == 0 {
                server.restart();
            } else {
                stop.store(true, Ordering::SeqCst);
            }
        }
        let starts = trainer.join().unwrap();
        eprintln!("{interruptions} interruptions, {starts} of them resumptions of the trainer");
    });
    let answered = raters.end();
    assert_eq!(server.answers(), answered, "every acknowledged answer is there once");
    (model_bytes(&folder.join("direct")), model_bytes(&folder.join("people")))
}

#[test]
fn a_run_asked_over_http_and_interrupted_gives_the_bytes_of_one_fed_directly() {
    let folder = tempfile::tempdir().unwrap();
    let course = Course { prompts: 64, updates: 6, pairs: 8, learning_rate: 1e-3, save_steps: 0 };
    let (direct, people) = both(folder.path(), &course, 6);
    assert_eq!(direct, people);
    assert_ne!(direct, model_bytes(&folder.path().join("base")), "nothing was learned");
}

/// `cargo test -p pavlov --test people -- --ignored --nocapture` prints the figures of docs/feedback.md.
#[test]
#[ignore = "minutes: what the loop teaches, over HTTP and directly"]
fn people_over_http_teach_what_they_teach_directly() {
    let folder = tempfile::tempdir().unwrap();
    let course = Course { prompts: 2000, updates: 120, pairs: 32, learning_rate: 1e-3, save_steps: 0 };
    let (direct, people) = both(folder.path(), &course, 40);
    let before = accuracy(&folder.path().join("base"));
    let [after_direct, after_people] =
        ["direct", "people"].map(|run| accuracy(&folder.path().join(run).join("model")));
    eprintln!(
        "held-out worlds answered right: before {before:.3}, fed directly {after_direct:.3}, over HTTP {after_people:.3}; same bytes: {}",
        direct == people
    );
    assert!(after_direct > before + 0.02 && (after_direct - after_people).abs() <= 0.02);
}
