//! Counter-based random numbers: equal keys give equal numbers, on any machine and any thread.
//!
//! Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A generator
//! is named by (seed, stream, step, index) and has no history, so a resumed run, another thread count or another batch
//! composition draws the same numbers.

/// What a generator's numbers are used for. Two streams never share numbers; the discriminants are part of every run's
/// reproducibility and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// Order of the training rows.
    Data = 1,
    /// Initial weights.
    Init = 2,
    /// Tokens drawn by the sampler.
    Rollout = 3,
    /// Verdicts of simulated raters and judges.
    Judge = 4,
    /// Generated worlds.
    World = 5,
    /// Held-out evaluation.
    Evaluation = 6,
    /// Splitting a data set.
    Split = 7,
    /// Resamples of a measurement's interval, permutations of its noise floor.
    Bootstrap = 8,
    /// Random probes: projections, directions, masks.
    Probe = 9,
    /// Rollouts of a measurement, which no training shares.
    Insight = 10,
    /// Which task a rater is served, and in which order its answers are shown.
    Feedback = 11,
}

/// A stream of random numbers named by its key.
#[derive(Clone, Debug)]
pub struct Rng {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Ten rounds of Philox4x32.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(MULTIPLIER[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIER[1]) * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

impl Rng {
    /// The generator of one key. Within a key, up to 2^34 numbers are distinct draws.
    pub fn new(seed: u64, stream: Stream, step: u64, index: u64) -> Self {
        // The 64-bit step and index, the stream and the draw do not fit a 128-bit counter: one Philox call folds the
        // seed, the stream and the step into the key that the draws use.
        let folded =
            philox([step as u32, (step >> 32) as u32, stream as u32, 0], [seed as u32, (seed >> 32) as u32]);
        Self {
            key: [folded[0], folded[1]],
            counter: [0, folded[2], index as u32, (index >> 32) as u32],
            block: [0; 4],
            used: 4,
        }
    }

    /// The next 32 uniform bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// The next 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) << 32 | u64::from(self.next_u32())
    }

    /// Uniform in [0, 1), a multiple of 2^-24.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [0, 1), a multiple of 2^-53.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Standard normal, by Box and Muller.
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform_f64()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.uniform_f64()).cos()) as f32
    }

    /// Uniform over 0..n without bias (Lemire's multiply and reject).
    ///
    /// # Panics
    /// If `n` is zero or above 2^32.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0 && n as u64 <= 1 << 32, "below() takes 1..=2^32, got {n}");
        let n = n as u64;
        let threshold = (1_u64 << 32) % n;
        loop {
            let product = u64::from(self.next_u32()) * n;
            if product & 0xFFFF_FFFF >= threshold {
                return (product >> 32) as usize;
            }
        }
    }

    /// A uniformly random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_the_paper() {
        // kat_vectors of the authors' Random123 distribution.
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn each_part_of_the_key_matters() {
        let first = |seed, stream, step, index| Rng::new(seed, stream, step, index).next_u64();
        let base = first(1, Stream::Data, 2, 3);
        assert_eq!(base, first(1, Stream::Data, 2, 3));
        for other in [
            first(2, Stream::Data, 2, 3),
            first(1, Stream::Init, 2, 3),
            first(1, Stream::Data, 3, 3),
            first(1, Stream::Data, 2, 4),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn draws_have_their_distribution() {
        let mut rng = Rng::new(7, Stream::Data, 0, 0);
        let n = 100_000;
        let uniform = (0..n).map(|_| f64::from(rng.uniform())).sum::<f64>() / f64::from(n);
        assert!((uniform - 0.5).abs() < 4.0 * (1.0 / 12.0_f64 / f64::from(n)).sqrt());
        let (mut mean, mut square) = (0.0, 0.0);
        for _ in 0..n {
            let x = f64::from(rng.normal());
            mean += x / f64::from(n);
            square += x * x / f64::from(n);
        }
        assert!(
            mean.abs() < 4.0 / f64::from(n).sqrt()
                && (square - 1.0).abs() < 4.0 * (2.0 / f64::from(n)).sqrt()
        );
        let mut counts = [0_u32; 6];
        (0..60_000).for_each(|_| counts[rng.below(6)] += 1);
        assert!(counts.iter().all(|&c| (9_600..10_400).contains(&c)), "{counts:?}");
    }

    #[test]
    fn shuffle_keeps_the_items() {
        let mut items: Vec<u32> = (0..50).collect();
        Rng::new(0, Stream::Split, 0, 0).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
