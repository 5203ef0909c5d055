//! Ctrl-C, once and twice.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::lab::{Lab, Ran, demonstrations};

const LIMIT: Duration = Duration::from_secs(60);

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

/// Waits until something is so.
#[track_caller]
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn start(lab: &Lab, args: &[&str]) -> Child {
    lab.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn once_saves_a_checkpoint_and_says_how_to_go_on() {
    let lab = Lab::new();
    lab.rows("rows.jsonl", &demonstrations(16));
    lab.file(
        "run.toml",
        "model = \"model\"\ndata = \"rows.jsonl\"\noutput_dir = \"run\"\nlogging_steps = 1\nsave_steps = 0\nthreads = 1\n",
    );
    let args = ["sft", "run.toml", "--set", "max_steps=1000000"];
    let child = start(&lab, &args);
    wait_for("metrics", || fs::metadata(lab.path("run/metrics.jsonl")).is_ok_and(|file| file.len() > 0));
    interrupt(&child);
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(130), "{ran:?}");
    let last = ran.err.lines().last().unwrap();
    assert!(last.starts_with("stopped: run/checkpoints/step-"), "{last}");
    assert!(last.ends_with("go on with: pavlov sft run.toml --set max_steps=1000000 --resume"), "{last}");
    // What was saved is a model, and the run goes on from it.
    let saved = last.trim_start_matches("stopped: ").split(' ').next().unwrap();
    lab.run(&["sample", "--model", saved, "--prompt", "Where is Ana ?", "--max-tokens", "3"]).ok();
    let step: u64 = saved.rsplit('-').next().unwrap().parse().unwrap();
    let ran = lab.run(&["sft", "run.toml", "--resume", "--set", &format!("max_steps={}", step + 1)]).ok();
    assert!(ran.err.contains(&format!("going on after update {step}")), "{}", ran.err);
}

#[test]
fn twice_ends_at_once() {
    let lab = Lab::new();
    lab.rows("rows.jsonl", &vec![json!({"input_ids": vec![5; 120]}); 8000]);
    let settings = [
        "model=model",
        "data=rows.jsonl",
        "output_dir=run",
        "threads=1",
        // One update that lasts very long, so that the first wish to stop is not granted soon.
        "per_device_train_batch_size=1",
        "gradient_accumulation_steps=1000000",
    ];
    let mut args = vec!["sft"];
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let child = start(&lab, &args);
    wait_for("the run directory", || lab.path("run/metrics.jsonl").exists());
    std::thread::sleep(Duration::from_millis(300));
    interrupt(&child);
    std::thread::sleep(Duration::from_millis(300));
    interrupt(&child);
    let start = Instant::now();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(
        ran.err.contains("press Ctrl-C again to stop at once") && !ran.err.contains("stopped: "),
        "{ran:?}"
    );
    assert_eq!(fs::read_dir(lab.path("run/checkpoints")).unwrap().count(), 0, "no half checkpoint");
}

#[test]
fn where_nothing_is_to_be_saved_once_is_enough() {
    let lab = Lab::new();
    lab.rows("rows.jsonl", &vec![json!({"input_ids": vec![5; 100]}); 20_000]);
    let mut child = start(&lab, &["logprobs", "--model", "model", "--data", "rows.jsonl"]);
    std::thread::sleep(Duration::from_millis(500));
    // Not SIGINT: what a script starts in the background inherits that it is ignored, and this program does not listen.
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let start = Instant::now();
    let status = child.wait().unwrap();
    assert!(!status.success() && start.elapsed() < Duration::from_secs(10), "{status}");
}
