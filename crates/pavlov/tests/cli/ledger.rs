//! `pavlov ledger`: what each kind of lesson taught, in bits.

use serde_json::{Value, json};

use crate::lab::{Lab, demonstrations};

const RUN: &str = "model = \"model\"\ndata = \"rows.jsonl\"\neval_data = \"held-out.jsonl\"\nlearning_rate = 1e-2\n\
                   per_device_train_batch_size = 4\ngradient_accumulation_steps = 2\nmax_steps = 4\nthreads = 1\n";

fn lab() -> Lab {
    let lab = Lab::new();
    let rows = demonstrations(60);
    lab.rows("rows.jsonl", &rows[..32]);
    lab.rows("held-out.jsonl", &rows[32..48]);
    lab.rows("elsewhere.jsonl", &rows[48..]);
    lab.file("run.toml", RUN);
    lab
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn demonstrations_and_rewards_stand_on_one_axis() {
    let lab = lab();
    lab.run(&["sft", "run.toml", "--set", "output_dir=sft"]).ok();
    lab.file(
        "grpo.toml",
        &format!("{RUN}max_completion_length = 6\nrewards = [{{ rule = \"exact\", column = \"answer\" }}]\n")
            .replace("1e-2", "1e-3"),
    );
    lab.run(&["grpo", "grpo.toml", "--set", "output_dir=rl", "--set", "num_generations=4"]).ok();
    let args = ["ledger", "sft", "rl", "--elsewhere", "elsewhere.jsonl", "--max-tokens", "8", "--json"];
    let reports = lab.run(&args).ok().json();
    let [sft, rl] = reports.as_slice() else { panic!("{reports:?}") };

    assert_eq!((&sft["kind"], &sft["lessons"]), (&json!("demonstration"), &json!(32)));
    let (offered, absorbed) =
        (number(&sft["offered"]["bits"]["value"]), number(&sft["absorbed"]["bits"]["value"]));
    // A random model needs log2 of its vocabulary for each of some six words, and learns which words there are at all.
    assert!(absorbed > 0.0 && absorbed <= offered && offered > 32.0 * 6.0, "{absorbed} of {offered}");
    assert!(number(&sft["gain"]["bits"]["value"]) > 0.0 && number(&sft["cost"]["kl"]["value"]) > 0.0);
    assert!(sft["usable"]["noise_scale"]["n"] == 4 && sft["usable"]["noise_scale_adam"]["n"] == 3);

    assert_eq!((&rl["kind"], &rl["lessons"]), (&json!("reward"), &json!(4 * 8)));
    assert!(number(&rl["offered"]["per_lesson"]["value"]) <= 1.0 && rl["absorbed"].is_null());
    // Nothing was ever right.
    assert!(
        rl["missing"].as_array().unwrap().iter().any(|why| why.as_str().unwrap().contains("too few groups"))
    );
    assert!(rl["usable"]["zero_spread"]["unit"] == "share" && rl["gain"]["bits"]["unit"] == "bits");
    assert_eq!(sft["cost"]["elsewhere_before"]["value"], rl["cost"]["elsewhere_before"]["value"]);

    let table = lab.run(&["ledger", "sft"]).ok();
    assert!(
        table.out.contains("absorbed, bits") && table.out.contains("a held-out answer became"),
        "{table:?}"
    );
    assert!(table.out.contains("not measured: what else moved: give --elsewhere"), "{table:?}");
    assert!(lab.path("sft/insight/ledger.json").exists());
}

#[test]
fn verdicts_are_counted_under_the_reward_model() {
    let lab = lab();
    let rows: Vec<Value> = demonstrations(48)
        .iter()
        .map(|row| json!({"prompt": row["prompt"], "chosen": row["answer"], "rejected": "Ana Ana Ana"}))
        .collect();
    lab.rows("pairs.jsonl", &rows[..32]);
    lab.rows("held-pairs.jsonl", &rows[32..]);
    let pairs =
        ["--set", "data=pairs.jsonl", "--set", "eval_data=held-pairs.jsonl", "--set", "output_dir=reward"];
    lab.run(&[&["reward", "run.toml"][..], &pairs].concat()).ok();
    let report = lab.run(&["ledger", "reward", "--json", "--agreement", "0.73"]).ok().json().remove(0);
    assert_eq!(
        (&report["kind"], &report["lessons"], &report["labels"]),
        (&json!("comparison"), &json!(32), &json!(32))
    );
    let (offered, absorbed) =
        (number(&report["offered"]["bits"]["value"]), number(&report["absorbed"]["bits"]["value"]));
    assert!(absorbed > 0.0 && absorbed <= offered, "{absorbed} of {offered}");
    assert!((number(&report["offered"]["capacity"]["value"]) - 0.36).abs() < 0.01);
}

#[test]
fn what_is_no_run_is_said_in_one_line() {
    let lab = lab();
    lab.run(&["ledger", "model"]).fails(2, &["model", "is no run", "give the folder of one"]);
    let refused = lab.run(&["ledger", "model", "--agreement", "2"]);
    assert!(refused.code == Some(2) && refused.err.contains("a number from 0 to 1"), "{refused:?}");
}
