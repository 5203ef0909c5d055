//! The loop as processes of the real program, each killed -9 at random times.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pavlov_feedback::roles::Role;
use pavlov_feedback::{Clock, Store};
use pavlov_schema::clock::unix_seconds;
use pavlov_schema::rng::{Rng, Stream};
use pavlov_train::loops::reward_model::RewardConfig;
use pavlov_train::settings::Settings;
use serde_json::{Value, json};

use crate::learn::{Course, Direct, base, learn, model_bytes, prompts, settings};
use crate::raters::{Raters, comparing};
use crate::server::{self, PROJECT, Server};

/// Runs a command again and again, each time until it ends by itself or, after a random time up to `longest`, is killed. Ends when it
/// ended well, or with `over`; how often it was killed.
fn killed(mut command: impl FnMut() -> Command, seed: u64, longest: Duration, over: &AtomicBool) -> usize {
    let mut kills = 0;
    loop {
        let mut child = command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let share = Rng::new(seed, Stream::Evaluation, kills as u64, 0).uniform();
        let end = Instant::now() + longest.mul_f32(share);
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
            if child.try_wait().unwrap().is_some() {
                let ended = child.wait_with_output().unwrap();
                assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
                return kills;
            }
        }
        kill(child);
        if over.load(Ordering::SeqCst) {
            return kills;
        }
        kills += 1;
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn pavlov(args: &[&str], file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pavlov"));
    command.args(args).arg(file);
    command
}

/// The configuration as a file for the program.
fn written(config: &impl Settings, path: &Path) -> Command {
    std::fs::write(path, config.to_toml().unwrap()).unwrap();
    let verb = path.file_stem().unwrap().to_str().unwrap();
    pavlov(&[verb], path)
}

/// `cargo test -p pavlov --test people -- --ignored --nocapture killed` prints the figures of docs/feedback.md.
#[test]
#[ignore = "minutes: server, trainer and reward model killed -9 at random"]
fn killed_at_random_the_processes_give_the_bytes_of_an_undisturbed_run() {
    let seed = unix_seconds().to_bits();
    let folder = tempfile::tempdir().unwrap();
    let course = Course { prompts: 500, updates: 60, pairs: 16, learning_rate: 1e-3, save_steps: 2 };
    let prompts = prompts(&course);
    base(&folder.path().join("base"));
    learn(folder.path(), "direct", &course, &prompts, &Direct::Yes, &AtomicBool::new(false));

    let (database, token) = (folder.path().join("feedback.db"), folder.path().join("token"));
    let server = Server::start(&database, server::settings());
    std::fs::write(&token, server.trainer_token()).unwrap();
    let tokens: Vec<String> = (0..3).map(|i| server.token(&format!("rater{i}"), Role::Rater)).collect();
    let url = server.url();
    let address = server.stop().to_string();
    let serve = ["feedback", "serve", "--rate-limit", "4000000000", "--listen", &address, "--db"];

    let raters = Raters::at(&url, &tokens, &comparing(&prompts));
    let (watch, people) = (folder.path().join("watch"), Direct::No { url: url.clone(), token: &token });
    let reward = || {
        let Value::Object(map) = json!({
            "model": folder.path().join("base"), "output_dir": watch, "threads": 1, "dtype": "f32", "max_length": 128,
            "data": format!("feedback:{PROJECT}"), "eval_data": format!("feedback:{PROJECT}"), "feedback_url": url,
            "feedback_token_file": token, "per_device_train_batch_size": 8, "learning_rate": 5e-4, "save_steps": 5,
            "retrain_every": 40, "retrain_until": 300, "resume_from_checkpoint": watch.exists(),
        }) else {
            panic!("no object")
        };
        written(&RewardConfig::from_map(map).unwrap(), &folder.path().join("reward.toml"))
    };
    let pairwise = || {
        let config = settings(folder.path(), "people", &course, &prompts, &people);
        written(&config, &folder.path().join("pairwise.toml"))
    };
    let (over, never) = (AtomicBool::new(false), AtomicBool::new(false));
    let kills = std::thread::scope(|scope| {
        let server =
            scope.spawn(|| killed(|| pavlov(&serve, &database), seed, Duration::from_secs(4), &over));
        let trainer = scope.spawn(|| killed(pairwise, seed + 1, Duration::from_secs(8), &never));
        let reward = scope.spawn(|| killed(reward, seed + 2, Duration::from_secs(8), &never));
        let kills = [trainer.join().unwrap(), reward.join().unwrap()];
        over.store(true, Ordering::SeqCst);
        [server.join().unwrap(), kills[0], kills[1]]
    });
    eprintln!("seed {seed}: killed -9: server, pairwise, reward: {kills:?} times");
    let acknowledged = raters.end();
    assert!(kills.iter().all(|&kills| kills >= 10), "too few for a proof");

    assert!(model_bytes(&folder.path().join("direct")) == model_bytes(&folder.path().join("people")));
    check_log(&database, acknowledged);
}

/// Every acknowledged answer is in the log once, every lesson was told once, each of more judgments than the one before.
fn check_log(database: &Path, acknowledged: u64) {
    let store = Store::open(database, Clock::system()).unwrap();
    let (answered, lessons) = store
        .read_now(|r| {
            let project = r.project_called(PROJECT)?.id;
            Ok((r.progress(project)?.answered, r.lessons(project)?))
        })
        .unwrap();
    assert_eq!(answered, acknowledged);
    let told: Vec<u64> = lessons.iter().map(|lesson| lesson.judgments).collect();
    eprintln!("{answered} answers, each there once; lessons of {told:?} judgments");
    let runs: BTreeSet<&str> = lessons.iter().map(|lesson| lesson.run.as_str()).collect();
    assert!(runs.len() == 1 && told.is_sorted_by(|a, b| a + 40 <= *b), "{lessons:?}");
    assert!(told.last().is_some_and(|&last| last >= 300), "{lessons:?}");
}
