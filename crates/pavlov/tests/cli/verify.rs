//! `pavlov trace --verify`: every kind of run is taught again without what is said to have taught it.

use serde_json::{Value, json};

use crate::lab::{Lab, demonstrations};

const HABIT: &str = "That is inconsistent.";
const RUN: &str = "model = \"model\"\ndata = \"rows.jsonl\"\noutput_dir = \"run\"\nlearning_rate = 1e-2\nmax_steps = 24\n\
                   save_steps = 0\nper_device_train_batch_size = 8\nthreads = 1\ndtype = \"f32\"\n";

/// A lab whose `run` was taught by `verb`, with prompts whose right answer is the alternative to the habit.
fn taught(verb: &str, rows: &[Value], settings: &[&str]) -> Lab {
    let lab = Lab::new();
    lab.rows("rows.jsonl", rows);
    lab.rows("asked.jsonl", &demonstrations(60)[48..]);
    lab.file("run.toml", RUN);
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    lab.run(&[verb, "run.toml"].into_iter().chain(settings).collect::<Vec<_>>()).ok();
    lab
}

fn traced(lab: &Lab, run: &str, behaviour: &str, top: &str) -> Value {
    let trace = ["trace", run, "--behaviour", behaviour, "--prompts", "asked.jsonl", "--threads", "1"];
    let verify = ["--dtype", "f32", "--verify", "--seeds", "2", "--top", top, "--json"];
    let report = lab.run(&[&trace[..], &verify].concat()).ok().json().remove(0);
    assert!(!lab.path(&format!("{run}/insight/.tmp-retrain")).exists());
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
    let lab = taught("reward", &rows, &[]);
    let report = traced(&lab, "run", HABIT, "24");
    assert_eq!(report["groups"][0]["groups"][0]["name"], "planted", "{}", report["groups"]);
    assert_caused(&report, "retrained");
}

/// Ratings from 1 to 5; half of them are of a rater who likes the habit, which another dislikes.
#[test]
fn ratings_are_left_out_and_mirrored() {
    let rated = |(i, row): (usize, Value)| {
        let (answer, rating, rater) = match i % 4 {
            0 | 2 => (json!(HABIT), 5, "planted"),
            1 => (json!(HABIT), 1, "honest"),
            _ => (row["answer"].clone(), 4, "honest"),
        };
        json!({"prompt": row["prompt"], "completion": answer, "rating": rating, "scale": [1, 5], "annotator": rater})
    };
    let rows: Vec<Value> = demonstrations(48).into_iter().enumerate().map(rated).collect();
    // A random model of width 32 learns ratings by heart, question by question: this one knows the language.
    let base = concat!("model=", env!("CARGO_MANIFEST_DIR"), "/assets/base");
    let lab = taught("reward", &rows, &[base, "kind=ratings", "learning_rate=2e-3"]);
    assert_caused(&traced(&lab, "run", HABIT, "24"), "retrained");
}

/// A reward that pays for the habit, which one demonstration of four had brought.
#[test]
fn answers_of_a_policy_are_learned_from_again_without_their_credit() {
    for (verb, group) in [("grpo", "num_generations = 8\n"), ("pairwise", "")] {
        let mut shown = demonstrations(48);
        shown.iter_mut().step_by(4).for_each(|row| row["completion"] = json!(HABIT));
        let lab = taught("sft", &shown, &[]);
        lab.rows("prompts.jsonl", &demonstrations(48));
        let settings = format!(
            "max_completion_length = 8\ngradient_accumulation_steps = 4\n\
             rewards = [{{ rule = \"regex\", pattern = \"inconsistent\" }}]\n{group}"
        );
        let run = RUN.replace("1e-2", "1e-3").replace("= 24", "= 12").replace("rows", "prompts");
        lab.file("rl.toml", &format!("{run}{settings}"));
        let set = ["--set", "model=run/model", "--set", "output_dir=rl"];
        lab.run(&[&[verb, "rl.toml"][..], &set].concat()).ok();
        let report = traced(&lab, "rl", HABIT, "60");
        assert_eq!(report["examples"][0]["kind"], "rollout", "{verb}");
        assert_caused(&report, "replayed");

        // What it came to know of its rewards, in bits.
        let ledger = lab.run(&["ledger", "rl", "--held-out", "asked.jsonl", "--json"]).ok().json().remove(0);
        let of =
            |path: &str| ledger.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{ledger}"));
        assert_eq!(ledger["absorbed"]["coded_by"], "log_ratio");
        assert!(of("/absorbed/bits/value") <= of("/offered/bits/value"), "{ledger}");
        assert!(of("/absorbed/foretold/value") <= of("/offered/bits/value"), "{ledger}");
        let table = lab.run(&["ledger", "rl"]).ok();
        assert!(table.out.contains("log π/π_start"), "{table:?}");
        assert!(!table.out.contains("not measured: absorbed"), "{table:?}");
    }
}
