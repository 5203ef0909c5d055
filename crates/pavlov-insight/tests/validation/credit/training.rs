//! Does it help to train on the credit? A known pivot, and the controls.

use pavlov_engine::{AdamW, AdamWConfig, Sampler, clip_factor};
use pavlov_insight::credit::{Writer, Writing};
use pavlov_lm::LanguageModel;
use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::rollout::{Credited, Rollout, Scored};
use pavlov_train::estimator::{TokenCredit, token_level};
use pavlov_train::loops::rl::gradient::{Lesson, Workspace, counts};
use pavlov_train::loops::rl::objective::Objective;
use pavlov_train::loss::{Clip, KlEstimator, Normalization};
use pavlov_train::stage::rollout::{Drawing, EncodedPrompt, draw};

use super::planted::{ASK, Habit, Planted, chain, model, prompt};

/// Tokens of an answer, the one that decides, and the word it has to be.
const LENGTH: usize = 12;
const PIVOT: usize = 5;
const WORD: u32 = 2;
/// Answers an update, and updates at most.
const ANSWERS: usize = 16;
const UPDATES: u64 = 120;
/// Continuations of a prefix in each set.
const ROLLOUTS: usize = 4;
/// The mean reward to be reached.
const TARGET: f64 = 0.8;

/// What a run cost until the target was reached.
#[derive(Clone, Copy, Debug)]
struct Spent {
    /// Answers that were learned from; of a run that did not get there, all of them.
    learned: usize,
    /// Answers that were written for the credit beside them.
    measured: usize,
    reached: bool,
}

fn answers(model: &LanguageModel, sampler: &mut Sampler, n: usize, step: u64, seed: u64) -> Vec<Rollout> {
    let prompts = [EncodedPrompt { id: "0".into(), index: 0, text: "ask".into(), tokens: vec![ASK] }];
    let drawing = Drawing {
        num_generations: n,
        temperature: 1.0,
        max_completion_length: LENGTH,
        stop_tokens: vec![0],
        seed,
    };
    let text = |_: &[u32]| Ok(String::new());
    let LanguageModel { decoder, params, .. } = model;
    draw(sampler, decoder, params, &prompts, &drawing, (step, 0), &text, &|| false).unwrap().unwrap()
}

/// V(after each token) − V(before it), measured; `control` may need no more than V(prompt).
fn credit(model: &LanguageModel, rollout: Rollout, control: TokenCredit, seed: u64) -> (Credited, usize) {
    let planted = Planted::One(PIVOT, WORD);
    let mut rewards = [planted.reward(0)];
    let writing = Writing { temperature: 1.0, max_completion_length: LENGTH, batch: 128, seed };
    let mut writer = Writer::new(model, &mut rewards, prompt(), vec![ASK], writing, &|| false);
    let tokens = rollout.tokens.clone();
    let needs_all = matches!(control, TokenCredit::Insight | TokenCredit::Shuffled);
    let places: Vec<usize> = if needs_all { (0..=tokens.len()).collect() } else { vec![0, tokens.len()] };
    let nodes = writer.nodes(&tokens, &places, ROLLOUTS).unwrap();
    let values: Vec<f64> =
        nodes.iter().map(|node| node.sets.iter().flatten().sum::<f64>() / (2 * ROLLOUTS) as f64).collect();
    let reward = planted.points(&tokens);
    let weights = if needs_all {
        values.windows(2).map(|pair| (pair[1] - pair[0]) as f32).collect()
    } else {
        vec![0.0; tokens.len()]
    };
    let scored = Scored { rollout, reward, parts: Vec::new() };
    let measured =
        Credited { scored, advantage: reward - values[0], weights, method: "insight_values".into() };
    (token_level(measured, control, seed, 0), writer.written)
}

fn teach(control: TokenCredit, seed: u64) -> Spent {
    let mut rng = Rng::new(seed, Stream::World, 99, 0);
    let mut model = model(&chain(Habit::Free, &mut rng));
    let mut optimizer = AdamW::new(&model.decoder, AdamWConfig::default());
    let mut gradients = model.decoder.gradients();
    let mut workspace = Workspace::new(false);
    let mut sampler = Sampler::new(128);
    let objective = Objective {
        clip: Clip { low: 0.2, high: 0.2, delta: None },
        normalization: Normalization::Dapo,
        beta: 0.0,
        kl: KlEstimator::K2,
        entropy_coef: 0.0,
    };
    let planted = Planted::One(PIVOT, WORD);
    let mut spent = Spent { learned: 0, measured: 0, reached: false };
    for step in 1..=UPDATES {
        let rollouts = answers(&model, &mut sampler, ANSWERS, step, seed);
        let credited: Vec<Credited> = rollouts
            .into_iter()
            .enumerate()
            .map(|(i, rollout)| {
                let key = (seed << 32) + (step << 8) + i as u64;
                let (credited, written) = credit(&model, rollout, control, key);
                spent.measured += written;
                credited
            })
            .collect();
        let lessons: Vec<Lesson> =
            credited.iter().map(|credited| Lesson { credited, ref_logp: &[] }).collect();
        gradients.zero();
        let sizes = counts(&lessons, LENGTH);
        let LanguageModel { decoder, params, .. } = &model;
        workspace.accumulate(decoder, params, &lessons, &objective, &sizes, 1.0, &mut gradients).unwrap();
        let clip = clip_factor(gradients.global_norm(), 1.0);
        optimizer.step(&mut model.params, &gradients, 0.01, clip);
        spent.learned += ANSWERS;
        if step % 4 == 0 {
            let checked = answers(&model, &mut sampler, 256, step, seed + 1000);
            let mean = checked.iter().map(|rollout| planted.points(&rollout.tokens)).sum::<f64>() / 256.0;
            if mean >= TARGET {
                return Spent { reached: true, ..spent };
            }
        }
    }
    spent
}

#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn credit_training() {
    let controls = [TokenCredit::Insight, TokenCredit::Sparse, TokenCredit::Uniform, TokenCredit::Shuffled];
    let seeds = 5;
    let mut medians = Vec::new();
    for control in controls {
        let mut runs: Vec<Spent> = (0..seeds).map(|seed| teach(control, seed)).collect();
        let reached = runs.iter().filter(|run| run.reached).count();
        println!("{control:?}: {reached} of {seeds} reached {TARGET}; {runs:?}");
        runs.sort_by_key(|run| run.learned);
        medians.push(runs[runs.len() / 2].learned);
    }
    println!("median answers learned from: insight, sparse, uniform, shuffled {medians:?}");
    assert!(medians[0] * 3 < medians[1] * 2, "credit saves a third of the answers at least");
    assert!(medians[3] >= medians[1], "shuffled credit is no better than none");
}
