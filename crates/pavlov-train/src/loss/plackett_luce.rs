//! Learning a score from answers that were put in order.

/// A loss over rankings: its value and its derivative with respect to each score.
#[derive(Clone, Debug, PartialEq)]
pub struct RankingLoss {
    /// The loss in nats per ranking.
    pub value: f64,
    /// ∂value/∂score, one per answer.
    pub d_score: Vec<f32>,
}

/// L = −(1/N) Σ over rankings Σᵢ log( e^{rᵢ} / (e^{rᵢ} + Σ_{j worse than i} e^{rⱼ}) ) + (c/N) Σ (2·mean r)²
///
/// Plackett (1975) and Luce (1959): the best answer is chosen among all, the next among the rest, and so on. Of equal answers
/// none is chosen before another: each is chosen among itself and the worse ones, so that with a tie this is no likelihood of
/// the whole order but of what it decides. With two answers it is Bradley and Terry's law. `c` holds the scores' free constant
/// near zero as [`super::bradley_terry`]'s does, and is the same number for two answers.
///
/// `scores` are those of the answers of one ranking after another, `ranks` theirs, 1 the best; `rankings` is N, over the whole
/// optimizer step.
pub fn plackett_luce(scores: &[f32], ranks: &[&[u8]], center: f64, rankings: usize) -> RankingLoss {
    assert_eq!(scores.len(), ranks.iter().map(|ranks| ranks.len()).sum::<usize>(), "one rank per score");
    let n = rankings as f64;
    let mut loss = RankingLoss { value: 0.0, d_score: Vec::with_capacity(scores.len()) };
    let lengths: Vec<usize> = ranks.iter().map(|ranks| ranks.len()).collect();
    for (ranks, range) in ranks.iter().zip(super::ranges(&lengths)) {
        let scores: Vec<f64> = scores[range].iter().map(|&score| f64::from(score)).collect();
        let twice_mean = 2.0 * scores.iter().sum::<f64>() / scores.len() as f64;
        let hold = 4.0 * center * twice_mean / scores.len() as f64;
        let mut derivative = vec![hold; scores.len()];
        loss.value += center * twice_mean * twice_mean / n;
        for (i, &rank) in ranks.iter().enumerate() {
            let among: Vec<usize> = (0..scores.len()).filter(|&j| j == i || ranks[j] > rank).collect();
            let most = among.iter().map(|&j| scores[j]).fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = among.iter().map(|&j| (scores[j] - most).exp()).sum();
            loss.value -= (scores[i] - most - total.ln()) / n;
            derivative[i] -= 1.0;
            for j in among {
                derivative[j] += (scores[j] - most).exp() / total;
            }
        }
        loss.d_score.extend(derivative.into_iter().map(|d| (d / n) as f32));
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::super::bradley_terry;
    use super::super::testing::{assert_derivatives, normals};
    use super::*;

    #[test]
    fn hand_numbers() {
        // Six orders of three equal answers are equally likely.
        let even = plackett_luce(&[2.0, 2.0, 2.0], &[&[3, 1, 2]], 0.0, 1);
        assert!((even.value - 6.0_f64.ln()).abs() < 1e-12);
        // All alike decides nothing.
        let tied = plackett_luce(&[0.3, -4.0], &[&[1, 1]], 0.0, 1);
        assert_eq!((tied.value, tied.d_score), (0.0, vec![0.0, 0.0]));
        // One better than two equals: one choice among three.
        let one = plackett_luce(&[0.0, 0.0, 0.0], &[&[1, 2, 2]], 0.0, 1);
        assert!((one.value - 3.0_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn the_chances_of_all_orders_add_up() {
        let scores = normals(4, 4, 1.5);
        let mut sum = 0.0;
        for order in 0..256_u32 {
            let ranks: Vec<u8> = (0..4).map(|i| (order >> (2 * i) & 3) as u8 + 1).collect();
            if (1..=4).all(|rank| ranks.contains(&rank)) {
                sum += (-plackett_luce(&scores, &[&ranks], 0.0, 1).value).exp();
            }
        }
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
    }

    #[test]
    fn of_two_answers_it_is_bradley_and_terry() {
        let (chosen, rejected) = (normals(1, 5, 2.0), normals(2, 5, 2.0));
        let pairs = bradley_terry(&chosen, &rejected, &[0.0; 5], 0.02, 7);
        let scores: Vec<f32> = chosen.iter().zip(&rejected).flat_map(|(&c, &r)| [c, r]).collect();
        let ranked = plackett_luce(&scores, &[&[1, 2][..]; 5], 0.02, 7);
        assert!((pairs.value - ranked.value).abs() < 1e-12);
        for (i, d) in ranked.d_score.chunks_exact(2).enumerate() {
            assert!((d[0] - pairs.d_first[i]).abs() < 1e-7 && (d[1] - pairs.d_second[i]).abs() < 1e-7);
        }
    }

    #[test]
    fn derivatives_match_finite_differences() {
        let scores = normals(3, 9, 2.0);
        let ranks: [&[u8]; 3] = [&[2, 1, 3, 4], &[1, 2, 2], &[2, 1]];
        let loss = plackett_luce(&scores, &ranks, 0.05, 4);
        assert_derivatives(&scores, &loss.d_score, |x| plackett_luce(x, &ranks, 0.05, 4).value);
    }
}
