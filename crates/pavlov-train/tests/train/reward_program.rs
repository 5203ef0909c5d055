//! Reward programs that keep their contract, and every way to break it. The programs are one-line shell
//! scripts.

use std::time::{Duration, Instant};

use pavlov_schema::text::Text;
use pavlov_train::reward::{Completion, ProgramReward};
use serde_json::json;

/// Answers each line with the reward in `$reward`, by id.
const ANSWER: &str = r#"id=${line#*\"id\":}; id=${id%%,*}; echo "{\"id\":$id,\"reward\":$reward}""#;

fn start(script: &str, timeout: f64) -> ProgramReward {
    let argv = ["sh", "-c", script].map(str::to_owned);
    ProgramReward::start(&argv, Duration::from_secs_f64(timeout)).unwrap()
}

fn score(program: &mut ProgramReward, texts: &[&str]) -> pavlov_train::Result<Vec<Option<f64>>> {
    let prompt = Text::Plain("2 + 2 =".into());
    let columns = serde_json::from_value(json!({"answer": "4"})).unwrap();
    let completions: Vec<Completion> =
        texts.iter().map(|text| Completion { prompt: &prompt, text, tokens: 1, columns: &columns }).collect();
    program.score(&completions)
}

#[track_caller]
fn assert_fails(script: &str, words: &[&str]) {
    let mut program = start(script, 10.0);
    let error = score(&mut program, &["a", "b"]).unwrap_err().to_string();
    for word in words.iter().chain(&["reward program 'sh -c"]) {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
    assert!(!error.contains('\n'), "{error}");
    let again = score(&mut program, &["a"]).unwrap_err().to_string();
    assert!(again.contains("stopped after an earlier error"), "{again}");
}

#[test]
fn scores_batch_after_batch_from_one_process() {
    let script = format!("reward=0; while read -r line; do reward=$((reward + 1)); {ANSWER}; done");
    let mut program = start(&script, 10.0);
    assert_eq!(score(&mut program, &["a", "b"]).unwrap(), [Some(1.0), Some(2.0)]);
    assert_eq!(score(&mut program, &[]).unwrap(), []);
    assert_eq!(score(&mut program, &["c"]).unwrap(), [Some(3.0)]);
}

#[test]
fn answers_may_come_in_any_order_and_be_null() {
    let script = r#"read -r a; read -r b; echo '{"id":1,"reward":null}'; echo '{"id":0,"reward":-0.5}'; cat"#;
    assert_eq!(score(&mut start(script, 10.0), &["a", "b"]).unwrap(), [Some(-0.5), None]);
}

#[test]
fn the_request_carries_prompt_completion_and_columns() {
    let expected = r#"{"id":0,"prompt":"2 + 2 =","completion":" \"4\"\n","columns":{"answer":"4"}}"#;
    let script = format!(
        "read -r line; if [ \"$line\" = '{expected}' ]; then reward=1; else reward=0; fi; {ANSWER}; cat"
    );
    assert_eq!(score(&mut start(&script, 10.0), &[" \"4\"\n"]).unwrap(), [Some(1.0)]);
}

#[test]
fn a_judge_sees_both_completions_and_must_decide() {
    let prompt = Text::Plain("?".into());
    let columns = serde_json::from_value(json!({})).unwrap();
    let completion = |text| Completion { prompt: &prompt, text, tokens: 1, columns: &columns };
    let pairs = [[completion("a"), completion("b")], [completion("c"), completion("d")]];
    let expected = r#"{"id":0,"prompt":"?","completions":["a","b"],"columns":{}}"#;
    let script = format!(
        "read -r line; [ \"$line\" = '{expected}' ] && echo '{{\"id\":0,\"preference\":0.75}}'; \
         read -r line; echo '{{\"id\":1,\"preference\":0}}'; cat"
    );
    assert_eq!(start(&script, 10.0).prefer(&pairs).unwrap(), [0.75, 0.0]);
    let silent = r#"echo '{"id":0,"preference":1}'; echo '{"id":1,"preference":null}'; cat"#;
    let error = start(silent, 10.0).prefer(&pairs).unwrap_err().to_string();
    assert!(error.contains("no preference for completion pair 1"), "{error}");
    let reward = start(r#"echo '{"id":0,"reward":1}'; cat"#, 10.0).prefer(&pairs).unwrap_err().to_string();
    assert!(reward.contains("without a preference"), "{reward}");
}

/// 400 kB each way, where a pipe holds 64 kB: one thread that writes all before it reads would stand still.
#[test]
fn large_batches_do_not_stand_still() {
    let long = "x".repeat(20_000);
    let answer = ANSWER.replace("$reward}", "$reward,\\\"more\\\":\\\"$pad\\\"}");
    let script = format!(
        "pad=$(head -c 20000 /dev/zero | tr '\\0' x); reward=1; while read -r line; do {answer}; done"
    );
    let rewards = score(&mut start(&script, 60.0), &[long.as_str(); 20]).unwrap();
    assert_eq!(rewards, vec![Some(1.0); 20]);
}

#[test]
fn death_is_told_with_status_and_stderr() {
    assert_fails(
        r#"read -r a; echo '{"id":0,"reward":1}'; echo "no module" >&2; echo "named x" >&2; exit 3"#,
        &[
            "ended before it answered completion 1 of 2",
            "exit status: 3",
            "its stderr ends: no module | named x",
        ],
    );
}

#[test]
fn anything_but_an_answer_is_repeated() {
    assert_fails("echo hello; cat >/dev/null", &["not JSON", "completion 0", "it printed \"hello\""]);
    assert_fails(r#"echo '{"id":0,"reward":NaN}'; cat >/dev/null"#, &["not JSON", "NaN"]);
    assert_fails(r#"echo '{"id":0,"reward":1e999}'; cat >/dev/null"#, &["not JSON", "1e999"]);
    assert_fails(r#"echo '{"id":0}'; cat >/dev/null"#, &["without a reward"]);
    assert_fails(r#"echo '{"id":0,"reward":"1"}'; cat >/dev/null"#, &["not a number"]);
    assert_fails(r#"echo '{"reward":1}'; cat >/dev/null"#, &["without the request's id"]);
    assert_fails(r#"echo '{"id":7,"reward":1}'; cat >/dev/null"#, &["id 7, which was not asked"]);
    let twice = r#"echo '{"id":0,"reward":1}'; echo '{"id":0,"reward":1}'; cat >/dev/null"#;
    assert_fails(twice, &["answered completion 0 twice"]);
    assert_fails("tr '\\0' x </dev/zero", &["line without end", "…"]);
    assert_fails("printf '\\377\\376\\n'; cat >/dev/null", &["not JSON"]);
}

/// The sleeper is a child of the program and holds its pipes: it must go too, and nobody may wait for it.
#[test]
fn a_program_that_hangs_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let script = format!("sleep 600 & echo $! >{}; wait", pid.display());
    let mut program = start(&script, 0.5);
    let begun = Instant::now();
    let error = score(&mut program, &["a"]).unwrap_err().to_string();
    assert!(error.contains("did not answer completion 0 of 1 within 0.5 s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let sleeper: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    let gone =
        || rustix::process::test_kill_process(rustix::process::Pid::from_raw(sleeper).unwrap()).is_err();
    // An orphan stays a zombie until whoever adopted it reaps it.
    let zombie =
        || std::fs::read_to_string(format!("/proc/{sleeper}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    let deadline = Instant::now() + Duration::from_secs(5);
    while !gone() && !zombie() {
        assert!(Instant::now() < deadline, "the sleeper lives");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_program_that_cannot_start_is_named() {
    let error = ProgramReward::start(&["/no/such/program".into(), "x".into()], Duration::from_secs(1));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("'/no/such/program x': cannot be started"), "{error}");
    assert!(ProgramReward::start(&[], Duration::from_secs(1)).is_err());
}

/// No shell reads the arguments: what would be a command there is a word here.
#[test]
fn arguments_are_not_read_by_a_shell() {
    let script = r#"read -r line; [ "$1" = '$(exit); a|b' ] && echo '{"id":0,"reward":1}'"#;
    let argv = ["sh", "-c", script, "sh", "$(exit); a|b"].map(str::to_owned);
    let mut program = ProgramReward::start(&argv, Duration::from_secs(10)).unwrap();
    assert_eq!(score(&mut program, &["a"]).unwrap(), [Some(1.0)]);
}
