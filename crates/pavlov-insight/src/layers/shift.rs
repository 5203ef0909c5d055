//! Representation share: how much of the gain one constant shift of the residual stream makes, and how much is lost if
//! its direction is projected out; against random directions of the same length.
//!
//! δ_ℓ is the mean difference of the two models' streams over the positions that predict an answer's tokens. Its scale,
//! and the layer that is called best, are those that come nearest to the gain on the examples that it was fitted on; what is
//! reported is of the others.

use pavlov_engine::{Activations, Change, Intervention, Rows};
use pavlov_schema::rng::{Rng, Stream};

use super::metric::{Contrast, Metric, Packed, Set};
use super::models::{Models, Weights};
use super::report::{Shift, Shifts};
use super::{Asked, share};
use crate::Result;

/// What a shift is multiplied with, one of these.
const SCALES: [f32; 5] = [0.5, 1.0, 1.5, 2.0, 4.0];

/// Random directions at each layer.
const RANDOM: usize = 4;

/// Evaluations of half the examples.
pub(super) fn cost(layers: usize) -> usize {
    4 + layers * (SCALES.len() + 2 + 2 * RANDOM)
}

/// A layer's shift, before it was measured.
struct Fitted {
    layer: usize,
    delta: Vec<f32>,
    /// Length over the root mean square length of the reference's stream.
    length: f64,
}

pub(super) fn measure(
    models: &Models,
    metric: &mut Metric,
    [train, held_out]: [&Set; 2],
    seed: u64,
    asked: &mut Asked<'_>,
) -> Result<Option<Shifts>> {
    let fitted = fit(models, &train.contrasts)?;
    if fitted.is_empty() {
        return Ok(None);
    }
    let mut ask = |set: &Set, weights: Weights<'_>, made: &[Intervention]| {
        asked.values(|| metric.measure(set, models, weights, made))
    };
    let (reference, trained) = (models.reference(), models.trained());
    let tuned_on = [ask(train, reference, &[])?, ask(train, trained, &[])?];
    let told_on = [ask(held_out, reference, &[])?, ask(held_out, trained, &[])?];
    let gain = |[before, after]: &[Vec<f64>; 2]| -> Vec<f64> {
        after.iter().zip(before).map(|(a, b)| a - b).collect()
    };
    let (train_gain, held_gain) = (mean(&gain(&tuned_on)), gain(&told_on));
    let mut rng = Rng::new(seed, Stream::Bootstrap, 3, 0);
    let (mut layers, mut best) = (Vec::new(), (0, f64::INFINITY));
    for Fitted { layer, delta, length } in fitted {
        // The scale that comes nearest to the gain: log-odds have no top, and more than the gain explains nothing.
        let mut tune = |direction: &[f32]| -> Result<(f32, f64)> {
            let mut best = (SCALES[0], f64::INFINITY);
            for scale in SCALES {
                let value = mean(&ask(train, reference, &[add(layer, direction, scale)])?);
                let missed = (1.0 - (value - mean(&tuned_on[0])) / train_gain).abs();
                if missed < best.1 {
                    best = (scale, missed);
                }
            }
            Ok(best)
        };
        let (scale, missed) = tune(&delta)?;
        if missed < best.1 {
            best = (layer, missed);
        }
        let mut told = |weights: Weights<'_>, made: Intervention, from: &[f64], toward: f64| {
            let values = ask(held_out, weights, &[made])?;
            let moved: Vec<f64> = values.iter().zip(from).map(|(v, f)| toward * (v - f)).collect();
            Ok::<_, crate::Error>(share(&moved, &held_gain, &mut rng))
        };
        let shared = told(reference, add(layer, &delta, scale), &told_on[0], 1.0)?;
        let necessity = told(trained, project_out(layer, &delta), &told_on[1], -1.0)?;
        let (mut random_shares, mut random_necessities) = (Vec::new(), Vec::new());
        for i in 0..RANDOM {
            let random = random_like(&delta, seed, layer, i);
            random_shares.push(told(reference, add(layer, &random, scale), &told_on[0], 1.0)?.value);
            random_necessities.push(told(trained, project_out(layer, &random), &told_on[1], -1.0)?.value);
        }
        let (share, scale) = (shared, f64::from(scale));
        layers.push(Shift { layer, length, scale, share, random_shares, necessity, random_necessities });
    }
    let most =
        |of: &dyn Fn(&Shift) -> &[f64]| layers.iter().flat_map(of).fold(0.0_f64, |most, x| most.max(x.abs()));
    let (share_floor, necessity_floor) = (most(&|s| &s.random_shares), most(&|s| &s.random_necessities));
    for shift in &mut layers {
        shift.share = shift.share.above(share_floor);
        shift.necessity = shift.necessity.above(necessity_floor);
    }
    Ok(Some(Shifts { best: best.0, layers }))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn add(layer: usize, direction: &[f32], scale: f32) -> Intervention {
    let change = Change::Add(direction.iter().map(|x| scale * x).collect());
    Intervention { layer, rows: Rows::All, change }
}

fn project_out(layer: usize, direction: &[f32]) -> Intervention {
    Intervention { layer, rows: Rows::All, change: Change::ProjectOut(direction.to_vec()) }
}

/// A random direction of the same length.
fn random_like(delta: &[f32], seed: u64, layer: usize, index: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed, Stream::Probe, 3, (layer * RANDOM + index) as u64);
    let random: Vec<f32> = delta.iter().map(|_| rng.normal()).collect();
    let length = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let scale = (length(delta) / length(&random)) as f32;
    random.iter().map(|x| scale * x).collect()
}

/// The mean difference at each layer where there is one, over the rows that predict an answer's token.
fn fit(models: &Models, contrasts: &[Contrast]) -> Result<Vec<Fitted>> {
    let ((reference, before), (trained, after)) = (models.reference(), models.trained());
    let (layers, width) = (trained.config().num_layers, trained.config().hidden_size);
    let mut sums = vec![(vec![0.0_f64; width], 0.0_f64); layers + 1];
    let mut rows_seen = 0_usize;
    let [mut old, mut new] = [true, true].map(Activations::new);
    for packed in Packed::all(contrasts) {
        reference.forward(before, &packed.batch, 1.0, &mut old)?;
        trained.forward(after, &packed.batch, 1.0, &mut new)?;
        let mut rows: Vec<u32> = packed.batch.targets.iter().map(|target| target.row).collect();
        rows.sort_unstable();
        rows.dedup();
        rows_seen += rows.len();
        for (layer, (sum, squares)) in sums.iter_mut().enumerate() {
            let (h_ref, h_new) = (reference.stream(&old, layer, &rows)?, trained.stream(&new, layer, &rows)?);
            for (old, new) in h_ref.chunks_exact(width).zip(h_new.chunks_exact(width)) {
                *squares += old.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
                sum.iter_mut()
                    .zip(old.iter().zip(new))
                    .for_each(|(s, (old, new))| *s += f64::from(new - old));
            }
        }
    }
    let count = rows_seen.max(1) as f64;
    let fitted = sums.into_iter().enumerate().map(|(layer, (sum, squares))| {
        let delta: Vec<f32> = sum.iter().map(|s| (s / count) as f32).collect();
        let length = delta.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        Fitted { layer, delta, length: length / (squares / count).sqrt() }
    });
    Ok(fitted.filter(|fitted| fitted.length > 0.0).collect())
}
