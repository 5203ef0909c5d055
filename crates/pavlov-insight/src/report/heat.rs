//! Tokens of an answer, each with the credit it got, as shades that a page can show.

use std::path::Path;

use pavlov_lm::{ModelFiles, Tokenizer};
use pavlov_schema::rollout::Credited;
use pavlov_schema::rollout_file;
use pavlov_schema::{Map, Value};
use serde::Serialize;

use crate::Result;
use crate::ledger::figure;

/// Shades of one sign.
const SHADES: f64 = 5.0;

/// A token and its shade.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Heat {
    /// Its text.
    pub text: String,
    /// `p1` to `p5` for credit, `n1` to `n5` for blame, `z` for next to none.
    pub shade: String,
    /// Its credit in figures.
    pub value: String,
}

/// An answer with its reward and the credit of its tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The update it was drawn for.
    pub step: u64,
    /// What was asked.
    pub prompt: String,
    /// What it earned, in reward points.
    pub reward: f64,
    /// Each reward's own points.
    pub parts: Vec<(String, f64)>,
    /// Its advantage over the other answers.
    pub advantage: f64,
    /// Its tokens.
    pub tokens: Vec<Heat>,
}

/// Shades tokens by their values, the largest in size being darkest.
pub(super) fn heat(texts: &[String], values: &[f64]) -> Vec<Heat> {
    let most = values.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    let shade = |value: f64| {
        let level = if most > 0.0 { (SHADES * value.abs() / most).round() } else { 0.0 };
        if level < 1.0 { "z".to_owned() } else { format!("{}{level}", if value > 0.0 { 'p' } else { 'n' }) }
    };
    let token = |(text, &value): (&String, &f64)| Heat {
        text: text.replace('\n', "⏎"),
        shade: shade(value),
        value: format!("{}{}", if value > 0.0 { "+" } else { "" }, figure(value)),
    };
    texts.iter().zip(values).map(token).collect()
}

/// Values of stretches of tokens, each spread evenly over its tokens.
pub(super) fn spread(spans: &[(usize, usize)], values: &[f64], tokens: usize) -> Vec<f64> {
    let mut spread = vec![0.0; tokens];
    for (&(from, to), value) in spans.iter().zip(values) {
        let each = value / (to.saturating_sub(from)).max(1) as f64;
        spread.iter_mut().take(to).skip(from).for_each(|at| *at = each);
    }
    spread
}

/// The tokenizer of a run: of the model it made, else of the one it began with.
pub(super) fn tokenizer(run: &Path, config: &Map<String, Value>) -> Option<Tokenizer> {
    let made = run.join("model");
    let began = ["model", "adapter"]
        .iter()
        .filter_map(|key| config.get(*key)?.as_str().map(std::path::PathBuf::from));
    std::iter::once(made)
        .chain(began)
        .find_map(|folder| ModelFiles::load(&folder).ok())
        .map(|files| files.tokenizer)
}

/// The best and the worst answer to some prompts of the newest file of rollouts, with the credit that trained the model:
/// `most` answers at most, from the prompts whose answers differ most. Where no tokenizer is found an answer is one stretch
/// of text.
pub(super) fn newest(run: &Path, tokenizer: Option<&Tokenizer>, most: usize) -> Result<Vec<Answer>> {
    let Ok(entries) = std::fs::read_dir(run.join("rollouts")) else { return Ok(Vec::new()) };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let newest = files.filter(|file| file.extension().is_some_and(|e| e == "parquet"));
    let Some(file) = newest.max_by_key(|file| (file.as_os_str().len(), file.clone())) else {
        return Ok(Vec::new());
    };
    let answers = rollout_file::read(&file)?;
    let same = |a: &(u64, Credited), b: &(u64, Credited)| {
        a.1.scored.rollout.prompt_index == b.1.scored.rollout.prompt_index
    };
    let by_reward =
        |a: &&(u64, Credited), b: &&(u64, Credited)| a.1.scored.reward.total_cmp(&b.1.scored.reward);
    let mut pairs: Vec<[&(u64, Credited); 2]> = answers
        .chunk_by(same)
        .filter_map(|group| Some([group.iter().max_by(by_reward)?, group.iter().min_by(by_reward)?]))
        .collect();
    let spread = |[best, worst]: &[&(u64, Credited); 2]| best.1.scored.reward - worst.1.scored.reward;
    pairs.sort_by(|a, b| spread(b).total_cmp(&spread(a)));
    let mut chosen = Vec::new();
    for [best, worst] in pairs {
        // Answers that earned the same need not be shown twice.
        let different = (best.1.scored.reward > worst.1.scored.reward).then_some(worst);
        chosen.extend(
            std::iter::once(best).chain(different).map(|(step, answer)| shown(*step, answer, tokenizer)),
        );
    }
    chosen.truncate(most);
    Ok(chosen)
}

fn shown(step: u64, answer: &Credited, tokenizer: Option<&Tokenizer>) -> Answer {
    let rollout = &answer.scored.rollout;
    let weights: Vec<f64> = answer.weights.iter().map(|&weight| f64::from(weight)).collect();
    let texts = tokenizer.and_then(|tokenizer| texts(tokenizer, &rollout.tokens));
    let tokens = match texts {
        Some(texts) => heat(&texts, &weights),
        None => heat(std::slice::from_ref(&rollout.completion), &[answer.advantage]),
    };
    Answer {
        step,
        prompt: rollout.prompt_text.clone(),
        reward: answer.scored.reward,
        parts: answer.scored.parts.clone(),
        advantage: answer.advantage,
        tokens,
    }
}

/// The text that each token adds.
fn texts(tokenizer: &Tokenizer, tokens: &[u32]) -> Option<Vec<String>> {
    let mut stream = tokenizer.stream(false);
    tokens.iter().map(|&token| stream.push(token).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_darkest_and_signs_differ() {
        let texts: Vec<String> = ["a", "\n", "c", "d"].map(String::from).into();
        let shaded = heat(&texts, &[2.0, -1.0, 0.1, 0.0]);
        let shades: Vec<&str> = shaded.iter().map(|token| token.shade.as_str()).collect();
        assert_eq!(shades, ["p5", "n3", "z", "z"]);
        assert_eq!((shaded[1].text.as_str(), shaded[0].value.as_str()), ("⏎", "+2.00"));
        assert_eq!(spread(&[(0, 2), (2, 3)], &[1.0, -3.0], 3), [0.5, 0.5, -3.0]);
        assert_eq!(heat(&texts, &[0.0; 4])[0].shade, "z");
    }
}
