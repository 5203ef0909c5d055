//! Ways of computing the same thing agree, most of them bit for bit.

use crate::common::*;
use pavlov_engine::{Activations, Batch, Dtype, Isa};
use pavlov_schema::rng::{Rng, Stream};

#[test]
fn recomputing_blocks_changes_no_bit() {
    for (name, config) in families() {
        let model = plain(&config);
        let batch = forest(&config);
        assert!(run(&model, &batch, false) == run(&model, &batch, true), "{name}");
    }
}

#[test]
fn thread_counts_and_instruction_sets_change_no_bit() {
    for (name, config) in families() {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let batch = forest(&config);
            // Products of bf16 pairs round otherwise than widened ones: a class of its own.
            let classes = |native: bool| {
                let same = move |isa: &Isa| dtype == Dtype::F32 || isa.multiplies_bf16() == native;
                Isa::available().into_iter().filter(same)
            };
            for native in [true, false] {
                let mut runs = classes(native).flat_map(|isa| [1, 2, 5].map(|threads| (threads, isa))).map(
                    |(threads, isa)| (run(&model(&config, threads, isa, dtype), &batch, false), threads, isa),
                );
                let Some((expected, ..)) = runs.next() else { continue };
                for (actual, threads, isa) in runs {
                    assert!(actual == expected, "{name}: {threads} threads, {isa:?}, {dtype:?}");
                }
            }
        }
    }
}

/// Products of bf16 pairs against the same operands widened to f32: sums that differ in their rounding alone.
#[test]
fn native_bf16_is_widened_bf16_within_rounding() {
    if !Isa::detect().multiplies_bf16() {
        println!("not run: this processor has no AVX512-BF16");
        return;
    }
    for (name, config) in families() {
        let batch = forest(&config);
        let run_on = |isa| run(&model(&config, 2, isa, Dtype::Bf16), &batch, false);
        let ((a, da), (b, db)) = (run_on(Isa::detect()), run_on(Isa::Avx512));
        // A sum that falls on the other side of a bf16 boundary moves the next operand by 2^-8 of itself.
        assert!(distance(&a.logp, &b.logp) < 4e-3 && distance(&a.scalars, &b.scalars) < 4e-3, "{name}");
        // The gradient of a key's bias is rounding alone: softmax does not see a shift of all scores.
        for ((tensor, x), (_, y)) in da.iter().zip(&db).filter(|((t, _), _)| !t.ends_with("k_proj.bias")) {
            assert!(distance(x, y) <= 2e-2, "{name}: {tensor}: {}", distance(x, y));
        }
    }
}

/// A prompt shared by its answers gives the outputs, bit for bit, and the gradients of one sequence an answer.
#[test]
fn shared_prompts_equal_separate_sequences() {
    for (name, config) in families().into_iter().filter(|(_, c)| c.language_head) {
        let model = plain(&config);
        let mut rng = Rng::new(31, Stream::Data, 0, 0);
        let prompt = tokens(&mut rng, 140, config.vocab_size);
        let answers: Vec<Vec<u32>> = [7, 1, 30].map(|n| tokens(&mut rng, n, config.vocab_size)).into();
        let mut shared = Batch::new();
        let root = shared.forest.push(None, &prompt);
        let mut separate = Batch::new();
        for answer in &answers {
            let id = shared.forest.push(Some(root), answer);
            shared.score_segment(id);
            let root = separate.forest.push(None, &prompt);
            let id = separate.forest.push(Some(root), answer);
            separate.score_segment(id);
        }
        let (a, da) = run(&model, &shared, false);
        let (b, db) = run(&model, &separate, false);
        assert_eq!(a, b, "{name}");
        let mut joined = Batch::new();
        for answer in &answers {
            let id = joined.forest.push(None, &[&prompt[..], &answer[..]].concat());
            joined.score_tokens(id, prompt.len());
        }
        let (c, dc) = run(&model, &joined, false);
        assert!(distance(&a.logp, &c.logp) < 1e-6 && distance(&a.entropy, &c.entropy) < 1e-6, "{name}");
        for ((tensor, da), ((_, db), (_, dc))) in da.iter().zip(db.iter().zip(&dc)) {
            // A direction without effect has rounding for a gradient.
            if name == "gpt2" && tensor.ends_with("k_proj.bias") {
                continue;
            }
            assert!(distance(da, db) < 2e-5 && distance(da, dc) < 2e-5, "{name}: {tensor}");
        }
    }
}

/// What a sequence gives does not depend on its neighbours in the batch, nor on their order.
#[test]
fn packed_sequences_equal_single_ones_bit_for_bit() {
    for (name, config) in families().into_iter().filter(|(_, c)| c.language_head) {
        let model = plain(&config);
        let mut rng = Rng::new(33, Stream::Data, 0, 0);
        let sequences: Vec<Vec<u32>> = [5, 160, 2, 33].map(|n| tokens(&mut rng, n, config.vocab_size)).into();
        let score = |order: &[usize]| -> Vec<Vec<f32>> {
            let mut batch = Batch::new();
            let ranges: Vec<_> = order
                .iter()
                .map(|i| {
                    let id = batch.forest.push(None, &sequences[*i]);
                    batch.score_segment(id)
                })
                .collect();
            let mut acts = Activations::new(false);
            let out = model.decoder.forward(&model.params, &batch, 1.0, &mut acts).unwrap();
            ranges.into_iter().map(|r| out.logp[r].to_vec()).collect()
        };
        let packed = score(&[0, 1, 2, 3]);
        let permuted = score(&[2, 0, 3, 1]);
        for (place, i) in [2, 0, 3, 1].into_iter().enumerate() {
            assert_eq!(permuted[place], packed[i], "{name}: permuted");
            assert_eq!(score(&[i])[0], packed[i], "{name}: alone");
        }
    }
}

/// Perturbing one sequence leaves the others' bits alone, and no token sees a later one.
#[test]
fn nothing_leaks_between_sequences_or_from_the_future() {
    for (name, config) in families().into_iter().filter(|(_, c)| c.language_head) {
        let model = plain(&config);
        let mut rng = Rng::new(34, Stream::Data, 0, 0);
        let mut first = tokens(&mut rng, 50, config.vocab_size);
        let second = tokens(&mut rng, 20, config.vocab_size);
        let score = |first: &[u32]| {
            let mut batch = Batch::new();
            for sequence in [first, &second] {
                let id = batch.forest.push(None, sequence);
                batch.score_segment(id);
            }
            model.decoder.forward(&model.params, &batch, 1.0, &mut Activations::new(false)).unwrap().logp
        };
        let before = score(&first);
        first[30] = (first[30] + 1) % config.vocab_size as u32;
        let after = score(&first);
        assert_eq!(before[..29], after[..29], "{name}: the past");
        assert_ne!(before[29..49], after[29..49], "{name}: the perturbation must show");
        assert_eq!(before[49..], after[49..], "{name}: the neighbour");
    }
}

/// bf16 stays within its rounding of f32: eight bits of mantissa per operand.
#[test]
fn bf16_is_close_to_f32() {
    let (_, config) = families().remove(0);
    let batch = forest(&config);
    let (exact, exact_grads) = run(&plain(&config), &batch, false);
    let (rounded, rounded_grads) = run(&model(&config, 2, Isa::detect(), Dtype::Bf16), &batch, false);
    assert_ne!(exact, rounded);
    let worst = exact.logp.iter().zip(&rounded.logp).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 0.1, "log-probs differ by {worst} nats");
    for ((name, a), (_, b)) in exact_grads.iter().zip(&rounded_grads) {
        assert!(distance(b, a) < 0.08, "{name}: {}", distance(b, a));
    }
}

/// A batch that points outside itself is refused, not read.
#[test]
fn bad_batches_are_refused() {
    let (_, config) = families().remove(0);
    let model = plain(&config);
    let refuse = |build: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::new();
        build(&mut batch);
        model
            .decoder
            .forward(&model.params, &batch, 1.0, &mut Activations::new(false))
            .unwrap_err()
            .to_string()
    };
    assert!(refuse(&|_| ()).contains("empty"));
    let bad_token = refuse(&|b| {
        b.forest.push(None, &[1, 71]);
    });
    assert!(bad_token.contains("row 1: token 71"), "{bad_token}");
    let too_long = refuse(&|b| {
        b.forest.push(None, &[1; 401]);
    });
    assert!(too_long.contains("401 tokens is longer than the context of 400"), "{too_long}");
    let no_scalar = refuse(&|b| {
        b.forest.push(None, &[1]);
        b.reads.push(0);
    });
    assert!(no_scalar.contains("no scalar head"), "{no_scalar}");
}

/// A poisoned weight stops the pass and names what was poisoned first.
#[test]
fn a_nan_weight_is_an_error() {
    let (_, config) = families().remove(0);
    let mut model = plain(&config);
    let name = "model.layers.1.mlp.up_proj.weight";
    let mut data = model.params.get(name).unwrap();
    data[5] = f32::NAN;
    model.params.set(name, &data).unwrap();
    assert_eq!(model.params.find_not_finite(), Some(name));
    let error = model
        .decoder
        .forward(&model.params, &forest(&config), 1.0, &mut Activations::new(false))
        .unwrap_err();
    assert!(error.to_string().contains("not finite"), "{error}");
}

/// The digest of what the products read equals that of the parameters, unless a refresh was forgotten.
#[test]
fn digests_prove_that_the_products_read_the_parameters() {
    let (_, config) = families().remove(0);
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let mut model = model(&config, 1, Isa::detect(), dtype);
        let before = model.params.digest();
        assert_eq!(before, model.params.compute_digest());
        let name = "model.layers.0.mlp.up_proj.weight";
        let mut data = model.params.get(name).unwrap();
        data[3] += 1.0;
        model.params.set(name, &data).unwrap();
        assert_ne!(model.params.digest(), before);
        assert_eq!(model.params.digest(), model.params.compute_digest());
    }
}
