//! `pavlov credit` on a run and on an answer from elsewhere, and a run that learns from what it found.

use std::fs;

use serde_json::{Value, json};

use crate::lab::{Lab, demonstrations};

const RUN: &str = "model = \"model\"\ndata = \"rows.jsonl\"\noutput_dir = \"run\"\nlearning_rate = 1e-3\nbeta = 0.1\n\
                   per_device_train_batch_size = 8\nmax_completion_length = 6\nmax_steps = 2\nsave_steps = 0\n\
                   threads = 1\nnum_generations = 4\nrewards = [{ rule = \"length\", target = 4 }]\n";
const FEW: [&str; 8] = ["--rollouts", "4", "--ablations", "48", "--prefixes", "6", "--threads", "1"];

fn lab() -> Lab {
    let lab = Lab::new();
    lab.rows("rows.jsonl", &demonstrations(8));
    lab.file("run.toml", RUN);
    lab.run(&["grpo", "run.toml"]).ok();
    lab
}

#[test]
fn a_run_is_asked_and_a_later_one_learns_from_the_answer() {
    let lab = lab();
    let args = ["credit", "run", "--answers", "2", "--json"];
    let ran = lab.run(&[&args[..], &FEW].concat()).ok();
    assert!(ran.err.contains("will be written and scored: up to"), "{}", ran.err);
    let report = &ran.json()[0];
    let answers = report["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 2);
    for answer in answers {
        let tokens = answer["tokens"].as_array().unwrap().len();
        assert_eq!(answer["forwards"]["log_ratio"].as_array().unwrap().len(), tokens);
        assert!(answer["verdict"].is_string(), "{answer}");
        let spans = answer["values"]["spans"].as_array().unwrap();
        assert_eq!(spans.last().unwrap()["end"], tokens);
        let sum = |name: &str| -> f64 {
            let numbers = answer["values"][name].as_array().unwrap();
            numbers.iter().map(|estimate| estimate["value"].as_f64().unwrap()).sum()
        };
        let total = answer["values"]["total"]["value"].as_f64().unwrap();
        assert!((sum("deltas") - total).abs() < 1e-9 && (sum("segments") - total).abs() < 1e-9);
    }
    let kept: Value =
        serde_json::from_slice(&fs::read(lab.path("run/insight/credit.json")).unwrap()).unwrap();
    assert_eq!(kept["answers"], report["answers"]);

    // A run learns from the credit, or from a control of it.
    for control in ["insight", "shuffled"] {
        let token_credit = format!("token_credit={control}");
        let set = [
            "--set",
            "output_dir=again",
            "--set",
            "credit=run/insight/credit.parquet",
            "--set",
            &token_credit,
        ];
        let again = lab.run(&[&["grpo", "run.toml", "--overwrite", "--json"], &set[..]].concat()).ok();
        assert_eq!(again.json().last().unwrap()["model"], "again/model");
    }
    let alone = lab.run(&["grpo", "run.toml", "--overwrite", "--set", "token_credit=sparse"]);
    alone.fails(2, &["token_credit", "set credit"]);
}

#[test]
fn an_answer_from_elsewhere_is_asked_about() {
    let lab = lab();
    let row = &demonstrations(1)[0];
    let (prompt, answer) = (row["prompt"].as_str().unwrap(), row["answer"].as_str().unwrap());
    let mark = json!({"completion": answer, "marks": [{"start": 0, "end": 3, "sign": 1}]});
    lab.rows("marks.jsonl", &[mark]);
    let column = format!("answer={answer:?}");
    let args = [
        "credit",
        "--model",
        "model",
        "--prompt",
        prompt,
        "--response",
        answer,
        "--reward",
        "{ rule = \"exact\", column = \"answer\" }",
        "--column",
        &column,
        "--max-tokens",
        "12",
        "--marks",
        "marks.jsonl",
    ];
    let ran = lab.run(&[&args[..], &FEW].concat()).ok();
    assert!(ran.out.contains("Verdict: ") && ran.out.contains("reward 1.000"), "{}", ran.out);
    assert!(!ran.out.contains('\x1b'), "no colours where there is no terminal");
    let alone = [&args[..], &FEW, &["--tiers", "a", "--json"]].concat();
    let report = &lab.run(&alone).ok().json()[0];
    assert!(report["answers"][0]["verdict"].is_null());
    assert_eq!(report["answers"][0]["reward"], 1.0, "its reward is at hand");
    assert!(report["answers"][0]["marks"][0].as_f64().unwrap() > 0.0);
}

#[test]
fn an_answer_from_elsewhere_is_asked_about_with_a_runs_policy_and_data() {
    let lab = lab();
    let row = &demonstrations(8)[3];
    let (prompt, answer) = (row["prompt"].as_str().unwrap(), row["answer"].as_str().unwrap());
    let exact = "{ rule = \"exact\", column = \"answer\" }";
    let asked = ["credit", "run", "--prompt", prompt, "--response", answer, "--max-tokens", "12", "--json"];
    let own = &lab.run(&[&asked[..], &FEW].concat()).ok().json()[0];
    assert_eq!(own["model"], "run/model");
    let ran = lab.run(&[&asked[..], &FEW, &["--reward", exact]].concat()).ok();
    assert_eq!(ran.json()[0]["answers"][0]["reward"], 1.0, "the column is that of the row");
    let other = lab.run(&[&asked[..], &FEW, &["--reward", exact, "--column", "answer=no"]].concat()).ok();
    assert_eq!(other.json()[0]["answers"][0]["reward"], 0.0);
    assert!(!lab.path("run/insight/credit.json").exists(), "what is kept with a run is of its own answers");
    // What the rewards read is asked for by its flag, before anything is written.
    let unknown =
        ["credit", "run", "--prompt", "Who?", "--response", "Ana.", "--max-tokens", "12", "--reward", exact];
    lab.run(&unknown).fails(2, &["--column answer=…", "'exact'"]);
    let column = ["--column", "answer=Ana.", "--tiers", "a"];
    let ran = lab.run(&[&unknown[..], &column].concat()).ok();
    assert!(ran.out.contains("prompt 0, answer 1: reward 1.000"), "{}", ran.out);
    assert!(ran.out.contains("no verdict without the values of prefixes"), "{}", ran.out);
    for (args, missing) in [
        (&["credit"][..], "give a RUN, or --model"),
        (&["credit", "run", "--prompt", "x"], "--response"),
        (&["credit", "run", "--column", "answer=x"], "--prompt"),
        (&["credit", "run", "--prompt", "x", "--response", "y", "--answers", "2"], "--answers"),
        (&["credit", "--model", "model", "--reward", exact], "--prompt"),
        (&["credit", "--prompt", "x", "--response", "y", "--model", "model"], "--reward"),
        (&["credit", "--prompt", "x", "--response", "y", "--reward", exact], "--model"),
    ] {
        let refused = lab.run(args);
        assert!(refused.code == Some(2) && refused.err.contains(missing), "{}", refused.err);
    }
}

#[test]
fn what_cannot_be_answered_is_said() {
    let lab = lab();
    lab.run(&["credit", "run", "--step", "99"]).fails(2, &["step-000099"]);
    lab.run(&["credit", "run", "--max-tokens", "4000"]).fails(2, &["--max-tokens", "context"]);
    lab.run(&["credit", "run", "--reward", "{ rule = \"exakt\" }"]).fails(2, &["--reward", "exakt"]);
    lab.file("marks.jsonl", "{\"marks\": [{\"start\": 0, \"end\": 1, \"sign\": 1}]}");
    lab.run(&["credit", "run", "--marks", "marks.jsonl"]).fails(2, &["marks.jsonl:1", "marks answer 0"]);
    let sft = ["sft", "--set", "model=model", "--set", "data=rows.jsonl", "--set", "output_dir=sft"];
    lab.run(&[&sft[..], &["--set", "max_steps=1", "--set", "threads=1"]].concat()).ok();
    lab.run(&["credit", "sft"]).fails(2, &["sft", "--response"]);
}

#[test]
fn what_was_measured_is_found_again_by_what_it_depends_on_alone() {
    let lab = lab();
    let asked = ["credit", "run", "--answers", "2", "--tiers", "b"];
    // The report cannot be kept, so that its parts are.
    let kept = lab.path("run/insight/credit.json");
    fs::create_dir_all(&kept).unwrap();
    lab.run(&[&asked[..], &FEW].concat()).fails(2, &["credit.json"]);
    let again = lab.run(&[&asked[..], &FEW[..6], &["--threads", "2", "--batch", "7", "--json"]].concat());
    assert!(again.err.contains("going on from where it was interrupted"), "{}", again.err);
    let other = ["--reward", "{ rule = \"length\", target = 2 }"];
    fs::remove_dir(&kept).unwrap();
    let other = lab.run(&[&asked[..], &FEW, &other].concat()).ok();
    assert!(!other.err.contains("going on"), "another reward is another measurement: {}", other.err);
}
