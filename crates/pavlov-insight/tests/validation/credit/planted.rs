//! A policy whose every probability is known, in the real decoder; rewards whose credit is known; and the exact values and
//! Shapley values of both, by enumeration in f64 that shares no code with what is tested.

use std::collections::BTreeMap;
use std::sync::Arc;

use pavlov_engine::{Cpu, DecoderConfig, Dtype};
use pavlov_lm::{LanguageModel, ModelFiles};
use pavlov_schema::Map;
use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::rollout::{Finish, Prompt, Rollout, Scored};
use pavlov_schema::text::Text;
use pavlov_train::stage::score::{Reward, Source};

/// The end token, an unknown word, four words that are written and one that asks.
pub(crate) const WORDS: [&str; 8] = ["<end>", "<unk>", "a", "b", "c", "d", "ask", "f"];
pub(crate) const END: u32 = 0;
pub(crate) const ASK: u32 = 6;
/// The words that the policy writes.
pub(crate) const WRITTEN: std::ops::Range<u32> = 2..6;

/// log π(next | last), nats: a Markov chain over the tokens.
pub(crate) type Chain = [[f64; 8]; 8];

/// What the policy is like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Habit {
    /// All words nearly equally likely, whatever came before; never ends.
    Free,
    /// Stays with the word before with so much probability; never ends.
    Sticky(f64),
    /// Ends with so much probability at each token.
    Ending(f64),
}

/// A chain with that habit and some unevenness of its own.
pub(crate) fn chain(habit: Habit, rng: &mut Rng) -> Chain {
    let mut chain = [[-30.0; 8]; 8];
    for (last, row) in chain.iter_mut().enumerate() {
        let mut weights = [0.0; 8];
        for word in WRITTEN {
            weights[word as usize] = (0.2 * f64::from(rng.normal())).exp();
        }
        let sum: f64 = weights.iter().sum();
        weights = weights.map(|w| w / sum);
        match habit {
            Habit::Sticky(stay) if WRITTEN.contains(&(last as u32)) => {
                weights = weights.map(|w| w * (1.0 - stay));
                weights[last] += stay;
            }
            // An answer has at least one word.
            Habit::Ending(end) if last != ASK as usize => {
                weights = weights.map(|w| w * (1.0 - end));
                weights[END as usize] = end;
            }
            Habit::Free | Habit::Sticky(_) | Habit::Ending(_) => {}
        }
        for (logp, weight) in row.iter_mut().zip(weights) {
            *logp = if weight > 0.0 { weight.ln() } else { -30.0 };
        }
    }
    chain
}

/// The chain in the real decoder: a token's embedding is an axis, the head reads the logits of what follows it.
pub(crate) fn model(chain: &Chain) -> LanguageModel {
    let vocabulary: BTreeMap<&str, usize> = WORDS.iter().enumerate().map(|(id, word)| (*word, id)).collect();
    let special = |id: usize| {
        serde_json::json!({"id": id, "content": WORDS[id], "single_word": false, "lstrip": false, "rstrip": false,
                           "normalized": false, "special": true})
    };
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special(0), special(1)],
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    });
    let specials = BTreeMap::from([("eos_token".to_owned(), "<end>".to_owned())]);
    let decoder = DecoderConfig {
        intermediate_size: 16,
        max_positions: 64,
        tie_embeddings: false,
        ..DecoderConfig::llama(WORDS.len(), 8, 1, 2)
    };
    let files = ModelFiles::new_llama(&decoder, &tokenizer.to_string(), &specials, None).unwrap();
    let mut model = LanguageModel::random(files, &Arc::new(Cpu::new(1)), Dtype::F32, 1).unwrap();
    let mut axes = vec![0.0; 64];
    let mut head = vec![0.0; 64];
    for last in 0..8 {
        axes[last * 8 + last] = 1.0;
        for next in 0..8 {
            // The last norm makes √8 of the one entry of an axis.
            head[next * 8 + last] = (chain[last][next] / 8.0_f64.sqrt()) as f32;
        }
    }
    let params = &mut model.params;
    params.set("model.embed_tokens.weight", &axes).unwrap();
    params.set("lm_head.weight", &head).unwrap();
    // The block adds nothing.
    for silent in ["self_attn.o_proj", "mlp.down_proj"] {
        let name = format!("model.layers.0.{silent}.weight");
        let size = params.get(&name).unwrap().len();
        params.set(&name, &vec![0.0; size]).unwrap();
    }
    model
}

/// A reward by what it rewards.
#[derive(Clone, Debug)]
pub(crate) enum Planted {
    /// 1 if the token at a place is a word.
    One(usize, u32),
    /// A third of a point for each of three places with its word.
    Additive([(usize, u32); 3]),
    /// 1 if the halves of the words at two places differ.
    Xor(usize, usize),
    /// A tenth of a point a token.
    Length,
    /// 1 if most words are the given one.
    Majority(u32),
    /// 1, always.
    Constant,
    /// 1 or 0 by a coin.
    Coin,
}

impl Planted {
    /// Points of an answer; of a coin, its mean.
    pub(crate) fn points(&self, answer: &[u32]) -> f64 {
        let is = |place: usize, word: u32| answer.get(place) == Some(&word);
        let one = |yes: bool| f64::from(u8::from(yes));
        match self {
            Self::One(place, word) => one(is(*place, *word)),
            Self::Additive(parts) => parts.iter().map(|&(place, word)| one(is(place, word)) / 3.0).sum(),
            Self::Xor(a, b) => {
                let half = |place: usize| answer.get(place).is_some_and(|&word| word >= 4);
                one(half(*a) != half(*b))
            }
            Self::Length => answer.len() as f64 / 10.0,
            Self::Majority(word) => {
                one(2 * answer.iter().filter(|&token| token == word).count() > answer.len())
            }
            Self::Constant => 1.0,
            Self::Coin => 0.5,
        }
    }

    /// As a run has it.
    pub(crate) fn reward(&self, seed: u64) -> Reward {
        let own = self.clone();
        let mut coin = Rng::new(seed, Stream::Judge, 0, 0);
        let function = move |_: &Prompt, rollout: &Rollout| {
            Ok(Some(match own {
                Planted::Coin => f64::from(u8::from(coin.uniform() < 0.5)),
                _ => own.points(&rollout.tokens),
            }))
        };
        Reward { name: "planted".into(), weight: 1.0, source: Source::Function(Box::new(function)) }
    }
}

pub(crate) fn prompt() -> Prompt {
    Prompt { id: "0".into(), prompt: Text::Plain("ask".into()), columns: Map::new() }
}

/// An answer as a run keeps it.
pub(crate) fn scored(answer: &[u32], chain: &Chain, reward: f64) -> Scored {
    let before = std::iter::once(ASK).chain(answer.iter().copied());
    let logps = before.zip(answer).map(|(last, &next)| chain[last as usize][next as usize] as f32);
    let rollout = Rollout {
        prompt_id: "0".into(),
        prompt_index: 0,
        choice: 0,
        prompt_text: "ask".into(),
        prompt_tokens: vec![ASK],
        completion: answer.iter().map(|&id| WORDS[id as usize]).collect::<Vec<_>>().join(" "),
        tokens: answer.to_vec(),
        behaviour_logp: logps.collect(),
        finish: if answer.last() == Some(&END) { Finish::Eos } else { Finish::Length },
        seed: 0,
        policy_version: 0,
    };
    Scored { rollout, reward, parts: Vec::new() }
}

/// An answer of the chain.
pub(crate) fn answer(chain: &Chain, longest: usize, rng: &mut Rng) -> Vec<u32> {
    let mut answer: Vec<u32> = Vec::new();
    while answer.len() < longest && answer.last() != Some(&END) {
        let row = &chain[answer.last().copied().unwrap_or(ASK) as usize];
        let mut u = rng.uniform_f64();
        let next = (0..8).find(|&next| {
            u -= row[next].exp();
            u <= 0.0
        });
        answer.push(next.unwrap_or(2) as u32);
    }
    answer
}

/// E\[points | prefix\], over everything that can follow.
pub(crate) fn value(chain: &Chain, planted: &Planted, prefix: &mut Vec<u32>, longest: usize) -> f64 {
    if prefix.len() == longest || prefix.last() == Some(&END) {
        return planted.points(prefix);
    }
    let last = prefix.last().copied().unwrap_or(ASK) as usize;
    let mut sum = 0.0;
    for next in (0..8).filter(|&next| chain[last][next] > -20.0) {
        prefix.push(next as u32);
        sum += chain[last][next].exp() * value(chain, planted, prefix, longest);
        prefix.pop();
    }
    sum
}

/// V after each prefix of an answer, the empty one first.
pub(crate) fn values(chain: &Chain, planted: &Planted, answer: &[u32], longest: usize) -> Vec<f64> {
    (0..=answer.len()).map(|t| value(chain, planted, &mut answer[..t].to_vec(), longest)).collect()
}

/// E\[points\] when the tokens that are not kept are written anew from left to right; a run of them that ends early is left
/// short, and only the last run may end the answer.
fn coalition(
    chain: &Chain,
    planted: &Planted,
    answer: &[u32],
    kept: u32,
    longest: usize,
    (at, built): (usize, &mut Vec<u32>),
) -> f64 {
    if at == answer.len() {
        return planted.points(built);
    }
    if kept >> at & 1 == 1 {
        built.push(answer[at]);
        let v = coalition(chain, planted, answer, kept, longest, (at + 1, built));
        built.pop();
        return v;
    }
    // The run of tokens from here that are written anew, and what follows it.
    let next_kept = (at..answer.len()).find(|&t| kept >> t & 1 == 1);
    let Some(next_kept) = next_kept else {
        return value(chain, planted, built, longest);
    };
    let last = built.last().copied().unwrap_or(ASK) as usize;
    let mut sum = 0.0;
    for next in (0..8).filter(|&next| chain[last][next] > -20.0) {
        let p = chain[last][next].exp();
        sum += p * if next as u32 == END {
            coalition(chain, planted, answer, kept, longest, (next_kept, built))
        } else {
            built.push(next as u32);
            let v = coalition(chain, planted, answer, kept, longest, (at + 1, built));
            built.pop();
            v
        };
    }
    sum
}

/// The exact Shapley value of each token of an answer in the game of writing tokens anew.
pub(crate) fn shapley(chain: &Chain, planted: &Planted, answer: &[u32], longest: usize) -> Vec<f64> {
    let n = answer.len();
    let game: Vec<f64> = (0..1_u32 << n)
        .map(|kept| coalition(chain, planted, answer, kept, longest, (0, &mut Vec::new())))
        .collect();
    // 1 / (n · C(n − 1, s)) for a coalition of s others.
    let weight = |s: usize| {
        let binomial = (0..s).fold(1.0, |c, i| c * (n - 1 - i) as f64 / (i + 1) as f64);
        1.0 / (n as f64 * binomial)
    };
    (0..n)
        .map(|i| {
            let without = (0..1_usize << n).filter(|kept| kept >> i & 1 == 0);
            without.map(|kept| weight(kept.count_ones() as usize) * (game[kept | 1 << i] - game[kept])).sum()
        })
        .collect()
}

#[test]
fn the_decoder_has_the_chains_probabilities() {
    let mut rng = Rng::new(3, Stream::Insight, 0, 0);
    for habit in [Habit::Free, Habit::Sticky(0.9), Habit::Ending(0.12)] {
        let chain = chain(habit, &mut rng);
        let answer = answer(&chain, 10, &mut rng);
        let scored = scored(&answer, &chain, 0.0);
        let model = model(&chain);
        let logps =
            pavlov_insight::credit::log_probabilities(&model.decoder, &model.params, &[&scored.rollout], 1.0);
        for (a, b) in logps.unwrap()[0].iter().zip(&scored.rollout.behaviour_logp) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }
}

#[test]
fn shapley_values_of_a_token_and_of_xor() {
    let mut rng = Rng::new(4, Stream::Insight, 0, 0);
    let chain = chain(Habit::Free, &mut rng);
    let answer = answer(&chain, 6, &mut rng);
    for planted in [Planted::One(2, answer[2]), Planted::Xor(1, 4), Planted::Length] {
        let own = shapley(&chain, &planted, &answer, 6);
        let values = values(&chain, &planted, &answer, 6);
        assert!((own.iter().sum::<f64>() - (values[6] - values[0])).abs() < 1e-9, "efficiency");
        if let Planted::One(place, _) = planted {
            // Without memory beyond one token, only the token's own place earns.
            assert!(own[place] > 0.5 && own[place + 1].abs() < 1e-9);
        }
    }
}
