//! Batched sampling with a key-value cache: prompts are shared by their answers, and a finished answer's place goes to
//! the next at once (continuous batching).

use super::SamplingParams;
use super::distribution::draw;
use crate::activations::Activations;
use crate::backend::Backend;
use crate::cache::{KvCache, Regions};
use crate::cpu::Cpu;
use crate::decoder::Decoder;
use crate::intervention::{Intervention, Placed, all_fired};
use crate::parameters::Parameters;
use crate::plan::{AttentionPlan, Item, SLOT_ALIGN, Span};
use crate::profile::{Operation, Work};
use crate::{Error, Result};
use pavlov_schema::rng::{Rng, Stream};
use std::collections::VecDeque;

/// Prompt tokens computed together at most, so that admitting prompts needs bounded memory.
const PREFILL: usize = 2048;

/// One prompt and how many answers it gets.
#[derive(Clone, Debug)]
pub struct SampleRequest {
    /// Its tokens.
    pub prompt: Vec<u32>,
    /// Answers.
    pub n: usize,
    /// Names the random numbers of this prompt: answer i of stream s has the same text whatever else is sampled.
    pub stream: u64,
}

/// Whether the sampler goes on with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Draw the next token.
    Continue,
    /// End this answer here.
    Stop,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It drew a stop token, its last token.
    Stop,
    /// It reached the limit of tokens or of the context.
    Length,
    /// The caller ended it.
    Callback,
}

/// One sampled answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Index of its request.
    pub request: usize,
    /// Index among the request's answers.
    pub choice: usize,
    /// Its tokens, the stop token included.
    pub tokens: Vec<u32>,
    /// Log-probability of each token under the distribution it was drawn from, nats (0 when greedy).
    pub logps: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

/// A sampler and its memory.
pub struct Sampler<B: Backend = Cpu> {
    max_batch: usize,
    cache: KvCache<B>,
    acts: Activations<B>,
}

/// A prompt whose keys are in the cache.
struct Prompt {
    slot: usize,
    len: usize,
    /// Answers not yet finished, waiting ones included.
    pending: usize,
    /// Logits after its last token.
    logits: Vec<f32>,
}

struct Live {
    request: usize,
    choice: usize,
    slot: usize,
    limit: usize,
    rng: Rng,
    tokens: Vec<u32>,
    logps: Vec<f32>,
}

/// The state of one call.
struct Run<'a, B: Backend> {
    decoder: &'a Decoder<B>,
    params: &'a Parameters<B>,
    requests: &'a [SampleRequest],
    sampling: &'a SamplingParams,
    interventions: &'a [Intervention],
    /// Which of them changed something.
    fired: Vec<bool>,
    regions: Regions,
    prompts: Vec<Option<Prompt>>,
    waiting: VecDeque<(usize, usize)>,
    live: Vec<Live>,
    done: Vec<Sampled>,
    plan: AttentionPlan,
    tokens: Vec<u32>,
    positions: Vec<u32>,
    rows: Vec<u32>,
    logits: Vec<f32>,
}

/// Called with (request, choice, token) after every drawn token, the stop token included.
type OnToken<'a> = dyn FnMut(usize, usize, u32) -> Control + 'a;

impl<B: Backend> Sampler<B> {
    /// A sampler that decodes up to `max_batch` answers at a time.
    pub fn new(max_batch: usize) -> Self {
        Self { max_batch: max_batch.max(1), cache: KvCache::new(), acts: Activations::new(true) }
    }

    /// Samples every request and returns the answers ordered by (request, choice). Random numbers are keyed by `seed`,
    /// `step`, the request's stream, the choice and the token's index.
    pub fn run(
        &mut self,
        decoder: &Decoder<B>,
        params: &Parameters<B>,
        requests: &[SampleRequest],
        sampling: &SamplingParams,
        (seed, step): (u64, u64),
        on_token: &mut OnToken<'_>,
    ) -> Result<Vec<Sampled>> {
        self.run_with(decoder, params, requests, sampling, (seed, step), &[], on_token)
    }

    /// As [`Sampler::run`], with changes of the residual stream, made in their order at the positions of each sequence,
    /// prompt and answer, that they name. An error names one that changed nothing.
    pub fn run_with(
        &mut self,
        decoder: &Decoder<B>,
        params: &Parameters<B>,
        requests: &[SampleRequest],
        sampling: &SamplingParams,
        (seed, step): (u64, u64),
        interventions: &[Intervention],
        on_token: &mut OnToken<'_>,
    ) -> Result<Vec<Sampled>> {
        sampling.validate()?;
        check_requests(decoder, requests, sampling)?;
        decoder.check_sampled(interventions)?;
        let mut run = Run::new(decoder, params, requests, sampling, interventions, self.max_batch);
        self.cache.fit(decoder.backend(), decoder.config(), run.regions_needed(self.max_batch));
        run.regions = Regions::new(run.regions_needed(self.max_batch));
        while !run.waiting.is_empty() || !run.live.is_empty() {
            let admitted = run.admit(self.max_batch, (seed, step), &mut self.cache, &mut self.acts)?;
            run.first_tokens(admitted, on_token);
            run.decode(&mut self.cache, &mut self.acts, on_token)?;
        }
        all_fired(interventions, &run.fired)?;
        run.done.sort_by_key(|s| (s.request, s.choice));
        Ok(run.done)
    }
}

fn check_requests<B: Backend>(
    decoder: &Decoder<B>,
    requests: &[SampleRequest],
    sampling: &SamplingParams,
) -> Result<()> {
    let config = decoder.config();
    if !config.language_head {
        return Err(Error::Sampling("this decoder has no language head".into()));
    }
    if let Some(token) = sampling.stop_tokens.iter().find(|t| **t as usize >= config.vocab_size) {
        return Err(Error::Sampling(format!(
            "stop token {token} is outside the vocabulary of {}",
            config.vocab_size
        )));
    }
    for (i, request) in requests.iter().enumerate() {
        if request.prompt.is_empty() {
            return Err(Error::Sampling(format!("prompt {i} is empty")));
        }
        if request.prompt.len() >= config.max_positions {
            return Err(Error::Sampling(format!(
                "prompt {i} has {} tokens; the context of {} leaves no room for an answer",
                request.prompt.len(),
                config.max_positions
            )));
        }
        if let Some(token) = request.prompt.iter().find(|t| **t as usize >= config.vocab_size) {
            return Err(Error::Sampling(format!("prompt {i}: token {token} is outside the vocabulary")));
        }
    }
    Ok(())
}

impl<'a, B: Backend> Run<'a, B> {
    fn new(
        decoder: &'a Decoder<B>,
        params: &'a Parameters<B>,
        requests: &'a [SampleRequest],
        sampling: &'a SamplingParams,
        interventions: &'a [Intervention],
        max_batch: usize,
    ) -> Self {
        Self {
            decoder,
            params,
            requests,
            sampling,
            interventions,
            fired: vec![false; interventions.len()],
            regions: Regions::new(0),
            prompts: requests.iter().map(|_| None).collect(),
            waiting: requests.iter().enumerate().flat_map(|(r, q)| (0..q.n).map(move |c| (r, c))).collect(),
            live: Vec::with_capacity(max_batch),
            done: Vec::new(),
            plan: AttentionPlan::default(),
            tokens: Vec::new(),
            positions: Vec::new(),
            rows: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// Tokens that an answer to a request may have.
    fn limit(&self, request: usize) -> usize {
        let room = self.decoder.config().max_positions - self.requests[request].prompt.len();
        self.sampling.max_new_tokens.min(room)
    }

    /// Slots for `max_batch` answers and as many prompts of the longest kinds.
    fn regions_needed(&self, max_batch: usize) -> usize {
        let batch = max_batch.min(self.waiting.len());
        let answer = (0..self.requests.len()).map(|r| self.limit(r)).max().unwrap_or(0);
        let prompt = self.requests.iter().map(|r| r.prompt.len()).max().unwrap_or(0);
        let prompts = batch.min(self.requests.len());
        batch * answer.next_multiple_of(SLOT_ALIGN) + prompts * prompt.next_multiple_of(SLOT_ALIGN)
    }

    /// Gives free places to waiting answers, computing their prompts; returns how many live answers are new.
    fn admit(
        &mut self,
        max_batch: usize,
        (seed, step): (u64, u64),
        cache: &mut KvCache<B>,
        acts: &mut Activations<B>,
    ) -> Result<usize> {
        let old = self.live.len();
        let mut fresh: Vec<usize> = Vec::new();
        let mut fresh_tokens = 0;
        while self.live.len() < max_batch {
            let Some(&(request, choice)) = self.waiting.front() else { break };
            let source = &self.requests[request];
            if self.prompts[request].is_none() {
                if !fresh.is_empty() && fresh_tokens + source.prompt.len() > PREFILL {
                    break;
                }
                let Some(slot) = self.regions.take(source.prompt.len()) else { break };
                let (len, pending) = (source.prompt.len(), source.n);
                self.prompts[request] = Some(Prompt { slot, len, pending, logits: Vec::new() });
                fresh.push(request);
                fresh_tokens += len;
            }
            let limit = self.limit(request);
            let Some(slot) = self.regions.take(limit) else { break };
            let index = (source.stream << 20) + choice as u64;
            let rng = Rng::new(seed, Stream::Rollout, step, index);
            self.live.push(Live { request, choice, slot, limit, rng, tokens: Vec::new(), logps: Vec::new() });
            self.waiting.pop_front();
        }
        if !fresh.is_empty() {
            self.prefill(&fresh, cache, acts)?;
        }
        Ok(self.live.len() - old)
    }

    fn prefill(&mut self, fresh: &[usize], cache: &mut KvCache<B>, acts: &mut Activations<B>) -> Result<()> {
        self.clear();
        for &request in fresh {
            let prompt = &self.requests[request].prompt;
            let slot = self.prompts[request].as_ref().map_or(0, |p| p.slot);
            let own = Span { slot, row: slot, len: prompt.len(), position: 0 };
            self.plan.items.push(Item {
                query: self.tokens.len(),
                len: prompt.len(),
                context: 0..0,
                own,
                offset: 0,
            });
            self.tokens.extend_from_slice(prompt);
            self.positions.extend(0..prompt.len() as u32);
            self.rows.push(self.tokens.len() as u32 - 1);
        }
        self.extend(cache, acts);
        let width = self.decoder.config().vocab_size;
        for (&request, row) in fresh.iter().zip(self.logits.chunks_exact(width)) {
            if let Some(at) = row.iter().position(|z| !z.is_finite()) {
                return Err(not_finite(request, 0, at));
            }
            if let Some(prompt) = &mut self.prompts[request] {
                prompt.logits = row.to_vec();
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.plan.clear();
        self.plan.cached = true;
        self.tokens.clear();
        self.positions.clear();
        self.rows.clear();
    }

    /// Computes the planned rows; their logits come to `self.logits`.
    fn extend(&mut self, cache: &mut KvCache<B>, acts: &mut Activations<B>) {
        let (tokens, positions) = (&self.tokens, &self.positions);
        let placed = Placed::at(self.interventions, positions);
        placed.note(&mut self.fired);
        let (plan, rows) = (&self.plan, &self.rows);
        let logits = self.decoder.extend(self.params, cache, tokens, positions, plan, rows, &placed, acts);
        self.decoder.backend().download(&mut self.logits, logits);
    }

    /// The first token of the newest `count` answers, from the logits of their prompts.
    fn first_tokens(&mut self, count: usize, on_token: &mut OnToken<'_>) {
        let old = self.live.len() - count;
        let mut scratch = Vec::new();
        for index in (old..self.live.len()).rev() {
            let prompt = self.prompts[self.live[index].request].as_ref().expect("admitted with its prompt");
            scratch.clear();
            scratch.extend_from_slice(&prompt.logits);
            self.take_token(index, &mut scratch, on_token);
        }
    }

    /// Draws the next token of a live answer; a finished answer leaves its place to the last one.
    fn take_token(&mut self, index: usize, logits: &mut [f32], on_token: &mut OnToken<'_>) {
        let live = &mut self.live[index];
        let history = self.requests[live.request].prompt.iter().chain(&live.tokens).copied();
        let timer = self.decoder.backend().profile().time(Operation::Draw, || Work::floats(logits.len()));
        let (token, logp) = draw(logits, self.sampling, history, &mut live.rng);
        drop(timer);
        live.tokens.push(token);
        live.logps.push(logp);
        let control = on_token(live.request, live.choice, token);
        let finish = if self.sampling.stop_tokens.contains(&token) {
            Some(Finish::Stop)
        } else if control == Control::Stop {
            Some(Finish::Callback)
        } else if live.tokens.len() == live.limit {
            Some(Finish::Length)
        } else {
            None
        };
        if let Some(finish) = finish {
            let Live { request, choice, slot, limit, tokens, logps, .. } = self.live.swap_remove(index);
            self.regions.give(slot, limit);
            if let Some(prompt) = &mut self.prompts[request] {
                prompt.pending -= 1;
                if prompt.pending == 0 {
                    self.regions.give(prompt.slot, prompt.len);
                    self.prompts[request] = None;
                }
            }
            self.done.push(Sampled { request, choice, tokens, logps, finish });
        }
    }

    /// One more token for every live answer.
    fn decode(
        &mut self,
        cache: &mut KvCache<B>,
        acts: &mut Activations<B>,
        on_token: &mut OnToken<'_>,
    ) -> Result<()> {
        if self.live.is_empty() {
            return Ok(());
        }
        self.clear();
        for (row, live) in self.live.iter().enumerate() {
            let prompt = self.prompts[live.request].as_ref().expect("a live answer keeps its prompt");
            let (first, offset) = (self.plan.spans.len(), live.tokens.len() - 1);
            self.plan.spans.push(Span { slot: prompt.slot, row: prompt.slot, len: prompt.len, position: 0 });
            let own = Span { slot: live.slot, row: live.slot, len: live.limit, position: prompt.len };
            self.plan.items.push(Item { query: row, len: 1, context: first..first + 1, own, offset });
            self.tokens.push(live.tokens[offset]);
            self.positions.push((prompt.len + offset) as u32);
            self.rows.push(row as u32);
        }
        self.extend(cache, acts);
        let width = self.decoder.config().vocab_size;
        for (live, row) in self.live.iter().zip(self.logits.chunks_exact(width)) {
            if let Some(at) = row.iter().position(|z| !z.is_finite()) {
                return Err(not_finite(live.request, live.tokens.len(), at));
            }
        }
        let mut logits = std::mem::take(&mut self.logits);
        for index in (0..self.live.len()).rev() {
            self.take_token(index, &mut logits[index * width..][..width], on_token);
        }
        self.logits = logits;
        Ok(())
    }
}

fn not_finite(request: usize, token: usize, at: usize) -> Error {
    Error::NotFinite {
        what: format!("the logit of token id {at}"),
        at: format!(" for token {token} of the answer to prompt {request}"),
    }
}
