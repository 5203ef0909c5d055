//! The gradient that training estimates is the gradient of what it is meant to improve: on a decoder whose answers can
//! all be enumerated, the mean of the estimates over many batches is the exact gradient, within four standard errors.
//!
//! Both go through the engine. The exact gradient weighs each answer's log-probability with probability × reward; the
//! estimate draws answers with the sampler, credits them, packs them and runs the objective, as a run does.

use std::collections::BTreeMap;

use crate::small;
use crate::small::{VOCABULARY, decoder, parameters, prompt};
use pavlov_engine::{Activations, Batch, Decoder, OutputGradients, Parameters, Sampler};
use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::rollout::{Credited, Rollout, Scored};
use pavlov_train::estimator::{ScaleRewards, TokenCredit, token_level};
use pavlov_train::loops::rl::credit::{Estimator, credit_pairs, credit_points, shape_with_kl};
use pavlov_train::loops::rl::gradient::{Lesson, Workspace, counts};
use pavlov_train::loops::rl::objective::Objective;
use pavlov_train::loss::{Clip, KlEstimator, Normalization};
use pavlov_train::stage::rollout::{Drawing, draw};
use pavlov_train::stage::score::Judged;

/// The token that ends an answer, and the longest answer.
const END: u32 = 0;
const LONGEST: usize = 3;
const BATCHES: usize = 600;
const PROMPTS: usize = 8;
/// Directions on which gradients are compared: random ones over all parameters, and the axes where the exact gradient
/// is largest.
const RANDOM: usize = 24;
const AXES: usize = 24;

/// Points of an answer: no symmetry, both signs, and the end token matters.
fn reward(tokens: &[u32]) -> f64 {
    let points = |(t, &token): (usize, &u32)| [0.9, -0.4, 1.3, 0.2][token as usize] * (1.0 + 0.5 * t as f64);
    tokens.iter().enumerate().map(points).sum::<f64>() - f64::from(u8::from(tokens.len() == LONGEST))
}

fn first_better(first: &[u32], second: &[u32]) -> f64 {
    1.0 / (1.0 + (reward(second) - reward(first)).exp())
}

/// Every answer there is: it ends with the end token or is of full length.
fn answers() -> Vec<Vec<u32>> {
    let mut done = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(prefix) = open.pop() {
        for token in 0..VOCABULARY as u32 {
            let mut answer: Vec<u32> = prefix.clone();
            answer.push(token);
            let ended = token == END || answer.len() == LONGEST;
            if ended { done.push(answer) } else { open.push(answer) }
        }
    }
    done
}

fn flat(gradients: &Parameters) -> Vec<f64> {
    let names: Vec<String> = gradients.specs().map(|spec| spec.name.clone()).collect();
    names.iter().flat_map(|name| gradients.get(name).unwrap()).map(f64::from).collect()
}

/// Probability of each answer, and Σᵢ wᵢ ∇ log π(yᵢ) for weights made from the probabilities.
fn enumerate(
    decoder: &Decoder,
    params: &Parameters,
    weight: impl Fn(usize, &[f64]) -> f64,
) -> (Vec<f64>, Vec<f64>) {
    let answers = answers();
    let mut batch = Batch::new();
    let root = batch.forest.push(None, &prompt());
    for answer in &answers {
        let leaf = batch.forest.push(Some(root), answer);
        batch.score_segment(leaf);
    }
    let mut activations = Activations::new(false);
    let outputs = decoder.forward(params, &batch, 1.0, &mut activations).unwrap();
    let mut logp = outputs.logp.iter();
    let chances: Vec<f64> = answers
        .iter()
        .map(|answer| logp.by_ref().take(answer.len()).map(|&l| f64::from(l)).sum::<f64>().exp())
        .collect();
    let d_logp = answers
        .iter()
        .enumerate()
        .flat_map(|(i, answer)| vec![weight(i, &chances) as f32; answer.len()])
        .collect();
    let mut gradients = decoder.gradients();
    let derivatives = OutputGradients { logp: d_logp, entropy: Vec::new(), scalars: Vec::new() };
    decoder.backward(params, &batch, 1.0, &derivatives, &mut activations, &mut gradients).unwrap();
    (chances, flat(&gradients))
}

/// ∇E[reward] = Σ p(y) r(y) ∇log p(y), ascent.
fn gradient_of_reward(decoder: &Decoder, params: &Parameters) -> Vec<f64> {
    let answers = answers();
    let (chances, gradient) = enumerate(decoder, params, |i, p| p[i] * reward(&answers[i]));
    assert!((chances.iter().sum::<f64>() - 1.0).abs() < 1e-5, "every answer is enumerated");
    gradient
}

/// ∇ of P(win) − P(loss) against a frozen copy: Σ p(y) E_y'[2 P(y beats y') − 1] ∇log p(y).
fn gradient_of_winning(decoder: &Decoder, params: &Parameters) -> Vec<f64> {
    let answers = answers();
    let edge = |i: usize, p: &[f64]| -> f64 {
        answers.iter().zip(p).map(|(other, p)| p * (2.0 * first_better(&answers[i], other) - 1.0)).sum()
    };
    enumerate(decoder, params, |i, p| p[i] * edge(i, p)).1
}

/// ∇KL(π‖π_ref) = Σ p(y) log(p(y)/q(y)) ∇log p(y).
fn gradient_of_kl(decoder: &Decoder, params: &Parameters, reference: &Parameters) -> Vec<f64> {
    let (q, _) = enumerate(decoder, reference, |_, _| 0.0);
    enumerate(decoder, params, |i, p| p[i] * (p[i] / q[i]).ln()).1
}

/// Unit-length random directions, then the axes of the largest exact coordinates.
struct Directions {
    random: Vec<Vec<f32>>,
    axes: Vec<usize>,
}

impl Directions {
    fn new(exact: &[f64]) -> Self {
        let random = |i: u64| {
            let mut rng = Rng::new(11, Stream::Evaluation, 0, i);
            (0..exact.len()).map(|_| rng.normal()).collect()
        };
        let mut axes: Vec<usize> = (0..exact.len()).collect();
        axes.sort_by(|&a, &b| exact[b].abs().total_cmp(&exact[a].abs()));
        axes.truncate(AXES);
        Self { random: (0..RANDOM as u64).map(random).collect(), axes }
    }

    fn project(&self, gradient: &[f64]) -> Vec<f64> {
        let dot = |r: &Vec<f32>| r.iter().zip(gradient).map(|(&r, g)| f64::from(r) * g).sum::<f64>();
        self.random.iter().map(dot).chain(self.axes.iter().map(|&i| gradient[i])).collect()
    }
}

/// Draws batches, turns each into the ascent direction of the loss, and returns the largest |z| over the directions:
/// the distance of the mean from `exact` in standard errors.
fn largest_z(
    decoder: &Decoder,
    params: &Parameters,
    exact: &[f64],
    group: usize,
    credit: impl Fn(Vec<Rollout>) -> Vec<Credited>,
) -> f64 {
    largest_z_with(decoder, params, None, exact, group, credit)
}

/// As [`largest_z`], with a KL to a reference.
fn largest_z_with(
    decoder: &Decoder,
    params: &Parameters,
    held: Option<(&Parameters, KlEstimator, f64)>,
    exact: &[f64],
    group: usize,
    credit: impl Fn(Vec<Rollout>) -> Vec<Credited>,
) -> f64 {
    let directions = Directions::new(exact);
    let drawing = Drawing {
        num_generations: group,
        temperature: 1.0,
        max_completion_length: LONGEST,
        stop_tokens: vec![END],
        seed: 5,
    };
    let prompts = vec![small::encoded_prompt(); PROMPTS];
    // With this normalisation and a longest completion of 1 the loss is a mean over answers of sums over tokens.
    let objective = Objective {
        clip: Clip { low: 0.2, high: 0.2, delta: None },
        normalization: Normalization::DrGrpo,
        beta: held.map_or(0.0, |(_, _, beta)| beta),
        kl: held.map_or(KlEstimator::K2, |(_, kl, _)| kl),
        entropy_coef: 0.0,
    };
    let mut sampler = Sampler::new(PROMPTS * group);
    let mut workspace = Workspace::new(false);
    let mut gradients = decoder.gradients();
    let mut sums = vec![(0.0, 0.0); RANDOM + AXES];
    for batch in 0..BATCHES as u64 {
        let text = |_: &[u32]| Ok(String::new());
        let rollouts = draw(&mut sampler, decoder, params, &prompts, &drawing, (batch, 0), &text, &|| false)
            .unwrap()
            .unwrap();
        let mut credited = credit(rollouts);
        let mut ref_logps = vec![Vec::new(); credited.len()];
        if let Some((reference, kl, beta)) = held {
            ref_logps = workspace.logps(decoder, reference, &credited, 1.0, usize::MAX).unwrap();
            if kl == KlEstimator::K1InReward {
                shape_with_kl(&mut credited, &ref_logps, beta);
            }
        }
        let lesson = |(credited, ref_logp)| Lesson { credited, ref_logp };
        let lessons: Vec<Lesson> =
            credited.iter().zip(ref_logps.iter().map(Vec::as_slice)).map(lesson).collect();
        gradients.zero();
        let counts = counts(&lessons, 1);
        workspace.accumulate(decoder, params, &lessons, &objective, &counts, 1.0, &mut gradients).unwrap();
        for (sum, x) in sums.iter_mut().zip(directions.project(&flat(&gradients))) {
            // The gradient of the loss points down.
            sum.0 -= x;
            sum.1 += x * x;
        }
    }
    let n = BATCHES as f64;
    let z = sums.iter().zip(directions.project(exact)).map(|(&(sum, square), exact)| {
        let mean = sum / n;
        let error = ((square / n - mean * mean) / (n - 1.0)).sqrt();
        ((mean - exact) / error).abs()
    });
    z.fold(0.0, f64::max)
}

fn scored(rollouts: Vec<Rollout>) -> Vec<Scored> {
    rollouts
        .into_iter()
        .map(|rollout| Scored { reward: reward(&rollout.tokens), rollout, parts: Vec::new() })
        .collect()
}

fn judged(rollouts: Vec<Rollout>) -> Judged {
    let first_better =
        rollouts.chunks(2).map(|pair| first_better(&pair[0].tokens, &pair[1].tokens)).collect();
    Judged { scored: scored(rollouts), first_better }
}

#[test]
fn leave_one_out_estimates_the_gradient_of_expected_reward() {
    let decoder = decoder();
    let params = parameters(&decoder, 1.0);
    let exact = gradient_of_reward(&decoder, &params);
    let z = largest_z(&decoder, &params, &exact, 4, |rollouts| {
        credit_points(scored(rollouts), 4, Estimator::LeaveOneOut, ScaleRewards::None).unwrap()
    });
    println!("leave one out: largest |z| {z:.2} of {}", RANDOM + AXES);
    assert!(z < 4.0, "largest |z| is {z}");
}

/// The group's mean contains the answer itself, which shortens the gradient by (G − 1)/G and turns nothing.
#[test]
fn grpo_without_a_deviation_estimates_it_but_for_one_answer() {
    let decoder = decoder();
    let params = parameters(&decoder, 1.0);
    let exact = gradient_of_reward(&decoder, &params);
    let shortened: Vec<f64> = exact.iter().map(|g| g * 3.0 / 4.0).collect();
    let grpo =
        |rollouts| credit_points(scored(rollouts), 4, Estimator::GroupMean, ScaleRewards::None).unwrap();
    let z = largest_z(&decoder, &params, &shortened, 4, grpo);
    println!("group mean: largest |z| {z:.2} of {}", RANDOM + AXES);
    assert!(z < 4.0, "largest |z| is {z}");
    // The test sees a gradient that is a quarter too short.
    let wrong = largest_z(&decoder, &params, &exact, 4, grpo);
    assert!(wrong > 6.0, "against the unshortened gradient the largest |z| is only {wrong}");
}

#[test]
fn pairwise_estimates_the_gradient_of_winning() {
    let decoder = decoder();
    let params = parameters(&decoder, 1.0);
    let exact = gradient_of_winning(&decoder, &params);
    let z = largest_z(&decoder, &params, &exact, 2, |rollouts| credit_pairs(judged(rollouts)).unwrap());
    println!("pairwise: largest |z| {z:.2} of {}", RANDOM + AXES);
    assert!(z < 4.0, "largest |z| is {z}");
}

/// Both right estimators of the KL have its gradient; TRL's loss term does not, and the test sees it.
#[test]
fn the_kl_to_a_reference_has_its_gradient() {
    let decoder = decoder();
    let (params, reference) = (parameters(&decoder, 1.0), parameters(&decoder, 0.4));
    let kl = gradient_of_kl(&decoder, &params, &reference);
    let beta = 0.7;
    let reward = gradient_of_reward(&decoder, &params);
    let exact: Vec<f64> = reward.iter().zip(&kl).map(|(r, k)| r - beta * k).collect();
    let z = |estimator: KlEstimator| {
        largest_z_with(&decoder, &params, Some((&reference, estimator, beta)), &exact, 4, |rollouts| {
            credit_points(scored(rollouts), 4, Estimator::LeaveOneOut, ScaleRewards::None).unwrap()
        })
    };
    let [k1, k2, k3] = [KlEstimator::K1InReward, KlEstimator::K2, KlEstimator::K3].map(z);
    println!("KL in the reward: {k1:.2}, k2 in the loss: {k2:.2}, k3 in the loss: {k3:.2}");
    assert!(k1 < 4.0 && k2 < 4.0, "largest |z|: {k1} in the reward, {k2} by k2");
    assert!(k3 > 6.0, "k3's largest |z| is only {k3}");
}

/// V(prefix) = E[reward | prefix] of every prefix there is.
fn prefix_values(decoder: &Decoder, params: &Parameters) -> BTreeMap<Vec<u32>, f64> {
    let (chances, _) = enumerate(decoder, params, |_, _| 0.0);
    let mut sums: BTreeMap<Vec<u32>, (f64, f64)> = BTreeMap::new();
    for (answer, p) in answers().iter().zip(chances) {
        for t in 0..=answer.len() {
            let sum = sums.entry(answer[..t].to_vec()).or_default();
            sum.0 += p * reward(answer);
            sum.1 += p;
        }
    }
    sums.into_iter().map(|(prefix, (points, p))| (prefix, points / p)).collect()
}

/// Credit of each token, V(after it) − V(before it), has the gradient of expected reward; the same numbers in another order
/// have not, and the test sees it.
#[test]
fn credit_of_tokens_estimates_the_gradient_of_expected_reward() {
    let decoder = decoder();
    let params = parameters(&decoder, 1.0);
    let exact = gradient_of_reward(&decoder, &params);
    let values = prefix_values(&decoder, &params);
    let z = |control: TokenCredit| {
        largest_z(&decoder, &params, &exact, 4, |rollouts| {
            let credit = |(i, scored): (usize, Scored)| {
                let tokens = &scored.rollout.tokens;
                let value = |t: usize| values[&tokens[..t]];
                let weights = (0..tokens.len()).map(|t| (value(t + 1) - value(t)) as f32).collect();
                let advantage = scored.reward - value(0);
                let own = Credited { scored, advantage, weights, method: "insight_values".into() };
                token_level(own, control, 5, i as u64)
            };
            scored(rollouts).into_iter().enumerate().map(credit).collect()
        })
    };
    let controls = [TokenCredit::Insight, TokenCredit::Sparse, TokenCredit::Uniform, TokenCredit::Shuffled];
    let [insight, sparse, uniform, shuffled] = controls.map(z);
    println!("credit: {insight:.2}, sparse: {sparse:.2}, uniform: {uniform:.2}, shuffled: {shuffled:.2}");
    assert!(insight < 4.0 && sparse < 4.0, "largest |z|: {insight} of credit, {sparse} of sparse");
    assert!(uniform > 6.0 && shuffled > 6.0, "largest |z|: {uniform} of uniform, {shuffled} of shuffled");
}

/// The classic fault: the end token is not trained. The test must see it.
#[test]
fn dropping_the_end_token_is_seen() {
    let decoder = decoder();
    let params = parameters(&decoder, 1.0);
    let exact = gradient_of_reward(&decoder, &params);
    let z = largest_z(&decoder, &params, &exact, 4, |rollouts| {
        let mut credited =
            credit_points(scored(rollouts), 4, Estimator::LeaveOneOut, ScaleRewards::None).unwrap();
        for credited in &mut credited {
            if credited.scored.rollout.tokens.last() == Some(&END) {
                *credited.weights.last_mut().unwrap() = 0.0;
            }
        }
        credited
    });
    println!("without the end token: largest |z| {z:.1}");
    assert!(z > 8.0, "the largest |z| is only {z}");
}
