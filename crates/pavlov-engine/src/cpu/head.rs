//! Log-probabilities and entropies of chosen tokens without ever holding \[tokens, vocabulary\] logits, and their
//! derivative by recomputation.

use super::buffer::Buffer;
use super::linear::{Engine, Layer, LayerGradient};
use super::math::{LANES, add_lanes, exp, max};
use super::panels::Panels;
use super::pool::SharedMut;
use multiversion::multiversion;

/// Scored rows at a time.
const ROWS: usize = 512;
/// Vocabulary entries at a time: a multiple of 32 that is none of 1024, or the rows of a chunk would share cache sets.
const VOCAB: usize = 65 * 32;

/// Per scored token: what the forward pass gives the losses, and the divisor that the backward pass needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    /// Log-probability of the target, nats.
    pub logp: f32,
    /// Entropy of the distribution, nats.
    pub entropy: f32,
    /// log Σ exp of the scaled logits.
    pub lse: f32,
    /// Whether the target has the largest logit.
    pub correct: bool,
}

/// Running softmax statistics of one row: m = max z, s = Σ e^(z-m), w = Σ e^(z-m)·(z-m), the target's z.
#[derive(Clone, Copy)]
struct Running {
    max: f32,
    sum: f32,
    weighted: f32,
    target: f32,
}

const START: Running = Running { max: f32::NEG_INFINITY, sum: 0.0, weighted: 0.0, target: f32::NEG_INFINITY };

/// Working memory, kept between calls.
#[derive(Default)]
pub(crate) struct HeadScratch {
    logits: Buffer,
}

/// The language head: W \[vocab, hidden\] in panels, and the factor 1/temperature on its logits.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) weight: Panels<'a>,
    pub(crate) vocab: usize,
    pub(crate) hidden: usize,
    pub(crate) inverse_temperature: f32,
}

impl Head<'_> {
    fn chunks(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.vocab).step_by(VOCAB).map(move |first| (first, VOCAB.min(self.vocab - first)))
    }

    /// The logits of `width` vocabulary entries from `first` on, at each row of x.
    fn logits(
        self,
        engine: &mut Engine<'_>,
        scratch: &mut HeadScratch,
        x: &[f32],
        (first, width): (usize, usize),
    ) {
        let rows = x.len() / self.hidden;
        scratch.logits.resize(rows * width);
        let weight = self.weight.at_row(first, self.hidden);
        let layer = Layer { y: &mut scratch.logits, weight, out: width, bias: None, accumulate: false };
        engine.forward(x, [rows, self.hidden], &mut [layer]);
    }

    /// scores\[i\] of `targets[i]` under the distribution at x\[i\].
    pub(crate) fn forward(
        self,
        engine: &mut Engine<'_>,
        scratch: &mut HeadScratch,
        scores: &mut [Score],
        x: &[f32],
        targets: &[u32],
    ) {
        let blocks = scores.chunks_mut(ROWS).zip(x.chunks(ROWS * self.hidden)).zip(targets.chunks(ROWS));
        for ((scores, x), targets) in blocks {
            let mut running = [START; ROWS];
            for (first, width) in self.chunks() {
                self.logits(engine, scratch, x, (first, width));
                let logits = SharedMut::new(&mut scratch.logits);
                engine.pool.chunks(&mut running[..scores.len()], 8, |i, running| {
                    for (r, running) in running.iter_mut().enumerate() {
                        #[expect(unsafe_code, reason = "each task scales the logits of its own rows")]
                        // SAFETY: rows of distinct tasks are distinct.
                        let row = unsafe { logits.slice((i * 8 + r) * width, width) };
                        let target = (targets[i * 8 + r] as usize).wrapping_sub(first);
                        *running = update(*running, row, target, self.inverse_temperature);
                    }
                });
            }
            for (score, r) in scores.iter_mut().zip(&running) {
                let log_sum = r.sum.ln();
                let lse = r.max + log_sum;
                *score = Score {
                    logp: r.target - lse,
                    entropy: log_sum - r.weighted / r.sum,
                    lse,
                    correct: r.target >= r.max,
                };
            }
        }
    }

    /// dx\[i\] = and dW (+)= the derivative of Σ dlogp·logp + dentropy·entropy. `dweight` is in panels; none for a frozen head.
    pub(crate) fn backward(
        self,
        engine: &mut Engine<'_>,
        scratch: &mut HeadScratch,
        scores: &[Score],
        x: &[f32],
        targets: &[u32],
        [dlogp, dentropy]: [&[f32]; 2],
        dx: &mut [f32],
        mut dweight: Option<(&mut [f32], bool)>,
    ) {
        for (block, (x, dx)) in
            x.chunks(ROWS * self.hidden).zip(dx.chunks_mut(ROWS * self.hidden)).enumerate()
        {
            let rows = x.len() / self.hidden;
            let at = block * ROWS;
            for (first, width) in self.chunks() {
                self.logits(engine, scratch, x, (first, width));
                engine.pool.chunks(&mut scratch.logits, 8 * width, |i, logits| {
                    for (r, row) in logits.chunks_exact_mut(width).enumerate() {
                        let t = at + i * 8 + r;
                        let target = (targets[t] as usize).wrapping_sub(first);
                        derivative(row, target, scores[t], dlogp[t], dentropy[t], self.inverse_temperature);
                    }
                });
                let dweight = dweight
                    .as_mut()
                    .map(|(dw, accumulate)| (&mut dw[first * self.hidden..], *accumulate || block > 0));
                let weight = self.weight.at_row(first, self.hidden);
                let layer = LayerGradient { dy: &scratch.logits, weight, out: width, dweight };
                engine.backward(x, [rows, self.hidden], &mut [layer], Some((&mut *dx, first > 0)));
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn update(before: Running, logits: &mut [f32], target: usize, inverse_temperature: f32) -> Running {
    logits.iter_mut().for_each(|z| *z *= inverse_temperature);
    let new = max(logits).max(before.max);
    let (mut sums, mut weights) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let chunks = logits.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..LANES {
            let e = exp(chunk[i] - new);
            sums[i] += e;
            weights[i] += e * (chunk[i] - new);
        }
    }
    for (i, z) in rest.iter().enumerate() {
        let e = exp(z - new);
        sums[i] += e;
        weights[i] += e * (z - new);
    }
    let (mut sum, mut weighted) = (add_lanes(sums), add_lanes(weights));
    // Not before the first chunk; and a NaN is carried on.
    if before.sum != 0.0 {
        let shift = before.max - new;
        let rescale = exp(shift);
        sum += before.sum * rescale;
        weighted += rescale * (before.weighted + shift * before.sum);
    }
    let target = logits.get(target).copied().unwrap_or(before.target);
    // A NaN logit must not vanish in a maximum: it would be trained on.
    let max = if sum.is_nan() { f32::NAN } else { new };
    Running { max, sum, weighted, target }
}

/// dz_j = (dlogp·(\[j = target\] - p_j) - dH·p_j·(log p_j + H)) / temperature.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn derivative(
    row: &mut [f32],
    target: usize,
    score: Score,
    dlogp: f32,
    dentropy: f32,
    inverse_temperature: f32,
) {
    for z in row.iter_mut() {
        let logp = *z * inverse_temperature - score.lse;
        let p = exp(logp);
        *z = -p * (dlogp + dentropy * (logp + score.entropy)) * inverse_temperature;
    }
    if let Some(z) = row.get_mut(target) {
        *z += dlogp * inverse_temperature;
    }
}

/// In place: e^(z - largest) of each logit; returns the sums of successive blocks of 256.
pub(crate) fn exp_shifted(logits: &mut [f32], largest: f32) -> Vec<f64> {
    logits.chunks_mut(256).map(|block| f64::from(exp_block(block, largest))).collect()
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn exp_block(block: &mut [f32], largest: f32) -> f32 {
    block.iter_mut().for_each(|z| *z = exp(*z - largest));
    super::math::sum1(block, |x| x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use crate::cpu::linear::Packing;
    use crate::cpu::panels::{panels_len, to_panels};
    use crate::cpu::pool::Pool;
    use pavlov_schema::rng::{Rng, Stream};

    const SIZES: [usize; 2] = [2 * VOCAB + 5, 6];

    fn scores(weight: &[f32], x: &[f32], targets: &[u32]) -> Vec<Score> {
        let [vocab, hidden] = SIZES;
        let mut panels = vec![0.0; panels_len(vocab, hidden)];
        to_panels(weight, vocab, hidden, &mut panels);
        let (pool, mut packing, mut scratch) = (Pool::new(2), Packing::default(), HeadScratch::default());
        let mut engine = Engine { pool: &pool, isa: Isa::detect(), packing: &mut packing };
        let mut scores = vec![Score::default(); targets.len()];
        let head = Head { weight: Panels::F32(&panels), vocab, hidden, inverse_temperature: 1.25 };
        head.forward(&mut engine, &mut scratch, &mut scores, x, targets);
        scores
    }

    /// Over several chunks of the vocabulary, against plain sums in f64.
    #[test]
    fn chunks_add_up_to_the_whole_vocabulary() {
        let [vocab, hidden] = SIZES;
        let mut rng = Rng::new(21, Stream::Init, 0, 0);
        let weight: Vec<f32> = (0..vocab * hidden).map(|_| rng.normal()).collect();
        let x: Vec<f32> = (0..3 * hidden).map(|_| rng.normal()).collect();
        let targets = [3, VOCAB as u32 + 1, vocab as u32 - 1];
        for (i, score) in scores(&weight, &x, &targets).iter().enumerate() {
            let product = |row: &[f32]| -> f64 {
                row.iter().zip(&x[i * hidden..]).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum()
            };
            let logits: Vec<f64> = weight.chunks_exact(hidden).map(|row| 1.25 * product(row)).collect();
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = largest + logits.iter().map(|z| (z - largest).exp()).sum::<f64>().ln();
            let entropy: f64 = logits.iter().map(|z| -(z - lse).exp() * (z - lse)).sum();
            let target = logits[targets[i] as usize];
            assert!((f64::from(score.logp) - (target - lse)).abs() < 1e-5, "{score:?}");
            assert!((f64::from(score.entropy) - entropy).abs() < 1e-5, "{score:?} for {entropy}");
            assert_eq!(score.correct, target >= largest);
        }
    }

    /// A NaN in any chunk reaches the log-probability, which the decoder refuses.
    #[test]
    fn a_nan_in_any_chunk_is_not_lost() {
        let [vocab, hidden] = SIZES;
        for at in [0, VOCAB - 1, VOCAB + 7, vocab - 1] {
            let mut weight = vec![0.1; vocab * hidden];
            weight[at * hidden] = f32::NAN;
            let score = scores(&weight, &vec![1.0; hidden], &[5])[0];
            assert!(score.logp.is_nan(), "{at}: {score:?}");
        }
    }
}
