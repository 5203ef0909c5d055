//! What was found: credit, layers and the scan, each from the report that its question left in the run.

use serde::Deserialize;
use serde_json::Value;

use super::chart::{self, Series};
use super::heat::{heat, spread};
use super::sections::{Badge, Curve, Section, Shaded, Table, list, number, numbers, percent, strings, text};
use crate::ledger::figure;
use crate::scan::divergence::readable;
use crate::scan::length::LengthSplit;
use crate::scan::overoptimisation::{Fit, Optimiser, Point};

/// Answers that the section on credit shows.
const SHADED: usize = 6;
/// Tokens that the section on the scan lists.
const TOKENS: usize = 8;

/// Token credit.
pub(super) fn credit(report: Option<Value>, run: &str) -> Section {
    let Some(report) = report else { return Section::unmeasured(format!("pavlov credit {run}")) };
    let answers = list(&report, "/answers");
    let shaded = answers.iter().take(SHADED).map(shaded).collect();
    let verdicts = report.pointer("/pooled/verdicts").and_then(Value::as_object);
    let verdicts: Vec<String> = verdicts
        .into_iter()
        .flatten()
        .filter_map(|(name, n)| Some(format!("{} {name}", n.as_u64()?)))
        .collect();
    let sentences = if verdicts.is_empty() {
        vec![
            "There is no verdict without the values of prefixes: tier c of pavlov credit measures them."
                .to_owned(),
        ]
    } else {
        vec![format!("Verdicts over the answers: {}.", verdicts.join(", "))]
    };
    Section { sentences, badge: Some(foretold(answers)), shaded, ..Section::default() }
}

/// Whether the parts' credit foretells the reward of answers that it was not fitted on.
fn foretold(answers: &[Value]) -> Badge {
    let scores = answers.iter().filter_map(|answer| {
        let [rho, low, n] = ["value", "low", "n"].map(|part| number(answer, &format!("/ablated/lds/{part}")));
        Some((rho?, low?, n?))
    });
    let mut scores: Vec<(f64, f64, f64)> = scores.collect();
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some(&(rho, _, n)) = scores.get(scores.len() / 2) else {
        return Badge::no(
            "nothing was held out to check it against: tier b of pavlov credit does so where the reward varies",
        );
    };
    let beyond = scores.iter().filter(|score| score.1 > 0.0).count();
    let text = format!(
        "of {} answers, the credit of {beyond} foretold beyond chance what {n} rewritings earn that it was not fitted on (rank \
         correlation {rho:.2} in the middle)",
        scores.len()
    );
    if 2 * beyond > scores.len() { Badge::yes(text) } else { Badge::no(text) }
}

/// An answer with the best measured credit there is: rollouts, else ablation, else the log-ratio.
fn shaded(answer: &Value) -> Shaded {
    let tokens = strings(answer, "/tokens");
    let spans = |path: &str| -> Vec<(usize, usize)> {
        let span = |v: &Value| Some((number(v, "/start")? as usize, number(v, "/end")? as usize));
        list(answer, path).iter().filter_map(span).collect()
    };
    let parts: Vec<(usize, usize)> = list(answer, "/parts")
        .iter()
        .filter_map(|p| Some((number(p, "/tokens/start")? as usize, number(p, "/tokens/end")? as usize)))
        .collect();
    let [bits, deltas, weights, ratio] =
        ["/values/bits", "/values/deltas", "/ablated/credits", "/forwards/log_ratio"]
            .map(|path| numbers(answer, path));
    let (values, what) = if !bits.is_empty() {
        (spread(&spans("/values/spans"), &bits, tokens.len()), "bits of news about the outcome, by rollouts")
    } else if !deltas.is_empty() {
        (spread(&spans("/values/spans"), &deltas, tokens.len()), "change of the expected reward, by rollouts")
    } else if !weights.is_empty() {
        (spread(&parts, &weights, tokens.len()), "reward points lost if the part is written anew")
    } else {
        (ratio, "how much likelier the policy came to find each token than its reference")
    };
    let mut sentences =
        vec![format!("Reward {}. Shaded: {what}.", number(answer, "/reward").map_or(String::new(), figure))];
    sentences.extend(strings(answer, "/sentences"));
    Shaded { prompt: text(answer, "/prompt"), sentence: sentences.join(" "), tokens: heat(&tokens, &values) }
}

/// Layer credit.
pub(super) fn layers(report: Option<Value>, run: &str) -> Section {
    let Some(report) = report else { return Section::unmeasured(format!("pavlov layers {run}")) };
    let series = |name: &str, path: &str, field: &str| Series {
        name: name.to_owned(),
        points: list(&report, path)
            .iter()
            .enumerate()
            .filter_map(|(i, part)| {
                let x = number(part, "/layer").unwrap_or(i as f64);
                Some((x, number(part, &format!("/{field}/value"))?))
            })
            .collect(),
    };
    let gates = [series("alone", "/gates/parts", "alone"), series("needed", "/gates/parts", "needed")];
    let shifts =
        [series("share", "/shifts/layers", "share"), series("necessity", "/shifts/layers", "necessity")];
    let mut charts = Vec::new();
    for (title, sentence, x, series) in [
        (
            "Share of the gain by part",
            "Of the gain, what each part's change makes alone, and what is lost without it.",
            "part, in the order of the network",
            gates,
        ),
        (
            "One constant shift",
            "Of the gain, what one constant vector added to the stream makes, and what is lost when it is projected out.",
            "blocks before it",
            shifts,
        ),
    ] {
        if let Some(svg) = chart::lines(&series, x) {
            let names = series.iter().filter(|s| !s.points.is_empty()).map(|s| s.name.clone()).collect();
            charts.push(Curve { title: title.into(), sentence: sentence.into(), names, svg });
        }
    }
    let cells = list(&report, "/patches/top").len() + list(&report, "/patches/random").len();
    let badge = match number(&report, "/patches/agreement") {
        Some(r) if r > 0.5 => Badge::yes(format!(
            "first-order estimates were confirmed by exact patches of {cells} cells (r = {r:.2})"
        )),
        Some(r) => {
            Badge::no(format!("first-order estimates and exact patches of {cells} cells differ (r = {r:.2})"))
        }
        None => Badge::no("not confirmed by exact patches"),
    };
    Section { sentences: strings(&report, "/sentences"), badge: Some(badge), charts, ..Section::default() }
}

/// The scan for habits.
pub(super) fn scan(report: Option<Value>, run: &str) -> Section {
    let Some(report) = report else { return Section::unmeasured(format!("pavlov scan {run}")) };
    let mut section = Section::default();
    let mut rows = Vec::new();
    let controlled = !list(&report, "/controls").is_empty();
    for probe in list(&report, "/probes") {
        let name = text(probe, "/name");
        let raised = probe.pointer("/alarm/raised") == Some(&Value::Bool(true));
        if raised {
            section.sentences.push(format!("{name}: {}", text(probe, "/sentence")));
            for example in list(probe, "/examples").iter().take(3) {
                section.shaded.push(Shaded {
                    prompt: text(example, "/prompt"),
                    sentence: format!("{name}. Before: {}", text(example, "/before")),
                    tokens: heat(&[text(example, "/after")], &[0.0]),
                });
            }
        }
        // Of opinions it is the agreement that they brought which counts.
        let measured =
            if probe.pointer("/flips").is_some_and(Value::is_object) { "flips" } else { "uncalled" };
        let of = |name: String, alarm: &str, at: &Value, verdict: String| {
            let cells = ["reference", "model", "change"].map(|of| percent(at, &format!("/{measured}/{of}")));
            let controls = controlled.then(|| percent(at, "/controls"));
            [&[name, alarm.to_owned()][..], &cells, controls.as_slice(), &[verdict]].concat()
        };
        rows.push(of(name, if raised { "ALARM" } else { "no alarm" }, probe, text(probe, "/verdict")));
        let kinds = list(probe, "/groups").iter();
        rows.extend(kinds.map(|kind| of(format!("· {}", text(kind, "/name")), "", kind, String::new())));
    }
    if section.sentences.is_empty() && !rows.is_empty() {
        section.sentences.push("No habit changed by more than chance would.".into());
    }
    let head = [
        "habit, uncalled for",
        "",
        "before, % of answers",
        "after, % of answers",
        "change, percentage points",
    ];
    // The interval is that of a further run, not of their mean.
    let controls = controlled.then_some("control runs, percentage points (another, 95%)");
    let head = head.into_iter().chain(controls).chain(["verdict"]).map(String::from).collect();
    section.tables.push(Table { head, rows });
    section.tables.push(kl(&report));
    // Of another version, they are not shown.
    if let Some(Ok(split)) = report.pointer("/length").map(LengthSplit::deserialize) {
        section.sentences.push(split.sentence());
    }
    for fit in list(&report, "/overoptimisation") {
        if let Ok(fit) = Fit::deserialize(fit) {
            section.sentences.extend(fit.sentences());
            section.charts.extend(overoptimised(&fit));
        }
    }
    let missing = strings(&report, "/missing");
    section.sentences.extend(missing.iter().map(|missing| format!("Not measured: {missing}.")));
    section.badge = Some(again(list(&report, "/probes"), controlled));
    section
}

/// What is optimised and what is meant, against the distance to the reference.
fn overoptimised(fit: &Fit) -> Vec<Curve> {
    const STEPS: usize = 40;
    let way = match fit.optimiser {
        Optimiser::Reinforcement => "along the run",
        Optimiser::BestOfN => "the best of n",
    };
    let mut points = fit.points.clone();
    points.sort_by(|a, b| a.kl.total_cmp(&b.kl));
    let measured = |get: fn(&Point) -> f64| points.iter().map(|p| (p.kl, get(p))).collect();
    // Dense where it begins, as it bends with the root of the KL.
    let along = (0..=STEPS).map(|i| fit.reach() * (i as f64 / STEPS as f64).powi(2));
    let fitted = Series { name: "fitted curve".into(), points: along.map(|kl| (kl, fit.at(kl))).collect() };
    let proxy = Series { name: "measured".into(), points: measured(|p| p.proxy) };
    let gold = Series { name: "measured".into(), points: measured(|p| p.gold) };
    [
        (format!("What is optimised, {way}"), "Mean points of the rewards that were followed.", vec![proxy]),
        (
            format!("What is meant, {way}"),
            "Mean points of the reward that was meant: where it falls while the other rises, the reward's faults are learned.",
            vec![gold, fitted],
        ),
    ]
    .into_iter()
    .filter_map(|(title, sentence, series)| {
        let svg = chart::lines(&series, "KL from the reference, nats an answer")?;
        let names = series.into_iter().map(|series| series.name).collect();
        Some(Curve { title, sentence: sentence.into(), names, svg })
    })
    .collect()
}

/// Where the distance to the reference is spent.
fn kl(report: &Value) -> Table {
    let tokens = list(report, "/divergence/tokens").iter().take(TOKENS);
    let rows = tokens.map(|token| {
        vec![readable(&text(token, "/text")), number(token, "/nats").map_or(String::new(), figure)]
    });
    let head = ["KL is spent on", "KL, nats an answer"].map(String::from).into();
    Table { head, rows: rows.collect() }
}

/// Whether a habit that was found in half of the questions is there in the other half, more than in control runs if there are any.
fn again(probes: &[Value], controlled: bool) -> Badge {
    let raised = |probe: &&Value| probe.pointer("/alarm/raised") == Some(&Value::Bool(true));
    if probes.is_empty() {
        return Badge::no("no habit was looked for");
    }
    let alarmed: Vec<&Value> = probes.iter().filter(raised).collect();
    if alarmed.is_empty() {
        return Badge::no("no alarm was raised, so that there is nothing to confirm");
    }
    let held = alarmed.iter().filter(|probe| number(probe, "/alarm/again/low").is_some_and(|low| low > 0.0));
    let text = format!(
        "looked for in every other question, and measured in the rest: the habit rose there by {1} percentage points{0}",
        if controlled { " more than in the control runs" } else { "" },
        alarmed.iter().map(|probe| percent(probe, "/alarm/again")).collect::<Vec<_>>().join(", ")
    );
    if held.count() == alarmed.len() { Badge::yes(text) } else { Badge::no(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shares_are_percent_in_the_table_as_in_the_sentences() {
        let share = |value: f64| json!({"value": value, "low": value - 0.01, "high": value + 0.01});
        let paired = json!({"reference": share(0.066), "model": share(0.1), "change": share(0.034)});
        let alarm = json!({"raised": true, "again": share(0.085)});
        let habit = json!({
            "name": "habit", "sentence": "10.0% of the time.", "verdict": "artifact", "alarm": alarm, "flips": null,
            "uncalled": paired, "groups": [{"name": "movement", "uncalled": paired}],
        });
        let opinion = json!({"name": "agreement", "flips": {"model": share(0.5)}, "uncalled": paired});
        let report = json!({"probes": [habit, opinion], "missing": ["best of n: too few"]});
        let section = scan(Some(report), "run");
        let Table { head, rows } = &section.tables[0];
        assert_eq!(head[2..5], ["before, % of answers", "after, % of answers", "change, percentage points"]);
        let cells = ["6.6 (5.6 to 7.6)", "10.0 (9.0 to 11.0)", "3.4 (2.4 to 4.4)"];
        assert!(rows[0][2..5] == cells && rows[1][2..5] == cells, "{rows:?}");
        assert_eq!(rows[2][2..5], ["–", "50.0 (49.0 to 51.0)", "–"], "of opinions the flips");
        assert!(section.badge.unwrap().text.contains("8.5 (7.5 to 9.5) percentage points"));
        assert_eq!(section.sentences.last().unwrap(), "Not measured: best of n: too few.");
    }
}
