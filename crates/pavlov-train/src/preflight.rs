//! What must hold before the first update of a run that learns from its own answers. A run that breaks one of these
//! looks healthy and trains on the wrong thing; it is stopped, with the row or the tensor named.

use pavlov_engine::{Dtype, Parameters};
use pavlov_lm::Encoder;
use pavlov_schema::rollout::{Credited, Finish, Prompt, Rollout};
use pavlov_schema::text::Text;

use crate::loops::rl::objective::Sums;
use crate::stage::rollout::EncodedPrompt;
use crate::{Error, Result};

/// Prompts whose template is looked at; all conversations of a data set go through the same template.
const TEMPLATES_CHECKED: usize = 64;

/// Largest difference, in nats, between a token's log-probability as the sampler recorded it and as the trainer computes
/// it. Both use the same kernels on the same weights, but cut the work differently, so that sums are rounded
/// differently. In bf16 every operand is rounded to 8 bits: a relative 2⁻⁹ a product, over a few dozen layers, on
/// logits of a few dozen.
pub fn parity_bound(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 1e-4,
        Dtype::Bf16 => 0.1,
    }
}

/// Every weight is a finite number.
pub fn finite_weights(params: &Parameters) -> Result<()> {
    match params.find_not_finite() {
        Some(tensor) => Err(failed(format!(
            "finite weights: tensor {tensor} holds a NaN or an infinity; the checkpoint is damaged or diverged"
        ))),
        None => Ok(()),
    }
}

/// What the sampler reads is what the trainer holds.
pub fn same_weights(params: &Parameters) -> Result<()> {
    let (trainer, sampler) = (params.digest(), params.compute_digest());
    if trainer == sampler {
        return Ok(());
    }
    Err(failed(format!(
        "the sampler's weights have digest {sampler:016x}, the trainer's {trainer:016x}: the sampler would draw from an \
         older policy"
    )))
}

/// A prompt's tokens are how the same prompt begins once an answer follows it: else the policy would answer a prompt
/// that no later conversation contains.
pub fn stable_template(encoder: &Encoder, prompts: &[Prompt], encoded: &[EncodedPrompt]) -> Result<()> {
    let chats = prompts.iter().zip(encoded).filter(|(prompt, _)| matches!(prompt.prompt, Text::Chat(_)));
    for (prompt, encoded) in chats.take(TEMPLATES_CHECKED) {
        let place = format!("prompt '{}'", prompt.id);
        let answered = encoder.encode_answers(&prompt.prompt, &[Text::from("Yes.")], &place)?;
        if prompt.columns.get("tools").is_none() && answered.prompt != encoded.tokens {
            let at = answered.prompt.iter().zip(&encoded.tokens).position(|(a, b)| a != b);
            let at = at.unwrap_or_else(|| answered.prompt.len().min(encoded.tokens.len()));
            return Err(failed(format!(
                "template prefix-stable: {place} is written differently from token {at} on once an answer follows it; mend \
                 the chat template or give plain prompts"
            )));
        }
    }
    Ok(())
}

/// Every answer has a token to train, one weight a token, and an answer that ended has its end token among them.
pub fn trained_tokens(rollouts: &[Credited], stop_tokens: &[u32]) -> Result<()> {
    for credited in rollouts {
        let rollout = &credited.scored.rollout;
        let wrong = |what: &str| Err(failed(format!("{}: {what}", name(rollout))));
        let tokens = rollout.tokens.len();
        if tokens == 0 {
            return wrong("it has no token to train");
        }
        if credited.weights.len() != tokens || rollout.behaviour_logp.len() != tokens {
            return wrong("it has not one weight and one log-probability for each token");
        }
        let ends = rollout.tokens.last().is_some_and(|last| stop_tokens.contains(last));
        if rollout.finish == Finish::Eos && !ends {
            return wrong(
                "it ended, but its end token is not among the tokens to train: it would never learn to stop",
            );
        }
        if let Some(early) = rollout.tokens[..tokens - 1].iter().position(|token| stop_tokens.contains(token))
        {
            return wrong(&format!(
                "token {early} ends an answer, yet {} more are trained",
                tokens - 1 - early
            ));
        }
    }
    Ok(())
}

/// The trainer computes the log-probabilities that the sampler recorded, so that the importance ratio begins at 1.
pub fn parity(rollouts: &[Credited], logps: &[Vec<f32>], dtype: Dtype) -> Result<()> {
    let bound = parity_bound(dtype);
    for (credited, logps) in rollouts.iter().zip(logps) {
        let rollout = &credited.scored.rollout;
        for (t, (&sampler, &trainer)) in rollout.behaviour_logp.iter().zip(logps).enumerate() {
            let difference = f64::from(sampler - trainer).abs();
            if difference.is_nan() || difference > bound {
                return Err(failed(format!(
                    "sampler/trainer parity: {}, token {t}: log-probability {sampler} when sampled, {trainer} when \
                     trained; they may differ by {bound} in {dtype:?}",
                    name(rollout)
                )));
            }
        }
    }
    Ok(())
}

/// The policy is its reference before the first update, so that the KL begins at 0.
pub fn at_reference(rollouts: &[Credited], logps: &[Vec<f32>], ref_logps: &[Vec<f32>]) -> Result<()> {
    for ((credited, logps), ref_logps) in rollouts.iter().zip(logps).zip(ref_logps) {
        for (t, (&policy, &reference)) in logps.iter().zip(ref_logps).enumerate() {
            // The same weights in the same kernels over the same batch: not even rounding differs.
            if (policy - reference).abs() != 0.0 {
                return Err(failed(format!(
                    "KL 0 at the start: {}, token {t}: log-probability {policy} under the policy, {reference} under the \
                     reference, which is a copy of it",
                    name(&credited.scored.rollout)
                )));
            }
        }
    }
    Ok(())
}

/// The importance ratio of the first update is 1 but for rounding, whatever the clip.
pub fn ratio_one(sums: &Sums, dtype: Dtype) -> Result<()> {
    let (low, high) = sums.ratio_range.unwrap_or((1.0, 1.0));
    let bound = parity_bound(dtype).exp();
    // Written so that NaN fails.
    if low * bound >= 1.0 && high <= bound {
        return Ok(());
    }
    Err(failed(format!(
        "ratio 1 at the start: the importance ratios of the first update go from {low} to {high}"
    )))
}

fn name(rollout: &Rollout) -> String {
    format!("answer {} to prompt '{}'", rollout.choice, rollout.prompt_id)
}

fn failed(what: String) -> Error {
    Error::Preflight { what }
}

#[cfg(test)]
mod tests {
    use pavlov_schema::rollout::Scored;

    use super::*;

    const END: u32 = 0;

    fn answer(tokens: &[u32], finish: Finish) -> Credited {
        let rollout = Rollout {
            prompt_id: "p7".into(),
            prompt_index: 0,
            choice: 3,
            prompt_text: "?".into(),
            prompt_tokens: vec![5],
            completion: String::new(),
            tokens: tokens.to_vec(),
            behaviour_logp: vec![-1.0; tokens.len()],
            finish,
            seed: 0,
            policy_version: 0,
        };
        let scored = Scored { rollout, reward: 0.0, parts: Vec::new() };
        Credited { scored, advantage: 0.5, weights: vec![0.5; tokens.len()], method: String::new() }
    }

    #[track_caller]
    fn refused(result: Result<()>, words: &[&str]) {
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with("preflight: ") && !error.contains('\n'), "{error}");
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} are not in: {error}");
    }

    #[test]
    fn tokens_to_train_are_all_there() {
        let good = [answer(&[3, END], Finish::Eos), answer(&[3, 4], Finish::Length)];
        trained_tokens(&good, &[END]).unwrap();
        let check = |answer: Credited| trained_tokens(&[answer], &[END]);
        refused(check(answer(&[], Finish::Length)), &["answer 3 to prompt 'p7'", "no token to train"]);
        refused(check(answer(&[3, 4], Finish::Eos)), &["end token is not among the tokens"]);
        refused(check(answer(&[END, 4], Finish::Length)), &["token 0 ends an answer, yet 1 more"]);
        let mut short = answer(&[3, END], Finish::Eos);
        short.weights.pop();
        refused(check(short), &["one weight"]);
    }

    #[test]
    fn parity_names_the_token_that_lacks_it() {
        let answers = [answer(&[3, END], Finish::Eos)];
        let check = |trainer: f32, dtype| parity(&answers, &[vec![-1.0, trainer]], dtype);
        check(-1.000_05, Dtype::F32).unwrap();
        check(-1.05, Dtype::Bf16).unwrap();
        refused(check(-1.001, Dtype::F32), &["answer 3 to prompt 'p7', token 1", "-1.001", "0.0001"]);
        refused(check(f32::NAN, Dtype::Bf16), &["token 1"]);
    }

    #[test]
    fn the_reference_is_the_policy_to_the_bit() {
        let answers = [answer(&[3, END], Finish::Eos)];
        let check = |reference: f32| at_reference(&answers, &[vec![-1.0, -2.0]], &[vec![-1.0, reference]]);
        check(-2.0).unwrap();
        refused(check(-2.000_001), &["KL 0", "token 1"]);
    }

    #[test]
    fn the_first_ratio_is_one_but_for_rounding() {
        let check =
            |low, high, dtype| ratio_one(&Sums { ratio_range: Some((low, high)), ..Sums::default() }, dtype);
        ratio_one(&Sums::default(), Dtype::F32).unwrap();
        check(0.999_95, 1.000_05, Dtype::F32).unwrap();
        check(0.95, 1.05, Dtype::Bf16).unwrap();
        // A clip of 0.2 would hide these.
        refused(check(0.9, 1.0, Dtype::F32), &["0.9 to 1"]);
        refused(check(1.0, 1.5, Dtype::Bf16), &["1 to 1.5"]);
        refused(check(f64::NAN, 1.0, Dtype::F32), &["NaN"]);
    }
}
