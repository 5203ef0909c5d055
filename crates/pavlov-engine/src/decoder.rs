//! The decoder: an explicit forward and an explicit backward pass over a packed forest.

use crate::activations::{Activations, BlockActivations, HeadActivations, Shared};
use crate::backend::{AttentionSaved, AttentionShape, Backend, Linear, LinearGradient, Score, TableStorage};
use crate::cache::KvCache;
use crate::config::{DecoderConfig, NormKind, ParameterSpec, Position};
use crate::cpu::Cpu;
use crate::forest::Batch;
use crate::lora::Lora;
use crate::parameters::{NormIds, ParameterIds, Parameters, Table};
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

    /// Scores the batch's targets under the distributions softmax(logits / temperature) and reads its scalar heads.
    pub fn forward(
        &self,
        params: &Parameters<B>,
        batch: &Batch,
        temperature: f32,
        acts: &mut Activations<B>,
    ) -> Result<Outputs> {
        self.check(batch, temperature)?;
        let (rows, layers) = (batch.forest.len(), self.config.num_layers);
        let positions = batch.forest.positions().iter().max().map_or(0, |p| *p as usize + 1);
        let kept = if acts.recompute { 1 } else { layers };
        acts.plan.of_forest(&batch.forest);
        acts.fit(&self.backend, &self.config, rows, [kept, layers + 1], positions);
        let Activations {
            recompute,
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
        self.embed(params, &mut streams[0], batch.forest.tokens(), batch.forest.positions());
        for layer in 0..layers {
            let (before, after) = streams.split_at_mut(layer + 1);
            let block = &mut blocks[if *recompute { 0 } else { layer }];
            let input = &before[layer];
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

    fn attention_shape(&self, layer: usize) -> AttentionShape {
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
        let (q, k) = if ids.qk_norms.is_some() { (raw_q, raw_k) } else { (&mut block.q, &mut block.k) };
        let mut layers = [(ids.q, q), (ids.k, k), (ids.v, &mut block.v)];
        self.linear(params, &shared.normed, &mut layers, &mut block.low, rows);
        if let Some(norms) = ids.qk_norms {
            let norm = |i: usize| params.norm(norms[i], NormKind::Rms, config.norm_eps);
            backend.norm(&mut block.q, &mut block.raw_stats[0], &block.raw[0], &norm(0));
            backend.norm(&mut block.k, &mut block.raw_stats[1], &block.raw[1], &norm(1));
        }
        self.rotate(&mut block.q, config.query_width(), positions, &shared.rotary, false);
        self.rotate(&mut block.k, config.kv_width(), positions, &shared.rotary, false);
        let shape = self.attention_shape(layer);
        let width = config.kv_width();
        match stores {
            Stores::Batch => {
                backend.resize(&mut shared.key_store, plan.slots * width);
                backend.store_keys(&mut shared.key_store, width, &block.k, plan);
                backend.attention(
                    &mut block.out,
                    &mut block.lse,
                    &block.q,
                    &shared.key_store,
                    &block.v,
                    shape,
                    plan,
                );
            }
            Stores::Cache { keys, values } => {
                backend.store_keys(keys, width, &block.k, plan);
                backend.store_values(values, (width, config.head_dim), &block.v, plan);
                backend.attention(&mut block.out, &mut block.lse, &block.q, keys, values, shape, plan);
            }
        }
        self.linear(params, &block.out, &mut [(ids.o, &mut block.mid)], &mut block.low, rows);
        backend.add(&mut block.mid, input);
        let norm2 = params.norm(ids.norm2, config.norm, config.norm_eps);
        backend.norm(&mut shared.normed, &mut block.stats2, &block.mid, &norm2);
        let mut layers: Vec<_> = ids.gate.map(|gate| (gate, &mut block.gate)).into_iter().collect();
        layers.push((ids.up, &mut block.up));
        self.linear(params, &shared.normed, &mut layers, &mut block.low, rows);
        if let Some(output) = output {
            backend.activate(&mut shared.act, config.activation, ids.gate.map(|_| &block.gate), &block.up);
            self.linear(params, &shared.act, &mut [(ids.down, &mut *output)], &mut block.low, rows);
            backend.add(output, &block.mid);
        }
    }

    fn rotate(&self, x: &mut B::Buffer, width: usize, positions: &[u32], table: &B::Buffer, inverse: bool) {
        if matches!(self.config.position, Position::Rotary { .. }) {
            self.backend.rotary(x, width, self.config.head_dim, positions, table, inverse);
        }
    }

    /// Adds the derivatives of a loss to `grads`, given its derivatives with respect to the outputs of the forward pass
    /// that last used `acts`, which must have been over the same batch and temperature.
    pub fn backward(
        &self,
        params: &Parameters<B>,
        batch: &Batch,
        temperature: f32,
        gradients: &OutputGradients,
        acts: &mut Activations<B>,
        grads: &mut Parameters<B>,
    ) -> Result<()> {
        self.check_gradients(batch, gradients, acts)?;
        let rows = batch.forest.len();
        acts.fit_backward(&self.backend, &self.config, rows);
        self.heads_backward(params, temperature, gradients, acts, grads);
        for layer in (0..self.config.num_layers).rev() {
            self.block_backward(params, layer, batch.forest.positions(), acts, grads);
        }
        let dx = &acts.backward.as_ref().expect("sized above").dx;
        let (width, embed) = (self.config.hidden_size, self.ids.embed);
        let storage = grads.table_storage(embed);
        if let Some(dtable) = grads.trained_mut(embed) {
            self.backend.embed_backward(dtable, storage, batch.forest.tokens(), dx, width);
        }
        if let Some(dtable) = self.ids.positions.and_then(|table| grads.trained_mut(table)) {
            let positions = batch.forest.positions();
            self.backend.embed_backward(dtable, TableStorage::Rows, positions, dx, width);
        }
        grads.settle();
        Ok(())
    }

    fn check_gradients(
        &self,
        batch: &Batch,
        gradients: &OutputGradients,
        acts: &Activations<B>,
    ) -> Result<()> {
        let (n, m) = (batch.targets.len(), batch.reads.len() * self.config.scalar_outputs);
        let fits = |len: usize, needed: usize| len == 0 || len == needed;
        if gradients.logp.len() != n || !fits(gradients.entropy.len(), n) || !fits(gradients.scalars.len(), m)
        {
            return Err(Error::Batch(format!(
                "derivatives of {} log-probs, {} entropies and {} scalars for {n} targets and {m} scalars",
                gradients.logp.len(),
                gradients.entropy.len(),
                gradients.scalars.len()
            )));
        }
        if acts.scores.len() != n || acts.plan.items.len() != batch.forest.segments().len() {
            return Err(Error::Batch("backward follows the forward pass of another batch".into()));
        }
        let all = gradients.logp.iter().chain(&gradients.entropy).chain(&gradients.scalars);
        match all.enumerate().find(|(_, x)| !x.is_finite()) {
            Some((i, x)) => Err(Error::NotFinite {
                what: format!("the loss's derivative ({x})"),
                at: format!(" at output {i}"),
            }),
            None => Ok(()),
        }
    }

    /// From the derivatives of the outputs to the derivative of the last residual stream.
    fn heads_backward(
        &self,
        params: &Parameters<B>,
        temperature: f32,
        gradients: &OutputGradients,
        acts: &mut Activations<B>,
        grads: &mut Parameters<B>,
    ) {
        let (backend, width) = (&*self.backend, self.config.hidden_size);
        let Activations { backward, targets, reads, target_tokens, scores, .. } = acts;
        let dx = &mut backward.as_mut().expect("sized by fit_backward").dx;
        backend.fill_zero(dx);
        let zeros;
        let dentropy = if gradients.entropy.is_empty() {
            zeros = vec![0.0; gradients.logp.len()];
            &zeros
        } else {
            &gradients.entropy
        };
        if let (Some(head), Some(id), false) = (targets, self.ids.head, scores.is_empty()) {
            backend.resize(&mut head.dnormed, head.rows.len() * width);
            let weight = params.weight(id);
            let dweight = grads.matrix_gradient(id);
            let derivatives = [&gradients.logp[..], &dentropy[..]];
            backend.score_backward(
                &mut head.dnormed,
                dweight,
                scores,
                &head.normed,
                weight,
                target_tokens,
                derivatives,
                1.0 / temperature,
            );
            self.gather_backward(params, head, dx, grads);
        }
        if let (Some(head), Some(id), false) = (reads, self.ids.score, gradients.scalars.is_empty()) {
            backend.upload(&mut head.doutputs, &gradients.scalars);
            backend.resize(&mut head.dnormed, head.rows.len() * width);
            let (weight, rows) = (params.weight(id), head.rows.len());
            let layer = LinearGradient { dy: &head.doutputs, weight, dweight: grads.matrix_gradient(id) };
            backend.linear_backward(&head.normed, rows, &mut [layer], Some((&mut head.dnormed, false)));
            self.gather_backward(params, head, dx, grads);
        }
    }

    fn gather_backward(
        &self,
        params: &Parameters<B>,
        head: &mut HeadActivations<B>,
        dx: &mut B::Buffer,
        grads: &mut Parameters<B>,
    ) {
        let (backend, width) = (&*self.backend, self.config.hidden_size);
        backend.resize(&mut head.dgathered, head.rows.len() * width);
        let norm = params.norm(self.ids.norm, self.config.norm, self.config.norm_eps);
        backend.norm_backward(&mut head.dgathered, &head.dnormed, &head.gathered, &head.stats, &norm, false);
        self.norm_parameters(self.ids.norm, grads, &head.dnormed, &head.gathered, &head.stats);
        backend.embed_backward(dx, TableStorage::Rows, &head.rows, &head.dgathered, width);
    }

    fn norm_parameters(
        &self,
        ids: NormIds,
        grads: &mut Parameters<B>,
        dy: &B::Buffer,
        x: &B::Buffer,
        stats: &B::Buffer,
    ) {
        let (dweight, dbias) = match ids.bias {
            // A norm is trained as a whole or not at all.
            Some(bias) if grads.is_trained(ids.weight) => {
                let (w, b) = grads.pair_mut(ids.weight, bias);
                (w, Some(b))
            }
            _ => match grads.trained_mut(ids.weight) {
                Some(dweight) => (dweight, None),
                None => return,
            },
        };
        self.backend.norm_backward_parameters(dweight, dbias, dy, x, stats);
    }

    /// One block backwards: `acts.backward.dx` holds the derivative of the stream after it, then of the stream before.
    fn block_backward(
        &self,
        params: &Parameters<B>,
        layer: usize,
        positions: &[u32],
        acts: &mut Activations<B>,
        grads: &mut Parameters<B>,
    ) {
        let (backend, config, ids) = (&*self.backend, &self.config, &self.ids.blocks[layer]);
        let rows = positions.len();
        let Activations { recompute, plan, streams, blocks, shared, backward, .. } = acts;
        let (shared, b) = (shared.as_mut().expect("after forward"), backward.as_mut().expect("sized"));
        let input = &streams[layer];
        let block = &mut blocks[if *recompute { 0 } else { layer }];
        if *recompute {
            self.block(params, layer, input, None, block, shared, positions, plan, Stores::Batch);
        }
        // The feed-forward half: stream = mid + down(act(gate(n), up(n))), n = norm2(mid).
        let norm2 = params.norm(ids.norm2, config.norm, config.norm_eps);
        backend.norm(&mut shared.normed, &mut block.stats2, &block.mid, &norm2);
        backend.activate(&mut shared.act, config.activation, ids.gate.map(|_| &block.gate), &block.up);
        if let (true, Some(lora)) = (*recompute, ids.down.lora) {
            self.lower(params, lora, &mut block.low, &shared.act, rows);
        }
        let low = (&block.low, &mut b.dlow);
        let down = [(ids.down, &b.dx)];
        self.linear_backward(params, grads, &shared.act, &down, Some(&mut b.dact), low, rows);
        let gate = ids.gate.map(|_| &mut block.gate);
        backend.activate_backward(&b.dact, config.activation, gate, &mut block.up);
        let low = (&block.low, &mut b.dlow);
        let mut layers = vec![(ids.up, &block.up)];
        layers.extend(ids.gate.map(|gate| (gate, &block.gate)));
        self.linear_backward(params, grads, &shared.normed, &layers, Some(&mut b.dnormed), low, rows);
        self.norm_parameters(ids.norm2, grads, &b.dnormed, &block.mid, &block.stats2);
        backend.norm_backward(&mut b.dx, &b.dnormed, &block.mid, &block.stats2, &norm2, true);
        // The attention half: mid = stream + o(attention(n)), n = norm1(stream).
        let low = (&block.low, &mut b.dlow);
        self.linear_backward(params, grads, &block.out, &[(ids.o, &b.dx)], Some(&mut b.dout), low, rows);
        let width = config.kv_width();
        backend.resize(&mut shared.key_store, plan.slots * width);
        backend.resize(&mut shared.value_store, plan.slots * width);
        backend.store_keys(&mut shared.key_store, width, &block.k, plan);
        backend.store_keys(&mut shared.value_store, width, &block.v, plan);
        let saved = AttentionSaved {
            q: &block.q,
            k: &block.k,
            key_store: &shared.key_store,
            value_store: &shared.value_store,
            out: &block.out,
            lse: &block.lse,
        };
        let shape = self.attention_shape(layer);
        backend.attention_backward([&mut b.dq, &mut b.dk, &mut b.dv], &b.dout, &saved, shape, plan);
        self.rotate(&mut b.dq, config.query_width(), positions, &shared.rotary, true);
        self.rotate(&mut b.dk, config.kv_width(), positions, &shared.rotary, true);
        if let Some(norms) = ids.qk_norms {
            for (i, (d, id)) in [&mut b.dq, &mut b.dk].into_iter().zip(norms).enumerate() {
                let norm = params.norm(id, NormKind::Rms, config.norm_eps);
                self.norm_parameters(id, grads, d, &block.raw[i], &block.raw_stats[i]);
                backend.norm_backward(&mut b.draw[i], d, &block.raw[i], &block.raw_stats[i], &norm, false);
                std::mem::swap(d, &mut b.draw[i]);
            }
        }
        let norm1 = params.norm(ids.norm1, config.norm, config.norm_eps);
        backend.norm(&mut shared.normed, &mut block.stats1, input, &norm1);
        // Nothing below the first block is trained where the embedding is frozen.
        let below = [Some(self.ids.embed), self.ids.positions, Some(ids.norm1.weight)];
        let wanted = layer > 0 || below.into_iter().flatten().any(|index| grads.is_trained(index));
        let layers = [(ids.q, &b.dq), (ids.k, &b.dk), (ids.v, &b.dv)];
        let low = (&block.low, &mut b.dlow);
        self.linear_backward(
            params,
            grads,
            &shared.normed,
            &layers,
            wanted.then_some(&mut b.dnormed),
            low,
            rows,
        );
        if wanted {
            self.norm_parameters(ids.norm1, grads, &b.dnormed, input, &block.stats1);
            backend.norm_backward(&mut b.dx, &b.dnormed, input, &block.stats1, &norm1, true);
        }
    }

    /// Extends the sequences of a cache by the plan's queries and leaves the logits of `rows` in the returned buffer,
    /// \[rows, vocabulary\].
    pub(crate) fn extend<'a>(
        &self,
        params: &Parameters<B>,
        cache: &mut KvCache<B>,
        tokens: &[u32],
        positions: &[u32],
        plan: &AttentionPlan,
        rows: &[u32],
        acts: &'a mut Activations<B>,
    ) -> &'a B::Buffer {
        let reach = positions.iter().max().map_or(0, |p| *p as usize + 1);
        acts.fit(&self.backend, &self.config, tokens.len(), [1, 2], reach);
        let Activations { streams, blocks, shared, targets, .. } = acts;
        let shared = shared.as_mut().expect("sized by fit");
        let [first, second, ..] = &mut streams[..] else { unreachable!("fit makes two streams") };
        self.embed(params, first, tokens, positions);
        for layer in 0..self.config.num_layers {
            let (keys, values) = cache.layer(layer);
            let stores = Stores::Cache { keys, values };
            self.block(params, layer, first, Some(second), &mut blocks[0], shared, positions, plan, stores);
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
