//! The sampler against the trainer.

use crate::common::*;
use pavlov_engine::{
    Activations, Batch, Control, DecoderConfig, Dtype, Finish, Isa, SampleRequest, Sampled, Sampler,
    SamplingParams,
};
use pavlov_schema::rng::{Rng, Stream};

fn requests(config: &DecoderConfig) -> Vec<SampleRequest> {
    let mut rng = Rng::new(41, Stream::Data, 0, 0);
    [3, 40, 135, 1, 64]
        .into_iter()
        .enumerate()
        .map(|(i, n)| SampleRequest {
            prompt: tokens(&mut rng, n, config.vocab_size),
            n: 1 + i % 3,
            stream: i as u64,
        })
        .collect()
}

fn sample(model: &Model, requests: &[SampleRequest], params: &SamplingParams, batch: usize) -> Vec<Sampled> {
    let mut sampler = Sampler::new(batch);
    sampler
        .run(&model.decoder, &model.params, requests, params, (7, 0), &mut |_, _, _| Control::Continue)
        .unwrap()
}

fn params() -> SamplingParams {
    SamplingParams {
        temperature: 0.9,
        max_new_tokens: 45,
        stop_tokens: vec![3, 8],
        ..SamplingParams::default()
    }
}

/// Trainer log-probs of sampled answers, in their order.
fn rescored(
    model: &Model,
    requests: &[SampleRequest],
    sampled: &[Sampled],
    temperature: f32,
) -> Vec<Vec<f32>> {
    let mut batch = Batch::new();
    let ranges: Vec<_> = sampled
        .iter()
        .map(|s| {
            let root = batch.forest.push(None, &requests[s.request].prompt);
            let id = batch.forest.push(Some(root), &s.tokens);
            batch.score_segment(id)
        })
        .collect();
    let out =
        model.decoder.forward(&model.params, &batch, temperature, &mut Activations::new(false)).unwrap();
    ranges.into_iter().map(|r| out.logp[r].to_vec()).collect()
}

#[test]
fn sampled_log_probs_are_the_trainers() {
    for (name, config) in families().into_iter().filter(|(_, c)| c.language_head) {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let model = model(&config, 2, Isa::detect(), dtype);
            let requests = requests(&config);
            let sampled = sample(&model, &requests, &params(), 4);
            for (s, trainer) in sampled.iter().zip(rescored(&model, &requests, &sampled, 0.9)) {
                for (a, b) in s.logps.iter().zip(&trainer) {
                    assert!((a - b).abs() < 2e-6, "{name} {dtype:?}: sampler {a}, trainer {b}");
                }
            }
        }
    }
}

#[test]
fn a_seed_gives_the_same_text_whatever_the_batch() {
    for (name, config) in families().into_iter().filter(|(_, c)| c.language_head) {
        let model = plain(&config);
        let requests = requests(&config);
        let together = sample(&model, &requests, &params(), 32);
        assert_eq!(together.len(), requests.iter().map(|r| r.n).sum::<usize>());
        for batch in [1, 3] {
            assert_eq!(sample(&model, &requests, &params(), batch), together, "{name}: batch of {batch}");
        }
        let alone = sample(&model, &requests[2..3], &params(), 8);
        let same: Vec<Sampled> =
            together.iter().filter(|s| s.request == 2).map(|s| Sampled { request: 0, ..s.clone() }).collect();
        assert_eq!(alone, same, "{name}: one request alone");
        let threads = sample(&self::model(&config, 5, Isa::Portable, Dtype::F32), &requests, &params(), 32);
        assert_eq!(threads, together, "{name}: five threads, portable kernels");
    }
}

#[test]
fn choices_and_steps_differ() {
    let (_, config) = families().remove(0);
    let model = plain(&config);
    let request = SampleRequest { prompt: vec![1, 2, 3], n: 8, stream: 0 };
    let run = |step| {
        let mut sampler = Sampler::new(8);
        let requests = std::slice::from_ref(&request);
        sampler
            .run(&model.decoder, &model.params, requests, &params(), (7, step), &mut |_, _, _| {
                Control::Continue
            })
            .unwrap()
    };
    let (first, second) = (run(0), run(1));
    assert_ne!(first[0].tokens, first[1].tokens);
    assert_ne!(first, second);
}

/// Greedy decoding through the cache takes the tokens that the uncached forward pass ranks first.
#[test]
fn greedy_decoding_follows_the_forward_pass() {
    for (name, config) in families().into_iter().filter(|(_, c)| c.language_head) {
        let model = plain(&config);
        let requests = requests(&config);
        let greedy = SamplingParams { temperature: 0.0, ..params() };
        for s in sample(&model, &requests, &greedy, 6) {
            let mut batch = Batch::new();
            let id = batch.forest.push(None, &[&requests[s.request].prompt[..], &s.tokens[..]].concat());
            batch.score_tokens(id, requests[s.request].prompt.len());
            let out =
                model.decoder.forward(&model.params, &batch, 1.0, &mut Activations::new(false)).unwrap();
            assert!(out.correct.iter().all(|c| *c), "{name}");
        }
    }
}

#[test]
fn answers_end_for_their_reason() {
    let (_, config) = families().remove(0);
    let model = plain(&config);
    let requests = requests(&config);
    let mut ends = [0; 2];
    for s in sample(&model, &requests, &params(), 4) {
        let stops = s.tokens.iter().filter(|t| [3, 8].contains(*t)).count();
        match s.finish {
            Finish::Stop => {
                ends[0] += 1;
                assert!(stops == 1 && [3, 8].contains(s.tokens.last().unwrap()));
            }
            Finish::Length => {
                ends[1] += 1;
                assert!(stops == 0 && s.tokens.len() == 45);
            }
            Finish::Callback => panic!("nobody asked"),
        }
    }
    assert!(ends[0] > 0 && ends[1] > 0, "{ends:?}");
    let mut sampler = Sampler::new(4);
    let three = |_: usize, _: usize, token: u32| {
        if token.is_multiple_of(5) { Control::Stop } else { Control::Continue }
    };
    let called =
        sampler.run(&model.decoder, &model.params, &requests, &params(), (7, 0), &mut { three }).unwrap();
    for s in called.iter().filter(|s| s.finish == Finish::Callback) {
        assert!(s.tokens.last().unwrap() % 5 == 0);
    }
    assert!(called.iter().any(|s| s.finish == Finish::Callback));
}

/// The context length bounds an answer.
#[test]
fn the_context_is_never_exceeded() {
    let (_, mut config) = families().remove(5);
    config.max_positions = 20;
    let model = plain(&config);
    let request = SampleRequest { prompt: vec![5; 17], n: 1, stream: 0 };
    let unstopped = SamplingParams { stop_tokens: vec![], ..params() };
    let sampled = sample(&model, std::slice::from_ref(&request), &unstopped, 1);
    assert_eq!((sampled[0].tokens.len(), sampled[0].finish), (3, Finish::Length));
    let full = SampleRequest { prompt: vec![5; 20], n: 1, stream: 0 };
    let error = Sampler::new(1)
        .run(&model.decoder, &model.params, &[full], &params(), (0, 0), &mut |_, _, _| Control::Continue)
        .unwrap_err();
    assert!(error.to_string().contains("prompt 0 has 20 tokens"), "{error}");
}
