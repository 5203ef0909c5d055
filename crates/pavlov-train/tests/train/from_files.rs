//! Runs as a user starts them: a folder, files of rows, and settings.

use crate::tiny;
use std::path::Path;

use crate::tiny::{curve, host_run};
use pavlov_lm::SaveDtype;
use pavlov_schema::clock::{rfc3339, unix_seconds};
use pavlov_schema::run::Manifest;
use pavlov_schema::text::Message;
use pavlov_schema::{Map, Value};
use pavlov_train::loops::pretrain::{self, PretrainConfig};
use pavlov_train::loops::reward_model::{self, RewardConfig};
use pavlov_train::loops::sft::{self, SftConfig};
use pavlov_train::run::{Ending, TrainingConfig, load_model};
use pavlov_train::settings::{Settings, read_assignment, read_toml};

fn settings(assignments: &[String]) -> Map<String, Value> {
    assignments.iter().map(|text| read_assignment(text).unwrap()).collect()
}

fn write(path: &Path, lines: &[&str]) {
    std::fs::write(path, lines.join("\n")).unwrap();
}

fn model_of(ending: pavlov_train::Result<Ending>) -> std::path::PathBuf {
    match ending {
        Ok(Ending::Finished { model: Some(model), .. }) => model,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pretrain_then_sft_then_reward() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    tiny::model().save(&at("base"), SaveDtype::F32).unwrap();
    write(&at("text.jsonl"), &[r#"{"text": "Ana has 3 apples."}"#, "", r#"{"text": "Ben has 2 apples."}"#]);
    write(
        &at("shown.jsonl"),
        &[
            r#"{"prompt": "Who has 3 apples?\n", "completion": "Ana."}"#,
            r#"{"kind": "demonstration", "prompt": "Who has 2 apples?\n", "responses": [{"text": "Ben."}]}"#,
        ],
    );
    write(
        &at("pairs.jsonl"),
        &[
            r#"{"prompt": "Who has 3 apples?\n", "chosen": "Ana.", "rejected": "Ben."}"#,
            r#"{"chosen": "Who has 2 apples? Ben.", "rejected": "Who has 2 apples? Ana."}"#,
        ],
    );
    let shared = |model: &Path, data: &str, out: &str| {
        vec![
            format!("model={}", model.display()),
            format!("data={}", at(data).display()),
            format!("eval_data={}", at(data).display()),
            format!("output_dir={}", at(out).display()),
            "max_steps=3".into(),
            "logging_steps=1".into(),
            "threads=1".into(),
        ]
    };
    let map = settings(&shared(&at("base"), "text.jsonl", "first"));
    let config = PretrainConfig::from_map(map).unwrap();
    let model = model_of(host_run(None, |host| pretrain::run(&config, host)).0);
    let config = SftConfig::from_map(settings(&shared(&model, "shown.jsonl", "second"))).unwrap();
    let model = model_of(host_run(None, |host| sft::run(&config, host)).0);
    // The resolved file is the configuration.
    assert_eq!(SftConfig::from_map(read_toml(&at("second/config.toml")).unwrap()).unwrap(), config);
    let config = RewardConfig::from_map(settings(&shared(&model, "pairs.jsonl", "third"))).unwrap();
    let judge = model_of(host_run(None, |host| reward_model::run(&config, host)).0);
    assert!(judge.join("reward_config.json").is_file());
    for run in ["first", "second", "third"] {
        assert_eq!((curve(&at(run), "loss").len(), curve(&at(run), "eval_loss").len()), (3, 1), "{run}");
    }
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(at("third/manifest.json")).unwrap()).unwrap();
    assert_eq!(
        (&manifest["data"][0]["rows"], &manifest["seed"], &manifest["threads"]),
        (&2.into(), &42.into(), &1.into())
    );

    // Another file under the old name is another run.
    write(&at("shown.jsonl"), &[r#"{"prompt": "Who has 3 apples?\n", "completion": "Ben."}"#]);
    let mut resumed = shared(&at("first/model"), "shown.jsonl", "second");
    resumed.push("resume_from_checkpoint=true".into());
    let config = SftConfig::from_map(settings(&resumed)).unwrap();
    let error = host_run(None, |host| sft::run(&config, host)).0.unwrap_err().to_string();
    assert!(error.starts_with("data: ") && error.contains("not the data of the run"), "{error}");
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = |assignments: &[String]| {
        let config = SftConfig::from_map(settings(assignments)).unwrap();
        host_run(None, |host| sft::run(&config, host)).0.unwrap_err().to_string()
    };
    assert_eq!(run(&[]), "model: is missing; give it a path");
    let base = folder.path().join("base");
    tiny::model().save(&base, SaveDtype::F32).unwrap();
    let with_model = format!("model={}", base.display());
    assert_eq!(run(std::slice::from_ref(&with_model)), "data: is missing; give it a path");
    let data = folder.path().join("rows.jsonl");
    write(&data, &[r#"{"text": "Ana has 3 apples."}"#, "{"]);
    let with_data = format!("data={}", data.display());
    let error = run(&[with_model.clone(), with_data.clone()]);
    assert!(error.contains("rows.jsonl:2: "), "{error}");
    write(&data, &[r#"{"text": "Ana has 3 apples."}"#]);
    assert_eq!(run(&[with_model, with_data]), "output_dir: is missing; give it a path");
}

#[test]
fn a_resumed_run_tells_the_date_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    tiny::model().save(&base, SaveDtype::F32).unwrap();
    let template =
        "{{ strftime_now('%Y') }} {% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}";
    std::fs::write(base.join("chat_template.jinja"), template).unwrap();
    let data = folder.path().join("rows.jsonl");
    let row =
        r#"{"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ana."}]}"#;
    write(&data, &[row]);
    let run = folder.path().join("run");
    let mut config = SftConfig::default();
    config.training = TrainingConfig { model: base, data, output_dir: run.clone(), ..config.training };
    config.training.max_steps = 1;
    model_of(host_run(None, |host| sft::run(&config, host)).0);
    let started = Manifest::read(&run).unwrap().started_at;
    assert_eq!(started[..4], rfc3339(unix_seconds())[..4], "a new run tells today's date");
    // As if it had begun long ago.
    let manifest = run.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap().replace(&started, "2001-02-03T04:05:06Z");
    std::fs::write(&manifest, text).unwrap();
    config.training.resume_from_checkpoint = true;
    let model = load_model(&config.training, &config.peft).unwrap();
    let hello = [Message::new("user", "Who?")];
    let rendered = model.files.template.as_ref().unwrap().render(&hello, None, true).unwrap();
    assert!(rendered.text.starts_with("2001 Who?"), "{rendered:?}");
}

#[test]
fn every_key_has_help_and_the_names_are_apart() {
    for keys in [SftConfig::keys(), PretrainConfig::keys(), RewardConfig::keys()] {
        let mut names: Vec<_> = keys.iter().map(|key| key.name).collect();
        assert!(keys.iter().all(|key| key.help.ends_with('.') && key.help.len() > 15), "{keys:?}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), keys.len());
    }
}
