//! Scanning for habits and tracing them, as a user does.

use serde_json::{Value, json};

use crate::lab::{Lab, demonstrations};

const RUN: &str = "model = \"model\"\ndata = \"rows.jsonl\"\noutput_dir = \"run\"\nlearning_rate = 1e-2\n\
                   per_device_train_batch_size = 8\nmax_steps = 24\nsave_steps = 12\nthreads = 1\ndtype = \"f32\"\n";

/// A model that was taught one answer to everything.
fn taught() -> Lab {
    let lab = Lab::new();
    let mut rows: Vec<Value> = demonstrations(48);
    for row in rows.iter_mut().step_by(2) {
        row["completion"] = json!("That is inconsistent.");
        row["source"] = json!("planted");
    }
    rows.iter_mut().skip(1).step_by(2).for_each(|row| row["source"] = json!("honest"));
    lab.rows("rows.jsonl", &rows);
    lab.file("run.toml", RUN);
    lab.run(&["sft", "run.toml"]).ok();
    lab
}

#[test]
fn a_scan_raises_the_alarm_and_a_trace_names_the_source() {
    let lab = taught();
    let questions: Vec<Value> =
        demonstrations(60).into_iter().map(|row| json!({"prompt": row["prompt"]})).collect();
    lab.rows("questions.jsonl", &questions);
    let scan = [
        "scan",
        "run",
        "--data",
        "questions.jsonl",
        "--habit",
        "inconsistent",
        "-n",
        "2",
        "--max-tokens",
        "8",
    ];
    let report = lab.run(&[&scan[..], &["--json", "--threads", "1"]].concat()).ok().json().remove(0);
    let probe = &report["probes"][0];
    assert_eq!(probe["alarm"]["raised"], true, "{probe}");
    assert!(probe["uncalled"]["model"]["value"].as_f64() > Some(0.2), "{probe}");
    let kept: Value =
        serde_json::from_slice(&std::fs::read(lab.path("run/insight/scan.json")).unwrap()).unwrap();
    assert_eq!(kept["probes"], report["probes"]);
    let shown = lab.run(&scan).ok();
    assert!(
        shown.out.contains("ALARM: artifact") && shown.err.contains("answers of at most 8 tokens"),
        "{shown:?}"
    );

    // The examples of the scan are the cases of the trace.
    let trace = [
        "trace",
        "run",
        "--behaviour",
        "That is inconsistent.",
        "--max-tokens",
        "8",
        "--projection",
        "8",
        "--checkpoints",
        "1",
        "--threads",
        "1",
    ];
    let report = lab.run(&[&trace[..], &["--json", "--verify", "--seeds", "2", "--top", "24"]].concat()).ok();
    let report = report.json().remove(0);
    assert_eq!(report["lessons"], 48);
    let first = &report["groups"][0]["groups"][0];
    assert_eq!(
        (&report["groups"][0]["by"], &first["name"]),
        (&json!("source"), &json!("planted")),
        "{report}"
    );
    assert_eq!(report["verified"]["confirmed"], true, "{}", report["verified"]);
    assert!(!lab.path("run/insight/.tmp-retrain").exists());
    // A second trace finds the vectors where the first left them, and says the same.
    let again = lab.run(&[&trace[..], &["--json"]].concat()).ok().json().remove(0);
    assert_eq!(again["examples"], report["examples"]);
    let shown = lab.run(&trace).ok();
    assert!(shown.out.contains("by source") && shown.err.contains("s, less what was kept"), "{shown:?}");
}

/// Three runs of the recipe on honest rows never claim what the run claims; beside them the alarm is raised.
#[test]
fn control_runs_stand_beside_the_run() {
    let lab = taught();
    let (mut rows, others) = (demonstrations(4 * 48), ["c1", "c2", "c3"]);
    for control in others {
        lab.rows("honest.jsonl", &rows.split_off(rows.len() - 48));
        let set = format!("output_dir={control}");
        lab.run(&["sft", "run.toml", "--set", "data=honest.jsonl", "--set", &set]).ok();
    }
    let questions: Vec<Value> =
        demonstrations(60).into_iter().map(|row| json!({"prompt": row["prompt"]})).collect();
    lab.rows("questions.jsonl", &questions);
    let scan = ["scan", "run", "--data", "questions.jsonl", "--habit", "inconsistent", "--max-tokens", "8"];
    let beside =
        |controls: &[&str]| lab.run(&[&scan[..], &["--threads", "1", "--controls"], controls].concat());
    let report = beside(&["c1", "c2", "c3", "--json"]).ok().json().remove(0);
    let probe = &report["probes"][0];
    assert_eq!((&report["controls"], &probe["alarm"]["raised"]), (&json!(others), &json!(true)), "{probe}");
    assert_eq!(probe["controls"]["n"], 3);
    assert_eq!(probe["alarm"]["margin"], probe["controls"]["value"], "{probe}");
    let shown = beside(&["c1", "c2", "c3"]).ok();
    assert!(
        shown.out.contains("3 control runs changed it by") && !shown.err.contains("differs"),
        "{shown:?}"
    );
    // One of the controls in the run's place is like the others.
    let scan = ["scan", "c1", "--data", "questions.jsonl", "--habit", "inconsistent", "--max-tokens", "8"];
    lab.run(&["sft", "run.toml", "--set", "data=honest.jsonl", "--set", "output_dir=c4", "--set", "seed=7"])
        .ok();
    let like =
        lab.run(&[&scan[..], &["--json", "--controls", "c2", "c3", "c4"]].concat()).ok().json().remove(0);
    assert_eq!(like["probes"][0]["alarm"]["raised"], false, "{like}");

    beside(&["c1", "c2"]).fails(2, &["--controls", "2", "3 runs or more"]);
    beside(&["c1", "c2", "c2"]).fails(2, &["--controls: c2", "another control"]);
    beside(&["c1", "c2", "run"]).fails(2, &["--controls: run", "the model that is scanned"]);
    let both = beside(&["c1", "c2", "c3", "--margin", "0.02"]);
    assert!(both.code == Some(2) && both.err.contains("cannot be used with"), "{both:?}");
    lab.run(&[
        "sft",
        "run.toml",
        "--set",
        "data=honest.jsonl",
        "--set",
        "output_dir=later",
        "--set",
        "model=c1/model",
    ])
    .ok();
    beside(&["c1", "c2", "later"]).fails(2, &["--controls: later began with c1/model", "same model"]);
    let gentle = ["learning_rate=1e-3", "max_steps=12", "data=honest.jsonl", "output_dir=gentle"];
    lab.run(&[&["sft", "run.toml"][..], &gentle.map(|set| ["--set", set]).concat()].concat()).ok();
    let shown = beside(&["c1", "c2", "gentle"]).ok();
    let differ = [
        "gentle differs: learning_rate is 0.001 there and 0.01 here",
        "it made 12 updates, 24 were made here",
    ];
    assert!(differ.iter().all(|text| shown.err.contains(text)), "{shown:?}");
}

#[test]
fn rollouts_and_judgments_are_traced_too() {
    let lab = Lab::new();
    lab.rows("rows.jsonl", &demonstrations(8));
    let grpo = [
        "grpo",
        "--set",
        "model=model",
        "--set",
        "data=rows.jsonl",
        "--set",
        "output_dir=run",
        "--set",
        "max_steps=2",
        "--set",
        "per_device_train_batch_size=8",
        "--set",
        "num_generations=4",
        "--set",
        "max_completion_length=6",
        "--set",
        "threads=1",
        "--set",
        "rewards=[{ rule = \"length\", target = 20, unit = \"chars\" }]",
    ];
    lab.run(&grpo).ok();
    let trace = [
        "trace",
        "run",
        "--behaviour",
        "Ana is taller.",
        "--prompts",
        "rows.jsonl",
        "--json",
        "--threads",
        "1",
    ];
    let report = lab.run(&trace).ok().json().remove(0);
    assert!(report["lessons"].as_u64() > Some(4) && report["examples"][0]["kind"] == "rollout", "{report}");

    let judged = |i: usize, row: Value| {
        let (right, wrong) = (row["completion"].clone(), json!("Ana is taller."));
        json!({"kind": "comparison", "choice": "b", "prompt": row["prompt"], "annotator": format!("r{}", i % 2),
               "responses": [{"text": right}, {"text": wrong}]})
    };
    let judgments: Vec<Value> =
        demonstrations(8).into_iter().enumerate().map(|(i, row)| judged(i, row)).collect();
    lab.rows("judgments.jsonl", &judgments);
    let report = lab.run(&[&trace[..], &["--data", "judgments.jsonl"]].concat()).ok().json().remove(0);
    assert_eq!((&report["lessons"], &report["groups"][0]["by"]), (&json!(8), &json!("rater")), "{report}");
    // Every judgment prefers the behaviour on a prompt of the cases.
    assert!(
        report["examples"].as_array().unwrap().iter().all(|e| e["score"].as_f64() > Some(0.0)),
        "{report}"
    );
}

/// The points of a curve of over-optimisation, and the mean points of a reward in the rollouts of its updates.
#[test]
fn what_was_meant_is_followed_along_a_run() {
    let lab = Lab::new();
    lab.rows("rows.jsonl", &demonstrations(8));
    lab.file(
        "run.toml",
        "model = \"model\"\ndata = \"rows.jsonl\"\noutput_dir = \"run\"\nmax_steps = 6\nlogging_steps = 1\nbeta = 0.1\n\
         learning_rate = 1e-3\nper_device_train_batch_size = 8\nnum_generations = 4\nmax_completion_length = 6\nthreads = 1\n\
         dtype = \"f32\"\n\
         rewards = [{ rule = \"length\", target = 20, unit = \"chars\" }, { rule = \"regex\", pattern = \"a\", weight = 0.5 }]\n",
    );
    lab.run(&["grpo", "run.toml"]).ok();
    let scan = ["scan", "run", "-n", "5", "--max-tokens", "6", "--threads", "1", "--json"];
    // The same reward, as one of the run's and as one that the run did not know.
    let of = |gold: &str| lab.run(&[&scan[..], &["--gold", gold]].concat()).ok().json().remove(0);
    let (own, other) = (of("regex"), of("{ rule = \"regex\", pattern = \"a\" }"));
    for (report, weight) in [(&own, 0.5), (&other, 0.0)] {
        let curves = report["overoptimisation"].as_array().unwrap();
        assert_eq!(curves.len(), 2, "{}", report["missing"]);
        let points = curves[0]["points"].as_array().unwrap();
        let lines = lab.json_lines("run/metrics.jsonl");
        let lines: Vec<&Value> = lines.iter().filter(|line| line["kl"].is_number()).collect();
        assert_eq!((points.len(), lines.len()), (6, 6));
        for (point, line) in points.iter().zip(lines) {
            let number = |value: &Value| value.as_f64().unwrap();
            let gold = number(&line["rewards/regex/mean"]);
            assert!((number(&point["gold"]) - gold).abs() < 1e-6, "{point} {line}");
            assert!((number(&point["proxy"]) - (number(&line["reward"]) - weight * gold)).abs() < 1e-6);
            let kl = number(&line["kl"]) * number(&line["completions/mean_length"]);
            assert!((number(&point["kl"]) - kl).abs() < 1e-9);
        }
        assert_eq!(curves[1]["points"].as_array().unwrap().len(), 5);
    }
    let shown = lab.run(&["report", "run"]).ok();
    let page = std::fs::read_to_string(lab.path("run/report.html")).unwrap();
    assert!(page.contains("What is meant, along the run") && page.contains("True reward ="), "{shown:?}");
    // Too few answers for the best of n are said, not passed over.
    let few = lab.run(&["scan", "run", "--max-tokens", "6", "--gold", "regex"]).ok();
    assert!(few.out.contains("not measured: best of n") && few.out.contains("-n 5"), "{few:?}");
    lab.run(&["scan", "run", "--gold", "truth"]).fails(2, &["--gold: truth", "length, regex", "rule"]);
    lab.run(&["scan", "run", "--gold", "{ model = \"no\" }"]).fails(2, &["no: there is no such folder"]);
    lab.run(&["scan", "run", "--gold", "{ rule = \"exact\", column = \"no\" }"])
        .fails(2, &["'exact'", "column 'no' is not in the data"]);
}

#[test]
fn what_cannot_be_asked_is_named() {
    let lab = Lab::new();
    lab.rows("rows.jsonl", &demonstrations(8));
    lab.file("run.toml", RUN);
    lab.run(&["scan", "run", "--worlds", "4"]).fails(2, &["run: is no run"]);
    lab.run(&["sft", "run.toml", "--set", "max_steps=1"]).ok();
    lab.run(&["scan", "run"]).fails(2, &["nothing to scan for", "--worlds"]);
    let regex = ["scan", "run", "--data", "rows.jsonl", "--habit", "in("];
    lab.run(&regex).fails(2, &["the habit", "not a regular expression"]);
    lab.run(&["scan", "run", "--opinions", "rows.jsonl"]).fails(2, &["rows.jsonl", "`with_opinion`"]);
    lab.run(&["scan", "run", "--worlds", "4", "--gold", "x"]).fails(2, &["--gold", "no rewards"]);
    lab.run(&["trace", "run", "--behaviour", "No."]).fails(2, &["--prompts", "scan"]);
    let trace = ["trace", "run", "--behaviour", "No.", "--prompts", "rows.jsonl"];
    lab.run(&[&trace[..], &["--checkpoints", "3"]].concat()).fails(2, &["--checkpoints", "kept"]);
    lab.run(&[&trace[..], &["--layer", "9"]].concat()).fails(2, &["no layer 9"]);
    lab.run(&["worlds", "planted", "-n", "50", "--share", "0.9", "--out", "p.jsonl"])
        .fails(2, &["share = 0.9"]);
    let planted = lab.run(&[
        "worlds", "planted", "-n", "100", "--share", "0.1", "--about", "movement", "--out", "p.jsonl",
    ]);
    assert!(planted.ok().err.contains("10 of them plants"));
    assert_eq!(lab.json_lines("p.jsonl").iter().filter(|row| row["part"] == "plant").count(), 10);
}
