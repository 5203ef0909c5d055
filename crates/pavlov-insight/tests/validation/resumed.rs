//! A ledger that was interrupted goes on where it was, and says the same to the byte.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pavlov_engine::Cpu;
use pavlov_insight::Error;
use pavlov_insight::ledger::{Asked, Options, measure};
use pavlov_insight::parts::Parts;
use pavlov_schema::dataset;
use pavlov_schema::row::Row;
use pavlov_train::loops::rl::config::GrpoConfig;
use pavlov_train::loops::rl::run_grpo;
use pavlov_train::loops::sft::{self, SftConfig};
use pavlov_train::run::{Host, Precision, TrainingConfig};
use pavlov_worlds::{Config, Split, generate};
use serde_json::json;

use crate::planted::{cpu, row};

fn training(folder: &Path, run: &str) -> TrainingConfig {
    TrainingConfig {
        model: Path::new(env!("CARGO_MANIFEST_DIR")).join("../pavlov/assets/base"),
        data: folder.join("rows.jsonl"),
        eval_data: Some(folder.join("held-out.jsonl")),
        output_dir: folder.join(run),
        max_steps: 2,
        learning_rate: 1e-3,
        save_steps: 0,
        dtype: Precision::F32,
        ..TrainingConfig::default()
    }
}

/// Asks until `most` parts more were measured; the report as it is kept, if it came to its end.
fn ask(run: &Path, options: &Options, cpu: &Arc<Cpu>, most: usize) -> Option<(String, Parts)> {
    let mut left = most;
    let mut go_on = || {
        left = left.saturating_sub(1);
        left > 0
    };
    let measured = measure(run, options, cpu, &mut Asked { tell: &mut |_| {}, go_on: &mut go_on });
    match measured {
        Ok((ledger, parts)) => Some((serde_json::to_string(&ledger).unwrap(), parts)),
        Err(Error::Stopped) => None,
        Err(error) => panic!("{error}"),
    }
}

fn runs(folder: &Path) -> [PathBuf; 2] {
    let worlds = |split: Split, n: u64| (0..n).map(move |i| generate(3, i, &Config::demo(), split));
    let shown: Vec<Row> = worlds(Split::Train, 64).map(|w| row(&w.prompt(), &w.answer)).collect();
    dataset::write(&folder.join("rows.jsonl"), &shown).unwrap();
    let held_out =
        worlds(Split::HeldOut, 150).map(|w| json!({"prompt": w.prompt(), "answer": w.answer}).to_string());
    std::fs::write(folder.join("held-out.jsonl"), held_out.collect::<Vec<_>>().join("\n")).unwrap();
    let prompts =
        worlds(Split::Train, 64).map(|w| json!({"prompt": w.prompt(), "answer": w.answer}).to_string());
    std::fs::write(folder.join("prompts.jsonl"), prompts.collect::<Vec<_>>().join("\n")).unwrap();
    let stop = AtomicBool::new(false);
    let mut host = Host { stop: &stop, events: &mut |_| {}, command: &[] };

    let mut shown = SftConfig { training: training(folder, "shown"), ..SftConfig::default() };
    // Held-out demonstrations, of which the ledger's questions are the same worlds.
    let rows: Vec<Row> = worlds(Split::HeldOut, 150).map(|w| row(&w.prompt(), &w.answer)).collect();
    dataset::write(&folder.join("held-out-rows.jsonl"), &rows).unwrap();
    shown.training.eval_data = Some(folder.join("held-out-rows.jsonl"));
    sft::run(&shown, &mut host).unwrap();

    let mut rewarded = GrpoConfig { training: training(folder, "rewarded"), ..GrpoConfig::default() };
    rewarded.training.data = folder.join("prompts.jsonl");
    rewarded.training.per_device_train_batch_size = 256;
    rewarded.policy.max_completion_length = 12;
    rewarded.policy.rewards = serde_json::from_value(json!([{"rule": "exact", "column": "answer"}])).unwrap();
    run_grpo(&rewarded, &mut host).unwrap();
    [folder.join("shown"), folder.join("rewarded")]
}

#[test]
fn an_interrupted_ledger_goes_on_where_it_was() {
    let (folder, cpu) = (tempfile::tempdir().unwrap(), cpu(0));
    let options = Options {
        held_out: Some(folder.path().join("held-out.jsonl")),
        elsewhere: Some(folder.path().join("held-out.jsonl")),
        max_tokens: 12,
        ..Options::default()
    };
    for run in runs(folder.path()) {
        let (whole, parts) = ask(&run, &options, &cpu, 99).unwrap();
        parts.finish().unwrap();
        assert!(whole.contains("\"absorbed\":{\"bits\""), "{whole}");
        // Two parts, three more, and the rest of ten to fourteen.
        assert!(ask(&run, &options, &cpu, 3).is_none() && ask(&run, &options, &cpu, 6).is_none());
        assert_eq!(ask(&run, &options, &cpu, 99).unwrap().0, whole);
    }
    // What was kept, and not finished, is not taken for the answer to another question.
    let other = Options { questions: 20, ..options };
    let (fewer, _) = ask(&folder.path().join("shown"), &other, &cpu, 99).unwrap();
    let fewer: serde_json::Value = serde_json::from_str(&fewer).unwrap();
    assert_eq!(fewer["gain"]["bits"]["n"], 20);
}
