//! A project with its server, and what is taught from it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pavlov_feedback::settings::Settings as ProjectSettings;
use pavlov_schema::rollout::Credited;
use pavlov_schema::rollout_file::read;
use pavlov_train::loops::reward_model::{self, RewardConfig};
use pavlov_train::loops::rl::config::{GrpoConfig, PairwiseConfig};
use pavlov_train::loops::rl::{run_grpo, run_pairwise};
use pavlov_train::run::{Ending, Event, Host};
use pavlov_train::settings::Settings;
use pavlov_worlds::World;
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::learn::base;
use crate::server::{PROJECT, Server};

pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) server: Server,
    pub(crate) trainer: Client,
}

/// What came of a run of the policy.
pub(crate) struct Ran {
    /// The answers of the first update, in their order.
    pub(crate) answers: Vec<Credited>,
    pub(crate) notes: Vec<String>,
}

impl Place {
    pub(crate) fn new(folder: &Path, settings: ProjectSettings) -> Self {
        base(&folder.join("base"));
        let server = Server::start(&folder.join("feedback.db"), settings);
        let token = server.trainer_token();
        std::fs::write(folder.join("token"), &token).unwrap();
        let trainer = Client::new(&server.url(), &token);
        Self { folder: folder.to_owned(), server, trainer }
    }

    fn settings(&self, mut own: Value, mut more: Value) -> Map<String, Value> {
        let mut map = json!({
            "model": self.folder.join("base"), "threads": 1, "dtype": "f32", "save_steps": 0,
            "feedback_url": self.server.url(), "feedback_token_file": self.folder.join("token"),
        });
        let map = map.as_object_mut().unwrap();
        map.append(own.as_object_mut().unwrap());
        map.append(more.as_object_mut().unwrap());
        std::mem::take(map)
    }

    /// Teaches a reward model in the folder `name`, or goes on there, and stops before the `stop_before`th update from now; whether
    /// it came to its end.
    pub(crate) fn teach(&self, name: &str, more: Value, stop_before: Option<usize>) -> bool {
        let (out, project) = (self.folder.join(name), format!("feedback:{PROJECT}"));
        let own = json!({
            "output_dir": out, "data": project, "eval_data": project, "max_length": 128, "learning_rate": 1e-3,
            "per_device_train_batch_size": 8, "num_train_epochs": 1, "resume_from_checkpoint": out.exists(),
        });
        let config = RewardConfig::from_map(self.settings(own, more)).unwrap();
        let (stop, mut updates) = (AtomicBool::new(false), 0);
        let mut events = |event: Event| match event {
            Event::Step { .. } => {
                updates += 1;
                stop.store(stop_before == Some(updates + 1), Ordering::SeqCst);
            }
            Event::Note(line) => eprintln!("{line}"),
            _ => {}
        };
        let mut host = Host { stop: &stop, events: &mut events, command: &[] };
        matches!(reward_model::run(&config, &mut host).unwrap(), Ending::Finished { .. })
    }

    /// One update of the base model by rewards or, where `more` has a `judge`, by comparisons.
    pub(crate) fn reward(&self, worlds: &[World], more: Value) -> Result<Ran, String> {
        let (out, data) = (self.folder.join("run"), self.folder.join("prompts.jsonl"));
        let row = |world: &World| json!({"prompt": world.prompt()}).to_string() + "\n";
        std::fs::write(&data, worlds.iter().map(row).collect::<String>()).unwrap();
        // Warm enough that no two answers are the same.
        let own = json!({
            "output_dir": out, "data": data, "max_completion_length": 12, "max_steps": 1, "temperature": 2.5, "logging_steps": 1,
            "overwrite_output_dir": true,
        });
        let compares = more.get("judge").is_some();
        let map = self.settings(own, more);
        let mut notes = Vec::new();
        let mut events = |event: Event| {
            if let Event::Note(line) = event {
                notes.push(line);
            }
        };
        let mut host = Host { stop: &AtomicBool::new(false), events: &mut events, command: &[] };
        let ran = if compares {
            PairwiseConfig::from_map(map).and_then(|config| run_pairwise(&config, &mut host))
        } else {
            GrpoConfig::from_map(map).and_then(|config| run_grpo(&config, &mut host))
        };
        ran.map_err(|error| error.to_string())?;
        let answers = read(&out.join("rollouts/step-000001.parquet")).unwrap();
        Ok(Ran { answers: answers.into_iter().map(|(_, answer)| answer).collect(), notes })
    }

    /// Sends tasks.
    pub(crate) fn send(&self, tasks: &[Value]) {
        for tasks in tasks.chunks(500) {
            self.trainer.post("tasks", &json!({ "tasks": tasks }));
        }
    }

    /// As the quality page has them.
    pub(crate) fn lessons(&self) -> Vec<Value> {
        self.trainer.get("quality")["lessons"].as_array().unwrap().clone()
    }

    /// Until nothing waits for an answer.
    pub(crate) fn wait_for_raters(&self) {
        while self.trainer.get("progress")["open"] != 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
