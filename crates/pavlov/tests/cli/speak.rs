//! logprobs, sample and chat.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::lab::{Lab, demonstrations};

fn numbers(line: &Value) -> Vec<f64> {
    let list = line["logprobs"].as_array().unwrap();
    assert_eq!(list.len(), line["tokens"].as_array().unwrap().len());
    assert!(list[0].is_null(), "nothing comes before the first token");
    list[1..].iter().map(|logp| logp.as_f64().unwrap()).collect()
}

#[test]
fn logprobs_reads_every_kind_of_row_and_a_batch_changes_nothing() {
    let lab = Lab::new();
    let demonstration = &demonstrations(1)[0];
    let (prompt, completion) =
        (demonstration["prompt"].as_str().unwrap(), demonstration["completion"].as_str().unwrap());
    let text = json!({"text": format!("{prompt}{completion}")});
    lab.rows("one.jsonl", std::slice::from_ref(&text));
    let logprobs = |data: &str, more: &[&str]| {
        let args = [&["logprobs", "--model", "model", "--data", data, "--json"], more].concat();
        lab.run(&args).ok().json()
    };
    let one = logprobs("one.jsonl", &[]);
    let messages = json!({"messages": [
        {"role": "user", "content": prompt.trim_end()}, {"role": "assistant", "content": completion}
    ]});
    let ids = json!({"input_ids": one[0]["tokens"]});
    lab.rows(
        "all.jsonl",
        &[
            text,
            json!({"prompt": prompt, "completion": completion}),
            ids,
            messages,
            json!({"input_ids": [7]}),
        ],
    );
    let all = logprobs("all.jsonl", &["--threads", "2"]);
    // The same tokens, alone and among others: the same numbers to the last bit.
    assert_eq!((&all[0], &all[1], &all[2]), (&one[0], &one[0], &one[0]));
    // The template writes the same text and then its end token.
    let (longer, shorter) = (numbers(&all[3]), numbers(&one[0]));
    assert_eq!((&longer[..shorter.len()], longer.len()), (&shorter[..], shorter.len() + 1));
    // A random model of a small vocabulary is near to knowing nothing.
    let mean = shorter.iter().sum::<f64>() / shorter.len() as f64;
    assert!((-7.0..-4.0).contains(&mean), "{mean}");
    assert_eq!(all[4], json!({"tokens": [7], "logprobs": [null]}));

    let bf16 = numbers(&logprobs("one.jsonl", &["--dtype", "bf16"])[0]);
    let distance = bf16.iter().zip(&shorter).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(distance > 0.0 && distance < 0.05, "{distance}");
}

#[test]
fn logprobs_without_json_is_a_table() {
    let lab = Lab::new();
    lab.rows("rows.jsonl", &[json!({"input_ids": [5, 6, 7]}), json!({"input_ids": [9]})]);
    let args = ["logprobs", "--model", "model", "--data", "rows.jsonl"];
    let ran = lab.run(&args).ok();
    let table: Vec<Vec<&str>> =
        ran.out.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let json = lab.run(&[&args[..], &["--json"]].concat()).ok().json();
    let mean = numbers(&json[0]).iter().sum::<f64>() / 2.0;
    let expected = [format!("{mean:.4}"), format!("{:.4}", (-mean).exp())];
    assert_eq!(table[0], ["1", "2", &expected[0], &expected[1]]);
    assert_eq!(table[1], ["2", "0", "-", "-"]);
    assert_eq!(table[2], ["all", "2", &expected[0], &expected[1]]);
    assert!(
        ran.err.starts_with("pavlov ") && ran.err.contains("threads") && ran.err.contains("f32"),
        "{}",
        ran.err
    );
}

#[test]
fn sample_depends_on_the_seed_and_not_on_the_batch() {
    let lab = Lab::new();
    lab.rows("prompts.jsonl", &demonstrations(5));
    let sample = |more: &[&str]| {
        let args = [
            "sample",
            "--model",
            "model",
            "--data",
            "prompts.jsonl",
            "-n",
            "3",
            "--max-tokens",
            "12",
            "--json",
        ];
        lab.run(&[&args[..], more].concat()).ok().json()
    };
    let answers = sample(&[]);
    assert_eq!(answers.len(), 15);
    assert_eq!(answers, sample(&["--batch", "1", "--threads", "1"]));
    assert_eq!(answers, sample(&["--batch", "4", "--threads", "2"]));
    assert_ne!(answers, sample(&["--seed", "1"]));
    for (i, answer) in answers.iter().enumerate() {
        let tokens = answer["tokens"].as_array().unwrap();
        assert_eq!(
            (answer["id"].as_str(), answer["choice"].as_u64()),
            (Some(&*(i / 3).to_string()), Some(i as u64 % 3))
        );
        assert!(
            (1..=12).contains(&tokens.len()) && answer["logprobs"].as_array().unwrap().len() == tokens.len()
        );
        let last_is_end = tokens.last().unwrap() == 1;
        assert_eq!(answer["finish"] == "eos", last_is_end, "{answer}");
    }
    // The answers to one prompt differ.
    assert_ne!(answers[0]["completion"], answers[1]["completion"]);
}

#[test]
fn greedy_answers_stop_at_a_stop_string_that_is_left_out() {
    let lab = Lab::new();
    let args = [
        "sample",
        "--model",
        "model",
        "--prompt",
        "Ana is taller than Ben .",
        "--greedy",
        "--max-tokens",
        "10",
    ];
    let whole = lab.run(&args).ok().out;
    assert_eq!(lab.run(&[&args[..], &["--seed", "9"]].concat()).ok().out, whole);
    let top1 = [&args[..4], &["Ana is taller than Ben .", "--top-k", "1", "--max-tokens", "10"]].concat();
    assert_eq!(lab.run(&top1).ok().out, whole);

    let words: Vec<&str> = whole.split_whitespace().collect();
    let stop = words.iter().find(|word| **word != words[0]).expect("a greedy answer of two different words");
    let cut = lab.run(&[&args[..], &["--json", "--stop", "no such text", "--stop", stop]].concat()).ok();
    let answer = &cut.json()[0];
    assert_eq!(answer["finish"], "stop");
    let expected = &whole[..whole.find(stop).unwrap()];
    assert_eq!(answer["completion"].as_str().unwrap(), expected);
    assert!(answer["logprobs"].as_array().unwrap().iter().all(|logp| logp == 0.0));
}

#[test]
fn chat_reads_stdin_and_forgets_on_reset() {
    let lab = Lab::new();
    let args = ["chat", "--model", "model", "--greedy", "--max-tokens", "6"];
    let said = "Where is Ana ?\nWhere is Ben ?\n/reset\n\nWhere is Ana ?\n/quit\nWho is taller ?\n";
    let ran = lab.run_with_stdin(&args, said).ok();
    let once = lab.run_with_stdin(&args, "Where is Ana ?\n").ok().out;
    let twice = lab.run_with_stdin(&args, "Where is Ana ?\nWhere is Ben ?\n").ok().out;
    assert!(!once.trim().is_empty() && twice.starts_with(&once));
    assert_eq!(ran.out, format!("{twice}{once}"));
    let told = lab
        .run_with_stdin(&[&args[..], &["--system", "Ben is older than Ana ."]].concat(), "Where is Ana ?\n");
    assert_ne!(told.ok().out, once);
}

#[test]
fn a_reader_that_leaves_ends_the_program_quietly() {
    let lab = Lab::new();
    let rows = vec![json!({"input_ids": vec![5; 100]}); 2000];
    lab.rows("rows.jsonl", &rows);
    let mut command = lab.command(&["logprobs", "--model", "model", "--data", "rows.jsonl", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"tokens\":[5,"), "{first}");
    let ran = crate::lab::Ran::of(child.wait_with_output().unwrap()).ok();
    assert_eq!(ran.err.lines().count(), 1, "only what it computes with: {}", ran.err);
}
