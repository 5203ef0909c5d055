//! Observation points: what is read, changed and taken apart in a pass.

use crate::common::*;
use pavlov_engine::{
    Activations, Batch, Change, Control, Decoder, Dtype, Error, ExampleGradients, Intervention, Isa,
    Observed, Outputs, Parameters, Rows, SampleRequest, Sampled, Sampler, SamplingParams, StreamGradients,
};
use pavlov_schema::rng::{Rng, Stream};

pub(crate) fn vector(index: u64, len: usize) -> Vec<f32> {
    let mut rng = Rng::new(31, Stream::Probe, 0, index);
    (0..len).map(|_| rng.normal()).collect()
}

pub(crate) fn forward(
    model: &Model,
    batch: &Batch,
    interventions: &[Intervention],
    acts: &mut Activations,
) -> Result<Outputs, Error> {
    model.decoder.forward_with(&model.params, batch, TEMPERATURE, interventions, acts)
}

/// A prompt with two answers, and a lone sequence: few rows, so that rounding stays below finite differences.
fn short(shape: &Shape) -> Batch {
    let mut batch = Batch::new();
    let mut rng = Rng::new(3, Stream::Data, 0, 0);
    let prompt = batch.forest.push(None, &tokens(&mut rng, 6, shape.vocab_size));
    let first = batch.forest.push(Some(prompt), &tokens(&mut rng, 3, shape.vocab_size));
    let second = batch.forest.push(Some(prompt), &tokens(&mut rng, 2, shape.vocab_size));
    let lone = batch.forest.push(None, &tokens(&mut rng, 5, shape.vocab_size));
    for id in [prompt, first, second, lone] {
        if shape.language_head {
            batch.score_segment(id);
        }
        if shape.scalar_outputs > 0 {
            batch.reads.push(batch.forest.row(id, 1) as u32);
        }
    }
    batch
}

/// Of every kind, at every place that differs, several at one layer among them.
fn interventions(shape: &Shape) -> Vec<Intervention> {
    let (width, layers) = (shape.hidden_size, shape.num_layers);
    let of = |layer, rows, change| Intervention { layer, rows, change };
    vec![
        of(0, Rows::From(2), Change::Add(vector(0, width))),
        of(1, Rows::All, Change::ProjectOut(vector(1, width))),
        of(1, Rows::These(vec![3, 12]), Change::Replace(vector(2, 2 * width))),
        of(1, Rows::These(vec![4, 7, 1]), Change::Add(vector(3, 3 * width))),
        of(layers, Rows::From(1), Change::Add(vector(4, width))),
        of(layers, Rows::These(vec![8, 9, 14]), Change::ProjectOut(vector(5, 3 * width))),
    ]
}

fn shift(layer: usize, rows: Rows, vector: Vec<f32>) -> Intervention {
    Intervention { layer, rows, change: Change::Add(vector) }
}

#[test]
fn the_stream_is_what_the_interventions_made_of_it() {
    for (name, shape) in families() {
        let (model, batch, width) = (plain(&shape), short(&shape), shape.hidden_size);
        let all: Vec<u32> = (0..batch.forest.len() as u32).collect();
        let (mut before, mut after) = (Activations::new(false), Activations::new(true));
        forward(&model, &batch, &[], &mut before).unwrap();
        let was = model.decoder.stream(&before, 1, &all).unwrap();
        let made = interventions(&shape);
        // Those at layer 1 alone, so that the stream before them is the same.
        forward(&model, &batch, &made[1..4], &mut after).unwrap();
        let is = model.decoder.stream(&after, 1, &all).unwrap();
        let Change::ProjectOut(out) = &made[1].change else { unreachable!() };
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        for row in 0..all.len() {
            let (was, is) = (&was[row * width..][..width], &is[row * width..][..width]);
            let share = dot(was, out) / dot(out, out);
            let mut expected: Vec<f32> = was.iter().zip(out).map(|(x, v)| x - share * v).collect();
            for (rows, change) in [(&made[2].rows, &made[2].change), (&made[3].rows, &made[3].change)] {
                let Rows::These(rows) = rows else { unreachable!() };
                let Some(i) = rows.iter().position(|r| *r as usize == row) else { continue };
                match change {
                    Change::Replace(v) => expected.copy_from_slice(&v[i * width..][..width]),
                    Change::Add(v) => {
                        expected.iter_mut().zip(&v[i * width..]).for_each(|(x, v)| *x += v);
                    }
                    Change::ProjectOut(_) => unreachable!(),
                }
            }
            assert!(distance(is, &expected) < 1e-5, "{name}: row {row}");
        }
        let chosen = model.decoder.stream(&after, 1, &[5, 0]).unwrap();
        assert_eq!(chosen[..width], is[5 * width..][..width], "{name}: rows come in the order asked for");
        assert_eq!(chosen[width..], is[..width], "{name}");
    }
}

/// Putting back what was read changes no bit, wherever; so does adding zero.
#[test]
fn a_patch_with_itself_changes_nothing() {
    for (name, shape) in families() {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let model = model(&shape, 2, Isa::detect(), dtype);
            let (batch, mut acts) = (forest(&shape), Activations::new(false));
            let expected = forward(&model, &batch, &[], &mut acts).unwrap();
            for layer in 0..=shape.num_layers {
                let rows = vec![140, 3, 77];
                let values = model.decoder.stream(&acts, layer, &rows).unwrap();
                let itself = Intervention { layer, rows: Rows::These(rows), change: Change::Replace(values) };
                let nothing = shift(layer, Rows::All, vec![0.0; shape.hidden_size]);
                let again =
                    forward(&model, &batch, &[itself, nothing], &mut Activations::new(false)).unwrap();
                assert_eq!(again, expected, "{name} {dtype:?}: layer {layer}");
            }
        }
    }
}

/// Patched at every row with the stream of a model that differs in its first block alone, a model is that model from
/// there on, bit for bit.
#[test]
fn a_patch_of_every_row_is_the_other_run() {
    for (name, shape) in families() {
        let (model, batch, mut other) = (plain(&shape), short(&shape), plain(&shape));
        let norm = "model.layers.0.input_layernorm.weight";
        let halved: Vec<f32> = other.params.get(norm).unwrap().iter().map(|x| 0.5 * x).collect();
        other.params.set(norm, &halved).unwrap();
        let mut acts = Activations::new(false);
        let expected = forward(&other, &batch, &[], &mut acts).unwrap();
        let rows: Vec<u32> = (0..batch.forest.len() as u32).collect();
        for layer in 0..=shape.num_layers {
            let values = other.decoder.stream(&acts, layer, &rows).unwrap();
            let patch =
                Intervention { layer, rows: Rows::These(rows.clone()), change: Change::Replace(values) };
            let patched = forward(&model, &batch, &[patch], &mut Activations::new(false)).unwrap();
            assert_eq!(patched == expected, layer > 0, "{name}: layer {layer}");
        }
    }
}

/// The derivative with respect to the stream at every layer and row, through interventions, against central differences
/// of a shift there; and the parameters' gradients under interventions.
#[test]
fn stream_gradients_are_those_of_finite_differences() {
    for (name, shape) in families() {
        for recompute in [false, true] {
            let (mut model, batch, width) = (plain(&shape), short(&shape), shape.hidden_size);
            let made = interventions(&shape);
            let mut acts = Activations::new(recompute);
            let outputs = forward(&model, &batch, &made, &mut acts).unwrap();
            let (d, mut grads) = (coefficients(&outputs), model.decoder.gradients());
            let mut streams = StreamGradients::default();
            let seen = Observed { streams: Some(&mut streams), ..Observed::default() };
            let (decoder, params) = (&model.decoder, &model.params);
            decoder
                .backward_with(params, &batch, TEMPERATURE, &d, &made, &mut acts, &mut grads, seen)
                .unwrap();
            let by_differences = |at: &mut dyn FnMut(f32) -> f64, h: f32| {
                (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * f64::from(h))
            };
            for layer in 0..=shape.num_layers {
                for row in [0_u32, 3, 4, 8, 12, 15] {
                    let gradient = model.decoder.stream_gradient(&streams, layer, &[row]).unwrap();
                    let direction = vector(100 + u64::from(row), width);
                    let size = 4.0 * (width as f32).sqrt();
                    let exact: f64 =
                        gradient.iter().zip(&direction).map(|(g, v)| f64::from(g * v / size)).sum();
                    let mut at = |step: f32| {
                        let v = direction.iter().map(|v| step * v / size).collect();
                        let mut with = made.clone();
                        with.push(shift(layer, Rows::These(vec![row]), v));
                        let moved = forward(&model, &batch, &with, &mut Activations::new(false)).unwrap();
                        loss(&moved, &d)
                    };
                    let numeric = by_differences(&mut at, 0.1);
                    assert!(
                        (numeric - exact).abs() < 4e-3 * (1.0 + exact.abs()),
                        "{name}: layer {layer}, row {row}: {exact}, by differences {numeric}"
                    );
                }
            }
            let spec = grads.specs().next().unwrap().clone();
            let (before, direction) = (model.params.get(&spec.name).unwrap(), vector(7, spec.len()));
            let gradient = grads.get(&spec.name).unwrap();
            let size = (spec.len() as f32).sqrt();
            let exact: f64 = gradient.iter().zip(&direction).map(|(g, v)| f64::from(g * v / size)).sum();
            let mut at = |step: f32| {
                let moved: Vec<f32> =
                    before.iter().zip(&direction).map(|(w, v)| w + step * v / size).collect();
                model.params.set(&spec.name, &moved).unwrap();
                loss(&forward(&model, &batch, &made, &mut Activations::new(false)).unwrap(), &d)
            };
            let numeric = by_differences(&mut at, 0.04);
            assert!(
                (numeric - exact).abs() < 4e-3 * (1.0 + exact.abs()),
                "{name}: {} under interventions: {exact}, by differences {numeric}",
                spec.name
            );
        }
    }
}

/// Observing changes no gradient, and a pass that is only observed computes none of a parameter.
#[test]
fn observing_changes_nothing() {
    for (name, shape) in families() {
        let (model, batch) = (plain(&shape), forest(&shape));
        let (_, expected) = run(&model, &batch, false);
        let pass = |grads: &mut Parameters| {
            let mut acts = Activations::new(false);
            let outputs = forward(&model, &batch, &[], &mut acts).unwrap();
            let mut streams = StreamGradients::default();
            let seen = Observed { streams: Some(&mut streams), ..Observed::default() };
            let (decoder, params, d) = (&model.decoder, &model.params, coefficients(&outputs));
            decoder.backward_with(params, &batch, TEMPERATURE, &d, &[], &mut acts, grads, seen).unwrap();
            model.decoder.stream_gradient(&streams, 0, &[0, 60, 137]).unwrap()
        };
        let (mut grads, mut nothing) = (model.decoder.gradients(), model.decoder.no_gradients());
        let streams = pass(&mut grads);
        for (tensor, gradient) in expected {
            assert_eq!(grads.get(&tensor).unwrap(), gradient, "{name}: {tensor}");
        }
        assert_eq!(pass(&mut nothing), streams, "{name}");
        assert_eq!((nothing.count(), nothing.specs().count()), (0, 0), "{name}");
    }
}

fn requests(shape: &Shape) -> Vec<SampleRequest> {
    let mut rng = Rng::new(41, Stream::Data, 0, 0);
    let prompt = |(i, n)| SampleRequest { prompt: tokens(&mut rng, n, shape.vocab_size), n: 2, stream: i };
    [3_usize, 40, 70].into_iter().enumerate().map(|(i, n)| (i as u64, n)).map(prompt).collect()
}

fn sample(
    model: &Model,
    requests: &[SampleRequest],
    interventions: &[Intervention],
) -> Result<Vec<Sampled>, Error> {
    let sampling = SamplingParams { temperature: 0.9, max_new_tokens: 40, ..SamplingParams::default() };
    let go_on = &mut |_: usize, _: usize, _: u32| Control::Continue;
    let (decoder, params) = (&model.decoder, &model.params);
    Sampler::new(4).run_with(decoder, params, requests, &sampling, (7, 0), interventions, go_on)
}

/// Steered through the key-value cache, an answer's log-probabilities are those of the steered forward pass.
#[test]
fn a_steered_sampler_draws_from_the_steered_forward_pass() {
    for (name, shape) in families().into_iter().filter(|(_, shape)| shape.language_head) {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let model = model(&shape, 2, Isa::detect(), dtype);
            let (requests, width) = (requests(&shape), shape.hidden_size);
            let made = [
                shift(1, Rows::From(41), vector(1, width)),
                Intervention { layer: 2, rows: Rows::All, change: Change::ProjectOut(vector(2, width)) },
                shift(0, Rows::All, vector(3, width)),
            ];
            let plain = sample(&model, &requests, &[]).unwrap();
            let steered = sample(&model, &requests, &made).unwrap();
            assert_ne!(plain, steered, "{name}: steering shows");
            for s in steered {
                let mut batch = Batch::new();
                let root = batch.forest.push(None, &requests[s.request].prompt);
                let id = batch.forest.push(Some(root), &s.tokens);
                batch.score_segment(id);
                // A sequence that ends before position 41 has nothing for the first to change.
                let first = usize::from(batch.forest.len() <= 41);
                let out = model
                    .decoder
                    .forward_with(&model.params, &batch, 0.9, &made[first..], &mut Activations::new(false))
                    .unwrap();
                for (a, b) in s.logps.iter().zip(&out.logp[batch.targets.len() - s.tokens.len()..]) {
                    assert!((a - b).abs() < 2e-5, "{name} {dtype:?}: sampler {a}, trainer {b}");
                }
            }
        }
    }
}

/// From bit-for-bit the base to bit-for-bit the adapter, and halfway what half the scale gives; one block at a time.
#[test]
fn gates_let_an_adapter_through() {
    for (name, shape) in adapted() {
        let (model, batch) = (plain(&shape), short(&shape));
        let outputs = |decoder: &Decoder| {
            decoder.forward(&model.params, &batch, TEMPERATURE, &mut Activations::new(false)).unwrap()
        };
        let gated = |gates: &[f32]| outputs(&model.decoder.with_gates(gates).unwrap());
        assert_eq!(gated(&[1.0, 1.0]), outputs(&model.decoder), "{name}");
        assert_eq!(gated(&[0.0, 0.0]), outputs(&model.decoder.without_adapter()), "{name}");
        let mut half = shape.clone();
        let lora = half.lora.as_mut().unwrap();
        let in_first = |name: &String| name.starts_with("model.layers.0.");
        for target in lora.targets.iter_mut().filter(|target| target.modules.iter().all(in_first)) {
            target.scale *= 0.5;
        }
        assert_eq!(gated(&[0.5, 1.0]), outputs(&plain(&half).decoder), "{name}");
        assert_ne!(gated(&[0.5, 1.0]), gated(&[1.0, 0.5]), "{name}");
    }
}

#[test]
fn gates_let_a_weight_difference_through() {
    for (name, shape) in families() {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let reference = model(&shape, 1, Isa::detect(), dtype);
            let mut trained = model(&shape, 1, Isa::detect(), dtype);
            let specs: Vec<_> = trained.params.specs().cloned().collect();
            for spec in specs.iter().filter(|spec| spec.trainable) {
                let moved: Vec<f32> =
                    trained.params.get(&spec.name).unwrap().iter().map(|x| 1.25 * x + 0.01).collect();
                trained.params.set(&spec.name, &moved).unwrap();
            }
            let mut mixed = model(&shape, 1, Isa::detect(), dtype);
            let share = |layer: Option<usize>| [0.25, 1.0][layer.unwrap_or(1)];
            mixed.params.blend(&reference.params, &trained.params, |spec| Some(share(spec.layer()))).unwrap();
            for spec in &specs {
                let [r, t, m] = [&reference, &trained, &mixed].map(|m| m.params.get(&spec.name).unwrap());
                let share = share(spec.layer());
                let expected: Vec<f32> = r.iter().zip(&t).map(|(r, t)| r + share * (t - r)).collect();
                assert!(distance(&m, &expected) < 1e-6 || !spec.trainable, "{name}: {}", spec.name);
                assert!(share < 1.0 || m == t, "{name}: {} at 1", spec.name);
            }
            mixed.params.blend(&reference.params, &trained.params, |_| Some(0.0)).unwrap();
            assert_eq!(mixed.params.digest(), reference.params.digest(), "{name} {dtype:?}: all closed");
            mixed.params.blend(&reference.params, &trained.params, |spec| spec.layer().map(|_| 1.0)).unwrap();
            let one = mixed.params.get("model.norm.weight").unwrap();
            assert_eq!(one, reference.params.get("model.norm.weight").unwrap(), "{name}: not picked");
            mixed.params.blend(&reference.params, &trained.params, |_| Some(1.0)).unwrap();
            assert_eq!(mixed.params.digest(), trained.params.digest(), "{name} {dtype:?}: all open");
        }
    }
}

/// What would not fire is refused by name.
#[test]
fn what_does_not_fire_is_an_error() {
    let (_, shape) = families().remove(0);
    let (model, batch, width) = (plain(&shape), short(&shape), shape.hidden_size);
    let mut acts = Activations::new(false);
    let refuse = |result: Result<Vec<f32>, Error>| result.unwrap_err().to_string();
    assert!(refuse(model.decoder.stream(&acts, 1, &[0])).contains("a pass over a batch comes first"));
    let no_pass = StreamGradients::default();
    assert!(refuse(model.decoder.stream_gradient(&no_pass, 1, &[0])).contains("comes first"));
    forward(&model, &batch, &[], &mut acts).unwrap();
    assert!(refuse(model.decoder.stream(&acts, 3, &[0])).contains("layer 3 does not exist"));
    assert!(refuse(model.decoder.stream(&acts, 1, &[16])).contains("no row 16"));
    assert!(refuse(model.decoder.stream(&acts, 1, &[])).contains("no row"));

    let good = || vector(0, width);
    let mut say = |made: Intervention| forward(&model, &batch, &[made], &mut acts).unwrap_err().to_string();
    assert!(
        say(shift(3, Rows::All, good())).contains("intervention 0 (add at layer 3) is outside the layers")
    );
    assert!(say(shift(1, Rows::From(9), good())).contains("did not fire"));
    assert!(say(shift(1, Rows::These(vec![]), good())).contains("did not fire"));
    assert!(say(shift(1, Rows::These(vec![16]), good())).contains("row 16 is outside the batch's 16 rows"));
    assert!(say(shift(1, Rows::These(vec![2, 2]), good())).contains("names a row twice"));
    assert!(say(shift(1, Rows::All, vec![0.0; 19])).contains("19 numbers"));
    assert!(say(shift(1, Rows::All, vec![f32::NAN; 20])).contains("not finite"));
    let zero = Change::ProjectOut(vec![0.0; 20]);
    assert!(say(Intervention { layer: 1, rows: Rows::All, change: zero }).contains("length zero"));

    let requests = requests(&shape);
    let sampled = |made| sample(&model, &requests, &[made]).unwrap_err().to_string();
    assert!(sampled(shift(1, Rows::These(vec![1]), good())).contains("a sampler does not have"));
    assert!(sampled(shift(1, Rows::From(300), good())).contains("did not fire"));

    let examples = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        ExampleGradients::new(&model.decoder, &names, [4, 4], 0).err().unwrap().to_string()
    };
    assert!(examples(&[]).contains("need a linear layer"));
    assert!(examples(&["model.norm.weight"]).contains("model.norm.weight is no linear layer"));
    assert!(examples(&["lm_head.weight"]).contains("lm_head.weight is no linear layer"));
    let q = "model.layers.0.self_attn.q_proj.weight";
    assert!(examples(&[q, q]).contains("named twice"));

    let gates = |decoder: &Decoder, gates: &[f32]| decoder.with_gates(gates).err().unwrap().to_string();
    assert!(gates(&model.decoder, &[1.0, 0.0]).contains("no adapter"));
    let (_, mut only_first) = adapted().remove(0);
    let lora = only_first.lora.as_mut().unwrap();
    lora.targets.retain(|target| target.modules[0].starts_with("model.layers.0."));
    let adapted = plain(&only_first).decoder;
    assert!(gates(&adapted, &[1.0]).contains("1 gates for 2 blocks"));
    assert!(gates(&adapted, &[1.5, 1.0]).contains("block 0 is 1.5"));
    assert!(gates(&adapted, &[0.0, 0.0]).contains("block 1 did not fire"));
    let mut mixed = plain(&shape).params;
    let error = mixed.blend(&model.params, &model.params, |_| None).unwrap_err().to_string();
    assert!(error.contains("no parameter was picked"), "{error}");
}
