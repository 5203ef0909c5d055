//! `cargo xtask bench`: Pavlov and a peer do the same work in turn, as whole programs, and a table says how they compare.
//!
//! The peer is a script in the form of `peer.py`: `PEER TASK DIR [--batch N] [--length N] [--steps N] [--dtype D] [--compile]
//! [--lora R]` ends with one line of JSON like that of `pavlov bench`, and `PEER rows TASK FILE` writes the rows that it reads.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::{Value, json};

use crate::steps::{cargo, root};

/// Sets Pavlov beside a peer: both run in turn on the same models, rows and settings.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", max_term_width = 110)]
pub(crate) struct Bench {
    /// The peer's script
    #[arg(long, value_name = "FILE")]
    peer: PathBuf,
    /// What runs the script
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: OsString,
    /// A Hugging Face folder; may be given many times
    #[arg(long, value_name = "DIR", required = true)]
    model: Vec<PathBuf>,
    /// What is measured: sft, generate, grpo, reward, dpo; with commas
    #[arg(long, value_name = "TASKS", value_delimiter = ',', default_value = "sft,generate,grpo,reward,dpo")]
    task: Vec<String>,
    /// Rows of a step, with commas: each is measured [default: the task's]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    batch: Vec<u32>,
    /// Tokens of a row [default: the task's]
    #[arg(long, value_name = "N")]
    length: Option<u32>,
    /// Steps of a run; the first is not counted
    #[arg(long, value_name = "N", default_value_t = 6)]
    steps: u32,
    /// Pavlov's number format [default: what is fast on this processor]
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<String>,
    /// The peer's number formats, with commas: each is a peer of its own
    #[arg(long, value_name = "DTYPES", value_delimiter = ',', default_value = "f32,bf16")]
    peer_dtype: Vec<String>,
    /// The peer compiles its model
    #[arg(long)]
    compile: bool,
    /// Rank of adapters; 0 teaches the whole model
    #[arg(long, value_name = "R", default_value_t = 0)]
    lora: u32,
    /// How often both run
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// Pavlov's program [default: a release build of this workspace]
    #[arg(long, value_name = "FILE")]
    pavlov: Option<PathBuf>,
    /// Where every line of both and the table go, as JSON
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    out: PathBuf,
}

/// One setting of both programs.
#[derive(Clone, Copy, Debug)]
struct Case<'a> {
    task: &'a str,
    model: &'a Path,
    batch: Option<u32>,
}

/// What one run said of itself.
#[derive(Clone, Debug)]
struct Line {
    tokens_per_s: f64,
    peak_rss_mib: f64,
    json: Value,
}

/// Pavlov beside one peer, over all pairs of runs.
#[derive(Clone, Debug, PartialEq)]
struct Comparison {
    /// Medians of tokens per second: ours, theirs.
    tokens_per_s: [f64; 2],
    /// Medians of peak memory in MiB: ours, theirs.
    peak_rss_mib: [f64; 2],
    /// Pavlov's tokens per second over the peer's: median, lowest and highest of the pairs.
    speed: [f64; 3],
    /// Pavlov's peak memory over the peer's, the median of the pairs.
    memory: f64,
}

/// Runs the comparison that the arguments ask for.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let name = OsString::from("cargo xtask bench");
    let bench = Bench::parse_from(std::iter::once(&name).chain(arguments));
    let pavlov = match &bench.pavlov {
        Some(program) => program.clone(),
        None => build()?,
    };
    let folder = root().join("target/bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    println!("{}", heading());
    let mut results = Vec::new();
    for task in &bench.task {
        let rows = folder.join(format!("rows-{task}.jsonl"));
        bench.write_rows(task, &rows)?;
        for model in &bench.model {
            for batch in bench.batches() {
                results.extend(bench.compare(Case { task, model, batch }, &pavlov, &rows)?);
            }
        }
    }
    let text = serde_json::to_string_pretty(&results)?;
    std::fs::write(&bench.out, text + "\n")
        .with_context(|| format!("cannot write {}", bench.out.display()))?;
    println!("every line of both programs is in {}", bench.out.display());
    Ok(())
}

/// Builds the program as a user would.
fn build() -> Result<PathBuf> {
    let status = cargo().args(["build", "--release", "--package", "pavlov"]).status()?;
    if !status.success() {
        bail!("the release build failed; to see it alone: cargo build --release");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("release/pavlov"))
}

impl Bench {
    /// The sizes to measure; none: the task's own.
    fn batches(&self) -> Vec<Option<u32>> {
        if self.batch.is_empty() { vec![None] } else { self.batch.iter().copied().map(Some).collect() }
    }

    fn write_rows(&self, task: &str, file: &Path) -> Result<()> {
        let mut command = Command::new(&self.python);
        command.arg(&self.peer).args(["rows", task]).arg(file);
        finish(&mut command).map(|_| ())
    }

    /// Runs Pavlov and each peer in turn, and prints a line of the table for each peer.
    fn compare(&self, case: Case, pavlov: &Path, rows: &Path) -> Result<Vec<Value>> {
        let mut ours = Vec::new();
        let mut theirs: Vec<Vec<Line>> = vec![Vec::new(); self.peer_dtype.len()];
        for _ in 0..self.pairs {
            ours.push(last_line(&mut self.ours(case, pavlov, rows))?);
            for (dtype, lines) in self.peer_dtype.iter().zip(&mut theirs) {
                lines.push(last_line(&mut self.theirs(case, dtype))?);
            }
        }
        let mut results = Vec::new();
        for (dtype, theirs) in self.peer_dtype.iter().zip(&theirs) {
            let comparison = Comparison::of(&ours, theirs);
            println!("{}", self.row(case, dtype, &ours, &comparison));
            results.push(json!({
                "task": case.task,
                "model": case.model.file_name().map(|name| name.to_string_lossy()),
                "batch": case.batch,
                "peer_dtype": dtype,
                "compile": self.compile,
                "lora": self.lora,
                "speed": comparison.speed[0],
                "speed_lowest": comparison.speed[1],
                "speed_highest": comparison.speed[2],
                "memory": comparison.memory,
                "pavlov": ours.iter().map(|line| &line.json).collect::<Vec<_>>(),
                "peer": theirs.iter().map(|line| &line.json).collect::<Vec<_>>(),
            }));
        }
        Ok(results)
    }

    fn ours(&self, case: Case, pavlov: &Path, rows: &Path) -> Command {
        let mut command = Command::new(pavlov);
        command.args(["bench", case.task, "--model"]).arg(case.model).arg("--data").arg(rows);
        if let Some(dtype) = &self.dtype {
            command.args(["--dtype", dtype]);
        }
        self.sizes(&mut command, case);
        command
    }

    fn theirs(&self, case: Case, dtype: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(&self.peer).arg(case.task).arg(case.model).args(["--dtype", dtype]);
        if self.compile {
            command.arg("--compile");
        }
        self.sizes(&mut command, case);
        command
    }

    /// What both programs call the same.
    fn sizes(&self, command: &mut Command, case: Case) {
        command.args(["--steps", &self.steps.to_string()]);
        for (flag, size) in [("--batch", case.batch), ("--length", self.length)] {
            if let Some(size) = size {
                command.args([flag, &size.to_string()]);
            }
        }
        if self.lora > 0 {
            command.args(["--lora", &self.lora.to_string()]);
        }
    }

    fn row(&self, case: Case, dtype: &str, ours: &[Line], comparison: &Comparison) -> String {
        let Comparison { tokens_per_s, peak_rss_mib, speed, memory } = comparison;
        let model = case.model.file_name().unwrap_or_default().to_string_lossy();
        let batch = case.batch.map_or_else(|| "-".to_owned(), |batch| batch.to_string());
        let own = ours.first().and_then(|line| line.json["dtype"].as_str()).unwrap_or("?");
        let compiled = if self.compile { "+compile" } else { "" };
        let speeds = format!("{:.2}× ({:.2}–{:.2})", speed[0], speed[1], speed[2]);
        format!(
            "| {:<8} | {model:<8} | {batch:>5} | {own:<4} {:>9.1} | {dtype:<4}{compiled} {:>9.1} | {speeds:<19} | {:>6.0} | {:>6.0} | {memory:>5.2}× |",
            case.task, tokens_per_s[0], tokens_per_s[1], peak_rss_mib[0], peak_rss_mib[1],
        )
    }
}

fn heading() -> &'static str {
    "| task     | model    | batch | Pavlov tokens/s | peer tokens/s  | speed               | MiB    | peer   | memory |\n\
     |----------|----------|-------|-----------------|----------------|---------------------|--------|--------|--------|"
}

impl Comparison {
    /// Of runs in pairs: the n-th of ours and the n-th of theirs followed each other.
    fn of(ours: &[Line], theirs: &[Line]) -> Self {
        let speeds = ratios(ours, theirs, |line| line.tokens_per_s);
        let (lowest, highest) = (speeds.first(), speeds.last());
        Self {
            tokens_per_s: [ours, theirs]
                .map(|lines| middle(&sorted(lines.iter().map(|line| line.tokens_per_s)))),
            peak_rss_mib: [ours, theirs]
                .map(|lines| middle(&sorted(lines.iter().map(|line| line.peak_rss_mib)))),
            speed: [
                middle(&speeds),
                lowest.copied().unwrap_or(f64::NAN),
                highest.copied().unwrap_or(f64::NAN),
            ],
            memory: middle(&ratios(ours, theirs, |line| line.peak_rss_mib)),
        }
    }
}

/// Ours over theirs in each pair, ascending.
fn ratios(ours: &[Line], theirs: &[Line], number: impl Fn(&Line) -> f64) -> Vec<f64> {
    sorted(ours.iter().zip(theirs).map(|(ours, theirs)| number(ours) / number(theirs)))
}

fn sorted(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// The median of ascending numbers.
fn middle(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Runs a program to its end and returns its stdout; a failure shows what it said.
fn finish(command: &mut Command) -> Result<String> {
    let shown = std::iter::once(command.get_program()).chain(command.get_args());
    let shown = shown.map(|part| part.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = errors.trim().lines().rev().take(5).collect();
        let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
        bail!("failed ({}): {shown}\n{last}", output.status);
    }
    eprintln!("{:>6.1} s  {shown}", start.elapsed().as_secs_f64());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The line of JSON that a measurement ends with.
fn last_line(command: &mut Command) -> Result<Line> {
    let out = finish(command)?;
    read_line(&out).with_context(|| format!("from {}", command.get_program().to_string_lossy()))
}

fn read_line(out: &str) -> Result<Line> {
    let last = out.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let json: Value =
        serde_json::from_str(last).with_context(|| format!("no line of JSON at the end: {last}"))?;
    let number = |key: &str| json[key].as_f64().with_context(|| format!("no number {key} in {last}"));
    Ok(Line { tokens_per_s: number("tokens_per_s")?, peak_rss_mib: number("peak_rss_mib")?, json })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(numbers: &[(f64, f64)]) -> Vec<Line> {
        let line = |&(tokens_per_s, peak_rss_mib): &(f64, f64)| Line {
            tokens_per_s,
            peak_rss_mib,
            json: Value::Null,
        };
        numbers.iter().map(line).collect()
    }

    #[test]
    fn the_ratio_is_the_median_of_the_pairs_and_not_that_of_the_medians() {
        // The machine slowed down to a third while the second pair ran.
        let ours = lines(&[(300.0, 50.0), (100.0, 50.0), (330.0, 60.0)]);
        let theirs = lines(&[(100.0, 100.0), (25.0, 200.0), (100.0, 100.0)]);
        let comparison = Comparison::of(&ours, &theirs);
        assert_eq!(comparison.tokens_per_s.map(|x| x.round() as i64), [300, 100]);
        assert_eq!(comparison.speed.map(|x| (10.0 * x).round() as i64), [33, 30, 40]);
        assert!((comparison.memory - 0.5).abs() < 1e-12);
        assert!((middle(&[1.0, 2.0]) - 1.5).abs() < 1e-12 && middle(&[]).is_nan());
    }

    #[test]
    fn a_measurement_is_the_last_line_of_json() {
        let out = "{'loss': 1}\n{\"peer\": \"sft\", \"tokens_per_s\": 3.5, \"peak_rss_mib\": 7}\n\n";
        let line = read_line(out).unwrap();
        assert!((line.tokens_per_s - 3.5).abs() < 1e-12 && (line.peak_rss_mib - 7.0).abs() < 1e-12);
        assert!(read_line("loss").unwrap_err().to_string().contains("no line of JSON"));
        assert!(read_line("{}").unwrap_err().to_string().contains("no number tokens_per_s"));
    }

    #[test]
    fn both_programs_get_the_same_sizes() {
        let words =
            "x --peer p.py --python py --model m --task sft --batch 4,8 --length 64 --dtype bf16 --compile";
        let bench = Bench::parse_from(words.split(' '));
        assert_eq!(bench.batches(), [Some(4), Some(8)]);
        let case = Case { task: "sft", model: Path::new("m"), batch: Some(4) };
        let arguments = |command: Command| {
            command.get_args().map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            arguments(bench.ours(case, Path::new("pavlov"), Path::new("r.jsonl"))),
            "bench sft --model m --data r.jsonl --dtype bf16 --steps 6 --batch 4 --length 64"
        );
        assert_eq!(
            arguments(bench.theirs(case, "f32")),
            "p.py sft m --dtype f32 --compile --steps 6 --batch 4 --length 64"
        );
    }
}
