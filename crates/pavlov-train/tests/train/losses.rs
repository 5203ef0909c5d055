//! Values and derivatives of the losses against PyTorch's autograd in float64 (`scripts/golden/losses.py`).

use pavlov_train::estimator::{ScaleRewards, group_advantages, leave_one_out};
use pavlov_train::loss::{
    Clip, Counts, Normalization, Outcome, TieModel, bradley_terry, entropy_bonus, joint_pairwise, k3_penalty,
    kl_sums, ordinal, plackett_luce, policy_gradient, preference_with_ties, squared_error, thresholds,
    token_shares,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/losses.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

/// The cases under one name, at least one.
fn cases(name: &str) -> Vec<Value> {
    let cases: Vec<Value> = read(&golden()[name]);
    assert!(!cases.is_empty());
    cases
}

fn input(case: &Value, name: &str) -> Vec<f32> {
    read(&case["inputs"][name])
}

#[track_caller]
fn assert_value(case: &Value, value: f64) {
    let expected = case["value"].as_f64().unwrap();
    assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{value}, PyTorch {expected}");
}

/// Derivatives leave as `f32`: a relative 1e-6 is their rounding.
#[track_caller]
fn assert_near(actual: impl IntoIterator<Item = impl Into<f64>>, expected: &Value) {
    let actual: Vec<f64> = actual.into_iter().map(Into::into).collect();
    let expected: Vec<f64> = read(expected);
    assert_eq!(actual.len(), expected.len());
    for (a, e) in actual.iter().zip(&expected) {
        assert!((a - e).abs() <= 1e-6 * e.abs() + 1e-9, "{actual:?}, PyTorch {expected:?}");
    }
}

#[test]
fn comparisons() {
    for case in cases("bradley_terry") {
        let center = case["settings"]["center"].as_f64().unwrap();
        let (chosen, rejected) = (input(&case, "chosen"), input(&case, "rejected"));
        let loss = bradley_terry(&chosen, &rejected, &input(&case, "margin"), center, chosen.len());
        assert_value(&case, loss.value);
        assert_near(loss.d_first, &case["derivatives"]["chosen"]);
        assert_near(loss.d_second, &case["derivatives"]["rejected"]);
    }
    for case in cases("joint_pairwise") {
        let (ab, ba) = (input(&case, "s_ab"), input(&case, "s_ba"));
        let loss = joint_pairwise(&ab, &ba, &input(&case, "target"), ab.len());
        assert_value(&case, loss.value);
        assert_near(loss.d_first, &case["derivatives"]["s_ab"]);
        assert_near(loss.d_second, &case["derivatives"]["s_ba"]);
    }
}

#[test]
fn rankings() {
    for case in cases("plackett_luce") {
        let scores: Vec<Vec<f32>> = read(&case["inputs"]["scores"]);
        let ranks: Vec<Vec<u8>> = read(&case["inputs"]["ranks"]);
        let ranks: Vec<&[u8]> = ranks.iter().map(Vec::as_slice).collect();
        let center = case["settings"]["center"].as_f64().unwrap();
        let loss = plackett_luce(&scores.concat(), &ranks, center, ranks.len());
        assert_value(&case, loss.value);
        let expected: Vec<Vec<f64>> = read(&case["derivatives"]["scores"]);
        assert_near(loss.d_score, &expected.concat().into());
    }
}

#[test]
fn ties() {
    for (name, model) in [("davidson", TieModel::Davidson), ("rao_kupper", TieModel::RaoKupper)] {
        for case in cases(name) {
            let codes: Vec<usize> = read(&case["inputs"]["outcome"]);
            let outcome: Vec<Outcome> =
                codes.iter().map(|&code| [Outcome::First, Outcome::Second, Outcome::Tie][code]).collect();
            let eta = case["inputs"]["eta"].as_f64().unwrap();
            let (first, second) = (input(&case, "first"), input(&case, "second"));
            let loss = preference_with_ties(model, &first, &second, &outcome, eta, first.len());
            assert_value(&case, loss.value);
            assert_near(loss.d_first, &case["derivatives"]["first"]);
            assert_near(loss.d_second, &case["derivatives"]["second"]);
            let d_eta = case["derivatives"]["eta"].as_f64().unwrap();
            assert!((loss.d_tie - d_eta).abs() < 1e-9, "{} PyTorch {d_eta}", loss.d_tie);
        }
    }
}

#[test]
fn ratings() {
    for case in cases("squared_error") {
        let score = input(&case, "score");
        let loss = squared_error(&score, &input(&case, "rating"), score.len());
        assert_value(&case, loss.value);
        assert_near(loss.d_score, &case["derivatives"]["score"]);
    }
    for case in cases("ordinal") {
        let (score, label): (_, Vec<usize>) = (input(&case, "score"), read(&case["inputs"]["label"]));
        let loss = ordinal(&score, &label, &read::<Vec<f64>>(&case["inputs"]["free"]), score.len());
        assert_value(&case, loss.value);
        assert_near(loss.d_score, &case["derivatives"]["score"]);
        assert_near(loss.d_free, &case["derivatives"]["free"]);
    }
    // The same model given its thresholds: undo the parametrisation, softplus(f) = step.
    for case in cases("cumulative_link") {
        let cuts: Vec<f64> = read(&case["inputs"]["thresholds"]);
        let steps = cuts.windows(2).map(|pair| (pair[1] - pair[0]).exp_m1().ln());
        let free: Vec<f64> = std::iter::once(cuts[0]).chain(steps).collect();
        assert_near(thresholds(&free), &case["inputs"]["thresholds"]);
        let (score, label): (_, Vec<usize>) = (input(&case, "score"), read(&case["inputs"]["label"]));
        let loss = ordinal(&score, &label, &free, score.len());
        assert_value(&case, loss.value);
        assert_near(loss.d_score, &case["derivatives"]["score"]);
    }
}

/// The shares of a case's tokens, with the case's own batch as the whole optimizer step.
fn shares(case: &Value) -> Vec<f64> {
    let (lengths, mask): (Vec<usize>, Vec<bool>) = (read(&case["lengths"]), read(&case["inputs"]["mask"]));
    let kind: Normalization = read(&case["settings"]["loss_type"]);
    let counts = Counts {
        sequences: lengths.len(),
        tokens: mask.iter().filter(|&&counts| counts).count(),
        max_completion_length: read(&case["settings"]["max_completion_length"]),
    };
    token_shares(kind, &lengths, &mask, &counts)
}

#[test]
fn reinforcement() {
    for case in cases("policy_gradient") {
        let settings = &case["settings"];
        let clip = Clip {
            low: read(&settings["low"]),
            high: read(&settings["high"]),
            delta: read(&settings["delta"]),
        };
        let (logp, old) = (input(&case, "logp"), input(&case, "old_logp"));
        let loss = policy_gradient(&logp, &old, &input(&case, "credit"), &shares(&case), &clip);
        assert_value(&case, loss.value);
        assert_near(loss.d_logp, &case["derivatives"]["logp"]);
    }
    for case in cases("k3_penalty") {
        let beta = case["settings"]["beta"].as_f64().unwrap();
        let loss = k3_penalty(&input(&case, "logp"), &input(&case, "ref_logp"), &shares(&case), beta);
        assert_value(&case, loss.value);
        assert_near(loss.d_logp, &case["derivatives"]["logp"]);
    }
    for case in cases("entropy_bonus") {
        let coefficient = case["settings"]["coefficient"].as_f64().unwrap();
        let loss = entropy_bonus(&input(&case, "entropy"), &shares(&case), coefficient);
        assert_value(&case, loss.value);
        assert_near(loss.d_entropy, &case["derivatives"]["entropy"]);
    }
}

#[test]
fn kl_estimates() {
    let case = &golden()["kl_estimators"];
    let (logp, reference) = (input(case, "logp"), input(case, "ref_logp"));
    let of = |kind: fn(&pavlov_train::loss::KlSums) -> f64| {
        let pairs = logp.iter().zip(&reference);
        pairs.map(|(&logp, &reference)| kind(&kl_sums(&[logp], &[reference], &[1.0]))).collect::<Vec<f64>>()
    };
    assert_near(of(|sums| sums.k1), &case["k1"]);
    assert_near(of(|sums| sums.k2), &case["k2"]);
    assert_near(of(|sums| sums.k3), &case["k3"]);
}

#[test]
fn advantages() {
    let case = &golden()["group_advantages"];
    let (rewards, size): (Vec<f64>, usize) = (read(&case["rewards"]), read(&case["group_size"]));
    for (name, scale) in
        [("group", ScaleRewards::Group), ("batch", ScaleRewards::Batch), ("none", ScaleRewards::None)]
    {
        let result = group_advantages(&rewards, size, scale).unwrap();
        assert_near(result.advantages, &case[name]);
        assert_eq!(result.zero_spread, 1);
    }
    assert_near(leave_one_out(&rewards, size).unwrap().advantages, &case["leave_one_out"]);
}
