//! The figures as tables and sentences.

use minijinja::{Value, context};
use pavlov_schema::feedback::Learned;

use super::super::{long, when};
use crate::quality::{Effect, Quality};
use crate::stats::Interval;
use crate::stats::probe::Finding;
use crate::stats::style::Style;

const NONE: &str = "–";

/// A table of the page.
pub(super) fn table(title: &str, says: &str, head: &[&str], rows: Vec<Vec<String>>) -> Value {
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    context! { title, says, head, rows }
}

/// All tables for which there is something to show.
pub(super) fn tables(quality: &Quality) -> Vec<Value> {
    let about_people = [
        agreement(quality),
        kappas(quality),
        biases(quality),
        policies(quality),
        ratings(quality),
        raters(quality),
    ];
    about_people.into_iter().chain([lessons(quality)]).flatten().collect()
}

fn interval(one: Option<Interval>) -> String {
    one.map_or_else(|| NONE.into(), |one| format!("{:.2} ({:.2} to {:.2})", one.value, one.low, one.high))
}

fn chance(p: f64) -> String {
    if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") }
}

fn number(one: Option<f64>) -> String {
    one.map_or_else(|| NONE.into(), |one| format!("{one:.2}"))
}

fn agreement(quality: &Quality) -> Option<Value> {
    let rows: Vec<_> = quality
        .agreement
        .iter()
        .map(|one| {
            vec![
                one.question.clone(),
                one.items.to_string(),
                interval(one.raw),
                interval(one.nominal),
                interval(one.ordinal),
            ]
        })
        .collect();
    let says = "Of live tasks that several people answered and that were not chosen for their information; 95% intervals.";
    let head = ["question", "items", "same", "α nominal", "α ordinal"];
    (!rows.is_empty()).then(|| table("Agreement", says, &head, rows))
}

fn kappas(quality: &Quality) -> Option<Value> {
    let mut who: Vec<usize> = quality.kappas.iter().flat_map(|pair| [pair.a, pair.b]).collect();
    who.sort_unstable();
    who.dedup();
    let name = |i: usize| quality.raters.get(i).map_or(NONE, |rater| &*rater.rater);
    let cell = |a: usize, b: usize| {
        let pair =
            quality.kappas.iter().find(|pair| [pair.a, pair.b] == [a, b] || [pair.a, pair.b] == [b, a]);
        pair.map_or_else(String::new, |pair| format!("{} of {}", number(pair.kappa), pair.items))
    };
    let row = |&a: &usize| {
        std::iter::once(name(a).to_owned()).chain(who.iter().map(|&b| cell(a, b))).collect::<Vec<_>>()
    };
    let rows: Vec<_> = who.iter().map(row).collect();
    let head: Vec<&str> = std::iter::once("rater").chain(who.iter().map(|&b| name(b))).collect();
    let says = "Cohen's kappa of two people, and of how many items both answered.";
    (!rows.is_empty()).then(|| table("Kappa of each two raters", says, &head, rows))
}

fn biases(quality: &Quality) -> Option<Value> {
    let effect = |what: &str, one: Effect| vec![what.into(), interval(Some(one.log_odds)), chance(one.p)];
    let left = quality.left.map(|left| {
        let p = quality.left_p.map_or_else(|| NONE.into(), chance);
        vec!["share of decisions for the left answer".into(), interval(Some(left)), p]
    });
    let position = quality.position.map(|one| effect("log-odds for being on the left", one));
    let style = quality.style.iter().map(|one| {
        effect(&format!("log-odds for a standard deviation more {}", more_of(one.style)), one.effect)
    });
    let rows: Vec<Vec<String>> = [left, position].into_iter().flatten().chain(style).collect();
    let says = if quality.style.is_empty() {
        ""
    } else {
        "Terms of style are fitted together, beside the place on the screen; of each the difference of two answers as a share of both."
    };
    (!rows.is_empty()).then(|| table("Position and style", says, &["bias", "95% interval", "p"], rows))
}

/// A term of style, as something of which an answer may have more.
fn more_of(style: Style) -> &'static str {
    match style {
        Style::Length => "length",
        Style::Headers => "headings",
        Style::Lists => "items of lists",
        Style::Bold => "bold text",
    }
}

fn policies(quality: &Quality) -> Option<Value> {
    if !quality.not_comparable.is_empty() {
        let groups = quality.not_comparable.iter().map(|group| vec![group.join(", ")]).collect();
        let says = "Not comparable: no votes order these groups among each other, or all go one way.";
        return Some(table("Policies", says, &["comparable among themselves"], groups));
    }
    let rows: Vec<_> = quality
        .policies
        .iter()
        .map(|one| {
            let comparisons = one.comparisons.to_string();
            vec![one.policy.clone(), interval(Some(one.strength)), interval(one.at_equal_style), comparisons]
        })
        .collect();
    let says = "Log-strengths in nats, the best first; 95% intervals clustered by task and rater.";
    let head = ["policy", "strength", "at equal style", "comparisons"];
    (!rows.is_empty()).then(|| table("Policies", says, &head, rows))
}

fn ratings(quality: &Quality) -> Option<Value> {
    let rows: Vec<_> = quality
        .ratings
        .iter()
        .map(|one| {
            let ratings = one.ratings.to_string();
            vec![
                one.policy.clone(),
                one.question.clone(),
                interval(one.mean),
                interval(one.corrected),
                ratings,
            ]
        })
        .collect();
    let says = "Mean points, and the same without what each rater gives above others for the same answers; 95% intervals clustered by task and rater.";
    let head = ["policy", "question", "mean", "without severity", "ratings"];
    (!rows.is_empty()).then(|| table("Ratings", says, &head, rows))
}

fn lessons(quality: &Quality) -> Option<Value> {
    let row = |one: &Learned| {
        let Learned { run, judgments, held_out, accuracy: value, low, high, .. } = one;
        let share = Interval { value: *value, low: *low, high: *high };
        vec![run.clone(), judgments.to_string(), interval(Some(share)), held_out.to_string()]
    };
    let rows: Vec<_> = quality.lessons.iter().map(row).collect();
    let says = "What a reward model that learned from so many judgments foretold of held-out ones; 95% intervals clustered by prompt.";
    let head = ["run", "judgments", "share foretold", "held out"];
    (!rows.is_empty()).then(|| table("Reward models", says, &head, rows))
}

fn raters(quality: &Quality) -> Option<Value> {
    let row = |one: &crate::quality::RaterQuality| {
        let straight = if one.straight_lining { " (straight line)" } else { "" };
        vec![
            one.rater.clone(),
            one.answers.to_string(),
            long(one.median_ms),
            format!("{} of {}", interval(one.gold), one.gold_answers),
            number(one.dawid_skene),
            interval(one.crowd_bt),
            interval(one.consistency),
            interval(one.left),
            one.left_p.map_or_else(|| NONE.into(), chance),
            format!("{}{straight}", one.longest_run),
            format!("{:.0}%", one.too_fast * 100.0),
            number(one.severity),
        ]
    };
    let rows: Vec<_> = quality.raters.iter().map(row).collect();
    let crowd = quality.crowd_bt_steps.map_or_else(String::new, |steps| {
        format!(" Crowd-BT: 1 judges as the policies' strengths say, ½ by chance, 0 against them; converged after {steps} steps.")
    });
    let says = format!(
        "Accuracy on gold is a Beta posterior; Dawid and Skene's is shown of those with enough overlap.{crowd}"
    );
    let head = [
        "rater",
        "answers",
        "median",
        "right on gold",
        "Dawid–Skene",
        "Crowd-BT",
        "repeats alike",
        "left",
        "p of left",
        "longest run",
        "too fast",
        "severity",
    ];
    (!rows.is_empty()).then(|| table("Each rater", &says, &head, rows))
}

/// What was excluded and why; names by pseudonym.
pub(super) fn exclusions(rows: Vec<(String, crate::store::Exclusion)>) -> Option<Value> {
    let row = |(rater, one): (String, crate::store::Exclusion)| {
        let what = one.seq.map_or_else(|| "all answers".into(), |seq| format!("record {seq}"));
        vec![rater, what, one.reason, when(one.at_ms), one.lifted_at.map_or_else(|| NONE.into(), when)]
    };
    let rows: Vec<_> = rows.into_iter().map(row).collect();
    let head = ["rater", "what", "reason", "since", "lifted"];
    (!rows.is_empty()).then(|| table("Exclusions", "", &head, rows))
}

/// What the probes found, as sentences.
pub(super) fn findings(quality: &Quality) -> Vec<String> {
    quality.findings.iter().map(|finding| sentence(quality, finding)).collect()
}

fn sentence(quality: &Quality, finding: &Finding) -> String {
    let policy = |i: &usize| quality.policy_names.get(*i).map_or(NONE, |name| &**name);
    match finding {
        Finding::Separation { groups } => {
            format!(
                "Policies fall into {} groups that cannot be compared; collect comparisons between them.",
                groups.len()
            )
        }
        Finding::PositionBias { log_odds, p } => {
            format!("Being shown first changes verdicts: {log_odds:.2} nats, p {}.", chance(*p))
        }
        Finding::PositionReordering { seemed, is } => format!(
            "{} seemed better than {}; allowing for the place on the screen it is the other way round.",
            policy(seemed),
            policy(is)
        ),
        Finding::StyleBias { style, log_odds, p } => format!(
            "Answers with more {} {}: {log_odds:.2} nats for a standard deviation, p {}.",
            more_of(*style),
            if *log_odds > 0.0 { "win" } else { "lose" },
            chance(*p)
        ),
        Finding::StyleReordering { seemed, is } => format!(
            "{} seemed better than {}; at equal style it is the other way round.",
            policy(seemed),
            policy(is)
        ),
        Finding::TieConvention { with, without } => {
            format!("The order of {} and {} hangs on whether ties count.", policy(with), policy(without))
        }
        Finding::Intransitivity { cycle: [a, b, c] } => format!(
            "{} beats {}, that beats {}, and that beats the first: no one strength says that.",
            policy(a),
            policy(b),
            policy(c)
        ),
        Finding::VoterConcentration { rater, share } => {
            let who = quality.raters.get(*rater).map_or(NONE, |rater| &*rater.rater);
            format!("{who} gave {:.0}% of the votes: the board is theirs.", share * 100.0)
        }
        Finding::RankVolatility { leader, second } => {
            format!("{} leads, but {} is within the error.", policy(leader), policy(second))
        }
    }
}
