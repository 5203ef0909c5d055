//! The steps of `test` and `check`, cheapest first, each a cargo command printed with its time.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Which steps to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Everything.
    Test,
    /// What takes seconds after a small change.
    Check,
}

/// A cargo command.
struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
    /// Environment variables it runs with.
    environment: &'static [(&'static str, &'static str)],
}

const FORMAT: Step = step("format", &["fmt", "--all", "--check"]);
const LINTS: Step = step("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
const TIDY: Step = step("tidy", &["test", "--quiet", "--package", "xtask"]);
const RUSTDOC: Step = Step {
    environment: &[("RUSTDOCFLAGS", "-D warnings")],
    ..step("rustdoc", &["doc", "--workspace", "--no-deps"])
};
const TESTS: Step = step("tests", &["test", "--workspace", "--lib", "--bins", "--tests"]);
const NEXTEST: Step = step("tests (nextest)", &["nextest", "run", "--workspace"]);
const DOC_TESTS: Step = step("doc tests", &["test", "--workspace", "--doc"]);
const DEPENDENCIES: Step = step(
    "dependencies",
    &["deny", "--all-features", "--log-level", "error", "check", "bans", "licenses", "sources"],
);
const ADVISORIES: Step = step("advisories", &["deny", "--all-features", "check", "advisories"]);

const fn step(name: &'static str, arguments: &'static [&'static str]) -> Step {
    Step { name, arguments, environment: &[] }
}

/// Runs the steps of a plan and stops at the first failure.
pub(crate) fn run(plan: Plan) -> Result<()> {
    for component in ["fmt", "clippy"] {
        if !has(component) {
            let name = if component == "fmt" { "rustfmt" } else { component };
            bail!("cargo {component} is missing; run `rustup component add {name}`");
        }
    }
    let start = Instant::now();
    for step in [FORMAT, LINTS] {
        step.run()?;
    }
    match plan {
        Plan::Check => TIDY.run()?,
        Plan::Test => {
            RUSTDOC.run()?;
            ensure_browser();
            let tests = if has("nextest") { NEXTEST } else { TESTS };
            tests.run()?;
            DOC_TESTS.run()?;
            check_dependencies()?;
        }
    }
    println!("== all passed in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// The feedback pages are tested in Debian's Chromium: installs it where that can be done unasked, which is as root.
fn ensure_browser() {
    const RUN: &str = "chromium --version || chromium-browser --version || google-chrome --version";
    const INSTALL: &str = "apt-get update && apt-get install -y --no-install-recommends chromium";
    if runs(RUN) {
        return;
    }
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    if root {
        println!("== browser: chromium is missing: {INSTALL}");
    }
    if !(root && runs(INSTALL) && runs(RUN)) {
        println!("== browser: *** THE BROWSER TESTS WILL NOT RUN: as root, {INSTALL} ***");
    }
}

fn runs(line: &str) -> bool {
    let status = Command::new("sh").args(["-c", line]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// What can be checked: the program is optional, and its list of vulnerabilities needs the network.
fn check_dependencies() -> Result<()> {
    if !has("deny") {
        println!(
            "== dependencies: NOT CHECKED, cargo-deny is not installed (cargo install --locked cargo-deny)"
        );
        return Ok(());
    }
    DEPENDENCIES.run()?;
    if succeeds(&["deny", "fetch", "db"]) {
        ADVISORIES.run()
    } else {
        println!("== advisories: NOT CHECKED, the list of vulnerabilities cannot be fetched");
        Ok(())
    }
}

impl Step {
    fn run(&self) -> Result<()> {
        let command = format!("cargo {}", self.arguments.join(" "));
        println!("== {}: {command}", self.name);
        let start = Instant::now();
        let status = cargo()
            .args(self.arguments)
            .envs(self.environment.iter().copied())
            .status()
            .with_context(|| format!("cannot start `{command}`"))?;
        let seconds = start.elapsed().as_secs_f64();
        if !status.success() {
            bail!("{} failed after {seconds:.1} s; to see it alone: {command}", self.name);
        }
        println!("== {}: passed in {seconds:.1} s", self.name);
        Ok(())
    }
}

/// Whether cargo has a subcommand.
fn has(subcommand: &str) -> bool {
    succeeds(&[subcommand, "--version"])
}

fn succeeds(arguments: &[&str]) -> bool {
    let status = cargo().args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The cargo that runs this task, at the root of the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
