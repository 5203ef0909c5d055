//! The policy as a writer that can be resumed anywhere in its answer, and the reward of what it writes.

use std::collections::BTreeMap;
use std::ops::Range;

use pavlov_engine::{Control, SampleRequest, Sampled, Sampler, SamplingParams};
use pavlov_lm::{LanguageModel, Tokenizer};
use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::rollout::{Finish, Prompt, Rollout};
use pavlov_train::stage::score::{Reward, score};

use super::surrogate::Ablation;
use super::values::Node;
use crate::{Error, Result};

/// How often the answer itself is scored to see whether its reward is always the same.
const SAME_REWARD: usize = 16;

/// How the policy writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Writing {
    /// What logits are divided by, above 0.
    pub temperature: f32,
    /// Most tokens of an answer, its end token included.
    pub max_completion_length: usize,
    /// Answers written at the same time.
    pub batch: usize,
    /// Names the random numbers.
    pub seed: u64,
}

/// A policy, a prompt and a reward.
pub struct Writer<'a> {
    model: &'a LanguageModel,
    rewards: &'a mut [Reward],
    prompt: Prompt,
    tokens: Vec<u32>,
    writing: Writing,
    sampler: Sampler,
    stop: &'a dyn Fn() -> bool,
    /// Rewards of answers seen, while the reward is a function of the answer.
    known: Option<BTreeMap<Vec<u32>, f64>>,
    rounds: u64,
    /// Answers written so far.
    pub written: usize,
    /// Rewards asked for so far.
    pub asked: usize,
}

impl<'a> Writer<'a> {
    /// `tokens` are the prompt's, as the policy sees it. `stop` is asked after every token; where it says so, the work in
    /// hand ends with [`Error::Stopped`].
    pub fn new(
        model: &'a LanguageModel,
        rewards: &'a mut [Reward],
        prompt: Prompt,
        tokens: Vec<u32>,
        writing: Writing,
        stop: &'a dyn Fn() -> bool,
    ) -> Self {
        let sampler = Sampler::new(writing.batch);
        let known = Some(BTreeMap::new());
        Self {
            model,
            rewards,
            prompt,
            tokens,
            writing,
            sampler,
            stop,
            known,
            rounds: 0,
            written: 0,
            asked: 0,
        }
    }

    /// The policy's tokenizer.
    pub fn tokenizer(&self) -> &'a Tokenizer {
        &self.model.files.tokenizer
    }

    /// The rewards of the same answer asked for several times. If they differ, no reward is taken for known afterwards.
    pub fn reward_of(&mut self, answer: &[u32]) -> Result<Vec<f64>> {
        self.known = None;
        let rewards = self.rewards(&vec![answer.to_vec(); SAME_REWARD])?;
        #[allow(clippy::float_cmp, reason = "the same reward is the same number")]
        if rewards.iter().all(|&reward| reward == rewards[0]) {
            self.known = Some(BTreeMap::new());
        }
        Ok(rewards)
    }

    /// Whether the reward is a function of the answer, as far as [`Writer::reward_of`] saw.
    pub fn is_settled(&self) -> bool {
        self.known.is_some()
    }

    /// What continuations of prefixes of an answer earn, `n` in each of two independent sets.
    pub fn nodes(&mut self, answer: &[u32], places: &[usize], n: usize) -> Result<Vec<Node>> {
        let jobs: Vec<Vec<u32>> =
            places.iter().flat_map(|&at| std::iter::repeat_n(answer[..at].to_vec(), 2 * n)).collect();
        let limit = self.writing.max_completion_length;
        let whole = |job: &[u32]| job.len() >= limit || self.ends(job) || job.len() == answer.len();
        let open: Vec<usize> = (0..jobs.len()).filter(|&i| !whole(&jobs[i])).collect();
        let mut answers = jobs;
        let lengths: Vec<usize> = open.iter().map(|&i| limit - answers[i].len()).collect();
        let prefixes: Vec<&[u32]> = open.iter().map(|&i| answers[i].as_slice()).collect();
        let written = self.write(&prefixes, &lengths)?;
        for (i, more) in open.into_iter().zip(written) {
            answers[i].extend(more);
        }
        let rewards = self.rewards(&answers)?;
        let settled = self.is_settled();
        let node = |(&at, rewards): (&usize, &[f64])| Node {
            at,
            sets: [rewards[..n].to_vec(), rewards[n..].to_vec()],
            exact: settled && (at == answer.len() || self.ends(&answer[..at])),
        };
        Ok(places.iter().zip(rewards.chunks_exact(2 * n)).map(node).collect())
    }

    /// What the answer earns when the segments that a coalition does not keep are written anew, each at most as long as it
    /// was (the last as long as the policy likes), `draws` times. A segment that ends early is left short.
    pub fn ablate(
        &mut self,
        answer: &[u32],
        segments: &[Range<usize>],
        coalitions: Vec<Vec<bool>>,
        draws: usize,
    ) -> Result<Vec<Ablation>> {
        // (coalition, what is written so far, the next segment)
        let mut jobs: Vec<(usize, Vec<u32>, usize)> =
            (0..coalitions.len()).flat_map(|c| std::iter::repeat_n((c, Vec::new(), 0), draws)).collect();
        loop {
            let (mut open, mut lengths) = (Vec::new(), Vec::new());
            for (i, (c, built, next)) in jobs.iter_mut().enumerate() {
                let kept = &coalitions[*c];
                while *next < segments.len() && kept[*next] {
                    built.extend_from_slice(&answer[segments[*next].clone()]);
                    *next += 1;
                }
                let first = *next;
                while *next < segments.len() && !kept[*next] {
                    *next += 1;
                }
                if first < *next {
                    let last = *next == segments.len();
                    let room = self.writing.max_completion_length.saturating_sub(built.len());
                    open.push(i);
                    lengths.push(if last { room } else { segments[*next].start - segments[first].start });
                }
            }
            if open.is_empty() {
                break;
            }
            let prefixes: Vec<&[u32]> = open.iter().map(|&i| jobs[i].1.as_slice()).collect();
            let written = self.write(&prefixes, &lengths)?;
            for (i, mut more) in open.into_iter().zip(written) {
                if jobs[i].2 < segments.len() && self.ends(&more) {
                    more.pop();
                }
                jobs[i].1.extend(more);
            }
        }
        let answers: Vec<Vec<u32>> = jobs.into_iter().map(|(_, built, _)| built).collect();
        let rewards = self.rewards(&answers)?;
        let ablation = |(kept, rewards): (Vec<bool>, &[f64])| Ablation { kept, rewards: rewards.to_vec() };
        Ok(coalitions.into_iter().zip(rewards.chunks_exact(draws)).map(ablation).collect())
    }

    fn ends(&self, tokens: &[u32]) -> bool {
        tokens.last().is_some_and(|last| self.model.files.tokenizer.stops().contains(last))
    }

    /// Continues each prefix of an answer by at most so many tokens. Equal prefixes share their computation.
    fn write(&mut self, prefixes: &[&[u32]], lengths: &[usize]) -> Result<Vec<Vec<u32>>> {
        let mut groups: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
        for (job, prefix) in prefixes.iter().enumerate().filter(|(job, _)| lengths[*job] > 0) {
            groups.entry(prefix).or_default().push(job);
        }
        let jobs: Vec<Vec<usize>> = groups.values().cloned().collect();
        let requests: Vec<SampleRequest> = groups
            .iter()
            .enumerate()
            .map(|(i, (prefix, jobs))| SampleRequest {
                prompt: [&self.tokens, *prefix].concat(),
                n: jobs.len(),
                stream: i as u64,
            })
            .collect();
        let mut texts = vec![Vec::new(); prefixes.len()];
        let Some(&longest) = lengths.iter().max().filter(|&&longest| longest > 0) else {
            return Ok(texts);
        };
        let sampling = SamplingParams {
            temperature: self.writing.temperature,
            max_new_tokens: longest,
            stop_tokens: self.model.files.tokenizer.stops().to_vec(),
            ..SamplingParams::default()
        };
        let mut drawn = vec![0; prefixes.len()];
        let (mut stopped, stop) = (false, self.stop);
        let mut on_token = |request: usize, choice: usize, _: u32| {
            stopped |= stop();
            let job = jobs[request][choice];
            drawn[job] += 1;
            if stopped || drawn[job] >= lengths[job] { Control::Stop } else { Control::Continue }
        };
        // The sampler's stream is that of training; another seed keeps the two apart.
        let seed = Rng::new(self.writing.seed, Stream::Insight, 0, 0).next_u64();
        self.rounds += 1;
        let LanguageModel { decoder, params, .. } = self.model;
        let key = (seed, self.rounds);
        let sampled = self.sampler.run(decoder, params, &requests, &sampling, key, &mut on_token)?;
        if stopped {
            return Err(Error::Stopped);
        }
        for Sampled { request, choice, tokens, .. } in sampled {
            self.written += 1;
            texts[jobs[request][choice]] = tokens;
        }
        Ok(texts)
    }

    /// The reward of each answer, in reward points. A reward that is a function of the answer is asked once for each.
    fn rewards(&mut self, answers: &[Vec<u32>]) -> Result<Vec<f64>> {
        let Some(known) = &self.known else { return self.ask(answers) };
        let mut new: Vec<Vec<u32>> =
            answers.iter().filter(|answer| !known.contains_key(*answer)).cloned().collect();
        new.sort_unstable();
        new.dedup();
        let rewards = if new.is_empty() { Vec::new() } else { self.ask(&new)? };
        let known = self.known.get_or_insert_default();
        known.extend(new.into_iter().zip(rewards));
        Ok(answers.iter().map(|answer| known[answer]).collect())
    }

    fn ask(&mut self, answers: &[Vec<u32>]) -> Result<Vec<f64>> {
        if (self.stop)() {
            return Err(Error::Stopped);
        }
        let tokenizer = &self.model.files.tokenizer;
        let rollout = |tokens: &Vec<u32>| {
            Ok(Rollout {
                prompt_id: self.prompt.id.clone(),
                prompt_index: 0,
                choice: 0,
                prompt_text: String::new(),
                prompt_tokens: self.tokens.clone(),
                completion: tokenizer.decode(tokens, true)?,
                tokens: tokens.clone(),
                behaviour_logp: Vec::new(),
                finish: if self.ends(tokens) { Finish::Eos } else { Finish::Length },
                seed: self.writing.seed,
                policy_version: 0,
            })
        };
        let rollouts = answers.iter().map(rollout).collect::<Result<Vec<_>>>()?;
        self.asked += rollouts.len();
        let scored = score(self.rewards, std::slice::from_ref(&self.prompt), rollouts)?;
        Ok(scored.into_iter().map(|scored| scored.reward).collect())
    }
}
