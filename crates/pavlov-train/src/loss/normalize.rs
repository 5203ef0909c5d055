//! How much each token counts in a loss over sampled answers.

use serde::{Deserialize, Serialize};

use super::ranges;

/// The average over tokens and sequences, by TRL's name for its `loss_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalization {
    /// Mean over sequences of the mean over a sequence's tokens (GRPO, arXiv:2402.03300, eq. 3). A token of a
    /// long answer counts less than one of a short answer.
    Grpo,
    /// Sum over tokens, divided by sequences × `max_completion_length`: no length bias (Dr. GRPO,
    /// arXiv:2503.20783).
    DrGrpo,
    /// Mean over all tokens of the optimizer step (DAPO, arXiv:2503.14476, eq. 8).
    Dapo,
    /// TRL's `bnpo`, the mean over a batch's tokens. TRL takes it over each micro-batch, so that its result
    /// depends on how a step is cut; here the batch is the optimizer step, which makes it equal to
    /// [`Dapo`](Self::Dapo).
    Bnpo,
}

/// Sizes of the whole optimizer step, over every accumulated part and every worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Sequences, wholly masked ones included.
    pub sequences: usize,
    /// Tokens that count.
    pub tokens: usize,
    /// The longest completion the sampler may make, in tokens (used by [`Normalization::DrGrpo`] alone).
    pub max_completion_length: usize,
}

/// The weight of each token in a sum that makes the wanted mean; 0 where `mask` is false.
///
/// `lengths` are the tokens of each sequence, which lie one after another in `mask` (true = counts).
pub fn token_shares(
    normalization: Normalization,
    lengths: &[usize],
    mask: &[bool],
    counts: &Counts,
) -> Vec<f64> {
    assert_eq!(lengths.iter().sum::<usize>(), mask.len(), "sequences must cover the tokens");
    let mut shares = Vec::with_capacity(mask.len());
    for range in ranges(lengths) {
        let counted = mask[range.clone()].iter().filter(|&&counts| counts).count();
        let divisor = match normalization {
            Normalization::Grpo => counts.sequences * counted,
            Normalization::DrGrpo => counts.sequences * counts.max_completion_length,
            Normalization::Dapo | Normalization::Bnpo => counts.tokens,
        };
        // Divided only where a token counts, so that the divisor is never zero unless the counts lie.
        shares.extend(mask[range].iter().map(|&counts| if counts { 1.0 / divisor as f64 } else { 0.0 }));
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [bool; 6] = [true, true, true, true, false, true];
    const LENGTHS: [usize; 3] = [1, 3, 2];
    const COUNTS: Counts = Counts { sequences: 3, tokens: 5, max_completion_length: 8 };

    #[test]
    fn hand_numbers() {
        let grpo = token_shares(Normalization::Grpo, &LENGTHS, &MASK, &COUNTS);
        assert_eq!(grpo, [1.0 / 3.0, 1.0 / 9.0, 1.0 / 9.0, 1.0 / 9.0, 0.0, 1.0 / 3.0]);
        let dr_grpo = token_shares(Normalization::DrGrpo, &LENGTHS, &MASK, &COUNTS);
        assert_eq!(dr_grpo[3..], [1.0 / 24.0, 0.0, 1.0 / 24.0]);
        let dapo = token_shares(Normalization::Dapo, &LENGTHS, &MASK, &COUNTS);
        assert_eq!(dapo, [0.2, 0.2, 0.2, 0.2, 0.0, 0.2]);
        assert_eq!(token_shares(Normalization::Bnpo, &LENGTHS, &MASK, &COUNTS), dapo);
    }

    #[test]
    fn parts_of_a_step_have_the_shares_of_the_whole() {
        for kind in [Normalization::Grpo, Normalization::DrGrpo, Normalization::Dapo, Normalization::Bnpo] {
            let whole = token_shares(kind, &LENGTHS, &MASK, &COUNTS);
            let mut parts = token_shares(kind, &LENGTHS[..2], &MASK[..4], &COUNTS);
            parts.extend(token_shares(kind, &LENGTHS[2..], &MASK[4..], &COUNTS));
            assert_eq!(parts, whole);
        }
    }

    #[test]
    fn a_masked_sequence_has_no_share_and_no_division_by_zero() {
        let shares = token_shares(Normalization::Grpo, &[2, 1], &[false, false, true], &COUNTS);
        assert_eq!(shares, [0.0, 0.0, 1.0 / 3.0]);
    }
}
