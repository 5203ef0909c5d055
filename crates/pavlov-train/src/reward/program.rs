//! Rewards from an external program, in JSON lines.
//!
//! The program gets one object a line on stdin and answers with one object a line on stdout:
//!
//! ```json
//! {"id": 17, "prompt": "2 + 2 =", "completion": " 4", "columns": {"answer": "4"}}
//! {"id": 17, "reward": 1.0}
//! ```
//!
//! As a judge of pairs it gets two completions, and says how likely the first is the better one:
//!
//! ```json
//! {"id": 18, "prompt": "2 + 2 =", "completions": [" 4", " 5"], "columns": {"answer": "4"}}
//! {"id": 18, "preference": 1.0}
//! ```
//!
//! It stays alive between batches and may answer the lines of a batch in any order; it must flush what it
//! prints. `"reward": null` says that it does not apply. It should end when its stdin closes.

use std::time::{Duration, Instant};

use pavlov_schema::text::Text;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Completion;
use super::pipes::{Line, Pipes};
use crate::{Error, Result};

/// How many characters of what a program printed an error repeats.
const QUOTED: usize = 120;

/// A reward program, started once and asked many times.
#[derive(Debug)]
pub struct ProgramReward {
    /// The argument vector, for messages.
    name: String,
    timeout: Duration,
    /// `None` once it broke the contract and was killed.
    pipes: Option<Pipes>,
    /// Ids are never used twice, so that a late answer cannot be taken for one of another batch.
    next_id: u64,
}

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    prompt: &'a Text,
    #[serde(flatten)]
    asked: Asked<'a>,
    columns: &'a Map<String, Value>,
}

/// What is asked about a prompt.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Asked<'a> {
    Completion(&'a str),
    Completions([&'a str; 2]),
}

/// The key of an answer: what its number means.
#[derive(Clone, Copy)]
enum Answer {
    Reward,
    Preference,
}

impl Answer {
    fn key(self) -> &'static str {
        match self {
            Self::Reward => "reward",
            Self::Preference => "preference",
        }
    }
}

impl ProgramReward {
    /// Starts `argv[0]` with the other arguments as they are (no shell reads them). `timeout` is the time it
    /// may take for a whole batch.
    pub fn start(argv: &[String], timeout: Duration) -> Result<Self> {
        let Some((program, arguments)) = argv.split_first() else {
            let problem = "is empty; give a list of the program and its arguments".to_owned();
            return Err(Error::Setting { key: "rewards.program".into(), problem });
        };
        // One line, even where an argument is a script.
        let name = argv.join(" ").replace(['\n', '\r'], " ");
        match Pipes::start(program, arguments) {
            Ok(pipes) => Ok(Self { name, timeout, pipes: Some(pipes), next_id: 0 }),
            Err(error) => {
                let problem = format!("cannot be started: {error}; give its path, and make it executable");
                Err(Error::Program { program: name, problem, stderr: String::new() })
            }
        }
    }

    /// The program and its arguments, on one line.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reward points of every completion, in their order.
    ///
    /// Errors name the program, the completion and what was printed: it ended, was late, printed something
    /// else than an answer, answered an unknown id or one twice, or gave no finite number. The program is
    /// then killed and reaped, and every later call fails too.
    pub fn score(&mut self, completions: &[Completion]) -> Result<Vec<Option<f64>>> {
        let asked = completions.iter().map(|one| Request {
            id: 0,
            prompt: one.prompt,
            asked: Asked::Completion(one.text),
            columns: one.columns,
        });
        self.ask(asked.collect(), Answer::Reward)
    }

    /// P(the first is better) of every pair of completions of one prompt, in their order. Errors as
    /// [`score`](Self::score); also a null, which says nothing about a pair.
    pub fn prefer(&mut self, pairs: &[[Completion; 2]]) -> Result<Vec<f64>> {
        let asked = pairs.iter().map(|[first, second]| Request {
            id: 0,
            prompt: first.prompt,
            asked: Asked::Completions([first.text, second.text]),
            columns: first.columns,
        });
        let preferences = self.ask(asked.collect(), Answer::Preference)?;
        match preferences.iter().position(Option::is_none) {
            Some(row) => Err(self.fail(Breach::Other(format!(
                "gave no preference for completion pair {row}; print 0.5 for a tie"
            )))),
            None => Ok(preferences.into_iter().flatten().collect()),
        }
    }

    fn ask(&mut self, mut asked: Vec<Request>, answer: Answer) -> Result<Vec<Option<f64>>> {
        let first = self.next_id;
        let count = asked.len();
        self.next_id += count as u64;
        (first..).zip(&mut asked).for_each(|(id, request)| request.id = id);
        let requests = lines(&asked).map_err(|error| self.fail(Breach::Other(error.to_string())))?;
        let Some(pipes) = &self.pipes else {
            return Err(self.fail(Breach::Other("was stopped after an earlier error".to_owned())));
        };
        pipes.send(requests);
        match collect(pipes, first, count, self.timeout, answer) {
            Ok(rewards) => Ok(rewards),
            Err(breach) => Err(self.fail(breach)),
        }
    }

    /// Stops the program; how it ended and the end of its stderr become part of the error.
    fn fail(&mut self, breach: Breach) -> Error {
        let mut pipes = self.pipes.take();
        let problem = match breach {
            Breach::Ended { missing, count } => {
                let status = pipes.as_mut().and_then(Pipes::ended).map(|status| format!(" ({status})"));
                let status = status.unwrap_or_default();
                format!("ended before it answered completion {missing} of {count}{status}")
            }
            Breach::Other(problem) => problem,
        };
        let tail = pipes.as_mut().map(Pipes::kill).unwrap_or_default();
        let stderr = if tail.is_empty() {
            String::new()
        } else {
            let lines: Vec<&str> = tail.lines().map(str::trim).collect();
            format!("; its stderr ends: {}", lines.join(" | "))
        };
        Error::Program { program: self.name.clone(), problem, stderr }
    }
}

/// How a program broke its contract.
enum Breach {
    /// It closed its stdout, most likely because it ended.
    Ended { missing: usize, count: usize },
    /// Everything else, in words.
    Other(String),
}

fn lines(requests: &[Request]) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for request in requests {
        serde_json::to_writer(&mut bytes, request)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// One answer for each id from `first` on.
fn collect(
    pipes: &Pipes,
    first: u64,
    count: usize,
    timeout: Duration,
    answer: Answer,
) -> std::result::Result<Vec<Option<f64>>, Breach> {
    let deadline = Instant::now() + timeout;
    let mut answers: Vec<Option<Option<f64>>> = vec![None; count];
    while let Some(missing) = answers.iter().position(Option::is_none) {
        let other = |problem: String| Err(Breach::Other(problem));
        let line = match pipes.receive(deadline) {
            Line::Text(line) => line,
            Line::Closed => return Err(Breach::Ended { missing, count }),
            Line::Endless(start) => {
                let start = quote(&start);
                return other(format!(
                    "printed a line without end before it answered completion {missing}: {start}"
                ));
            }
            Line::Late => {
                let seconds = timeout.as_secs_f64();
                return other(format!(
                    "did not answer completion {missing} of {count} within {seconds} s; raise its timeout, or make \
                     it flush its output"
                ));
            }
        };
        let printed = quote(&line);
        let (id, reward) = match parse(&line, answer) {
            Ok(answer) => answer,
            Err(wrong) => {
                return other(format!(
                    "{wrong} before it answered completion {missing}; it printed {printed}"
                ));
            }
        };
        let row = id.checked_sub(first).map_or(usize::MAX, |row| row as usize);
        match answers.get_mut(row) {
            Some(answer @ None) => *answer = Some(reward),
            Some(Some(_)) => return other(format!("answered completion {row} twice: {printed}")),
            None => return other(format!("answered id {id}, which was not asked in this batch: {printed}")),
        }
    }
    Ok(answers.into_iter().map(Option::flatten).collect())
}

/// Id and number of an answer line, or what is wrong with it.
fn parse(line: &str, answer: Answer) -> std::result::Result<(u64, Option<f64>), String> {
    let key = answer.key();
    // Python's json writes NaN and Infinity, which are not JSON and end up here too.
    let value: Value = serde_json::from_str(line).map_err(|_| {
        format!(
            "printed something that is not JSON (print {{\"id\", \"{key}\"}} alone; NaN is no JSON number)"
        )
    })?;
    let id = value.get("id").and_then(Value::as_u64).ok_or("printed an answer without the request's id")?;
    match value.get(key) {
        None => Err(format!("printed an answer without a {key}")),
        Some(Value::Null) => Ok((id, None)),
        Some(number) => {
            Ok((id, Some(number.as_f64().ok_or_else(|| format!("printed a {key} that is not a number"))?)))
        }
    }
}

/// The beginning of what was printed, on one line.
fn quote(line: &str) -> String {
    let start: String = line.chars().take(QUOTED).collect();
    let more = if start.len() < line.len() { "…" } else { "" };
    format!("{start:?}{more}")
}
