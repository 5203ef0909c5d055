//! The same computations in the engine.

use std::path::Path;
use std::sync::Arc;

use pavlov_engine::{
    Activations, AdamW, AdamWConfig, Batch, Cpu, Dtype, OutputGradients, Outputs, Parameters, Target,
    clip_factor,
};
use pavlov_lm::{AdapterSource, LanguageModel, SaveDtype};
use safetensors::SafeTensors;

use crate::fixture::{Fixture, Kind, Tensors};

/// How the sequences are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A batch each; gradients accumulate.
    Alone,
    /// All in one forest, each its own tree.
    Packed,
    /// All in one forest; tokens that all sequences begin with are computed once.
    Shared,
}

/// Every layout.
pub(crate) const LAYOUTS: [Layout; 3] = [Layout::Alone, Layout::Packed, Layout::Shared];

/// A model, and its fixture's sequences as batches.
pub(crate) struct Run<'a> {
    fixture: &'a Fixture,
    pub(crate) model: LanguageModel,
    batches: Vec<Batch>,
    acts: Activations,
    pub(crate) grads: Parameters,
}

impl<'a> Run<'a> {
    pub(crate) fn new(fixture: &'a Fixture, layout: Layout, dtype: Dtype) -> Self {
        let backend = Arc::new(Cpu::new(2));
        let model = match fixture.base() {
            Some(base) => {
                let adapter = AdapterSource::Folder(&fixture.folder);
                LanguageModel::load_adapted(&base, &adapter, &backend, dtype).unwrap()
            }
            None => LanguageModel::load_on(&fixture.folder, &backend, dtype).unwrap(),
        };
        let grads = model.decoder.gradients();
        let mut run = Self { fixture, model, batches: Vec::new(), acts: Activations::new(false), grads };
        run.batches = run.lay_out(layout);
        run
    }

    fn lay_out(&self, layout: Layout) -> Vec<Batch> {
        let sequences = self.fixture.sequences();
        let shared = match layout {
            Layout::Shared => common_prefix(sequences),
            Layout::Alone | Layout::Packed => 0,
        };
        let mut batches = vec![Batch::new()];
        let mut parent = None;
        for (i, tokens) in sequences.iter().enumerate() {
            if i > 0 && layout == Layout::Alone {
                batches.push(Batch::new());
            }
            let batch = batches.last_mut().unwrap();
            if i == 0 && shared > 0 {
                parent = Some(batch.forest.push(None, &tokens[..shared]));
            }
            let segment = batch.forest.push(parent, &tokens[shared..]);
            match self.fixture.about.kind {
                Kind::Causal => drop(batch.score_segment(segment)),
                Kind::Reward => {
                    let row = batch.forest.row(segment, self.model.files.scored_position(tokens) - shared);
                    batch.reads.push(row as u32);
                }
            }
        }
        batches
    }

    /// Outputs of all sequences, one after another.
    pub(crate) fn forward(&mut self, temperature: f32) -> Outputs {
        let mut all = Outputs::default();
        for batch in &self.batches {
            let out =
                self.model.decoder.forward(&self.model.params, batch, temperature, &mut self.acts).unwrap();
            all.logp.extend(out.logp);
            all.entropy.extend(out.entropy);
            all.scalars.extend(out.scalars);
        }
        all
    }

    /// Log-probs of the whole vocabulary after the last token of each sequence.
    pub(crate) fn last_distributions(&mut self) -> Vec<Vec<f32>> {
        let vocabulary = 0..self.model.decoder.config().vocab_size as u32;
        let mut distribution = |tokens: &Vec<u32>| {
            let mut batch = Batch::new();
            let segment = batch.forest.push(None, tokens);
            let row = batch.forest.row(segment, tokens.len() - 1) as u32;
            batch.targets.extend(vocabulary.clone().map(|token| Target { row, token }));
            self.model.decoder.forward(&self.model.params, &batch, 1.0, &mut self.acts).unwrap().logp
        };
        self.fixture.sequences().iter().map(&mut distribution).collect()
    }

    /// What the last token of each sequence attends to in the last block, a mean over heads; with and without activations
    /// that are kept for a backward pass.
    pub(crate) fn last_attention(&self, recompute: bool) -> Vec<Vec<f32>> {
        let LanguageModel { decoder, params, .. } = &self.model;
        let mut acts = Activations::new(recompute);
        let mut all = Vec::new();
        for batch in &self.batches {
            decoder.forward(params, batch, 1.0, &mut acts).unwrap();
            // A segment that others continue ends no sequence.
            let segments = batch.forest.segments();
            let parents: Vec<usize> =
                segments.iter().filter_map(|s| s.parent).map(|p| batch.forest.segment(p).start).collect();
            let ends = segments.iter().filter(|s| !parents.contains(&s.start));
            let rows: Vec<u32> = ends.map(|s| (s.start + s.len - 1) as u32).collect();
            all.extend(decoder.last_attention(batch, &acts, &rows).unwrap());
        }
        all
    }

    /// Gradients of a loss that has these derivatives with respect to the outputs of all sequences.
    pub(crate) fn backward(&mut self, temperature: f32, derivatives: &OutputGradients) -> &Parameters {
        self.grads.zero();
        let (mut targets, mut reads) = (0, 0);
        let part = |all: &[f32], from: usize, len: usize| {
            if all.is_empty() { Vec::new() } else { all[from..from + len].to_vec() }
        };
        for batch in &self.batches {
            let (t, r) = (batch.targets.len(), batch.reads.len());
            let derivatives = OutputGradients {
                logp: part(&derivatives.logp, targets, t),
                entropy: part(&derivatives.entropy, targets, t),
                scalars: part(&derivatives.scalars, reads, r),
            };
            let LanguageModel { decoder, params, .. } = &self.model;
            decoder.forward(params, batch, temperature, &mut self.acts).unwrap();
            decoder
                .backward(params, batch, temperature, &derivatives, &mut self.acts, &mut self.grads)
                .unwrap();
            (targets, reads) = (targets + t, reads + r);
        }
        &self.grads
    }

    /// The fixture's loss and, in `self.grads`, its gradients.
    pub(crate) fn loss(&mut self) -> f64 {
        let outputs = self.forward(1.0);
        let (loss, derivatives) = loss_of(self.fixture.about.kind, &outputs);
        self.backward(1.0, &derivatives);
        loss
    }

    /// The fixture's AdamW steps: losses before each and gradient norms before clipping.
    pub(crate) fn optimize(&mut self) -> (Vec<f64>, Vec<f64>) {
        let o = self.fixture.about.optimizer.as_ref().unwrap();
        let [beta1, beta2] = o.betas;
        let config = AdamWConfig { beta1, beta2, eps: o.eps, weight_decay: o.weight_decay };
        let mut adamw = AdamW::new(&self.model.decoder, config);
        let mut step = |_: &f64| {
            let loss = self.loss();
            let norm = self.grads.global_norm();
            adamw.step(&mut self.model.params, &self.grads, o.lr, clip_factor(norm, o.max_grad_norm));
            (loss, norm)
        };
        o.losses.iter().map(&mut step).unzip()
    }

    /// Parameters, or gradients in their shapes, as the checkpoint of transformers or PEFT names and stores them.
    pub(crate) fn as_stored(&self, parameters: &Parameters) -> Tensors {
        let folder = tempfile::tempdir().unwrap();
        let get = |spec: &pavlov_engine::ParameterSpec| Ok(parameters.get(&spec.name)?);
        self.model.save_weights(folder.path(), SaveDtype::F32, &get).unwrap();
        let adapter = self.model.adapter.is_some();
        let file = if adapter { "adapter_model.safetensors" } else { "model.safetensors" };
        read_tensors(&folder.path().join(file))
    }
}

fn read_tensors(file: &Path) -> Tensors {
    let bytes = std::fs::read(file).unwrap();
    let floats =
        |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    SafeTensors::deserialize(&bytes)
        .unwrap()
        .iter()
        .map(|(name, t)| (name.to_owned(), floats(t.data())))
        .collect()
}

/// The loss of parity.py and its derivatives: -Σ log-prob / N, or -log σ(first score - second).
fn loss_of(kind: Kind, outputs: &Outputs) -> (f64, OutputGradients) {
    let mut derivatives = OutputGradients::default();
    let loss = match kind {
        Kind::Causal => {
            let n = outputs.logp.len();
            derivatives.logp = vec![-1.0 / n as f32; n];
            -outputs.logp.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64
        }
        Kind::Reward => {
            let margin = f64::from(outputs.scalars[0] - outputs.scalars[1]);
            let slope = -1.0 / (1.0 + margin.exp());
            derivatives.scalars = vec![slope as f32, -slope as f32];
            (-margin).exp().ln_1p()
        }
    };
    (loss, derivatives)
}

fn common_prefix(sequences: &[Vec<u32>]) -> usize {
    let shortest = sequences.iter().map(Vec::len).min().unwrap();
    (0..shortest).take_while(|i| sequences.iter().all(|s| s[*i] == sequences[0][*i])).count()
}
