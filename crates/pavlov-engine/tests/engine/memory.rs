//! After the first step, training and sampling allocate nothing of size.
#![expect(unsafe_code, reason = "a counting allocator implements an unsafe trait")]

use crate::common::*;
use pavlov_engine::{Activations, AdamW, AdamWConfig, Control, SampleRequest, Sampler, SamplingParams};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

/// The counters are of one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Allocations at least this large count: activations of the test are larger, bookkeeping is smaller.
const LARGE: usize = 8 << 10;

struct Counting;

static LARGE_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// Bytes allocated minus bytes freed, and the most that this was.
static HELD: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static COUNTED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTED.try_with(std::cell::Cell::get).unwrap_or(false) {
            LARGE_ALLOCATIONS.fetch_add(usize::from(layout.size() >= LARGE), Ordering::Relaxed);
            let held = HELD.fetch_add(layout.size() as isize, Ordering::Relaxed) + layout.size() as isize;
            PEAK.fetch_max(held, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if COUNTED.try_with(std::cell::Cell::get).unwrap_or(false) {
            HELD.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Large allocations of `work` on this thread.
fn count(work: impl FnOnce()) -> usize {
    LARGE_ALLOCATIONS.store(0, Ordering::Relaxed);
    COUNTED.set(true);
    work();
    COUNTED.set(false);
    LARGE_ALLOCATIONS.load(Ordering::Relaxed)
}

/// What `work` returns, the bytes that are still held after it, and the most that were meanwhile.
fn measure<T>(work: impl FnOnce() -> T) -> (T, [isize; 2]) {
    HELD.store(0, Ordering::Relaxed);
    PEAK.store(0, Ordering::Relaxed);
    COUNTED.set(true);
    let made = work();
    COUNTED.set(false);
    (made, [HELD.load(Ordering::Relaxed), PEAK.load(Ordering::Relaxed)])
}

/// Weights, gradients and moments: 16 bytes a parameter that is trained in bf16, 2 of one that is frozen, and loading
/// needs no more than one parameter's f32 beside them.
#[test]
fn frozen_parameters_take_two_bytes() {
    let _one = ONE.lock();
    let (_, mut shape) = adapted().remove(0);
    (shape.vocab_size, shape.hidden_size, shape.intermediate_size) = (2048, 256, 512);
    (shape.num_heads, shape.num_kv_heads, shape.head_dim) = (4, 4, 64);
    let bytes = |shape: &Shape| {
        let make = || {
            let model = model(shape, 1, pavlov_engine::Isa::detect(), pavlov_engine::Dtype::Bf16);
            let (grads, adamw) =
                (model.decoder.gradients(), AdamW::new(&model.decoder, AdamWConfig::default()));
            (model, grads, adamw)
        };
        let ((model, ..), held) = measure(make);
        let (all, trained) = (model.params.count(), model.params.trainable_count());
        ([all as isize, trained as isize], held)
    };
    let (whole, [held, _]) = bytes(&Shape { lora: None, ..shape.clone() });
    let expected = 16 * whole[0];
    assert!((held - expected).abs() < expected / 50, "trained whole: {held} bytes, not {expected}");
    let (adapted, [held, peak]) = bytes(&shape);
    // A panel of 32 rows is the least that an A takes.
    let expected = 2 * (adapted[0] - adapted[1]);
    let most = expected + 16 * 32 * adapted[1] / 2;
    assert!((expected..most).contains(&held), "by an adapter: {held} bytes, not {expected} to {most}");
    let largest = 2048 * 256;
    assert!(peak - held < 3 * 4 * largest, "making it needs {} bytes more", peak - held);
}

#[test]
fn steps_after_the_first_reuse_their_memory() {
    let _one = ONE.lock();
    for (_, shape) in [families().remove(0), adapted().remove(0)] {
        reuses_memory(shape);
    }
}

fn reuses_memory(mut config: Shape) {
    config.vocab_size = 1000;
    let mut model = model(&config, 1, pavlov_engine::Isa::detect(), pavlov_engine::Dtype::Bf16);
    let batch = forest(&config);
    let mut acts = Activations::new(false);
    let mut grads = model.decoder.gradients();
    let mut adamw = AdamW::new(&model.decoder, AdamWConfig::default());
    let mut train = || {
        grads.zero();
        let outputs = model.decoder.forward(&model.params, &batch, 1.0, &mut acts).unwrap();
        let d = coefficients(&outputs);
        model.decoder.backward(&model.params, &batch, 1.0, &d, &mut acts, &mut grads).unwrap();
        adamw.step(&mut model.params, &grads, 1e-3, 1.0);
    };
    assert!(count(&mut train) > 10, "the first step allocates, and this test can see it");
    assert_eq!(count(&mut train), 0);

    let requests: Vec<SampleRequest> =
        (0..6).map(|i| SampleRequest { prompt: vec![1; 50 + i as usize], n: 2, stream: i }).collect();
    let params = SamplingParams { max_new_tokens: 20, ..SamplingParams::default() };
    let mut sampler = Sampler::new(8);
    let mut sample = |max: usize| {
        let params = SamplingParams { max_new_tokens: max, ..params.clone() };
        let (d, p) = (&model.decoder, &model.params);
        count(|| {
            sampler.run(d, p, &requests, &params, (0, 0), &mut |_, _, _| Control::Continue).unwrap();
        })
    };
    sample(20);
    // What is left per call is the host's copy of logits, once a prompt batch, not once a token.
    let (short, long) = (sample(5), sample(20));
    assert_eq!(short, long, "large allocations must not grow with the number of tokens");
}
