//! Teaching by reward: rules, reward models, judges, and programs that misbehave.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::{Lab, Ran, demonstrations};

const RUN: &str = "model = \"model\"\ndata = \"rows.jsonl\"\noutput_dir = \"run\"\nlearning_rate = 1e-3\n\
                   per_device_train_batch_size = 8\nmax_completion_length = 8\nmax_steps = 2\nlogging_steps = 1\n\
                   save_steps = 0\nthreads = 1\nlog_completions_steps = 1\n";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.rows("rows.jsonl", &demonstrations(8));
    lab.file("run.toml", RUN);
    lab
}

fn grpo(lab: &Lab, reward: &str, more: &[&str]) -> Ran {
    let reward = format!("rewards=[{reward}]");
    lab.run(&[&["grpo", "run.toml", "--json", "--set", "num_generations=4", "--set", &reward], more].concat())
}

#[test]
fn grpo_logs_rewards_and_keeps_rollouts() {
    let lab = lab();
    let two = "{rule = \"exact\", column = \"answer\"}, {rule = \"length\", target = 4, weight = 0.5}";
    let ran = grpo(&lab, two, &[]).ok();
    let lines = ran.json();
    assert_eq!(lines.len(), 3);
    for line in &lines[..2] {
        let number = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("{name} is missing: {line}"));
        let sum = number("rewards/exact/mean") + 0.5 * number("rewards/length/mean");
        assert!((number("reward") - sum).abs() < 1e-9, "{line}");
        assert!((1.0..=8.0).contains(&number("completions/mean_length")));
    }
    assert_eq!(lines[2]["model"], "run/model");
    assert!(lab.path("run/rollouts/step-000001.parquet").exists());
    assert!(ran.err.contains("· reward ") && ran.err.contains(" → "), "answers are shown: {}", ran.err);
}

#[test]
fn a_reward_model_is_taught_and_then_teaches() {
    let lab = lab();
    let comparison =
        |row: &Value| json!({"prompt": row["prompt"], "chosen": row["answer"], "rejected": "Ana Ana Ana"});
    let comparisons: Vec<Value> = demonstrations(24).iter().map(comparison).collect();
    lab.rows("pairs.jsonl", &comparisons[..16]);
    lab.rows("held-out.jsonl", &comparisons[16..]);
    let args = [
        "reward",
        "--json",
        "--set",
        "model=model",
        "--set",
        "data=pairs.jsonl",
        "--set",
        "eval_data=held-out.jsonl",
    ];
    let more = [
        "--set",
        "output_dir=rm",
        "--set",
        "max_steps=20",
        "--set",
        "learning_rate=3e-3",
        "--set",
        "threads=1",
    ];
    let lines = lab.run(&[&args[..], &more].concat()).ok().json();
    assert!(lines.last().unwrap()["eval_accuracy"].as_f64().unwrap() > 0.8, "{lines:?}");

    grpo(&lab, "{model = \"rm/model\"}", &[]).ok();
    let judged = ["pairwise", "run.toml", "--overwrite", "--json", "--set", "judge={model = \"rm/model\"}"];
    let lines = lab.run(&judged).ok().json();
    assert_eq!(lines.len(), 3);
    // A reward model writes no text.
    lab.run(&["sample", "--model", "rm/model", "--prompt", "Ana"]).fails(2, &["rm/model", "reward model"]);
}

#[test]
fn settings_of_rewards_that_are_wrong_are_named() {
    let lab = lab();
    grpo(&lab, "{rule = \"exakt\"}", &[]).fails(2, &["rewards", "exakt"]);
    grpo(&lab, "{rule = \"exact\", column = \"solution\"}", &[]).fails(2, &["exact", "solution"]);
    grpo(&lab, "{model = \"model\"}", &[]).fails(2, &["model"]);
    grpo(&lab, "{rule = \"regex\", pattern = \"(\"}", &[]).fails(2, &["rewards.pattern"]);
    grpo(&lab, "{rule = \"exact\", column = \"answer\"}", &["--set", "top_p=0.9"])
        .fails(2, &["top_p", "ratio"]);
}

#[cfg(unix)]
#[test]
fn programs_that_die_hang_or_print_garbage_stop_the_run() {
    let lab = lab();
    let program = |script: &str| format!("{{program = [\"sh\", \"-c\", \"{script}\"], timeout = 1}}");
    let named = "reward program";
    grpo(&lab, &program("read line; echo out of memory >&2; exit 3"), &[])
        .fails(1, &[named, "ended", "out of memory"]);
    grpo(&lab, &program("cat > /dev/null; sleep 60"), &["--overwrite"]).fails(1, &[named, "1 s"]);
    grpo(&lab, &program("read line; echo good"), &["--overwrite"]).fails(1, &[named, "good"]);
    grpo(&lab, "{program = [\"./no-such-program\"]}", &["--overwrite"])
        .fails(1, &[named, "cannot be started"]);
    assert!(!lab.path("run/model").exists());
}

#[cfg(unix)]
#[test]
fn a_program_that_dies_later_leaves_the_checkpoints_whole() {
    let lab = lab();
    // Answers eight lines and dies at the ninth.
    let script = "n=0; while read line; do [ $n -lt 8 ] || exit 1; echo \\\"{\\\\\\\"id\\\\\\\": $n, \\\\\\\"reward\\\\\\\": $n}\\\"; n=$((n+1)); done";
    let program = format!("{{program = [\"sh\", \"-c\", \"{script}\"]}}");
    grpo(&lab, &program, &["--set", "save_steps=1"]).fails(1, &["reward program", "ended"]);
    let saved = "run/checkpoints/step-000001";
    lab.run(&["sample", "--model", saved, "--prompt", "Ana", "--max-tokens", "2"]).ok();
    let rule = "rewards=[{rule = \"length\", target = 4}]";
    lab.run(&["grpo", "run.toml", "--resume", "--set", "num_generations=4", "--set", rule]).ok();
    assert!(lab.path("run/model/model.safetensors").exists());
}

#[cfg(unix)]
#[test]
fn ctrl_c_twice_leaves_a_program_that_hangs() {
    use rustix::process::{Pid, Signal, kill_process};
    let lab = lab();
    let rewards = "rewards=[{program = [\"sh\", \"-c\", \"read line; echo > asked; sleep 60\"]}]";
    let args = ["grpo", "run.toml", "--set", "num_generations=4", "--set", rewards];
    let mut command = lab.command(&args);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let start = Instant::now();
    while !lab.path("asked").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the program was not asked");
        std::thread::sleep(Duration::from_millis(10));
    }
    let interrupted = Instant::now();
    for _ in 0..2 {
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(interrupted.elapsed() < Duration::from_secs(20));
    assert_eq!(fs::read_dir(lab.path("run/checkpoints")).unwrap().count(), 0, "no half checkpoint");
}
