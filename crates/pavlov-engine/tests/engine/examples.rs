//! Gradients of single examples: alone and packed, projected, in given bases; and the second moments beside them.

use crate::common::*;
use crate::observe::{forward, vector};
use pavlov_engine::{
    Activations, Basis, Batch, Cpu, Decoder, Error, ExampleGradients, KroneckerFactors, Observed,
    OutputGradients, Target,
};
use pavlov_schema::rng::{Rng, Stream};

/// Every linear layer that the decoder has, base and adapter.
fn linears(decoder: &Decoder) -> Vec<String> {
    let matrices =
        decoder.parameters().iter().filter(|spec| spec.kind == pavlov_engine::ParameterKind::Matrix);
    matrices.filter(|spec| spec.layer().is_some()).map(|spec| spec.name.clone()).collect()
}

/// The vectors of the trees of a batch, given the derivatives of its outputs.
fn vectors(
    model: &Model,
    batch: &Batch,
    d: &OutputGradients,
    recompute: bool,
    examples: &mut ExampleGradients,
) {
    let mut acts = Activations::new(recompute);
    forward(model, batch, &[], &mut acts).unwrap();
    let (decoder, params, mut grads) = (&model.decoder, &model.params, model.decoder.no_gradients());
    let seen = Observed { examples: Some(examples), ..Observed::default() };
    decoder.backward_with(params, batch, TEMPERATURE, d, &[], &mut acts, &mut grads, seen).unwrap();
}

/// Three examples of different lengths in one batch, one of them a tree with two answers, against each alone.
#[test]
fn packed_examples_have_the_gradients_that_each_has_alone() {
    for (name, shape) in families().into_iter().filter(|(_, shape)| shape.language_head) {
        let model = plain(&shape);
        let mut rng = Rng::new(17, Stream::Data, 0, 0);
        let mut draw = |n| tokens(&mut rng, n, shape.vocab_size);
        let trees = [vec![draw(140), draw(3), draw(9)], vec![draw(5)], vec![draw(33), draw(2)]];
        let push = |batch: &mut Batch, tree: &[Vec<u32>]| {
            let root = batch.forest.push(None, &tree[0]);
            batch.score_segment(root);
            for answer in &tree[1..] {
                let id = batch.forest.push(Some(root), answer);
                batch.score_segment(id);
            }
            batch.targets.len()
        };
        let mut packed = Batch::new();
        let ends: Vec<usize> = trees.iter().map(|tree| push(&mut packed, tree)).collect();
        let d = OutputGradients { logp: vector(9, ends[2]), ..OutputGradients::default() };
        let names = linears(&model.decoder);
        let exact = |seed| ExampleGradients::new(&model.decoder, &names, [1000, 1000], seed).unwrap();
        let small = |seed| ExampleGradients::new(&model.decoder, &names, [4, 3], seed).unwrap();
        let (mut whole, mut projected, mut recomputed) = (exact(1), small(1), small(1));
        vectors(&model, &packed, &d, false, &mut whole);
        vectors(&model, &packed, &d, false, &mut projected);
        vectors(&model, &packed, &d, true, &mut recomputed);
        assert_eq!(projected.examples().len(), 3);
        let backend = &**model.decoder.backend();
        for (i, tree) in trees.iter().enumerate() {
            let mut alone = Batch::new();
            push(&mut alone, tree);
            let start = if i == 0 { 0 } else { ends[i - 1] };
            let d = OutputGradients { logp: d.logp[start..ends[i]].to_vec(), ..OutputGradients::default() };
            let mut single = exact(1);
            vectors(&model, &alone, &d, false, &mut single);
            let (got, expected) = (whole.examples().nth(i).unwrap(), single.examples().next().unwrap());
            // The gradient of the parameters that are trained, by the ordinary backward pass.
            let mut acts = Activations::new(false);
            forward(&model, &alone, &[], &mut acts).unwrap();
            let mut grads = model.decoder.gradients();
            let (decoder, params) = (&model.decoder, &model.params);
            decoder.backward(params, &alone, TEMPERATURE, &d, &mut acts, &mut grads).unwrap();
            for ((tensor, part, _), (_, low, _)) in whole.parts().zip(projected.parts()) {
                assert!(distance(&got[part.clone()], &expected[part.clone()]) < 2e-5, "{name}: {tensor}");
                if let Ok(gradient) = grads.get(tensor) {
                    assert!(distance(&got[part.clone()], &gradient) < 2e-5, "{name}: {tensor}, trained");
                }
                let down = projected.project(backend, tensor, &got[part]).unwrap();
                let (got, again) =
                    (projected.examples().nth(i).unwrap(), recomputed.examples().nth(i).unwrap());
                assert!(distance(&got[low.clone()], &down) < 2e-5, "{name}: {tensor}, projected");
                assert!(distance(&again[low.clone()], &down) < 2e-5, "{name}: {tensor}, recomputed");
            }
        }
    }
}

/// Of one row the gradient is dy·xᵀ: its second moments are the factors, each times the other's trace.
#[test]
fn factors_are_the_second_moments_of_both_sides() {
    for (name, shape) in families().into_iter().filter(|(_, shape)| shape.language_head) {
        let model = plain(&shape);
        let (decoder, backend) = (&model.decoder, &**model.decoder.backend());
        let names = linears(decoder);
        let mut sums = KroneckerFactors::new(decoder, &names).unwrap();
        let mut wanted: Vec<[Vec<f32>; 2]> = Vec::new();
        for token in [3, 5] {
            let mut batch = Batch::new();
            batch.forest.push(None, &[token]);
            batch.targets.push(Target { row: 0, token: 7 });
            let mut whole = ExampleGradients::new(decoder, &names, [1000, 1000], 1).unwrap();
            let mut single = KroneckerFactors::new(decoder, &names).unwrap();
            for factors in [&mut sums, &mut single] {
                let mut acts = Activations::new(false);
                forward(&model, &batch, &[], &mut acts).unwrap();
                let d = OutputGradients { logp: vec![0.7], ..OutputGradients::default() };
                let seen = Observed { examples: Some(&mut whole), factors: Some(factors), streams: None };
                let (params, mut nothing) = (&model.params, decoder.no_gradients());
                decoder
                    .backward_with(params, &batch, TEMPERATURE, &d, &[], &mut acts, &mut nothing, seen)
                    .unwrap();
            }
            let gradient = whole.examples().next().unwrap();
            for (i, ((tensor, part, [out, input]), (_, of_one))) in
                whole.parts().zip(single.sums(backend)).enumerate()
            {
                let g = &gradient[part];
                let trace = |sum: &[f32], n: usize| sum.iter().step_by(n + 1).sum::<f32>();
                let square = |n: usize, inner: usize, at: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
                    let product = |k: usize| (0..inner).map(|t| at(k / n, t) * at(k % n, t)).sum();
                    (0..n * n).map(product).collect()
                };
                let expected = [
                    square(input, out, &|i, t| g[t * input + i]),
                    square(out, input, &|o, t| g[o * input + t]),
                ];
                let scales = [trace(&of_one[1], out), trace(&of_one[0], input)];
                // A token that attends to itself alone: its query and key have no derivative but rounding.
                let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>();
                let rounding = length(g) < 1e-10 * length(gradient);
                assert!(!rounding || scales[0] * scales[1] < 1e-9 * length(gradient), "{name}: {tensor}");
                for ((of_one, expected), scale) in of_one.iter().zip(&expected).zip(scales) {
                    let got: Vec<f32> = of_one.iter().map(|x| x * scale).collect();
                    // Queries, keys and values give a row each to the matrix that they share.
                    let shared = name == "gpt2, fused adapter" && tensor.contains("q_proj.lora_A");
                    assert!(rounding || shared || distance(&got, expected) < 2e-5, "{name}: {tensor}");
                }
                if wanted.len() <= i {
                    wanted.push(of_one);
                } else {
                    let add = |(sum, x): (&mut Vec<f32>, &Vec<f32>)| {
                        sum.iter_mut().zip(x).for_each(|(s, x)| *s += x);
                    };
                    wanted[i].iter_mut().zip(&of_one).for_each(add);
                }
            }
        }
        for ((tensor, got), wanted) in sums.sums(backend).zip(&wanted) {
            let near = |i: usize| distance(&got[i], &wanted[i]) < 2e-5;
            assert!(near(0) && near(1), "{name}: {tensor}, two passes");
        }
    }
}

/// In whole bases a gradient is the same in other coordinates; in part of them it is their part.
#[test]
fn gradients_in_bases_are_those_of_the_ordinary_pass_turned() {
    let (_, shape) = families().remove(0);
    let model = plain(&shape);
    let (decoder, name) = (&model.decoder, "model.layers.1.mlp.down_proj.weight".to_string());
    let mut batch = Batch::new();
    let root = batch.forest.push(None, &[3, 4, 5, 6]);
    batch.score_segment(root);
    let d = OutputGradients { logp: vector(9, batch.targets.len()), ..OutputGradients::default() };
    let mut whole = ExampleGradients::new(decoder, std::slice::from_ref(&name), [1000, 1000], 1).unwrap();
    vectors(&model, &batch, &d, false, &mut whole);
    let (_, _, [out, input]) = whole.parts().next().unwrap();
    // Any two directions on either side.
    let basis = Basis { name, input: vector(1, 2 * input), output: vector(2, 2 * out) };
    let mut turned = ExampleGradients::in_bases(decoder, std::slice::from_ref(&basis)).unwrap();
    vectors(&model, &batch, &d, false, &mut turned);
    let g = whole.examples().next().unwrap();
    let wanted: Vec<f32> = (0..4)
        .map(|k| {
            let (o, i) = (&basis.output[k / 2 * out..][..out], &basis.input[k % 2 * input..][..input]);
            let row = |(o, row): (&f32, &[f32])| o * row.iter().zip(i).map(|(g, i)| g * i).sum::<f32>();
            o.iter().zip(g.chunks_exact(input)).map(row).sum()
        })
        .collect();
    assert!(distance(turned.examples().next().unwrap(), &wanted) < 2e-5);
    let short = Basis { input: vec![1.0; input + 1], ..basis };
    assert!(matches!(ExampleGradients::in_bases(decoder, &[short]), Err(Error::Shape { .. })));
}

/// Over many seeds the inner product of two projected gradients is that of the gradients.
#[test]
fn projections_keep_inner_products_in_expectation() {
    let (_, shape) = families().remove(0);
    let (model, backend) = (plain(&shape), Cpu::new(1));
    let name = "model.layers.1.mlp.down_proj.weight".to_string();
    let (a, b) = (vector(1, 20 * 37), vector(2, 20 * 37));
    let b: Vec<f32> = a.iter().zip(b).map(|(a, b)| 0.5 * a + b).collect();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let products: Vec<f64> = (0..400)
        .map(|seed| {
            let names = std::slice::from_ref(&name);
            let e = ExampleGradients::new(&model.decoder, names, [8, 8], seed).unwrap();
            let [a, b] = [&a, &b].map(|g| e.project(&backend, &name, g).unwrap());
            dot(&a, &b)
        })
        .collect();
    let n = products.len() as f64;
    let mean = products.iter().sum::<f64>() / n;
    let error = (products.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
    assert!((mean - dot(&a, &b)).abs() < 4.0 * error, "{mean} ± {error}, not {}", dot(&a, &b));
    assert!(error < 0.1 * dot(&a, &b), "{error} says too little");
}
