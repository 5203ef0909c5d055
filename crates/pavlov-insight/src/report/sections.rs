//! The parts of a page, each from the report that one question left in the run.
//!
//! Reports of other questions are read as the JSON that they are kept as: a page shows what is there, of whatever version.

use pavlov_schema::{Map, Value};
use serde::Serialize;

use super::chart::{self, Series};
use super::heat::Heat;
use crate::Estimate;
use crate::ledger::noise::NO_DIRECTION;
use crate::ledger::{Ledger, figure};
use crate::metrics::curve;

/// Whether something was checked on this very run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Badge {
    /// Whether it was, and held.
    pub validated: bool,
    /// By what, or what would.
    pub text: String,
}

impl Badge {
    pub(super) fn yes(text: impl Into<String>) -> Self {
        Self { validated: true, text: text.into() }
    }

    pub(super) fn no(text: impl Into<String>) -> Self {
        Self { validated: false, text: text.into() }
    }
}

/// A chart and what it means.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// What is drawn.
    pub title: String,
    /// What it means, in a sentence.
    pub sentence: String,
    /// The names of its lines, in order.
    pub names: Vec<String>,
    /// SVG.
    pub svg: String,
}

/// A table; its first column names the row.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Table {
    /// Names of the columns.
    pub head: Vec<String>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
}

/// Text with shaded tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shaded {
    /// What was asked.
    pub prompt: String,
    /// What is said of it.
    pub sentence: String,
    /// The answer.
    pub tokens: Vec<Heat>,
}

/// One question and what was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Section {
    /// The command that measures it, where it was not.
    pub command: Option<String>,
    /// The findings in words.
    pub sentences: Vec<String>,
    /// Whether they were checked.
    pub badge: Option<Badge>,
    /// Charts.
    pub charts: Vec<Curve>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Answers with shaded tokens.
    pub shaded: Vec<Shaded>,
}

impl Section {
    pub(super) fn unmeasured(command: String) -> Self {
        Self { command: Some(command), ..Self::default() }
    }
}

/// Lessons that the section on traces shows.
const EXAMPLES: usize = 12;

/// What is drawn of a run: a title, what it means, and the metrics in it.
const CURVES: [(&str, &str, &[&str]); 9] = [
    (
        "Reward",
        "Points an answer earns; the held-out line is of prompts that were never learned from.",
        &["reward", "eval_reward"],
    ),
    (
        "Loss",
        "What an update makes smaller; on held-out rows it also says when learning by heart begins.",
        &["loss", "eval_loss"],
    ),
    (
        "Accuracy",
        "Share that was right: tokens of demonstrations, or verdicts foretold.",
        &["accuracy", "eval_accuracy", "mean_token_accuracy", "eval_mean_token_accuracy"],
    ),
    (
        "KL to the reference",
        "Nats a token between the policy and the one it is held to: how far it went.",
        &["kl"],
    ),
    ("Entropy", "Nats a token: how undecided the model is. At 0 it says one thing only.", &["entropy"]),
    (
        "Spread of rewards",
        "Mean deviation within a group of answers: without it nothing is learned.",
        &["reward_std"],
    ),
    (
        "Groups without spread",
        "Share of prompts whose answers all earned the same and taught nothing.",
        &["frac_reward_zero_std"],
    ),
    (
        "Length of answers",
        "Tokens; a reward that rises with it may be a reward for length.",
        &["completions/mean_length", "eval_completions/mean_length"],
    ),
    ("Gradient", "Norm before clipping; a jump is a lesson unlike the others.", &["grad_norm"]),
];

/// The curves of a run that there are.
pub(super) fn curves(lines: &[Map<String, Value>]) -> Vec<Curve> {
    CURVES
        .iter()
        .filter_map(|(title, sentence, names)| one_curve(title, sentence, names, &[("", lines)]))
        .collect()
}

/// One chart of several runs' lines; a run's name goes before a metric's where it has one.
pub(super) fn one_curve(
    title: &str,
    sentence: &str,
    names: &[&str],
    runs: &[(&str, &[Map<String, Value>])],
) -> Option<Curve> {
    let mut series = Vec::new();
    for (run, lines) in runs {
        for name in names {
            let points = curve(lines, name);
            if !points.is_empty() {
                let name = if run.is_empty() { (*name).to_owned() } else { format!("{run}: {name}") };
                series.push(Series { name, points });
            }
        }
    }
    let svg = chart::lines(&series, "updates")?;
    let names = series.into_iter().map(|series| series.name).collect();
    Some(Curve { title: title.to_owned(), sentence: sentence.to_owned(), names, svg })
}

/// Curves of several runs, a chart a metric.
pub fn compared(runs: &[(&str, &[Map<String, Value>])]) -> Vec<Curve> {
    CURVES.iter().filter_map(|(title, sentence, names)| one_curve(title, sentence, names, runs)).collect()
}

/// Whether what was learned is what was drawn.
pub(super) fn parity(lines: &[Map<String, Value>]) -> Badge {
    const ROUNDING: f64 = 0.05;
    let worst = curve(lines, "sampling/sampling_logp_difference/max")
        .iter()
        .map(|p| p.1)
        .fold(None, |worst: Option<f64>, x| Some(worst.map_or(x, |worst| worst.max(x))));
    match worst {
        Some(worst) if worst <= ROUNDING => Badge::yes(format!(
            "sampler and trainer gave every answer the same log-probability to {} nats a token",
            figure(worst)
        )),
        Some(worst) => Badge::no(format!("sampler and trainer differed by {} nats a token", figure(worst))),
        None => Badge::no("curves are as they were logged"),
    }
}

/// The ledger.
pub(super) fn ledger(ledger: Option<&Ledger>, run: &str) -> Section {
    let Some(ledger) = ledger else { return Section::unmeasured(format!("pavlov ledger {run}")) };
    let mut rows = Vec::new();
    let mut row = |name: &str, estimate: Option<&Estimate>, meaning: &str| {
        if let Some(e) = estimate {
            let bound = |x: f64| if x >= NO_DIRECTION { "no bound".to_owned() } else { figure(x) };
            let interval = format!("{} to {}", bound(e.low), bound(e.high));
            let floor = e.noise_floor.map_or(String::new(), figure);
            let value = if e.value >= NO_DIRECTION { "too noisy to say".to_owned() } else { figure(e.value) };
            rows.push(vec![name.to_owned(), value, interval, floor, meaning.to_owned()]);
        }
    };
    row("bits offered", ledger.offered.bits.as_ref(), "the most that all lessons could teach");
    row("bits offered a lesson", ledger.offered.per_lesson.as_ref(), "");
    row("capacity of a comparison", ledger.offered.capacity.as_ref(), "bits, given how often people agree");
    row(
        "noise scale",
        ledger.usable.noise_scale.as_ref(),
        "lessons an update beyond which more of them help little",
    );
    row(
        "noise scale for Adam",
        ledger.usable.noise_scale_adam.as_ref(),
        "the same in the metric of its steps",
    );
    row("groups without spread", ledger.usable.zero_spread.as_ref(), "share that taught nothing");
    let absorbed = ledger.absorbed.as_ref();
    let coded_by = absorbed.map_or(String::new(), |a| format!(", coded by {}", a.coded_by.word()));
    let meaning = format!("learned beyond the lessons themselves{coded_by}");
    row("bits absorbed", absorbed.map(|a| &a.bits), &meaning);
    let foretold = absorbed.and_then(|a| a.foretold.as_ref());
    row("bits foretold", foretold, "verdicts that the policy knew before it was told");
    row(
        "held-out answer, bits before",
        ledger.gain.as_ref().map(|g| &g.before),
        "surprise at the right answer",
    );
    row("held-out answer, bits after", ledger.gain.as_ref().map(|g| &g.after), "");
    row("bits cheaper", ledger.gain.as_ref().map(|g| &g.bits), "above 0: learned");
    row(
        "KL from the start, bits",
        ledger.cost.kl.as_ref(),
        "how far an answer moved: a cost, no information",
    );
    row(
        "right elsewhere, before",
        ledger.cost.elsewhere_before.as_ref(),
        "on questions that no lesson touched",
    );
    row("right elsewhere, after", ledger.cost.elsewhere_after.as_ref(), "");
    let head = ["", "value", "95% interval", "noise floor", "what it says"].map(String::from).into();
    let badge = match (&ledger.absorbed, ledger.offered.bits) {
        (Some(absorbed), Some(offered))
            if absorbed.bits.value <= offered.value && absorbed.bits.stands_out() =>
        {
            Badge::yes("what was absorbed is above its noise floor and within what was offered")
        }
        (Some(_), Some(_)) => Badge::no("what was absorbed does not stand out of the noise"),
        _ => Badge::no("no absorbed bits to check against those offered"),
    };
    Section {
        sentences: vec![ledger.sentence()],
        badge: Some(badge),
        tables: vec![Table { head, rows }],
        ..Section::default()
    }
}

pub(super) fn text(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(super) fn number(value: &Value, path: &str) -> Option<f64> {
    value.pointer(path)?.as_f64()
}

pub(super) fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn strings(value: &Value, path: &str) -> Vec<String> {
    list(value, path).iter().filter_map(|s| s.as_str().map(str::to_owned)).collect()
}

pub(super) fn numbers(value: &Value, path: &str) -> Vec<f64> {
    list(value, path).iter().filter_map(|n| n.as_f64().or_else(|| number(n, "/value"))).collect()
}

/// An estimate in a cell, with its interval.
pub(super) fn cell(value: &Value, path: &str) -> String {
    interval(value, path, figure)
}

/// An estimate of a share in a cell, with its interval, in percent: the column's head says so.
pub(super) fn percent(value: &Value, path: &str) -> String {
    interval(value, path, |share| format!("{:.1}", 100.0 * share))
}

fn interval(value: &Value, path: &str, shown: impl Fn(f64) -> String) -> String {
    match ["value", "low", "high"].map(|part| number(value, &format!("{path}/{part}"))) {
        [Some(value), Some(low), Some(high)] => {
            format!("{} ({} to {})", shown(value), shown(low), shown(high))
        }
        _ => "–".to_owned(),
    }
}

/// The examples behind a habit.
pub(super) fn trace(report: Option<Value>, run: &str) -> Section {
    let Some(report) = report else {
        return Section::unmeasured(format!("pavlov trace {run} --behaviour BEHAVIOUR"));
    };
    let rows = list(&report, "/examples").iter().take(EXAMPLES).map(|example| {
        let labels = example.pointer("/labels").and_then(Value::as_object);
        let labels: Vec<&str> =
            labels.into_iter().flatten().filter_map(|(_, label)| label.as_str()).collect();
        vec![
            number(example, "/place").map_or(String::new(), |place| format!("row {}", place as u64 + 1)),
            number(example, "/score").map_or(String::new(), figure),
            text(example, "/prompt"),
            text(example, "/answer"),
            labels.join(", "),
            text(example, "/sentence"),
        ]
    });
    let head = ["lesson", "score", "prompt", "pushes for", "from", "what it does"].map(String::from).into();
    let mut tables = vec![Table { head, rows: rows.collect() }];
    for grouping in list(&report, "/groups") {
        let rows = list(grouping, "/groups").iter().map(|group| {
            let top = number(group, "/in_top").map_or(String::new(), |n| n.to_string());
            vec![text(group, "/name"), cell(group, "/score"), top]
        });
        let head = vec![text(grouping, "/by"), "mean score".into(), "in the top 3%".into()];
        tables.push(Table { head, rows: rows.collect() });
    }
    let sentences = vec![text(&report, "/sentence"), text(&report, "/unit")];
    if let Some(cure) = report.pointer("/cured").filter(|cure| !cure.is_null()) {
        let rows = [
            ("before", "/before"),
            ("on everything", "/everything"),
            ("without the lessons at the top", "/without"),
        ];
        let rows = rows.map(|(name, path)| vec![name.to_owned(), percent(cure, path)]).into();
        let head = ["taught", "the habit where nothing calls for it, % of answers"].map(String::from).into();
        tables.insert(0, Table { head, rows });
    }
    let verified = report.pointer("/verified").filter(|verified| !verified.is_null());
    let badge = match verified {
        Some(verified) => {
            let rows = [
                ("on everything", "/everything"),
                ("without the examples", "/without_top"),
                ("with their labels flipped", "/flipped"),
                ("without as many others", "/without_random"),
            ];
            let rows = rows.map(|(name, path)| vec![name.to_owned(), cell(verified, path)]).into();
            tables.insert(
                0,
                Table { head: vec!["taught again".into(), "the habit's probability".into()], rows },
            );
            if verified.pointer("/confirmed") == Some(&Value::Bool(true)) {
                Badge::yes("taught again without the examples the habit fell, and not without others")
            } else {
                Badge::no(
                    "taught again without the examples, the habit did not fall more than without others",
                )
            }
        }
        None if report.pointer("/cured/cured") == Some(&Value::Bool(true)) => Badge::yes(
            "taught again without these lessons the habit fell; whether leaving out others does less: pavlov trace --verify",
        ),
        None => Badge::no("a guess until training again without them says so: pavlov trace --verify"),
    };
    Section { sentences, badge: Some(badge), tables, ..Section::default() }
}
