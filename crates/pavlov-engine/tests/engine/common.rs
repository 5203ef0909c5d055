//! Small decoders of every shape, with informative random weights.

use pavlov_engine::{
    Activation, Activations, Batch, Cpu, Decoder, DecoderConfig, Dtype, Isa, Llama3Scaling, Lora, LoraTarget,
    NormKind, OutputGradients, Outputs, ParameterKind, Parameters, Position,
};
use pavlov_schema::rng::{Rng, Stream};
use std::sync::Arc;

/// Sizes are odd on purpose: no panel, lane or block is whole.
fn base() -> DecoderConfig {
    DecoderConfig {
        intermediate_size: 37,
        num_kv_heads: 2,
        head_dim: 6,
        max_positions: 400,
        ..DecoderConfig::llama(71, 20, 2, 4)
    }
}

/// What a model is made of: a configuration, and an adapter if it is not trained whole.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) config: DecoderConfig,
    pub(crate) lora: Option<Lora>,
}

impl std::ops::Deref for Shape {
    type Target = DecoderConfig;

    fn deref(&self) -> &DecoderConfig {
        &self.config
    }
}

impl std::ops::DerefMut for Shape {
    fn deref_mut(&mut self) -> &mut DecoderConfig {
        &mut self.config
    }
}

/// Every shape of decoder, trained whole and by an adapter.
pub(crate) fn families() -> Vec<(&'static str, Shape)> {
    let whole = configs().into_iter().map(|(name, config)| (name, Shape { config, lora: None }));
    whole.chain(adapted()).collect()
}

/// Decoders with adapters: on every linear layer, on some, and with parts of a fused projection sharing an A.
pub(crate) fn adapted() -> Vec<(&'static str, Shape)> {
    let configs = configs();
    let with = |name: &str, targets: &[&[&str]], whole: &[&str]| {
        let (_, config) = configs.iter().find(|(n, _)| *n == name).unwrap().clone();
        let targets =
            (0..config.num_layers).flat_map(|layer| targets.iter().map(move |group| (layer, group)));
        let target = |(i, (layer, group)): (usize, (usize, &&[&str]))| LoraTarget {
            modules: group.iter().map(|name| format!("model.layers.{layer}.{name}")).collect(),
            rank: 2 + i % 3,
            scale: 0.75,
        };
        let targets = targets.enumerate().map(target).collect();
        Shape { config, lora: Some(Lora { targets, whole: whole.iter().map(|&s| s.into()).collect() }) }
    };
    let [q, k, v, o] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"];
    let [gate, up, down] = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
    let each: [&[&str]; 7] = [&[q], &[k], &[v], &[o], &[gate], &[up], &[down]];
    vec![
        ("llama, adapter", with("llama", &each, &[])),
        ("llama tied, adapter on q and v", with("llama 3 scaled, tied", &[&[q], &[v]], &[])),
        ("qwen2, adapter on down", with("qwen2", &[&[down]], &[])),
        ("qwen3, adapter", with("qwen3", &each, &[])),
        ("gpt2, fused adapter", with("gpt2", &[&[q, k, v], &[o], &[up], &[down]], &[])),
        ("scalar head, adapter", with("scalar head", &each, &["score.weight"])),
    ]
}

/// One configuration for each switch, by name.
fn configs() -> Vec<(&'static str, DecoderConfig)> {
    let scaling = Llama3Scaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_positions: 64,
    };
    vec![
        ("llama", base()),
        (
            "llama 3 scaled, tied",
            DecoderConfig {
                tie_embeddings: true,
                position: Position::Rotary { theta: 500.0, scaling: Some(scaling) },
                ..base()
            },
        ),
        ("window, one kv head", DecoderConfig { windows: vec![Some(3), None], num_kv_heads: 1, ..base() }),
        ("qwen2", DecoderConfig { attention_bias: true, ..base() }),
        ("qwen3", DecoderConfig { qk_norm: true, head_dim: 8, ..base() }),
        (
            "gpt2",
            DecoderConfig {
                norm: NormKind::Layer,
                position: Position::Learned,
                activation: Activation::GeluTanh,
                gated_mlp: false,
                attention_bias: true,
                output_bias: true,
                mlp_bias: true,
                tie_embeddings: true,
                num_kv_heads: 4,
                head_dim: 5,
                ..base()
            },
        ),
        ("both heads", DecoderConfig { scalar_outputs: 3, num_heads: 2, num_kv_heads: 2, ..base() }),
        (
            "scalar head",
            DecoderConfig { scalar_outputs: 1, language_head: false, tie_embeddings: true, ..base() },
        ),
    ]
}

pub(crate) struct Model {
    pub(crate) decoder: Decoder,
    pub(crate) params: Parameters,
}

/// A model with weights large enough that every part matters.
pub(crate) fn model(shape: &Shape, threads: usize, isa: Isa, dtype: Dtype) -> Model {
    let decoder = Decoder::new(Arc::new(Cpu::with_isa(threads, isa)), shape.config.clone()).unwrap();
    let decoder = match &shape.lora {
        Some(lora) => decoder.with_adapter(lora.clone()).unwrap(),
        None => decoder,
    };
    let mut params = Parameters::zeros(&decoder, dtype);
    let specs: Vec<_> = params.specs().cloned().collect();
    for (i, spec) in specs.iter().enumerate() {
        let mut rng = Rng::new(5, Stream::Init, 1, i as u64);
        let norm = spec.kind == ParameterKind::Vector && spec.name.ends_with("weight");
        let data: Vec<f32> =
            (0..spec.len()).map(|_| if norm { 1.0 } else { 0.0 } + 0.25 * rng.normal()).collect();
        params.set(&spec.name, &data).unwrap();
    }
    Model { decoder, params }
}

pub(crate) fn plain(shape: &Shape) -> Model {
    model(shape, 2, Isa::detect(), Dtype::F32)
}

pub(crate) fn tokens(rng: &mut Rng, n: usize, vocab: usize) -> Vec<u32> {
    (0..n).map(|_| rng.below(vocab) as u32).collect()
}

/// Two trees: a prompt with three answers, one of them continued, and a lone sequence; long enough to cross the blocks
/// of keys. Scores all tokens that can be scored and reads some rows, as far as the configuration has the heads.
pub(crate) fn forest(config: &DecoderConfig) -> Batch {
    let mut rng = Rng::new(9, Stream::Data, 0, 0);
    let mut batch = Batch::new();
    let mut push = |parent, n| {
        let ids = tokens(&mut rng, n, config.vocab_size);
        batch.forest.push(parent, &ids)
    };
    let prompt = push(None, 133);
    let lone = push(None, 9);
    let a = push(Some(prompt), 5);
    let b = push(Some(prompt), 1);
    let c = push(Some(prompt), 12);
    let d = push(Some(a), 4);
    for id in [prompt, lone, a, b, c, d] {
        if config.language_head {
            batch.score_segment(id);
        }
        if config.scalar_outputs > 0 {
            let segment = batch.forest.segment(id);
            batch.reads.push((segment.start + segment.len - 1) as u32);
        }
    }
    batch
}

/// A loss with derivatives of every output: Σ a·logp + b·entropy + c·scalar with fixed random coefficients.
pub(crate) fn coefficients(outputs: &Outputs) -> OutputGradients {
    let mut rng = Rng::new(13, Stream::Data, 0, 0);
    let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
    OutputGradients {
        logp: draw(outputs.logp.len()),
        entropy: draw(outputs.entropy.len()),
        scalars: draw(outputs.scalars.len()),
    }
}

pub(crate) fn loss(outputs: &Outputs, coefficients: &OutputGradients) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(&outputs.logp, &coefficients.logp)
        + dot(&outputs.entropy, &coefficients.entropy)
        + dot(&outputs.scalars, &coefficients.scalars)
}

pub(crate) const TEMPERATURE: f32 = 0.8;

/// Outputs and the gradient of every trainable parameter, by name.
pub(crate) fn run(model: &Model, batch: &Batch, recompute: bool) -> (Outputs, Vec<(String, Vec<f32>)>) {
    let mut acts = Activations::new(recompute);
    let outputs = model.decoder.forward(&model.params, batch, TEMPERATURE, &mut acts).unwrap();
    let mut grads = model.decoder.gradients();
    let d = coefficients(&outputs);
    model.decoder.backward(&model.params, batch, TEMPERATURE, &d, &mut acts, &mut grads).unwrap();
    let named = grads.specs().map(|s| (s.name.clone(), grads.get(&s.name).unwrap())).collect();
    (outputs, named)
}

/// Largest difference relative to the largest element.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(0.0_f32, |m, x| m.max(x.abs())).max(1e-12);
    a.iter().zip(b).map(|(x, y)| f64::from((x - y).abs()) / f64::from(largest)).fold(0.0, f64::max)
}
