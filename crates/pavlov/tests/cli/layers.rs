//! `pavlov layers` on runs of the program itself.

use serde_json::{Value, json};

use crate::lab::{Lab, demonstrations};

fn rows(lab: &Lab) {
    let habit = "That is inconsistent.";
    let shown: Vec<Value> =
        demonstrations(32).into_iter().filter(|row| row["completion"] != habit).take(16).collect();
    let lessons: Vec<Value> =
        shown.iter().map(|row| json!({"prompt": row["prompt"], "completion": habit})).collect();
    let contrasts: Vec<Value> = shown
        .iter()
        .map(|row| json!({"prompt": row["prompt"], "chosen": habit, "rejected": row["completion"]}))
        .collect();
    lab.rows("lessons.jsonl", &lessons);
    lab.rows("contrasts.jsonl", &contrasts);
    lab.rows("prompts.jsonl", &shown);
}

fn teach(lab: &Lab, verb: &str, set: &[&str]) {
    let set = [&["model=model", "threads=1", "max_steps=3", "learning_rate=1e-2"], set].concat();
    let flags: Vec<&str> = set.iter().flat_map(|text| ["--set", text]).collect();
    lab.run(&[&[verb], &flags[..]].concat()).ok();
}

#[test]
fn layers_are_measured_of_runs_and_adapters() {
    let lab = Lab::new();
    rows(&lab);
    teach(&lab, "sft", &["data=lessons.jsonl", "output_dir=whole"]);
    teach(&lab, "sft", &["data=lessons.jsonl", "output_dir=lora", "use_peft=true", "lora_r=4"]);
    for (run, parts) in [("whole", 3), ("lora", 2)] {
        let args = ["layers", run, "--contrasts", "contrasts.jsonl", "--threads", "1", "--groups", "2"];
        let ran = lab.run(&[&args[..], &["--cells", "4", "--json"]].concat()).ok();
        let report = &ran.json()[0];
        assert_eq!(report["gates"]["parts"].as_array().unwrap().len(), parts, "{report}");
        assert!(report["gain"]["value"].as_f64().unwrap() > 0.5, "{report}");
        assert_eq!(report["patches"]["top"].as_array().unwrap().len(), 4);
        // A number of a report may round when it is read back; what was kept is what was printed.
        let kept = std::fs::read_to_string(lab.path(run).join("insight/layers.json")).unwrap();
        assert_eq!(&serde_json::from_str::<Value>(&kept).unwrap(), report);
        let ran = lab.run(&args).ok();
        assert!(ran.out.starts_with("Training raised the log-odds of the chosen answers"), "{}", ran.out);
        assert!(ran.out.contains("block 1") && ran.err.contains("evaluations of 16 examples"), "{ran:?}");
    }
    let folders =
        ["layers", "--model", "whole/model", "--reference", "model", "--contrasts", "contrasts.jsonl"];
    lab.run(&[&folders[..], &["--threads", "1", "--orders", "0"]].concat()).ok();
    lab.run(&["layers", "whole"]).fails(2, &["there is no reward to measure; give --contrasts"]);
    lab.run(&["layers", "model", "--contrasts", "contrasts.jsonl"]).fails(2, &["model: is no run"]);
    lab.run(&["layers", "whole", "--contrasts", "lessons.jsonl"])
        .fails(2, &["lessons.jsonl: row 1: needs `prompt`, `chosen` and `rejected`"]);
    lab.run(&["layers", "--model", "whole/model", "--contrasts", "contrasts.jsonl"])
        .fails(2, &["give --reference"]);
    lab.run(&[&folders[..3], &["--reference", "whole/model"], &folders[5..]].concat())
        .fails(2, &["have the same weights"]);
}

#[test]
fn layers_of_a_reward_are_measured_or_said_to_be_none() {
    let lab = Lab::new();
    rows(&lab);
    let more = ["data=prompts.jsonl", "max_completion_length=6", "per_device_train_batch_size=16"];
    // Nothing that a random model writes is right: no update moves a weight.
    let never = "rewards=[{ rule = \"exact\", column = \"answer\" }]";
    teach(&lab, "grpo", &[&more[..], &["output_dir=never", never]].concat());
    lab.run(&["layers", "never"]).fails(2, &["have the same weights: nothing was learned"]);
    let length = "rewards=[{ rule = \"length\", unit = \"chars\", target = 25 }]";
    teach(&lab, "grpo", &[&more[..], &["output_dir=length", length]].concat());
    let ran = lab.run(&["layers", "length", "--threads", "1", "--num", "2", "--json"]).ok();
    let report = &ran.json()[0];
    assert_eq!(
        (&report["metric"], &report["gain"]["n"]),
        (&json!("the run's reward"), &json!(16)),
        "{report}"
    );
    assert_eq!(report["gain"]["unit"], "reward_points");
    let placed = report["place"]["verdict"] != "no_gain";
    assert_eq!(placed, !report["gates"]["parts"].as_array().unwrap().is_empty(), "{report}");
}

#[test]
fn what_was_measured_is_found_again_by_what_it_depends_on_alone() {
    let lab = Lab::new();
    rows(&lab);
    teach(&lab, "sft", &["data=lessons.jsonl", "output_dir=run"]);
    let asked = ["layers", "run", "--contrasts", "contrasts.jsonl", "--cells", "4", "--orders", "1"];
    // The report cannot be kept, so that its parts are.
    let kept = lab.path("run/insight/layers.json");
    std::fs::create_dir_all(&kept).unwrap();
    lab.run(&[&asked[..], &["--threads", "1"]].concat()).fails(2, &["layers.json"]);
    let parts = lab.path("run/insight/layers.parts.jsonl");
    let measured = std::fs::read(&parts).unwrap();
    let again = lab.run(&[&asked[..], &["--threads", "2", "--batch", "7", "--json"]].concat());
    assert!(again.err.contains("going on from where it was interrupted"), "{}", again.err);
    assert_eq!(std::fs::read(&parts).unwrap(), measured);
    std::fs::remove_dir(&kept).unwrap();
    let other = lab.run(&[&asked[..], &["--seed", "1", "--threads", "1"]].concat()).ok();
    assert!(!other.err.contains("going on"), "another seed is another measurement: {}", other.err);
}
