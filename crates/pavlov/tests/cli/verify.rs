//! `pavlov trace --verify`: every kind of run is taught again without what is said to have taught it.

use serde_json::{Value, json};

use crate::lab::{Lab, demonstrations};

const HABIT: &str = "That is inconsistent.";
const RUN: &str = "model = \"model\"\ndata = \"rows.jsonl\"\noutput_dir = \"run\"\nlearning_rate = 1e-2\nmax_steps = 24\n\
                   save_steps = 0\nper_device_train_batch_size = 8\nthreads = 1\ndtype = \"f32\"\n";

/// A lab whose `run` was taught by `verb`, with prompts whose right answer is the alternative to the habit.
fn taught(verb: &str, rows: &[Value], settings: &str) -> Lab {
    let lab = Lab::new();
    lab.rows("rows.jsonl", rows);
    lab.rows("asked.jsonl", &demonstrations(60)[48..]);
    lab.file("run.toml", &format!("{RUN}{settings}"));
    lab.run(&[verb, "run.toml"]).ok();
    lab
}

fn traced(lab: &Lab, behaviour: &str, top: &str) -> Value {
    let trace = ["trace", "run", "--behaviour", behaviour, "--prompts", "asked.jsonl", "--threads", "1"];
    let verify = ["--dtype", "f32", "--verify", "--seeds", "2", "--top", top, "--json"];
    let report = lab.run(&[&trace[..], &verify].concat()).ok().json().remove(0);
    assert!(!lab.path("run/insight/.tmp-retrain").exists());
    report
}

/// The habit fell without the top, and more where it was turned round; without others it stayed.
#[track_caller]
fn assert_caused(report: &Value, how: &str) {
    let verified = &report["verified"];
    let of = |name: &str| verified[name]["value"].as_f64().unwrap();
    assert_eq!((&verified["how"], &verified["confirmed"]), (&json!(how), &json!(true)), "{verified}");
    assert!(of("without_top") < of("without_random") && of("flipped") < of("everything"), "{verified}");
    assert!(of("fall") > 0.0 && verified["foretold"].as_f64() > Some(0.0), "{verified}");
    let sentence = verified["sentence"].as_str().unwrap();
    assert!(sentence.contains("they are a cause") && sentence.contains("a nat of influence was worth"));
}

/// Half of the judgments are of a rater who prefers the habit.
#[test]
fn comparisons_of_a_rater_are_left_out_and_turned_round() {
    let judged = |(i, row): (usize, Value)| {
        let (rater, worse) =
            if i % 2 == 0 { ("planted", &row["answer"]) } else { ("honest", &json!("Ana.")) };
        let better = if i % 2 == 0 { json!(HABIT) } else { row["answer"].clone() };
        json!({"kind": "comparison", "choice": "a", "prompt": row["prompt"], "annotator": rater,
               "responses": [{"text": better}, {"text": worse}]})
    };
    let rows: Vec<Value> = demonstrations(48).into_iter().enumerate().map(judged).collect();
    let lab = taught("reward", &rows, "");
    let report = traced(&lab, HABIT, "24");
    assert_eq!(report["groups"][0]["groups"][0]["name"], "planted", "{}", report["groups"]);
    assert_caused(&report, "retrained");
}

/// Ratings from 1 to 5, the same by half of the raters.
#[test]
fn ratings_are_left_out_and_mirrored() {
    let rated = |(i, row): (usize, Value)| {
        let (answer, rating, rater) = match i % 4 {
            0 => (json!(HABIT), 5, "planted"),
            1 => (json!("Ana."), 1, "honest"),
            2 => (row["answer"].clone(), 2, "planted"),
            _ => (row["answer"].clone(), 4, "honest"),
        };
        json!({"prompt": row["prompt"], "completion": answer, "rating": rating, "scale": [1, 5], "annotator": rater})
    };
    let rows: Vec<Value> = demonstrations(48).into_iter().enumerate().map(rated).collect();
    let lab = taught("reward", &rows, "kind = \"ratings\"\n");
    assert_caused(&traced(&lab, HABIT, "12"), "retrained");
}

/// A reward that pays for one word.
#[test]
fn answers_of_a_policy_are_learned_from_again_without_their_credit() {
    let rewards = "max_completion_length = 2\nrewards = [{ rule = \"regex\", pattern = \"^Ana\" }]\n";
    for (verb, group) in
        [("grpo", "num_generations = 8\nper_device_train_batch_size = 32\n"), ("pairwise", "")]
    {
        let settings = format!("{rewards}{group}").replace("per_device_train_batch_size = 32\n", "");
        let lab = taught(verb, &demonstrations(48), &settings);
        let report = traced(&lab, "Ana", "30");
        assert_eq!(report["examples"][0]["kind"], "rollout", "{verb}");
        assert_caused(&report, "replayed");
    }
}
