//! `pavlov report`: everything that was measured of a run as one page that a person can send, read and print.
//!
//! The page is one file: no network, no script, charts as SVG. Each figure has a sentence that says what it means, and a badge:
//! whether it was checked on this very run. What was not measured says which command would.

mod alerts;
mod chart;
mod findings;
mod heat;
mod page;
mod sections;

use std::path::{Path, PathBuf};

use pavlov_schema::{Map, Value};
use pavlov_train::settings::read_toml;
use serde::Serialize;

pub use alerts::{Alert, alerts};
pub use heat::{Answer, Heat};
pub use page::{CSS, Live, render};
pub use sections::{Badge, Curve, Section, Shaded, Table, compared};

use crate::ledger::{self, Ledger};
use crate::{Error, Result, kept, metrics};

/// The name of the page in a run.
pub const FILE: &str = "report.html";
/// Answers that a page shows.
const ANSWERS: usize = 8;

/// What a page shows of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The run, as it was named.
    pub run: String,
    /// The command that made it, as far as it is known.
    pub command: String,
    /// When it started.
    pub started: String,
    /// Updates made.
    pub step: u64,
    /// Signs that something goes wrong.
    pub alerts: Vec<Alert>,
    /// Curves, a chart each.
    pub curves: Vec<Curve>,
    /// What the curves are checked by.
    pub curves_badge: Badge,
    /// The newest answers.
    pub answers: Vec<Answer>,
    /// How much each lesson taught.
    pub ledger: Section,
    /// Which part of an answer earned its reward.
    pub credit: Section,
    /// Where in the network the gain lies.
    pub layers: Section,
    /// What else changed.
    pub scan: Section,
    /// Which examples taught a habit.
    pub trace: Section,
}

/// Reads all that there is of a run.
pub fn read(run: &Path) -> Result<Report> {
    let file = run.join("config.toml");
    if !file.exists() {
        let problem = format!("{}: is no run, it has no config.toml; give the folder of one", run.display());
        return Err(Error::Question(problem));
    }
    let config = read_toml(&file)?;
    let lines = metrics::read(run)?;
    let manifest = manifest(run);
    let of = |key: &str| manifest.get(key).cloned().unwrap_or_default();
    let command: Vec<String> = serde_json::from_value(of("command")).unwrap_or_default();
    let name = run.display().to_string();
    let load = |name: &str| kept::load::<Value>(run, name);
    let ledger: Option<Ledger> = kept::load(run, ledger::NAME)?;
    let tokenizer = heat::tokenizer(run, &config);
    Ok(Report {
        command: command.join(" "),
        started: of("started_at").as_str().unwrap_or_default().to_owned(),
        step: lines.iter().filter_map(|line| line.get("step")?.as_u64()).max().unwrap_or(0),
        alerts: alerts(&lines),
        curves: sections::curves(&lines),
        curves_badge: sections::parity(&lines),
        answers: heat::newest(run, tokenizer.as_ref(), ANSWERS)?,
        ledger: sections::ledger(ledger.as_ref(), &name),
        credit: findings::credit(load("credit")?, &name),
        layers: findings::layers(load("layers")?, &name),
        scan: findings::scan(load("scan")?, &name),
        trace: sections::trace(load("trace")?, &name),
        run: name,
    })
}

/// Writes the page of a run to `out`, or beside its metrics. Returns where it is.
pub fn write(run: &Path, out: Option<&Path>) -> Result<PathBuf> {
    let page = render(&[read(run)?], None)?;
    let path = out.map_or_else(|| run.join(FILE), Path::to_owned);
    pavlov_schema::files::write_atomic(&path, |file| std::io::Write::write_all(file, page.as_bytes()))?;
    Ok(path)
}

fn manifest(run: &Path) -> Map<String, Value> {
    let text = std::fs::read_to_string(run.join("manifest.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
