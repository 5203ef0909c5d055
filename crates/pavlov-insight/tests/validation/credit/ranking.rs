//! Does it know the better of five next steps? The protocol of VinePPO, against values of 256 rollouts.

use pavlov_insight::credit::{Writer, Writing};
use pavlov_insight::{Estimate, Unit};
use pavlov_schema::rng::{Rng, Stream};

use super::planted::{ASK, Habit, Planted, WRITTEN, answer, chain, model, prompt, value};

const LONGEST: usize = 10;
const DECISIONS: u64 = 60;

/// Five next steps of two tokens after a prefix: does the best of them by a cheap estimate have the best reference value?
#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn credit_ranking() {
    let cheap = [4_usize, 16, 64];
    let mut right = vec![Vec::new(); cheap.len()];
    let mut reference_right = Vec::new();
    let mut errors = vec![Vec::new(); cheap.len()];
    for decision in 0..DECISIONS {
        let mut rng = Rng::new(21, Stream::World, decision, 0);
        let habit = if decision % 2 == 0 { Habit::Free } else { Habit::Sticky(0.8) };
        let chain = chain(habit, &mut rng);
        let word = |rng: &mut Rng| WRITTEN.start + rng.below(WRITTEN.len()) as u32;
        let planted = match decision % 2 {
            0 => Planted::Additive([2, 4, 6].map(|place| (place, word(&mut rng)))),
            _ => Planted::Majority(word(&mut rng)),
        };
        let at = 2 + rng.below(4);
        let prefix = answer(&chain, at, &mut rng);
        let model = model(&chain);
        // One token more than is kept, so that the step is a prefix and not the whole.
        let steps: Vec<Vec<u32>> =
            (0..5).map(|_| [prefix.clone(), vec![word(&mut rng), word(&mut rng), 2]].concat()).collect();
        let values = |n: usize, seed: u64| -> Vec<f64> {
            let mut rewards = [planted.reward(0)];
            let writing = Writing { temperature: 1.0, max_completion_length: LONGEST, batch: 128, seed };
            let mut writer = Writer::new(&model, &mut rewards, prompt(), vec![ASK], writing, &|| false);
            let mean = |step: &Vec<u32>| {
                let node = &writer.nodes(step, &[step.len() - 1], n / 2).unwrap()[0];
                node.sets.iter().flatten().sum::<f64>() / n as f64
            };
            steps.iter().map(mean).collect()
        };
        let reference = values(256, 1);
        let best = reference.iter().copied().fold(f64::MIN, f64::max);
        let choice = |values: &[f64]| (0..5).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap();
        let exact: Vec<f64> = steps
            .iter()
            .map(|step| value(&chain, &planted, &mut step[..step.len() - 1].to_vec(), LONGEST))
            .collect();
        let top = exact.iter().copied().fold(f64::MIN, f64::max);
        reference_right.push(f64::from(u8::from(exact[choice(&reference)] > top - 1e-9)));
        for (i, &n) in cheap.iter().enumerate() {
            let own = values(n, 2 + i as u64);
            right[i].push(f64::from(u8::from(reference[choice(&own)] > best - 1e-9)));
            errors[i].extend(own.iter().zip(&exact).map(|(a, b)| (a - b).abs()));
        }
    }
    let mut rng = Rng::new(0, Stream::Bootstrap, 0, 0);
    let reference = Estimate::mean(&reference_right, Unit::Share, &mut rng);
    println!(
        "256 rollouts against the exact values: {:.2} ({:.2} to {:.2})",
        reference.value, reference.low, reference.high
    );
    for (i, n) in cheap.iter().enumerate() {
        let share = Estimate::mean(&right[i], Unit::Share, &mut rng);
        let error = Estimate::mean(&errors[i], Unit::RewardPoints, &mut rng);
        println!(
            "{n} rollouts: top 1 of 5 {:.2} ({:.2} to {:.2}); mean error of a value {:.3}",
            share.value, share.low, share.high, error.value
        );
    }
    // Chance is one in five.
    let best = Estimate::mean(&right[2], Unit::Share, &mut rng);
    assert!(best.low > 0.6, "top 1 of 5 with 64 rollouts: {best:?}");
}
