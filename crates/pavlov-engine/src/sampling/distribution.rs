//! From logits to a drawn token and its log-probability under the distribution it was truly drawn from.

use super::SamplingParams;
use crate::cpu::exp_shifted;
use pavlov_schema::rng::Rng;

/// Draws one token; `history` holds the tokens that the repetition penalty looks at. `logits` is scratch afterwards.
pub(super) fn draw(
    logits: &mut [f32],
    params: &SamplingParams,
    history: impl Iterator<Item = u32>,
    rng: &mut Rng,
) -> (u32, f32) {
    if params.penalises_repetition() {
        penalise(logits, params.repetition_penalty, history);
    }
    if params.temperature == 0.0 {
        return (argmax(logits), 0.0);
    }
    let inverse = 1.0 / params.temperature;
    logits.iter_mut().for_each(|z| *z *= inverse);
    restrict(logits, params);
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // Drawn by blocks: the sum of each block decides which one holds the draw, then its members do.
    let sums = exp_shifted(logits, largest);
    let total: f64 = sums.iter().sum();
    let point = rng.uniform_f64() * total;
    let mut before = 0.0;
    for (block, sum) in logits.chunks(BLOCK).zip(&sums).enumerate().map(|(i, (b, s))| ((i, b), s)) {
        if point < before + sum || block.0 + 1 == sums.len() {
            let mut last = None;
            for (i, weight) in block.1.iter().enumerate().filter(|(_, w)| **w > 0.0) {
                before += f64::from(*weight);
                last = Some((i, *weight));
                if point < before {
                    break;
                }
            }
            if let Some((i, weight)) = last {
                return ((block.0 * BLOCK + i) as u32, (f64::from(weight) / total).ln() as f32);
            }
        } else {
            before += sum;
        }
    }
    // Rounding left the point past the last block's members: the last token with any weight.
    let i = logits.iter().rposition(|w| *w > 0.0).unwrap_or(0);
    (i as u32, (f64::from(logits[i]) / total).ln() as f32)
}

/// Members of a block of the draw.
pub(crate) const BLOCK: usize = 256;

fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, z) in logits.iter().enumerate() {
        if *z > logits[best] {
            best = i;
        }
    }
    best as u32
}

fn penalise(logits: &mut [f32], penalty: f32, history: impl Iterator<Item = u32>) {
    let mut seen: Vec<u32> = history.collect();
    seen.sort_unstable();
    seen.dedup();
    for token in seen {
        let z = &mut logits[token as usize];
        *z = if *z > 0.0 { *z / penalty } else { *z * penalty };
    }
}

/// Sets the logits of dropped tokens to -∞.
fn restrict(logits: &mut [f32], params: &SamplingParams) {
    if params.top_k > 0 && params.top_k < logits.len() {
        let mut sorted = logits.to_vec();
        let (_, kth, _) = sorted.select_nth_unstable_by(params.top_k - 1, |a, b| b.total_cmp(a));
        let threshold = *kth;
        logits.iter_mut().filter(|z| **z < threshold).for_each(|z| *z = f32::NEG_INFINITY);
    }
    if params.top_p < 1.0 {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut order: Vec<(f32, usize)> =
            logits.iter().enumerate().map(|(i, z)| (*z, i)).filter(|(z, _)| *z > f32::NEG_INFINITY).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let weight = |z: f32| f64::from(z - largest).exp();
        let total: f64 = order.iter().map(|(z, _)| weight(*z)).sum();
        let mut mass = 0.0;
        for (z, i) in order {
            if mass >= f64::from(params.top_p) * total {
                logits[i] = f32::NEG_INFINITY;
            }
            mass += weight(z);
        }
    }
    if params.min_p > 0.0 {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let threshold = largest + params.min_p.ln();
        logits.iter_mut().filter(|z| **z < threshold).for_each(|z| *z = f32::NEG_INFINITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pavlov_schema::rng::Stream;
    use std::f32::consts::LN_2;

    fn frequencies(logits: &[f32], params: &SamplingParams, history: &[u32]) -> Vec<f64> {
        let n = 40_000;
        let mut rng = Rng::new(11, Stream::Rollout, 0, 0);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..n {
            let (token, _) = draw(&mut logits.to_vec(), params, history.iter().copied(), &mut rng);
            counts[token as usize] += 1.0 / f64::from(n);
        }
        counts
    }

    fn expect(logits: &[f32], params: &SamplingParams, history: &[u32], expected: &[f64]) {
        let seen = frequencies(logits, params, history);
        for (i, (f, p)) in seen.iter().zip(expected).enumerate() {
            let error = 4.0 * (p * (1.0 - p) / 40_000.0).sqrt() + 1e-12;
            assert!((f - p).abs() <= error, "token {i}: frequency {f}, probability {p} ({params:?})");
        }
        // The recorded log-probability is that of the distribution drawn from.
        let mut rng = Rng::new(12, Stream::Rollout, 0, 0);
        for _ in 0..200 {
            let (token, logp) = draw(&mut logits.to_vec(), params, history.iter().copied(), &mut rng);
            assert!((f64::from(logp) - expected[token as usize].ln()).abs() < 1e-5);
        }
    }

    /// Logits whose softmax is (0.5, 0.25, 0.125, 0.125).
    const LOGITS: [f32; 4] = [3.0 * LN_2, 2.0 * LN_2, LN_2, LN_2];

    #[test]
    fn plain_draws_follow_the_softmax() {
        expect(&LOGITS, &SamplingParams::default(), &[], &[0.5, 0.25, 0.125, 0.125]);
    }

    #[test]
    fn large_vocabularies_draw_across_blocks() {
        let logits: Vec<f32> = (0..1000).map(|i| if i % 100 == 7 { 3.0 } else { -200.0 }).collect();
        let expected: Vec<f64> = (0..1000).map(|i| if i % 100 == 7 { 0.1 } else { 0.0 }).collect();
        expect(&logits, &SamplingParams::default(), &[], &expected);
    }

    #[test]
    fn restrictions_renormalise() {
        let plain = SamplingParams::default;
        // Squares of the probabilities, at temperature 1/2.
        let squares = [0.25, 0.0625, 0.015_625, 0.015_625].map(|p| p / 0.343_75);
        expect(&LOGITS, &SamplingParams { temperature: 0.5, ..plain() }, &[], &squares);
        expect(&LOGITS, &SamplingParams { top_k: 2, ..plain() }, &[], &[2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        // A tie at the border is kept, as transformers does.
        expect(&LOGITS, &SamplingParams { top_k: 3, ..plain() }, &[], &[0.5, 0.25, 0.125, 0.125]);
        expect(&LOGITS, &SamplingParams { top_p: 0.7, ..plain() }, &[], &[2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        expect(&LOGITS, &SamplingParams { min_p: 0.4, ..plain() }, &[], &[2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
    }

    #[test]
    fn the_repetition_penalty_divides_positive_logits() {
        let penalised = [LOGITS[0] / 2.0, LOGITS[1], LOGITS[2], LOGITS[3]].map(|z| f64::from(z).exp());
        let total: f64 = penalised.iter().sum();
        let params = SamplingParams { repetition_penalty: 2.0, ..SamplingParams::default() };
        expect(&LOGITS, &params, &[0, 0], &penalised.map(|p| p / total));
    }

    #[test]
    fn greedy_takes_the_first_largest_with_certainty() {
        let params = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        let mut rng = Rng::new(0, Stream::Rollout, 0, 0);
        assert_eq!(draw(&mut [0.0, 3.0, 3.0, -1.0], &params, std::iter::empty(), &mut rng), (1, 0.0));
    }
}
