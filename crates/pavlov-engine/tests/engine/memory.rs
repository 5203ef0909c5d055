//! After the first step, training and sampling allocate nothing of size.
#![expect(unsafe_code, reason = "a counting allocator implements an unsafe trait")]

use crate::common::*;
use pavlov_engine::{Activations, AdamW, AdamWConfig, Control, SampleRequest, Sampler, SamplingParams};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Allocations at least this large count: activations of the test are larger, bookkeeping is smaller.
const LARGE: usize = 8 << 10;

struct Counting;

static LARGE_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static COUNTED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE && COUNTED.try_with(std::cell::Cell::get).unwrap_or(false) {
            LARGE_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
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

#[test]
fn steps_after_the_first_reuse_their_memory() {
    let (_, mut config) = families().remove(0);
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
