//! Derivatives against finite differences.

use crate::common::*;
use pavlov_engine::{Activations, Batch};
use pavlov_schema::rng::{Rng, Stream};

/// The derivative along a random direction of each tensor, by a five-point stencil, and that every tensor has one.
#[test]
fn every_parameter_has_the_gradient_of_finite_differences() {
    for (name, config) in families() {
        let mut model = plain(&config);
        // Short, so that f32 rounding of the loss stays far below the differences.
        let mut batch = Batch::new();
        let mut rng = Rng::new(3, Stream::Data, 0, 0);
        let prompt = batch.forest.push(None, &tokens(&mut rng, 6, config.vocab_size));
        let first = batch.forest.push(Some(prompt), &tokens(&mut rng, 3, config.vocab_size));
        let second = batch.forest.push(Some(prompt), &tokens(&mut rng, 2, config.vocab_size));
        for id in [prompt, first, second] {
            if config.language_head {
                batch.score_segment(id);
            }
            if config.scalar_outputs > 0 {
                batch.reads.push(batch.forest.row(id, 1) as u32);
            }
        }
        let (outputs, grads) = run(&model, &batch, false);
        let d = coefficients(&outputs);
        for (i, (tensor, gradient)) in grads.iter().enumerate() {
            // A key bias shifts all scores of a query alike unless positions rotate it: its gradient is zero.
            let flat = name == "gpt2" && tensor.ends_with("k_proj.bias");
            let largest = gradient.iter().fold(0.0_f32, |m, g| m.max(g.abs()));
            assert!(
                gradient.iter().all(|g| g.is_finite()) && (flat || largest > 1e-4),
                "{name}: {tensor} has no gradient"
            );
            let before = model.params.get(tensor).unwrap();
            let mut rng = Rng::new(21, Stream::Init, 0, i as u64);
            let direction: Vec<f32> = before.iter().map(|_| rng.normal()).collect();
            let size = (before.len() as f32).sqrt();
            let mut at = |step: f32| {
                let moved: Vec<f32> =
                    before.iter().zip(&direction).map(|(w, d)| w + step * d / size).collect();
                model.params.set(tensor, &moved).unwrap();
                let outputs = model
                    .decoder
                    .forward(&model.params, &batch, TEMPERATURE, &mut Activations::new(false))
                    .unwrap();
                loss(&outputs, &d)
            };
            let h = 0.04_f32;
            let numeric = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * f64::from(h));
            let exact: f64 = gradient
                .iter()
                .zip(&direction)
                .map(|(g, d)| f64::from(*g) * f64::from(*d) / f64::from(size))
                .sum();
            model.params.set(tensor, &before).unwrap();
            assert!(
                (numeric - exact).abs() < 4e-3 * (1.0 + exact.abs()),
                "{name}: {tensor} along a random direction is {exact}, by differences {numeric}"
            );
        }
    }
}

/// Backward adds to the gradients, so accumulated parts equal the whole.
#[test]
fn gradients_accumulate() {
    let (_, config) = families().remove(0);
    let model = plain(&config);
    let batch = forest(&config);
    let mut acts = Activations::new(false);
    let outputs = model.decoder.forward(&model.params, &batch, TEMPERATURE, &mut acts).unwrap();
    let d = coefficients(&outputs);
    let mut twice = model.decoder.gradients();
    for _ in 0..2 {
        model.decoder.forward(&model.params, &batch, TEMPERATURE, &mut acts).unwrap();
        model.decoder.backward(&model.params, &batch, TEMPERATURE, &d, &mut acts, &mut twice).unwrap();
    }
    for (name, gradient) in run(&model, &batch, false).1 {
        let doubled: Vec<f32> = gradient.iter().map(|g| 2.0 * g).collect();
        assert!(distance(&twice.get(&name).unwrap(), &doubled) < 1e-5, "{name}");
    }
}
