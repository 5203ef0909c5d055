//! The run: pairwise feedback on the embedded base model.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use pavlov_schema::Map;
use pavlov_schema::rollout::Prompt;
use pavlov_schema::text::Text;
use pavlov_train::loops::rl::config::PairwiseConfig;
use pavlov_train::loops::rl::{Prompts, pairwise, run_pairwise};
use pavlov_train::run::{Ending, Host, load_model};
use pavlov_train::settings::Settings;
use pavlov_train::stage::score::Judge;
use pavlov_worlds::{Config, Split, World, generate, verify};
use serde_json::{Value, json};

use crate::raters::verdict;
use crate::server::PROJECT;

/// How long a run is.
pub(crate) struct Course {
    pub(crate) prompts: usize,
    pub(crate) updates: usize,
    /// Pairs an update.
    pub(crate) pairs: usize,
    pub(crate) learning_rate: f64,
    /// Updates between checkpoints; 0: none but where it is stopped.
    pub(crate) save_steps: usize,
}

/// Who compares.
#[derive(Clone)]
pub(crate) enum Direct<'a> {
    /// The simulated person, called as a function.
    Yes,
    /// People of a project.
    No { url: String, token: &'a Path },
}

pub(crate) fn base(folder: &Path) {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/base");
    std::fs::create_dir_all(folder).unwrap();
    for entry in std::fs::read_dir(assets).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
}

pub(crate) fn prompts(course: &Course) -> Vec<World> {
    (0..course.prompts).map(|i| generate(77, i as u64, &Config::demo(), Split::Train)).collect()
}

/// How the run `name` is taught, or goes on from its last checkpoint.
pub(crate) fn settings(
    folder: &Path,
    name: &str,
    course: &Course,
    worlds: &[World],
    who: &Direct,
) -> PairwiseConfig {
    let data = folder.join("prompts.jsonl");
    if !data.exists() {
        let row = |world: &World| json!({"prompt": world.prompt()}).to_string() + "\n";
        std::fs::write(&data, worlds.iter().map(row).collect::<String>()).unwrap();
    }
    let out = folder.join(name);
    let saved = has_checkpoint(&out);
    let Value::Object(mut map) = json!({
        "model": folder.join("base"), "data": data, "output_dir": out, "threads": 1, "dtype": "f32",
        "max_completion_length": 12, "per_device_train_batch_size": 2 * course.pairs, "max_steps": course.updates,
        "learning_rate": course.learning_rate, "save_steps": course.save_steps, "resume_from_checkpoint": saved,
        "overwrite_output_dir": !saved, "log_completions_steps": 0,
    }) else {
        panic!("no object")
    };
    if let Direct::No { url, token } = who {
        map.insert("judge".into(), json!({"people": PROJECT, "timeout": 120}));
        map.insert("feedback_url".into(), json!(url));
        map.insert("feedback_token_file".into(), json!(token));
    }
    PairwiseConfig::from_map(map).unwrap()
}

/// Whether a run has something to go on from.
pub(crate) fn has_checkpoint(run: &Path) -> bool {
    run.join("checkpoints")
        .read_dir()
        .is_ok_and(|saved| saved.flatten().any(|one| one.file_name().to_string_lossy().starts_with("step-")))
}

/// Runs, or goes on with, the run `name`; false if it was stopped.
pub(crate) fn learn(
    folder: &Path,
    name: &str,
    course: &Course,
    worlds: &[World],
    who: &Direct,
    stop: &AtomicBool,
) -> bool {
    let config = settings(folder, name, course, worlds, who);
    let mut host = Host { stop, events: &mut |_| {}, command: &[] };
    let ending = match who {
        Direct::No { .. } => run_pairwise(&config, &mut host),
        Direct::Yes => {
            let mut model = load_model(&config.training, &config.peft).unwrap();
            let prompt = |(i, world): (usize, &World)| Prompt {
                id: i.to_string(),
                prompt: Text::Plain(world.prompt()),
                columns: Map::new(),
            };
            let prompts =
                Prompts { prompts: worlds.iter().enumerate().map(prompt).collect(), ..Prompts::default() };
            let worlds = worlds.to_vec();
            let judge = Judge::Function(Box::new(move |_, [first, second], _, _| {
                Ok(verdict(
                    &worlds[first.prompt_index],
                    &shown(&first.completion),
                    &shown(&second.completion),
                ))
            }));
            pairwise(&mut model, &prompts, judge, &config, &mut host)
        }
    };
    matches!(ending.unwrap(), Ending::Finished { .. })
}

/// As people see an answer.
pub(crate) fn shown(completion: &str) -> String {
    if completion.trim().is_empty() { "(no answer)".into() } else { completion.into() }
}

/// The weights of a finished run, or of a model's own folder.
pub(crate) fn model_bytes(folder: &Path) -> Vec<u8> {
    let model = folder.join("model/model.safetensors");
    std::fs::read(if model.exists() { model } else { folder.join("model.safetensors") }).unwrap()
}

/// The share of 1,000 held-out worlds that one drawn answer each gets right.
pub(crate) fn accuracy(model: &Path) -> f64 {
    let worlds: Vec<World> = (0..1000).map(|i| generate(78, i, &Config::demo(), Split::HeldOut)).collect();
    let prompts: Vec<String> = worlds.iter().map(World::prompt).collect();
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_pavlov"))
        .args(["sample", "--json", "--max-tokens", "12", "--threads", "1", "--dtype", "f32", "--model"])
        .arg(model)
        .arg("--data")
        .arg({
            let file = model.join("held-out.jsonl");
            let rows: String =
                prompts.iter().map(|prompt| json!({"prompt": prompt}).to_string() + "\n").collect();
            std::fs::write(&file, rows).unwrap();
            file
        })
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let answers = String::from_utf8(out.stdout).unwrap();
    let right = answers.lines().zip(&worlds).filter(|(line, world)| {
        let answer: Value = serde_json::from_str(line).unwrap();
        verify(world, answer["completion"].as_str().unwrap()) > 0.5
    });
    right.count() as f64 / 1000.0
}
