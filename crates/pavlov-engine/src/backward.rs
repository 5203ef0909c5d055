//! The decoder's explicit backward pass.

use crate::activations::{Activations, HeadActivations};
use crate::backend::{AttentionSaved, Backend, LinearGradient, TableStorage};
use crate::config::NormKind;
use crate::decoder::{Decoder, OutputGradients, Stores};
use crate::forest::Batch;
use crate::intervention::{Intervention, Placed};
use crate::observe::Observed;
use crate::parameters::{NormIds, Parameters};
use crate::{Error, Result};

impl<B: Backend> Decoder<B> {
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
        self.backward_with(params, batch, temperature, gradients, &[], acts, grads, Observed::default())
    }

    /// As [`Decoder::backward`], through the interventions of the forward pass, and leaving what is asked for in
    /// `observed`.
    pub fn backward_with(
        &self,
        params: &Parameters<B>,
        batch: &Batch,
        temperature: f32,
        gradients: &OutputGradients,
        interventions: &[Intervention],
        acts: &mut Activations<B>,
        grads: &mut Parameters<B>,
        mut observed: Observed<'_, B>,
    ) -> Result<()> {
        self.check_gradients(batch, gradients, acts)?;
        let placed = Placed::in_batch(interventions, self.config(), batch.forest.positions())?;
        let (rows, layers, width) = (batch.forest.len(), self.config().num_layers, self.config().hidden_size);
        acts.fit_backward(self.backend(), self.config(), rows);
        if let Some(streams) = &mut observed.streams {
            streams.begin(&**self.backend(), layers, rows);
        }
        if let Some(examples) = &mut observed.examples {
            examples.begin(&acts.plan);
        }
        if let Some(factors) = &mut observed.factors {
            factors.begin();
        }
        self.heads_backward(params, temperature, gradients, acts, grads);
        for layer in (0..=layers).rev() {
            if layer < layers {
                // Nothing below the first block is trained where the embedding is frozen.
                let wanted = layer > 0 || observed.streams.is_some() || self.trains_below(grads);
                let positions = batch.forest.positions();
                self.block_backward(params, layer, positions, acts, grads, wanted, &mut observed);
            }
            let dx = &mut acts.backward.as_mut().expect("sized above").dx;
            if let Some(streams) = &mut observed.streams {
                streams.keep(&**self.backend(), layer, dx);
            }
            placed.apply_backward(&**self.backend(), width, layer, dx);
        }
        let dx = &acts.backward.as_ref().expect("sized above").dx;
        let (width, embed) = (self.config().hidden_size, self.ids.embed);
        let storage = grads.table_storage(embed);
        if let Some(dtable) = grads.trained_mut(embed) {
            self.backend().embed_backward(dtable, storage, batch.forest.tokens(), dx, width);
        }
        if let Some(dtable) = self.ids.positions.and_then(|table| grads.trained_mut(table)) {
            let positions = batch.forest.positions();
            self.backend().embed_backward(dtable, TableStorage::Rows, positions, dx, width);
        }
        grads.settle();
        observed.all_seen()
    }

    /// Whether anything is trained that the first block's input derivative reaches.
    fn trains_below(&self, grads: &Parameters<B>) -> bool {
        let below = [Some(self.ids.embed), self.ids.positions, Some(self.ids.blocks[0].norm1.weight)];
        below.into_iter().flatten().any(|index| grads.is_trained(index))
    }

    fn check_gradients(
        &self,
        batch: &Batch,
        gradients: &OutputGradients,
        acts: &Activations<B>,
    ) -> Result<()> {
        let (n, m) = (batch.targets.len(), batch.reads.len() * self.config().scalar_outputs);
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
        let (backend, width) = (&**self.backend(), self.config().hidden_size);
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
        let (backend, width) = (&**self.backend(), self.config().hidden_size);
        backend.resize(&mut head.dgathered, head.rows.len() * width);
        let norm = params.norm(self.ids.norm, self.config().norm, self.config().norm_eps);
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
        self.backend().norm_backward_parameters(dweight, dbias, dy, x, stats);
    }

    /// One block backwards: `acts.backward.dx` holds the derivative of the stream after it, then, if that is wanted, of
    /// the stream before.
    fn block_backward(
        &self,
        params: &Parameters<B>,
        layer: usize,
        positions: &[u32],
        acts: &mut Activations<B>,
        grads: &mut Parameters<B>,
        wanted: bool,
        observed: &mut Observed<'_, B>,
    ) {
        let (backend, config, ids) = (&**self.backend(), self.config(), &self.ids.blocks[layer]);
        let rows = positions.len();
        let Activations { recompute, halved, plan, streams, blocks, shared, backward, .. } = acts;
        let (shared, b) = (shared.as_mut().expect("after forward"), backward.as_mut().expect("sized"));
        let input = &streams[layer];
        let block = &mut blocks[if *recompute { 0 } else { layer }];
        if *recompute {
            self.block(params, layer, input, None, block, shared, positions, plan, Stores::Batch);
        }
        if *halved {
            block.borrow(shared, backend, true);
        }
        // The feed-forward half: stream = mid + down(act(gate(n), up(n))), n = norm2(mid).
        let norm2 = params.norm(ids.norm2, config.norm, config.norm_eps);
        backend.norm(&mut shared.normed, &mut block.stats2, &block.mid, &norm2);
        backend.activate(
            &mut shared.act,
            config.activation,
            ids.gate.map(|_| &block.wide.gate),
            &block.wide.up,
        );
        if let (true, Some(lora)) = (*recompute, ids.down.lora) {
            self.lower(params, lora, &mut block.low, &shared.act, rows);
        }
        let low = (&block.low, &mut b.dlow);
        let down = [(ids.down, &b.dx)];
        self.linear_backward(params, grads, &shared.act, &down, Some(&mut b.dact), low, rows, observed);
        let gate = ids.gate.map(|_| &mut block.wide.gate);
        backend.activate_backward(&b.dact, config.activation, gate, &mut block.wide.up);
        let low = (&block.low, &mut b.dlow);
        let mut layers = vec![(ids.up, &block.wide.up)];
        layers.extend(ids.gate.map(|gate| (gate, &block.wide.gate)));
        self.linear_backward(
            params,
            grads,
            &shared.normed,
            &layers,
            Some(&mut b.dnormed),
            low,
            rows,
            observed,
        );
        self.norm_parameters(ids.norm2, grads, &b.dnormed, &block.mid, &block.stats2);
        backend.norm_backward(&mut b.dx, &b.dnormed, &block.mid, &block.stats2, &norm2, true);
        // The attention half: mid = stream + o(attention(n)), n = norm1(stream).
        let low = (&block.low, &mut b.dlow);
        let o = [(ids.o, &b.dx)];
        self.linear_backward(params, grads, &block.wide.out, &o, Some(&mut b.dout), low, rows, observed);
        let width = config.kv_width();
        backend.resize(&mut shared.key_store, plan.slots * width);
        backend.resize(&mut shared.value_store, plan.slots * width);
        backend.store_keys(&mut shared.key_store, width, &block.wide.k, plan);
        backend.store_keys(&mut shared.value_store, width, &block.wide.v, plan);
        let saved = AttentionSaved {
            q: &block.wide.q,
            k: &block.wide.k,
            key_store: &shared.key_store,
            value_store: &shared.value_store,
            out: &block.wide.out,
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
            observed,
        );
        if wanted {
            self.norm_parameters(ids.norm1, grads, &b.dnormed, input, &block.stats1);
            backend.norm_backward(&mut b.dx, &b.dnormed, input, &block.stats1, &norm1, true);
        }
        if *halved {
            block.give_back(shared, backend, false);
        }
    }
}
