//! Pavlov's development tasks: `cargo xtask test` is what CI runs, and it needs a Rust toolchain and a C compiler only.

mod bench;
#[cfg(test)]
mod circles;
mod steps;
#[cfg(test)]
mod tidy;

use std::process::ExitCode;

use steps::{Plan, run};

const USAGE: &str = "\
usage: cargo xtask TASK

  test     everything CI runs: format, lints, rustdoc, tests, doc tests, dependencies; stops at the first failure
  check    the quick part of it: format, lints, tidy
  golden   how to make the golden files again
  bench    sets Pavlov beside a peer: `cargo xtask bench --help`";

const GOLDEN: &str = "\
The golden files hold what PyTorch and transformers compute; Rust tests compare with them and never run Python.
To make them again (versions are recorded in the files; scripts/golden/README.md has the details):

  python -m venv venv && venv/bin/pip install -r scripts/golden/requirements.txt
  venv/bin/python scripts/golden/parity.py [CASE ...]   # crates/pavlov-lm/tests/golden/CASE/
  venv/bin/python scripts/golden/equivalents.py [CASE ...]   # the same: how far PyTorch is from itself
  venv/bin/python scripts/golden/templates.py           # crates/pavlov-lm/tests/golden/templates.json
  venv/bin/python scripts/golden/losses.py              # crates/pavlov-train/tests/golden/losses.json";

fn main() -> ExitCode {
    let tasks: Vec<_> = std::env::args_os().skip(1).collect();
    let result = match tasks.as_slice() {
        [task] if task == "test" => run(Plan::Test),
        [task] if task == "check" => run(Plan::Check),
        [task] if task == "golden" => {
            println!("{GOLDEN}");
            Ok(())
        }
        [task, arguments @ ..] if task == "bench" => bench::run(arguments),
        [task] if task == "help" || task == "--help" || task == "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
