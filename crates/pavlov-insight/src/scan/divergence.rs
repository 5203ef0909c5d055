//! Where two models part: the KL divergence by token, from answers of the trained model.
//!
//! For tokens drawn from π the mean of log π/π_ref is an unbiased estimate of the KL at their places (Schulman's k1), and the
//! sum over an answer one of the KL of answers. Summed over the occurrences of a token it says which tokens the KL is spent on.

use std::collections::BTreeMap;

use pavlov_schema::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::{Estimate, Unit};

/// Tokens that are listed.
const LISTED: usize = 20;

/// One drawn token, scored by both models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// Its id.
    pub token: u32,
    /// log π, nats.
    pub model: f32,
    /// log π_ref, nats.
    pub reference: f32,
}

/// A token that the KL is spent on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenKl {
    /// Its id.
    pub token: u32,
    /// Its text.
    pub text: String,
    /// Occurrences.
    pub n: usize,
    /// Sum of log π/π_ref over its occurrences, over all answers: nats an answer.
    pub nats: f64,
}

/// The divergence of the trained model from its reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// KL of answers, nats an answer.
    pub per_answer: Estimate,
    /// KL at each place in the answer from its beginning, nats a token, as long as at least a tenth of the answers last.
    pub by_place: Vec<f64>,
    /// The tokens with the largest sums, positive ones first: drawn more, or more surely, than the reference would.
    pub tokens: Vec<TokenKl>,
}

/// A token's text as people read it: without space around it, or, if it is nothing but space, escaped.
pub fn readable(text: &str) -> String {
    match text.trim() {
        "" => text.escape_debug().to_string().replace(' ', "␣"),
        trimmed => trimmed.escape_debug().to_string(),
    }
}

/// Sums up answers of the trained model; `text` names a token.
pub fn divergence(answers: &[Vec<Drawn>], text: &dyn Fn(u32) -> String, rng: &mut Rng) -> Divergence {
    let ratio = |drawn: &Drawn| f64::from(drawn.model) - f64::from(drawn.reference);
    let totals: Vec<f64> = answers.iter().map(|answer| answer.iter().map(ratio).sum()).collect();
    let mut sums: BTreeMap<u32, (usize, f64)> = BTreeMap::new();
    for drawn in answers.iter().flatten() {
        let sum = sums.entry(drawn.token).or_default();
        *sum = (sum.0 + 1, sum.1 + ratio(drawn));
    }
    let mut tokens: Vec<TokenKl> = sums
        .into_iter()
        .map(|(token, (n, sum))| TokenKl { token, text: text(token), n, nats: sum / answers.len() as f64 })
        .collect();
    tokens.sort_by(|a, b| b.nats.total_cmp(&a.nats));
    tokens.truncate(LISTED);
    let mut by_place = Vec::new();
    loop {
        let here: Vec<f64> =
            answers.iter().filter_map(|answer| answer.get(by_place.len())).map(ratio).collect();
        if here.is_empty() || here.len() * 10 < answers.len() {
            break;
        }
        by_place.push(here.iter().sum::<f64>() / here.len() as f64);
    }
    Divergence { per_answer: Estimate::mean(&totals, Unit::Nats, rng), by_place, tokens }
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rng::Stream;

    use super::*;

    /// Two tokens, drawn independently: the KL is known.
    #[test]
    fn the_kl_of_coins_is_recovered_by_token_and_by_place() {
        let (p, q) = (0.8_f64, 0.5_f64);
        let mut rng = Rng::new(1, Stream::Insight, 0, 0);
        let answers: Vec<Vec<Drawn>> = (0..4000)
            .map(|_| {
                let mut draw = || {
                    let first = rng.uniform_f64() < p;
                    let [model, reference] =
                        [p, q].map(|x| if first { x.ln() } else { (1.0 - x).ln() } as f32);
                    Drawn { token: u32::from(!first), model, reference }
                };
                vec![draw(), draw()]
            })
            .collect();
        let found = divergence(&answers, &|id| id.to_string(), &mut rng);
        let (first, second) = (p * (p / q).ln(), (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln());
        assert!((found.per_answer.value - 2.0 * (first + second)).abs() < 0.03, "{found:?}");
        assert!((found.tokens[0].nats - 2.0 * first).abs() < 0.03 && found.tokens[0].text == "0");
        assert!((found.tokens[1].nats - 2.0 * second).abs() < 0.03);
        assert!(found.by_place.len() == 2 && (found.by_place[1] - first - second).abs() < 0.03);
    }

    #[test]
    fn white_space_can_be_read() {
        for (text, wanted) in [(" That", "That"), (" ", "␣"), ("\n\n", "\\n\\n"), ("", "")] {
            assert_eq!(readable(text), wanted);
        }
    }
}
