//! The verbs that teach: machine output, resuming, a full disk.

use std::fs;

use serde_json::Value;

use crate::lab::{Lab, Ran, demonstrations, tree};

const RUN: &str = "model = \"model\"\ndata = \"rows.jsonl\"\noutput_dir = \"run\"\nlearning_rate = 1e-2\n\
                   per_device_train_batch_size = 4\nmax_steps = 6\nlogging_steps = 2\nsave_steps = 2\nthreads = 1\n";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.rows("rows.jsonl", &demonstrations(16));
    lab.rows("held-out.jsonl", &demonstrations(20)[16..]);
    lab.file("run.toml", RUN);
    lab
}

/// Metrics without what a clock says.
fn timeless(lines: Vec<Value>) -> Vec<Value> {
    let drop = |mut line: Value| {
        line.as_object_mut().unwrap().shift_remove("step_time");
        line
    };
    lines.into_iter().map(drop).collect()
}

#[test]
fn sft_learns_and_stdout_has_the_lines_of_metrics_jsonl_alone() {
    let lab = lab();
    let ran = lab.run(&["sft", "run.toml", "--json", "--set", "eval_data=held-out.jsonl"]).ok();
    let mut lines = ran.json();
    let last = lines.pop().unwrap();
    assert_eq!(last["step"], 6);
    assert_eq!(last["model"], "run/model");
    assert!(last["eval_loss"].is_f64());
    assert_eq!(lines, lab.json_lines("run/metrics.jsonl"));
    let losses: Vec<f64> = lines.iter().filter_map(|line| line["loss"].as_f64()).collect();
    assert!(losses.len() == 3 && losses[2] < losses[0] - 0.5, "{losses:?}");
    assert!(ran.err.contains("step 6/6 · loss ") && ran.err.contains("tokens/s"), "{}", ran.err);
    lab.run(&["sample", "--model", "run/model", "--prompt", "Where is Ana ?"]).ok();

    let again = lab.run(&["sft", "run.toml"]);
    again.fails(2, &["run", "holds another run"]);
    lab.run(&["sft", "run.toml", "--overwrite"]).ok();
}

#[test]
fn pretrain_learns_every_token() {
    let lab = lab();
    let worlds: Vec<Value> =
        (0..40).map(|i| serde_json::json!({"text": format!("Ana has {} apples .", i % 9)})).collect();
    lab.rows("rows.jsonl", &worlds);
    let args = ["pretrain", "run.toml", "--json", "--set", "max_length=32", "--set", "max_steps=10"];
    let lines = lab.run(&args).ok().json();
    let losses: Vec<f64> = lines.iter().filter_map(|line| line["loss"].as_f64()).collect();
    assert!(losses.last().unwrap() < &(losses[0] - 1.0), "{losses:?}");
}

#[test]
fn a_run_on_a_full_disk_keeps_its_checkpoints_and_resumes() {
    let lab = lab();
    lab.run(&["sft", "run.toml", "--set", "output_dir=whole"]).ok();
    // The first half.
    lab.run(&["sft", "run.toml", "--set", "max_steps=4", "--set", "lr_scheduler_type=constant"]).ok();
    let before = tree(&lab.path("run/checkpoints"));
    assert_eq!(fs::read_dir(lab.path("run/checkpoints")).unwrap().count(), 2);
    if cfg!(unix) {
        // No file above 16 or 32 KiB (shells differ) may be written: a small model's checkpoint has larger ones.
        let script = "trap '' XFSZ; ulimit -f 32; exec \"$0\" \"$@\"";
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_pavlov"), "sft", "run.toml", "--resume"]);
        command.args(["--set", "lr_scheduler_type=constant"]).current_dir(lab.path(""));
        Ran::of(command.output().unwrap()).fails(1, &["run", "could not be saved", "step-000004 is whole"]);
        assert_eq!(tree(&lab.path("run/checkpoints")), before, "the checkpoints are as they were");
    }
    lab.run(&["sft", "run.toml", "--resume", "--set", "lr_scheduler_type=constant"]).ok();
    // The same as a run that nothing stopped.
    lab.run(&["sft", "run.toml", "--set", "output_dir=straight", "--set", "lr_scheduler_type=constant"]).ok();
    let weights = |run: &str| fs::read(lab.path(run).join("model/model.safetensors")).unwrap();
    assert!(weights("run") == weights("straight"), "resumed and straight differ");
    assert!(weights("run") != weights("whole"), "another schedule, other weights");
    let metrics = |run: &str| timeless(lab.json_lines(&format!("{run}/metrics.jsonl")));
    assert_eq!(metrics("run"), metrics("straight"));
}
