//! What a policy knows of the verdicts on its own answers, in bits.
//!
//! A run on rewards has no model of its verdicts but its policy, and what a policy came to prefer is what it takes to be rewarded:
//! log π/π_start is the reward that an answer implies, up to a scale (Rafailov et al., arXiv:2305.18290). Only the order within a
//! group is learned from, so the order is what is coded: of the answers that are left, which are the best, with probability
//! proportional to exp(b · Σ log π/π_start) over all sets of so many (Cox's exact likelihood of an order with ties, 1972). At b = 0
//! that is the even code, which knows nothing; before the first update every code is. π is the policy that drew the answers, so
//! that each verdict is coded **before it is learned from** (prequentially; Dawid 1984), and b is learned along the way by a mixture,
//! half of whose weight is on b = 0: all verdicts together never cost more than by the even code and a bit.

use pavlov_schema::rng::Rng;

use super::bits::group_bits;
use crate::{Estimate, Unit};

/// Scales of the implied reward that are mixed; each has an equal part of what b = 0 leaves.
const SCALES: [f64; 9] = [0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];
/// Of the groups that say something, the last one of so many tells what verdicts still cost at the end.
const END: usize = 5;
/// Fewer groups that say something are not enough.
const FEWEST: usize = 10;
/// Shuffles of the log-ratios, of which the largest figure is exceeded by chance in one of twenty.
const SHUFFLES: usize = 19;

/// The answers to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// log π/π_start of each answer under the policy that drew it, nats.
    pub log_ratios: Vec<f64>,
    /// What each earned.
    pub rewards: Vec<f64>,
}

/// Bits of the order of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coded {
    /// By the code that knows nothing. Never more than [`group_bits`].
    pub even: f64,
    /// By the policy, before it learned from it.
    pub bits: f64,
}

/// What was learned of the verdicts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    /// Bits of verdicts that the policy had not known, above what they still cost at the end: Σ bits − r · Σ even, r being the ratio
    /// of the two over the last fifth of the groups. At most what was offered.
    pub absorbed: Estimate,
    /// Σ even − Σ bits: what it did know before it was told.
    pub foretold: Estimate,
}

/// The code lengths of groups in the order in which they were learned from.
pub fn code(groups: &[Group]) -> Vec<Coded> {
    // Logarithms of the mixture's weights, base 2.
    let (half, each) = (-1.0, -1.0 - (SCALES.len() as f64).log2());
    let mut weights: Vec<f64> = std::iter::once(half).chain(SCALES.map(|_| each)).collect();
    let mut coded = Vec::with_capacity(groups.len());
    for group in groups {
        let scales = std::iter::once(0.0).chain(SCALES);
        let of_scale: Vec<f64> = scales.map(|scale| order_bits(group, scale)).collect();
        let joint: Vec<f64> = weights.iter().zip(&of_scale).map(|(weight, bits)| weight - bits).collect();
        let all = joint.iter().copied().fold(f64::NEG_INFINITY, add);
        coded.push(Coded { even: of_scale[0], bits: -all });
        weights = joint.iter().map(|joint| joint - all).collect();
    }
    coded
}

/// log2(2^a + 2^b).
fn add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp2().ln_1p() / std::f64::consts::LN_2 }
}

/// −log2 P(which answers are the best, which of the others, and so on).
fn order_bits(group: &Group, scale: f64) -> f64 {
    let mut left: Vec<(f64, f64)> = group
        .rewards
        .iter()
        .copied()
        .zip(group.log_ratios.iter().map(|ratio| scale * ratio / std::f64::consts::LN_2))
        .collect();
    left.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut bits = 0.0;
    while let Some(&(best, _)) = left.first() {
        let ties = left.iter().take_while(|(reward, _)| reward.total_cmp(&best).is_eq()).count();
        if ties == left.len() {
            break;
        }
        // log2 of the sum over all sets of `ties` answers, which is an elementary symmetric polynomial.
        let mut sums = vec![f64::NEG_INFINITY; ties + 1];
        sums[0] = 0.0;
        for (_, log) in &left {
            (1..=ties).rev().for_each(|j| sums[j] = add(sums[j], sums[j - 1] + log));
        }
        bits += sums[ties] - left[..ties].iter().map(|(_, log)| log).sum::<f64>();
        left.drain(..ties);
    }
    bits
}

/// What was learned of the verdicts on these groups; none where too few of them say anything.
pub fn learned(groups: &[Group], rng: &mut Rng) -> Option<Learned> {
    let spread = |group: &&Group| group_bits(&group.rewards) > 0.0;
    let groups: Vec<Group> = groups.iter().filter(spread).cloned().collect();
    if groups.len() < FEWEST {
        return None;
    }
    let first_of_end = groups.len() - groups.len().div_ceil(END);
    let parts = |groups: &[Group]| -> Vec<(Coded, bool)> {
        code(groups).into_iter().enumerate().map(|(i, coded)| (coded, i >= first_of_end)).collect()
    };
    let mut shuffled = || {
        let mut shuffled = groups.clone();
        for group in &mut shuffled {
            rng.shuffle(&mut group.log_ratios);
        }
        let parts = parts(&shuffled);
        [absorbed(&parts), foretold(&parts)].map(f64::abs)
    };
    let floor = (0..SHUFFLES)
        .map(|_| shuffled())
        .fold([0.0, 0.0], |most: [f64; 2], found| [most[0].max(found[0]), most[1].max(found[1])]);
    let found = parts(&groups);
    Some(Learned {
        absorbed: Estimate::of(&found, Unit::Bits, rng, absorbed).above(floor[0]),
        foretold: Estimate::of(&found, Unit::Bits, rng, foretold).above(floor[1]),
    })
}

fn absorbed(parts: &[(Coded, bool)]) -> f64 {
    let sum = |of: fn(&Coded) -> f64, end: bool| {
        parts.iter().filter(|part| part.1 || !end).map(|(coded, _)| of(coded)).sum::<f64>()
    };
    let at_end = sum(|coded| coded.bits, true) / sum(|coded| coded.even, true);
    sum(|coded| coded.bits, false) - at_end * sum(|coded| coded.even, false)
}

fn foretold(parts: &[(Coded, bool)]) -> f64 {
    parts.iter().map(|(coded, _)| coded.even - coded.bits).sum()
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rng::Stream;

    use super::*;

    fn group(log_ratios: &[f64], rewards: &[f64]) -> Group {
        Group { log_ratios: log_ratios.to_vec(), rewards: rewards.to_vec() }
    }

    #[test]
    fn orders_by_hand() {
        let even = |rewards: &[f64]| order_bits(&group(&vec![0.0; rewards.len()], rewards), 1.0);
        // One or two of four are right; all in order; two pairs of ties; all alike.
        assert!((even(&[0.0, 1.0, 0.0, 0.0]) - 2.0).abs() < 1e-12);
        assert!((even(&[0.0, 1.0, 0.0, 1.0]) - 6.0_f64.log2()).abs() < 1e-12);
        assert!((even(&[3.0, 1.0, 2.0, 0.0]) - 24.0_f64.log2()).abs() < 1e-12);
        assert!((even(&[2.0, 2.0, 1.0, 0.0]) - 12.0_f64.log2()).abs() < 1e-12);
        assert_eq!(even(&[0.5; 3]), 0.0);
        // Two answers: σ of the scaled difference; the sum of a group's ratios does not matter.
        let two = group(&[1.5, 0.5], &[1.0, 0.0]);
        assert!((order_bits(&two, 2.0) - (1.0 + (-2.0_f64).exp()).log2()).abs() < 1e-12);
        let far = group(&[1001.5, 1000.5], &[1.0, 0.0]);
        assert!((order_bits(&far, 2.0) - order_bits(&two, 2.0)).abs() < 1e-9);
        // Pairs of three by hand: sets {0, 1}, {0, 2}, {1, 2}.
        let three = group(&[0.3, -0.2, 1.0], &[1.0, 0.0, 1.0]);
        let all = [0.1_f64, 1.3, 0.8].map(f64::exp).iter().sum::<f64>();
        assert!((order_bits(&three, 1.0) + (1.3_f64.exp() / all).log2()).abs() < 1e-12);
    }

    /// Groups in which the policy's ratio comes to foretell the reward by `slope` over the run.
    fn run(seed: u64, n: usize, size: usize, slope: f64) -> Vec<Group> {
        let mut rng = Rng::new(seed, Stream::Probe, 0, 0);
        let draw = |i: usize| {
            let know = slope * i as f64 / n as f64;
            let rewards: Vec<f64> = (0..size).map(|_| f64::from(u8::from(rng.below(4) == 0))).collect();
            let ratio = |reward: &f64, rng: &mut Rng| know * reward + 0.3 * f64::from(rng.normal());
            let log_ratios = rewards.iter().map(|reward| ratio(reward, &mut rng)).collect();
            Group { log_ratios, rewards }
        };
        (0..n).map(draw).collect()
    }

    /// The even code and a bit bound the mixture, and K · H of a group leaves more than that bit.
    #[test]
    fn no_more_is_absorbed_than_was_offered() {
        for seed in 0..60 {
            let (size, n) = (2 + seed as usize % 7, 10 + 3 * seed as usize);
            // What is known, what is not, and what is believed wrongly.
            let groups = run(seed, n, size, [3.0, 0.0, -40.0][seed as usize % 3]);
            let coded = code(&groups);
            let offered: f64 = groups.iter().map(|group| group_bits(&group.rewards)).sum();
            let (even, bits) = coded.iter().fold((0.0, 0.0), |(e, b), c| (e + c.even, b + c.bits));
            assert!(bits >= 0.0 && bits <= even + 1.0 + 1e-9 && bits <= offered, "{bits}, {even}, {offered}");
            if let Some(learned) = learned(&groups, &mut Rng::new(seed, Stream::Bootstrap, 0, 0)) {
                assert!(learned.absorbed.value <= offered && learned.foretold.value <= offered);
            }
        }
    }

    #[test]
    fn what_is_learned_stands_out_and_what_is_not_does_not() {
        let mut rng = Rng::new(3, Stream::Bootstrap, 0, 0);
        let mut false_ones = 0;
        for seed in 0..40 {
            let known = learned(&run(seed, 200, 8, 6.0), &mut rng).unwrap();
            assert!(known.absorbed.stands_out() && known.foretold.stands_out(), "{known:?}");
            let unknown = learned(&run(seed, 200, 8, 0.0), &mut rng).unwrap();
            false_ones += u32::from(unknown.absorbed.value.abs() > unknown.absorbed.noise_floor.unwrap());
        }
        // One of twenty of 40, and three standard deviations.
        assert!(false_ones <= 2 + 4, "{false_ones} of 40");
        // A policy that gave up, all of whose answers are alike, has learned nothing.
        let nothing: Vec<Group> = (0..50).map(|_| group(&[5.0; 4], &[0.0; 4])).collect();
        assert!(learned(&nothing, &mut rng).is_none());
    }
}
