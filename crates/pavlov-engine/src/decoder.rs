//! The decoder: an explicit forward and an explicit backward pass over a packed forest.

use crate::activations::{Activations, BlockActivations, HeadActivations, Shared};
use crate::backend::{AttentionShape, Backend, Linear, Score, TableStorage};
use crate::cache::KvCache;
use crate::config::{DecoderConfig, NormKind, ParameterSpec, Position};
use crate::cpu::Cpu;
use crate::forest::Batch;
use crate::intervention::{Intervention, Placed};
use crate::lora::Lora;
use crate::parameters::{Dtype, ParameterIds, Parameters, Table};
use crate::plan::AttentionPlan;
use crate::{Error, Result};
use std::sync::Arc;

/// What a forward pass gives to a loss.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// Log-probability of each target, nats.
    pub logp: Vec<f32>,
    /// Entropy of the distribution that each target was scored under, nats.
    pub entropy: Vec<f32>,
    /// Whether each target is the most probable token.
    pub correct: Vec<bool>,
    /// Scalar heads, \[reads, scalar_outputs\].
    pub scalars: Vec<f32>,
}

/// Derivatives of a loss with respect to [`Outputs`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputGradients {
    /// Per target.
    pub logp: Vec<f32>,
    /// Per target; empty for all zeros.
    pub entropy: Vec<f32>,
    /// \[reads, scalar_outputs\]; empty for all zeros.
    pub scalars: Vec<f32>,
}

/// A decoder of one configuration on one device; it holds no weights.
pub struct Decoder<B: Backend = Cpu> {
    backend: Arc<B>,
    config: DecoderConfig,
    adapter: Option<Lora>,
    specs: Vec<ParameterSpec>,
    pub(crate) ids: ParameterIds,
}

/// Where a block's keys and values go, and come from.
pub(crate) enum Stores<'a, B: Backend> {
    /// A training batch: its own activations.
    Batch,
    /// A sampler's cache, of this layer.
    Cache {
        /// Keys by slot.
        keys: &'a mut B::Buffer,
        /// Values by row.
        values: &'a mut B::Buffer,
    },
}

impl<B: Backend> Decoder<B> {
    /// A decoder of a valid configuration.
    pub fn new(backend: Arc<B>, config: DecoderConfig) -> Result<Self> {
        config.validate()?;
        let specs = config.parameters();
        let ids = ParameterIds::of(&config, &specs, None);
        Ok(Self { backend, config, adapter: None, specs, ids })
    }

    /// This decoder, frozen, with an adapter that is trained in its place.
    pub fn with_adapter(self, lora: Lora) -> Result<Self> {
        let specs = lora.parameters(&self.config)?;
        let ids = ParameterIds::of(&self.config, &specs, Some(&lora));
        Ok(Self { adapter: Some(lora), specs, ids, ..self })
    }

    /// This decoder with nothing to train.
    pub fn frozen(self) -> Result<Self> {
        self.with_adapter(Lora::default())
    }

    /// The decoder that computes from the same parameters as if there were no adapter: what it was before training, but
    /// for parameters that are trained whole.
    #[must_use]
    pub fn without_adapter(&self) -> Self {
        let specs = self.config.parameters();
        let ids = ParameterIds::of(&self.config, &specs, None);
        Self { backend: Arc::clone(&self.backend), config: self.config.clone(), adapter: None, specs, ids }
    }

    /// This decoder with an adapter that differs in its scales alone.
    pub(crate) fn regated(&self, lora: Lora) -> Result<Self> {
        let backend = Arc::clone(&self.backend);
        Self::new(backend, self.config.clone())?.with_adapter(lora)
    }

    /// Its adapter.
    pub fn adapter(&self) -> Option<&Lora> {
        self.adapter.as_ref()
    }

    /// Its parameters in their fixed order: those of the configuration, then those of the adapter.
    pub fn parameters(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// Its configuration.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Its device.
    pub fn backend(&self) -> &Arc<B> {
        &self.backend
    }

    /// Zeros in the shape of the trainable parameters.
    pub fn gradients(&self) -> Parameters<B> {
        Parameters::gradients(self)
    }

    /// Room for no gradient at all, for a backward pass that is only observed.
    pub fn no_gradients(&self) -> Parameters<B> {
        Parameters::nothing(self)
    }

    /// Scores the batch's targets under the distributions softmax(logits / temperature) and reads its scalar heads.
    pub fn forward(
        &self,
        params: &Parameters<B>,
        batch: &Batch,
        temperature: f32,
        acts: &mut Activations<B>,
    ) -> Result<Outputs> {
        self.forward_with(params, batch, temperature, &[], acts)
    }

    /// As [`Decoder::forward`], with changes of the residual stream, made in their order. An error names one that would
    /// change nothing.
    pub fn forward_with(
        &self,
        params: &Parameters<B>,
        batch: &Batch,
        temperature: f32,
        interventions: &[Intervention],
        acts: &mut Activations<B>,
    ) -> Result<Outputs> {
        self.check(batch, temperature)?;
        let placed = Placed::in_batch(interventions, &self.config, batch.forest.positions())?;
        let (rows, layers) = (batch.forest.len(), self.config.num_layers);
        let positions = batch.forest.positions().iter().max().map_or(0, |p| *p as usize + 1);
        let kept = if acts.recompute { 1 } else { layers };
        acts.plan.of_forest(&batch.forest);
        acts.halved = !acts.recompute && params.dtype() == Dtype::Bf16;
        acts.fit(&self.backend, &self.config, rows, [kept, layers + 1], positions);
        let Activations {
            recompute,
            halved,
            plan,
            streams,
            blocks,
            shared,
            targets,
            reads,
            target_tokens,
            scores,
            ..
        } = acts;
        let shared = shared.as_mut().expect("sized by fit");
        let width = self.config.hidden_size;
        self.embed(params, &mut streams[0], batch.forest.tokens(), batch.forest.positions());
        placed.apply(&*self.backend, width, 0, &mut streams[0]);
        for layer in 0..layers {
            let (before, after) = streams.split_at_mut(layer + 1);
            let block = &mut blocks[if *recompute { 0 } else { layer }];
            let input = &before[layer];
            if *halved {
                block.borrow(shared, &self.backend, false);
            }
            self.block(
                params,
                layer,
                input,
                Some(&mut after[0]),
                block,
                shared,
                batch.forest.positions(),
                plan,
                Stores::Batch,
            );
            if *halved {
                block.give_back(shared, &self.backend, true);
            }
            placed.apply(&*self.backend, width, layer + 1, &mut after[0]);
        }
        let last = &streams[layers];
        let mut outputs = Outputs::default();
        let head = HeadActivations::of(targets, &self.backend);
        head.rows.clear();
        head.rows.extend(batch.targets.iter().map(|t| t.row));
        target_tokens.clear();
        target_tokens.extend(batch.targets.iter().map(|t| t.token));
        scores.clear();
        if !batch.targets.is_empty() {
            self.gather(params, last, head);
            scores.resize(batch.targets.len(), Score::default());
            let weight = params.weight(self.ids.head.expect("checked"));
            self.backend.score(scores, &head.normed, weight, target_tokens, 1.0 / temperature);
            collect_scores(scores, batch, &mut outputs)?;
        }
        let head = HeadActivations::of(reads, &self.backend);
        head.rows.clear();
        head.rows.extend_from_slice(&batch.reads);
        if !batch.reads.is_empty() {
            self.gather(params, last, head);
            let weight = params.weight(self.ids.score.expect("checked"));
            self.backend.resize(&mut head.outputs, head.rows.len() * self.config.scalar_outputs);
            let layer = Linear { y: &mut head.outputs, weight, bias: None, accumulate: false };
            self.backend.linear(&head.normed, head.rows.len(), &mut [layer]);
            self.backend.download(&mut outputs.scalars, &head.outputs);
            if let Some(i) = outputs.scalars.iter().position(|x| !x.is_finite()) {
                let row = batch.reads[i / self.config.scalar_outputs];
                return Err(Error::NotFinite {
                    what: "a scalar output".into(),
                    at: format!(" at row {row}"),
                });
            }
        }
        Ok(outputs)
    }

    fn check(&self, batch: &Batch, temperature: f32) -> Result<()> {
        batch.validate(self.config.vocab_size, self.config.max_positions)?;
        if !batch.targets.is_empty() && self.ids.head.is_none() {
            return Err(Error::Batch("targets are scored, but the decoder has no language head".into()));
        }
        if !batch.reads.is_empty() && self.ids.score.is_none() {
            return Err(Error::Batch("scalars are read, but the decoder has no scalar head".into()));
        }
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(Error::Sampling(format!("temperature is {temperature}; scoring needs one above 0")));
        }
        Ok(())
    }

    pub(crate) fn embed(&self, params: &Parameters<B>, x: &mut B::Buffer, tokens: &[u32], positions: &[u32]) {
        let mut embed = |table: usize, ids: &[u32], accumulate: bool| {
            let width = self.config.hidden_size;
            match params.table(table) {
                Table::Values(values, storage) => {
                    self.backend.embed(x, values, storage, ids, width, accumulate);
                }
                Table::Half(half) => self.backend.embed_half(x, half, ids, width, accumulate),
            }
        };
        embed(self.ids.embed, tokens, false);
        if let Some(table) = self.ids.positions {
            embed(table, positions, true);
        }
    }

    /// head.normed = norm(last\[head.rows\]).
    pub(crate) fn gather(&self, params: &Parameters<B>, last: &B::Buffer, head: &mut HeadActivations<B>) {
        let (backend, width, rows) = (&self.backend, self.config.hidden_size, head.rows.len());
        backend.resize(&mut head.gathered, rows * width);
        backend.resize(&mut head.normed, rows * width);
        backend.resize(&mut head.stats, 2 * rows);
        backend.embed(&mut head.gathered, last, TableStorage::Rows, &head.rows, width, false);
        let norm = params.norm(self.ids.norm, self.config.norm, self.config.norm_eps);
        backend.norm(&mut head.normed, &mut head.stats, &head.gathered, &norm);
    }

    pub(crate) fn attention_shape(&self, layer: usize) -> AttentionShape {
        let DecoderConfig { num_heads, num_kv_heads, head_dim, .. } = self.config;
        let window = self.config.windows[layer];
        AttentionShape { heads: num_heads, kv_heads: num_kv_heads, head_dim, window }
    }

    /// One block, from the residual stream before it to the one after it; without an `output` only what the backward
    /// pass needs is computed.
    pub(crate) fn block(
        &self,
        params: &Parameters<B>,
        layer: usize,
        input: &B::Buffer,
        output: Option<&mut B::Buffer>,
        block: &mut BlockActivations<B>,
        shared: &mut Shared<B>,
        positions: &[u32],
        plan: &AttentionPlan,
        stores: Stores<'_, B>,
    ) {
        let (backend, config, ids) = (&*self.backend, &self.config, &self.ids.blocks[layer]);
        let rows = positions.len();
        let norm1 = params.norm(ids.norm1, config.norm, config.norm_eps);
        backend.norm(&mut shared.normed, &mut block.stats1, input, &norm1);
        let [raw_q, raw_k] = &mut block.raw;
        let (q, k) =
            if ids.qk_norms.is_some() { (raw_q, raw_k) } else { (&mut block.wide.q, &mut block.wide.k) };
        let mut layers = [(ids.q, q), (ids.k, k), (ids.v, &mut block.wide.v)];
        self.linear(params, &shared.normed, &mut layers, &mut block.low, rows);
        if let Some(norms) = ids.qk_norms {
            let norm = |i: usize| params.norm(norms[i], NormKind::Rms, config.norm_eps);
            backend.norm(&mut block.wide.q, &mut block.raw_stats[0], &block.raw[0], &norm(0));
            backend.norm(&mut block.wide.k, &mut block.raw_stats[1], &block.raw[1], &norm(1));
        }
        self.rotate(&mut block.wide.q, config.query_width(), positions, &shared.rotary, false);
        self.rotate(&mut block.wide.k, config.kv_width(), positions, &shared.rotary, false);
        let shape = self.attention_shape(layer);
        let width = config.kv_width();
        match stores {
            Stores::Batch => {
                backend.resize(&mut shared.key_store, plan.slots * width);
                backend.store_keys(&mut shared.key_store, width, &block.wide.k, plan);
                backend.attention(
                    &mut block.wide.out,
                    &mut block.lse,
                    &block.wide.q,
                    &shared.key_store,
                    &block.wide.v,
                    shape,
                    plan,
                );
            }
            Stores::Cache { keys, values } => {
                backend.store_keys(keys, width, &block.wide.k, plan);
                backend.store_values(values, (width, config.head_dim), &block.wide.v, plan);
                backend.attention(
                    &mut block.wide.out,
                    &mut block.lse,
                    &block.wide.q,
                    keys,
                    values,
                    shape,
                    plan,
                );
            }
        }
        self.linear(params, &block.wide.out, &mut [(ids.o, &mut block.mid)], &mut block.low, rows);
        backend.add(&mut block.mid, input);
        let norm2 = params.norm(ids.norm2, config.norm, config.norm_eps);
        backend.norm(&mut shared.normed, &mut block.stats2, &block.mid, &norm2);
        let mut layers: Vec<_> = ids.gate.map(|gate| (gate, &mut block.wide.gate)).into_iter().collect();
        layers.push((ids.up, &mut block.wide.up));
        self.linear(params, &shared.normed, &mut layers, &mut block.low, rows);
        if let Some(output) = output {
            backend.activate(
                &mut shared.act,
                config.activation,
                ids.gate.map(|_| &block.wide.gate),
                &block.wide.up,
            );
            self.linear(params, &shared.act, &mut [(ids.down, &mut *output)], &mut block.low, rows);
            backend.add(output, &block.mid);
        }
    }

    pub(crate) fn rotate(
        &self,
        x: &mut B::Buffer,
        width: usize,
        positions: &[u32],
        table: &B::Buffer,
        inverse: bool,
    ) {
        if matches!(self.config.position, Position::Rotary { .. }) {
            self.backend.rotary(x, width, self.config.head_dim, positions, table, inverse);
        }
    }

    /// Extends the sequences of a cache by the plan's queries, with interventions, and leaves the logits of `rows` in the returned buffer,
    /// \[rows, vocabulary\].
    pub(crate) fn extend<'a>(
        &self,
        params: &Parameters<B>,
        cache: &mut KvCache<B>,
        tokens: &[u32],
        positions: &[u32],
        plan: &AttentionPlan,
        rows: &[u32],
        placed: &Placed<'_>,
        acts: &'a mut Activations<B>,
    ) -> &'a B::Buffer {
        let width = self.config.hidden_size;
        let reach = positions.iter().max().map_or(0, |p| *p as usize + 1);
        acts.halved = false;
        acts.fit(&self.backend, &self.config, tokens.len(), [1, 2], reach);
        let Activations { streams, blocks, shared, targets, .. } = acts;
        let shared = shared.as_mut().expect("sized by fit");
        let [first, second, ..] = &mut streams[..] else { unreachable!("fit makes two streams") };
        self.embed(params, first, tokens, positions);
        placed.apply(&*self.backend, width, 0, first);
        for layer in 0..self.config.num_layers {
            let (keys, values) = cache.layer(layer);
            let stores = Stores::Cache { keys, values };
            self.block(params, layer, first, Some(second), &mut blocks[0], shared, positions, plan, stores);
            placed.apply(&*self.backend, width, layer + 1, second);
            std::mem::swap(first, second);
        }
        let head = HeadActivations::of(targets, &self.backend);
        head.rows.clear();
        head.rows.extend_from_slice(rows);
        self.gather(params, first, head);
        let weight = params.weight(self.ids.head.expect("a sampler checks for a language head"));
        self.backend.resize(&mut head.outputs, rows.len() * self.config.vocab_size);
        let layer = Linear { y: &mut head.outputs, weight, bias: None, accumulate: false };
        self.backend.linear(&head.normed, rows.len(), &mut [layer]);
        &head.outputs
    }
}

fn collect_scores(scores: &[Score], batch: &Batch, outputs: &mut Outputs) -> Result<()> {
    for (i, score) in scores.iter().enumerate() {
        if !score.logp.is_finite() || !score.entropy.is_finite() {
            let target = batch.targets[i];
            return Err(Error::NotFinite {
                what: format!("the log-probability of token {}", target.token),
                at: format!(" at row {} (target {i})", target.row),
            });
        }
        outputs.logp.push(score.logp);
        outputs.entropy.push(score.entropy);
        outputs.correct.push(score.correct);
    }
    Ok(())
}
