//! Adapters: what they leave alone, what they change, and what they hold.

use crate::common::*;
use pavlov_engine::{
    Activations, AdamW, AdamWConfig, Decoder, Dtype, Isa, Lora, LoraTarget, Outputs, Parameters,
};
use std::sync::Arc;

fn outputs(decoder: &Decoder, params: &Parameters, shape: &Shape) -> Outputs {
    decoder.forward(params, &forest(shape), TEMPERATURE, &mut Activations::new(false)).unwrap()
}

/// The same model without its adapter, trained whole.
fn base(shape: &Shape, from: &Model, dtype: Dtype) -> Model {
    let shape = Shape { lora: None, ..shape.clone() };
    let mut base = model(&shape, 2, Isa::detect(), dtype);
    let names: Vec<String> = base.params.specs().map(|spec| spec.name.clone()).collect();
    for name in names {
        base.params.set(&name, &from.params.get(&name).unwrap()).unwrap();
    }
    base
}

/// Sets every B to zero.
fn silence(model: &mut Model) {
    let zeros: Vec<_> = model.params.specs().filter(|s| s.name.ends_with("lora_B.weight")).cloned().collect();
    for spec in zeros {
        model.params.set(&spec.name, &vec![0.0; spec.len()]).unwrap();
    }
}

/// An adapter whose B is zero changes no bit, and without its adapter a decoder is its base bit for bit, trained or not.
/// In bf16 the base has weights that bf16 holds exactly: those of the frozen one, read back.
#[test]
fn a_silent_adapter_is_the_base_bit_for_bit() {
    for (name, shape) in adapted() {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let mut adapted = model(&shape, 2, Isa::detect(), dtype);
            let base = base(&shape, &adapted, dtype);
            let expected = outputs(&base.decoder, &base.params, &shape);
            let trained = outputs(&adapted.decoder, &adapted.params, &shape);
            assert_ne!(trained, expected, "{name} {dtype:?}: the adapter must show");
            let bare = adapted.decoder.without_adapter();
            assert_eq!(outputs(&bare, &adapted.params, &shape), expected, "{name} {dtype:?}: switched off");
            silence(&mut adapted);
            assert_eq!(
                outputs(&adapted.decoder, &adapted.params, &shape),
                expected,
                "{name} {dtype:?}: silent"
            );
        }
    }
}

/// As PEFT begins: A uniform within 1/√in, B zero.
#[test]
fn a_new_adapter_is_silent() {
    for (name, shape) in adapted() {
        let mut adapted = plain(&shape);
        adapted.params.init_those(7, |spec| spec.trainable && spec.name.contains("lora"));
        let base = base(&shape, &adapted, Dtype::F32);
        let expected = outputs(&base.decoder, &base.params, &shape);
        assert_eq!(outputs(&adapted.decoder, &adapted.params, &shape), expected, "{name}");
        for spec in adapted.params.specs().filter(|spec| spec.name.ends_with("lora_A.weight")) {
            let a = adapted.params.get(&spec.name).unwrap();
            let bound = 1.0 / (spec.cols as f32).sqrt();
            let largest = a.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
            assert!(largest < bound && largest > 0.8 * bound, "{name}: {} reaches {largest}", spec.name);
            assert!(a.iter().sum::<f32>().abs() < 0.3 * bound * a.len() as f32, "{name}: {}", spec.name);
        }
    }
}

#[test]
fn merged_weights_compute_what_the_adapter_did() {
    for (name, shape) in adapted() {
        let mut model = plain(&shape);
        let before: Vec<_> =
            model.params.specs().map(|s| (s.name.clone(), model.params.get(&s.name).unwrap())).collect();
        let expected = outputs(&model.decoder, &model.params, &shape);
        model.decoder.merge(&mut model.params).unwrap();
        let bare = model.decoder.without_adapter();
        let merged = outputs(&bare, &model.params, &shape);
        for (a, b) in [(&merged.logp, &expected.logp), (&merged.scalars, &expected.scalars)] {
            if !b.is_empty() {
                assert!(distance(a, b) < 2e-5, "{name}: {}", distance(a, b));
            }
        }
        model.decoder.unmerge(&mut model.params).unwrap();
        for (tensor, values) in before {
            let again = model.params.get(&tensor).unwrap();
            assert!(distance(&again, &values) < 3e-7, "{name}: {tensor} by {}", distance(&again, &values));
        }
    }
}

/// A merge into weights that are held in bf16 rounds them once.
#[test]
fn merging_into_rounded_weights_rounds_the_sum() {
    let (_, shape) = adapted().remove(0);
    let mut rounded = model(&shape, 1, Isa::detect(), Dtype::Bf16);
    let mut exact = plain(&shape);
    let name = "model.layers.1.mlp.down_proj.weight";
    exact.params.set(name, &rounded.params.get(name).unwrap()).unwrap();
    let digest = rounded.params.digest();
    exact.decoder.merge(&mut exact.params).unwrap();
    rounded.decoder.merge(&mut rounded.params).unwrap();
    assert_ne!(rounded.params.digest(), digest, "a digest covers frozen weights");
    for (r, e) in rounded.params.get(name).unwrap().iter().zip(exact.params.get(name).unwrap()) {
        assert!((r - e).abs() <= e.abs() / 256.0, "{r} is not {e} rounded");
    }
}

/// Only the adapter has gradients and moments, and a step leaves every other bit alone.
#[test]
fn frozen_parameters_have_no_gradient_and_do_not_move() {
    for (name, shape) in adapted() {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let mut model = model(&shape, 2, Isa::detect(), dtype);
            let trained: Vec<String> = model
                .decoder
                .parameters()
                .iter()
                .filter(|spec| spec.name.contains(".lora_") || spec.name == "score.weight")
                .map(|spec| spec.name.clone())
                .collect();
            let all = |model: &Model| -> Vec<(String, Vec<f32>)> {
                model.params.specs().map(|s| (s.name.clone(), model.params.get(&s.name).unwrap())).collect()
            };
            let before = all(&model);
            let (_, gradients) = run(&model, &forest(&shape), false);
            assert!(gradients.iter().map(|(name, _)| name).eq(&trained), "{name}");
            let mut grads = model.decoder.gradients();
            assert!(grads.get("model.layers.0.self_attn.q_proj.weight").is_err());
            let elements: usize = gradients.iter().map(|(_, g)| g.len()).sum();
            assert_eq!((grads.count(), model.params.trainable_count()), (elements, elements), "{name}");
            for (tensor, gradient) in &gradients {
                grads.set(tensor, gradient).unwrap();
            }
            let (digest, mut adamw) =
                (model.params.digest(), AdamW::new(&model.decoder, AdamWConfig::default()));
            adamw.step(&mut model.params, &grads, 1e-2, 1.0);
            assert_ne!(model.params.digest(), digest, "{name}: the digest covers the adapter");
            assert_eq!(model.params.digest(), model.params.compute_digest(), "{name}");
            let state = adamw.state().unwrap();
            assert!(state.iter().map(|moments| &moments.name).eq(&trained), "{name}: moments");
            for ((tensor, old), (_, new)) in before.iter().zip(all(&model)) {
                assert_eq!(*old == new, !trained.contains(tensor), "{name} {dtype:?}: {tensor}");
            }
        }
    }
}

/// What is read back of a frozen parameter in bf16 is what was written, rounded: of tables and matrices, tied or not.
#[test]
fn frozen_parameters_are_held_in_bf16() {
    for (name, shape) in adapted() {
        let exact = plain(&shape);
        let rounded = model(&shape, 1, Isa::detect(), Dtype::Bf16);
        for spec in exact.params.specs() {
            let (e, r) = (exact.params.get(&spec.name).unwrap(), rounded.params.get(&spec.name).unwrap());
            let vector = spec.kind == pavlov_engine::ParameterKind::Vector;
            if spec.trainable || vector {
                assert_eq!(e, r, "{name}: {}", spec.name);
            } else {
                assert_ne!(e, r, "{name}: {}", spec.name);
                let close = e.iter().zip(&r).all(|(e, r)| (e - r).abs() <= e.abs() / 256.0);
                assert!(
                    close && r.iter().all(|r| r.to_bits().trailing_zeros() >= 16),
                    "{name}: {}",
                    spec.name
                );
            }
        }
    }
}

#[test]
fn adapters_that_do_not_fit_are_refused() {
    let (_, shape) = adapted().remove(0);
    let refuse = |lora: Lora| {
        let decoder = Decoder::new(Arc::new(pavlov_engine::Cpu::new(1)), shape.config.clone()).unwrap();
        decoder.with_adapter(lora).err().unwrap().to_string()
    };
    let target = |modules: &[&str], rank: usize| LoraTarget {
        modules: modules.iter().map(|m| format!("model.layers.0.{m}")).collect(),
        rank,
        scale: 1.0,
    };
    let targets = |targets: Vec<LoraTarget>| Lora { targets, whole: vec![] };
    let q = "self_attn.q_proj";
    assert!(refuse(targets(vec![target(&["self_attn.qkv"], 2)])).contains("layers.0.self_attn.qkv"));
    assert!(refuse(targets(vec![target(&["input_layernorm"], 2)])).contains("input_layernorm"));
    assert!(refuse(targets(vec![target(&[q], 0)])).contains("rank 0"));
    assert!(refuse(targets(vec![target(&[q], 2), target(&[q], 2)])).contains("two low-rank updates"));
    assert!(refuse(targets(vec![target(&[q, "mlp.down_proj"], 2)])).contains("cannot share one A"));
    assert!(refuse(targets(vec![target(&[], 2)])).contains("names no linear layer"));
    let whole = refuse(Lora { targets: vec![], whole: vec!["score.weight".into()] });
    assert!(whole.contains("score.weight"), "{whole}");
}
