//! Against choix, krippendorff, crowd-kit, statsmodels and scipy, to 1e-6 (`scripts/golden/feedback.py`).

use pavlov_feedback::stats::agreement::{Label, Level, Measure, by_item, kappas};
use pavlov_feedback::stats::bias::{binomial, false_discovery};
use pavlov_feedback::stats::crowd::crowd;
use pavlov_feedback::stats::people::{clustered_mean, dawid_skene, gold};
use pavlov_feedback::stats::strength::{Fit, Outcome, Terms, Vote, fit};
use serde_json::Value;

const POLICIES: usize = 5;

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/statistics.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[track_caller]
fn assert_near(ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() < 1e-6, "{ours:?}\n{theirs:?}");
    }
}

fn votes(golden: &Value) -> Vec<Vote> {
    let vote = |row: &Value| {
        let n = numbers(row);
        let outcome = [Outcome::First, Outcome::Second, Outcome::Tie][n[2] as usize];
        Vote {
            first: n[0] as usize,
            second: n[1] as usize,
            outcome,
            item: n[3] as usize,
            rater: n[4] as usize,
            style: [5, 6, 7, 8].map(|k| n[k] as f32),
        }
    };
    golden["votes"].as_array().unwrap().iter().map(vote).collect()
}

fn labels(rows: &Value) -> Vec<Label> {
    let label = |row: &Value| {
        let n = numbers(row);
        Label { item: n[0] as usize, rater: n[1] as usize, value: n[2] }
    };
    rows.as_array().unwrap().iter().map(label).collect()
}

#[test]
fn bradley_terry_is_choixs_and_its_clustered_errors_statsmodels() {
    let golden = golden();
    let bt = &golden["bradley_terry"];
    let votes = votes(&golden);
    let with = |prior| fit(POLICIES, &votes, Terms::default(), prior).unwrap();
    assert_near(&with(0.1).theta, &numbers(&bt["prior_0.1"]));
    let plain = with(0.0);
    assert_near(&plain.theta, &numbers(&bt["no_prior"]));
    assert_near(&plain.theta, &numbers(&bt["statsmodels"]));
    let errors: Vec<f64> = (0..POLICIES).map(|i| plain.error(i)).collect();
    assert_near(&errors, &numbers(&bt["errors"]));
}

#[test]
fn davidson_with_order_and_style_is_what_its_formulas_say() {
    let golden = golden();
    let votes = votes(&golden);
    let all = Terms { ties: true, order: true, style: true };
    for (name, terms) in [
        ("davidson", Terms { order: false, style: false, ..all }),
        ("davidson_order", Terms { style: false, ..all }),
        ("davidson_order_style", all),
    ] {
        let ours: Fit = fit(POLICIES, &votes, terms, 0.05).unwrap();
        let theirs = &golden[name];
        let mut parameters = ours.theta.clone();
        parameters.extend(terms.order.then_some(ours.order));
        parameters.push(ours.tie);
        parameters.extend(ours.style.iter().filter(|_| terms.style));
        assert_near(&parameters, &numbers(&theirs["parameters"]));
        assert_near(&[ours.log_likelihood], &[theirs["log_likelihood"].as_f64().unwrap()]);
        let diagonal =
            |matrix: &[Vec<f64>]| -> Vec<f64> { (0..matrix.len()).map(|i| matrix[i][i].sqrt()).collect() };
        assert_near(&diagonal(&ours.covariance), &numbers(&theirs["errors"]));
        assert_near(&diagonal(&ours.naive), &numbers(&theirs["naive"]));
    }
}

#[test]
fn style_controlled_bradley_terry_is_statsmodels_logit() {
    let golden = golden();
    let ours = fit(POLICIES, &votes(&golden), Terms { style: true, ..Terms::default() }, 0.0).unwrap();
    let theirs = &golden["bradley_terry_style"];
    assert_near(&ours.theta, &numbers(&theirs["theta"]));
    assert_near(&ours.style, &numbers(&theirs["style"]));
    let errors: Vec<f64> = ours.style_effects().unwrap().iter().map(|(_, error)| *error).collect();
    assert_near(&errors, &numbers(&theirs["style_errors"]));
    let errors: Vec<f64> = (0..POLICIES).map(|i| ours.error(i)).collect();
    assert_near(&errors, &numbers(&theirs["errors"]));
}

#[test]
fn crowd_bt_is_scipys_maximum_of_its_posterior() {
    let golden = golden();
    let theirs = &golden["crowd_bt"];
    let vote = |row: &Value| {
        let n = numbers(row);
        let outcome = if n[2] > 0.0 { Outcome::First } else { Outcome::Second };
        let (first, second, rater) = (n[0] as usize, n[1] as usize, n[3] as usize);
        Vote { first, second, outcome, item: 0, rater, style: [0.0; 4] }
    };
    let votes: Vec<Vote> = theirs["votes"].as_array().unwrap().iter().map(vote).collect();
    let ours = crowd(4, 6, &votes, 0.05).unwrap();
    assert_near(&ours.theta, &numbers(&theirs["theta"]));
    assert_near(&[ours.log_posterior], &[theirs["log_posterior"].as_f64().unwrap()]);
    let known: Vec<_> = ours.reliability.iter().map(|one| one.unwrap()).collect();
    assert_near(&known.iter().map(|one| one.value).collect::<Vec<_>>(), &numbers(&theirs["eta"]));
    assert_near(&known.iter().map(|one| one.low).collect::<Vec<_>>(), &numbers(&theirs["low"]));
    assert_near(&known.iter().map(|one| one.high).collect::<Vec<_>>(), &numbers(&theirs["high"]));
}

#[test]
fn a_clustered_mean_is_statsmodels() {
    let golden = golden();
    let ours = clustered_mean(&labels(&golden["ratings"])).unwrap();
    let theirs = numbers(&golden["clustered_mean"]);
    assert_near(&[ours.value, ours.low, ours.high], &theirs);
}

#[test]
fn agreement_is_krippendorffs_and_statsmodels() {
    let golden = golden();
    let labels = labels(&golden["ratings"]);
    let units = by_item(&labels);
    let theirs = &golden["agreement"];
    for (name, level) in
        [("nominal", Level::Nominal), ("ordinal", Level::Ordinal), ("interval", Level::Interval)]
    {
        let ours = units.measure(Measure::Alpha(level)).unwrap();
        assert_near(&[ours], &[theirs[name].as_f64().unwrap()]);
    }
    let ours = kappas(&labels);
    for row in theirs["kappas"].as_array().unwrap() {
        let n = numbers(row);
        let pair = ours.iter().find(|pair| (pair.a, pair.b) == (n[0] as usize, n[1] as usize)).unwrap();
        assert_eq!(pair.items, n[2] as usize);
        assert_near(&[pair.kappa.unwrap()], &[n[3]]);
    }
}

#[test]
fn dawid_skene_is_crowd_kits() {
    let golden = golden();
    let theirs = &golden["dawid_skene"];
    let ours = dawid_skene(&labels(&theirs["labels"]), 5, 3, 0.0, 400);
    assert_near(&ours.prior, &numbers(&theirs["prior"]));
    for (rater, matrix) in theirs["confusion"].as_array().unwrap().iter().enumerate() {
        for (class, row) in matrix.as_array().unwrap().iter().enumerate() {
            assert_near(&ours.confusion[rater][class], &numbers(row));
        }
    }
    for (chances, theirs) in ours.items.iter().zip(theirs["items"].as_array().unwrap()) {
        assert_near(chances, &numbers(theirs));
    }
}

#[test]
fn tests_and_quantiles_are_scipys() {
    let golden = golden();
    for row in golden["binomial"].as_array().unwrap() {
        let n = numbers(row);
        assert_near(&[binomial(n[0] as usize, n[1] as usize, n[2])], &[n[3]]);
    }
    for row in golden["gold"].as_array().unwrap() {
        let n = numbers(row);
        let ours = gold(n[0] as usize, n[1] as usize);
        assert_near(&[ours.low, ours.high], &n[2..]);
    }
    let [chances, adjusted] = [0, 1].map(|i| numbers(&golden["false_discovery"][i]));
    assert_near(&false_discovery(&chances), &adjusted);
}
