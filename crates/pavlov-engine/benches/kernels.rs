//! The kernels one by one, in shapes of a small model, through the same trait as the decoder: `cargo bench -p pavlov-engine`,
//! with `-- NAME` for some of them.
//!
//! Items are FLOPs of products and attention, bytes what must be read and written at least; after the table of times
//! comes one of shares: what each operation reached of the fastest product here, or of the memory's speed.

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Instant;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, bench};
use pavlov_engine::backend::{
    AdamWStep, AttentionSaved, AttentionShape, Backend, Linear, LinearGradient, MatrixGradient, NormWeight,
    Score, TableStorage, Updated, Weight,
};
use pavlov_engine::plan::AttentionPlan;
use pavlov_engine::profile::{Kind, Record};
use pavlov_engine::{Activation, Buffer, Cpu, Dtype, Forest, Half, NormKind};
use pavlov_schema::rng::{Rng, Stream};

/// One device for each number format, so that their records stay apart.
static CPUS: LazyLock<[Cpu; 2]> = LazyLock::new(|| {
    [(); 2].map(|()| {
        let cpu = Cpu::new(0);
        cpu.profile().switch(true);
        cpu
    })
});

fn cpu(dtype: Dtype) -> &'static Cpu {
    &CPUS[usize::from(dtype == Dtype::Bf16)]
}

/// Rows, outputs and inputs: an update of a small model, one of a larger, and decoding 32, 8 and 1 answers.
const PRODUCTS: [[usize; 3]; 6] =
    [[1024, 256, 256], [1024, 688, 256], [512, 1536, 576], [32, 1536, 576], [8, 1536, 576], [1, 1536, 576]];
const DTYPES: [Dtype; 2] = [Dtype::F32, Dtype::Bf16];
/// Rows of activations and their width.
const ROWS: usize = 1024;
const WIDTH: usize = 576;
const HEADS: AttentionShape = AttentionShape { heads: 9, kv_heads: 3, head_dim: 64, window: None };

fn main() {
    divan::main();
    for dtype in DTYPES {
        shares(cpu(dtype), dtype);
    }
}

fn products() -> Vec<(Dtype, [usize; 3])> {
    DTYPES.into_iter().flat_map(|dtype| PRODUCTS.map(|shape| (dtype, shape))).collect()
}

fn random(cpu: &Cpu, len: usize) -> Buffer {
    let mut rng = Rng::new(0, Stream::Init, 0, len as u64);
    let data: Vec<f32> = (0..len).map(|_| rng.normal()).collect();
    let mut buffer = cpu.zeros(0);
    cpu.upload(&mut buffer, &data);
    buffer
}

/// A random weight and its copy in bf16 if products are to read that.
fn weight(cpu: &Cpu, rows: usize, cols: usize, dtype: Dtype) -> (Buffer, Option<Half>) {
    let data = random(cpu, rows * cols);
    let mut master = cpu.zeros(cpu.matrix_len(rows, cols));
    cpu.upload_matrix(&mut master, rows, cols, &data);
    let mut half = None;
    if dtype == Dtype::Bf16 {
        cpu.narrow(&mut half, &master, cols, true);
    }
    (master, half)
}

fn flops(shape: [usize; 3]) -> ItemsCount {
    ItemsCount::new(2 * shape.into_iter().product::<usize>())
}

fn floats(count: usize) -> BytesCount {
    BytesCount::new(4 * count)
}

#[bench(args = products())]
fn product_forward(bencher: Bencher, (dtype, [m, rows, cols]): (Dtype, [usize; 3])) {
    let cpu = cpu(dtype);
    let (master, half) = weight(cpu, rows, cols, dtype);
    let (x, mut y) = (random(cpu, m * cols), random(cpu, m * rows));
    let w = Weight { master: &master, compute: half.as_ref(), rows, cols };
    bencher.counter(flops([m, rows, cols])).bench_local(|| {
        let layer = Linear { y: &mut y, weight: w, bias: None, accumulate: false };
        cpu.linear(&x, m, &mut [layer]);
    });
}

#[bench(args = products())]
fn product_input_gradient(bencher: Bencher, (dtype, [m, rows, cols]): (Dtype, [usize; 3])) {
    let cpu = cpu(dtype);
    let (master, half) = weight(cpu, rows, cols, dtype);
    let (x, mut dx, dy) = (cpu.zeros(0), random(cpu, m * cols), random(cpu, m * rows));
    let w = Weight { master: &master, compute: half.as_ref(), rows, cols };
    bencher.counter(flops([m, rows, cols])).bench_local(|| {
        let layer = LinearGradient { dy: &dy, weight: w, dweight: None };
        cpu.linear_backward(&x, m, &mut [layer], Some((&mut dx, false)));
    });
}

#[bench(args = products())]
fn product_weight_gradient(bencher: Bencher, (dtype, [m, rows, cols]): (Dtype, [usize; 3])) {
    let cpu = cpu(dtype);
    let (master, half) = weight(cpu, rows, cols, dtype);
    let (x, dy) = (random(cpu, m * cols), random(cpu, m * rows));
    let mut dw = cpu.zeros(cpu.matrix_len(rows, cols));
    let w = Weight { master: &master, compute: half.as_ref(), rows, cols };
    bencher.counter(flops([m, rows, cols])).bench_local(|| {
        let layer = LinearGradient {
            dy: &dy,
            weight: w,
            dweight: Some(MatrixGradient { data: &mut dw, accumulate: true }),
        };
        cpu.linear_backward(&x, m, &mut [layer], None);
    });
}

/// Targets, vocabulary and width of the language head.
const HEAD: [usize; 3] = [1024, 8192, 384];

#[bench(args = DTYPES)]
fn head_forward(bencher: Bencher, dtype: Dtype) {
    let [m, rows, cols] = HEAD;
    let cpu = cpu(dtype);
    let (master, half) = weight(cpu, rows, cols, dtype);
    let x = random(cpu, m * cols);
    let (mut scores, targets) = (vec![Score::default(); m], vec![7; m]);
    let w = Weight { master: &master, compute: half.as_ref(), rows, cols };
    bencher.counter(flops(HEAD)).bench_local(|| cpu.score(&mut scores, &x, w, &targets, 1.0));
}

#[bench(args = DTYPES)]
fn head_backward(bencher: Bencher, dtype: Dtype) {
    let [m, rows, cols] = HEAD;
    let cpu = cpu(dtype);
    let (master, half) = weight(cpu, rows, cols, dtype);
    let (x, mut dx) = (random(cpu, m * cols), random(cpu, m * cols));
    let mut dw = cpu.zeros(cpu.matrix_len(rows, cols));
    let (mut scores, targets) = (vec![Score::default(); m], vec![7; m]);
    let w = Weight { master: &master, compute: half.as_ref(), rows, cols };
    cpu.score(&mut scores, &x, w, &targets, 1.0);
    let (ones, zeros) = (vec![1.0; m], vec![0.0; m]);
    bencher.counter(flops([2 * m, rows, cols])).bench_local(|| {
        let dw = Some(MatrixGradient { data: &mut dw, accumulate: true });
        cpu.score_backward(&mut dx, dw, &scores, &x, w, &targets, [&ones, &zeros], 1.0);
    });
}

/// Queries, keys and values of sequences, and the pattern of their attention.
struct Attention {
    plan: AttentionPlan,
    q: Buffer,
    k: Buffer,
    v: Buffer,
    key_store: Buffer,
    value_store: Buffer,
    out: Buffer,
    lse: Buffer,
}

impl Attention {
    /// `count` sequences of `len` tokens.
    fn new(cpu: &Cpu, count: usize, len: usize) -> Self {
        let mut forest = Forest::new();
        for _ in 0..count {
            forest.push(None, &vec![0; len]);
        }
        let mut plan = AttentionPlan::default();
        plan.of_forest(&forest);
        let (width, rows) = (HEADS.kv_heads * HEADS.head_dim, count * len);
        let (k, v) = (random(cpu, rows * width), random(cpu, rows * width));
        let (mut key_store, mut value_store) = (cpu.zeros(plan.slots * width), cpu.zeros(plan.slots * width));
        cpu.store_keys(&mut key_store, width, &k, &plan);
        cpu.store_keys(&mut value_store, width, &v, &plan);
        let q = random(cpu, rows * HEADS.heads * HEADS.head_dim);
        let (mut out, mut lse) = (cpu.zeros(q.len()), cpu.zeros(rows * HEADS.heads));
        cpu.attention(&mut out, &mut lse, &q, &key_store, &v, HEADS, &plan);
        Self { plan, q, k, v, key_store, value_store, out, lse }
    }

    fn flops(&self, passes: usize) -> ItemsCount {
        ItemsCount::new(4 * passes * self.plan.pairs(None) as usize * HEADS.heads * HEADS.head_dim)
    }
}

const SEQUENCES: [(usize, usize); 3] = [(8, 128), (2, 512), (1, 2048)];

#[bench(args = SEQUENCES)]
fn attention_forward(bencher: Bencher, (count, len): (usize, usize)) {
    let cpu = cpu(Dtype::F32);
    let mut a = Attention::new(cpu, count, len);
    bencher
        .counter(a.flops(1))
        .bench_local(|| cpu.attention(&mut a.out, &mut a.lse, &a.q, &a.key_store, &a.v, HEADS, &a.plan));
}

#[bench(args = SEQUENCES)]
fn attention_backward(bencher: Bencher, (count, len): (usize, usize)) {
    let cpu = cpu(Dtype::F32);
    let a = Attention::new(cpu, count, len);
    let dout = random(cpu, a.q.len());
    let (mut dq, mut dk, mut dv) = (cpu.zeros(a.q.len()), cpu.zeros(a.k.len()), cpu.zeros(a.k.len()));
    let Attention { q, k, key_store, value_store, out, lse, .. } = &a;
    bencher.counter(a.flops(2)).bench_local(|| {
        let saved = AttentionSaved { q, k, key_store, value_store, out, lse };
        cpu.attention_backward([&mut dq, &mut dk, &mut dv], &dout, &saved, HEADS, &a.plan);
    });
}

#[bench]
fn norm_forward(bencher: Bencher) {
    let cpu = cpu(Dtype::F32);
    let (x, mut y, mut stats) = (random(cpu, ROWS * WIDTH), random(cpu, ROWS * WIDTH), cpu.zeros(2 * ROWS));
    let weight = random(cpu, WIDTH);
    let norm = NormWeight { kind: NormKind::Rms, width: WIDTH, eps: 1e-5, weight: &weight, bias: None };
    bencher.counter(floats(2 * x.len())).bench_local(|| cpu.norm(&mut y, &mut stats, &x, &norm));
}

#[bench]
fn norm_backward(bencher: Bencher) {
    let cpu = cpu(Dtype::F32);
    let (x, mut y, mut stats) = (random(cpu, ROWS * WIDTH), random(cpu, ROWS * WIDTH), cpu.zeros(2 * ROWS));
    let (weight, mut dx) = (random(cpu, WIDTH), random(cpu, ROWS * WIDTH));
    let norm = NormWeight { kind: NormKind::Rms, width: WIDTH, eps: 1e-5, weight: &weight, bias: None };
    cpu.norm(&mut y, &mut stats, &x, &norm);
    bencher
        .counter(floats(3 * x.len()))
        .bench_local(|| cpu.norm_backward(&mut dx, &y, &x, &stats, &norm, false));
}

#[bench]
fn rotary(bencher: Bencher) {
    let cpu = cpu(Dtype::F32);
    let mut x = random(cpu, ROWS * WIDTH);
    let table = random(cpu, ROWS * HEADS.head_dim);
    let positions: Vec<u32> = (0..ROWS as u32).collect();
    bencher
        .counter(floats(2 * x.len()))
        .bench_local(|| cpu.rotary(&mut x, WIDTH, HEADS.head_dim, &positions, &table, false));
}

#[bench]
fn activation_forward(bencher: Bencher) {
    let cpu = cpu(Dtype::F32);
    let [gate, up, mut out] = [0; 3].map(|_| random(cpu, ROWS * WIDTH));
    bencher
        .counter(floats(3 * up.len()))
        .bench_local(|| cpu.activate(&mut out, Activation::Silu, Some(&gate), &up));
}

#[bench]
fn activation_backward(bencher: Bencher) {
    let cpu = cpu(Dtype::F32);
    // At zero the derivatives stay where they are, however often they overwrite their inputs.
    let [dout, mut gate, mut up] = [0; 3].map(|_| cpu.zeros(ROWS * WIDTH));
    bencher
        .counter(floats(5 * dout.len()))
        .bench_local(|| cpu.activate_backward(&dout, Activation::Silu, Some(&mut gate), &mut up));
}

#[bench]
fn residual(bencher: Bencher) {
    let cpu = cpu(Dtype::F32);
    let (mut x, y) = (cpu.zeros(ROWS * WIDTH), cpu.zeros(ROWS * WIDTH));
    bencher.counter(floats(3 * y.len())).bench_local(|| cpu.add(&mut x, &y));
}

#[bench]
fn embedding_forward(bencher: Bencher) {
    let cpu = cpu(Dtype::F32);
    let (mut x, table) = (cpu.zeros(ROWS * WIDTH), random(cpu, 8192 * WIDTH));
    let ids: Vec<u32> = (0..ROWS as u32).map(|i| i * 7919 % 8192).collect();
    bencher
        .counter(floats(2 * x.len()))
        .bench_local(|| cpu.embed(&mut x, &table, TableStorage::Rows, &ids, WIDTH, false));
}

#[bench]
fn gradient_norm(bencher: Bencher) {
    let cpu = cpu(Dtype::F32);
    let x = random(cpu, 4 << 20);
    bencher.counter(floats(x.len())).bench_local(|| cpu.square_sum(black_box(&x)));
}

#[bench]
fn optimizer(bencher: Bencher) {
    let cpu = cpu(Dtype::F32);
    let [mut w, g, mut m] = [0; 3].map(|_| random(cpu, 4 << 20));
    let mut v = cpu.zeros(w.len());
    let step = AdamWStep {
        decay: 1.0,
        step_size: 1e-5,
        root_correction2: 1.0,
        rise1: 0.1,
        beta2: 0.999,
        rise2: 0.001,
        eps: 1e-8,
        grad_scale: 1.0,
    };
    bencher
        .counter(floats(7 * w.len()))
        .bench_local(|| cpu.adamw(step, Updated::Values(&mut w), &g, &mut m, &mut v));
}

/// A table of what the calls since the start reached of this machine's limits, on average.
fn shares(cpu: &Cpu, dtype: Dtype) {
    let records = cpu.profile().take();
    // `--test` and `--list` measure nothing.
    if records.values().map(|record| record.calls).sum::<u64>() < 1000 {
        return;
    }
    let (peak, memory) = limits(cpu, dtype);
    println!("\n{dtype:?}: of {:.1} GFLOP/s and {:.1} GB/s", peak / 1e9, memory / 1e9);
    println!("{:<24} {:<20} {:>9} {:>9} {:>9}", "operation", "shape", "GFLOP/s", "GB/s", "share");
    for (Kind { operation, shape }, record) in records {
        let Record { time, flops, bytes, .. } = record;
        let time = time.as_secs_f64();
        let (rate, speed) = (flops as f64 / time, bytes as f64 / time);
        let shape = shape.map_or_else(String::new, |[m, n, k]| format!("≤{m} × {n} × {k}"));
        let share = 100.0 * (rate / peak).max(speed / memory);
        println!(
            "{:<24} {shape:<20} {:>9.1} {:>9.1} {share:>8.0}%",
            operation.name(),
            rate / 1e9,
            speed / 1e9
        );
    }
}

/// FLOP/s of the fastest of three products, and bytes a second of the fastest of three passes over memory.
fn limits(cpu: &Cpu, dtype: Dtype) -> (f64, f64) {
    let [m, rows, cols] = [1024; 3];
    let (master, half) = weight(cpu, rows, cols, dtype);
    let (x, mut y) = (random(cpu, m * cols), random(cpu, m * rows));
    let w = Weight { master: &master, compute: half.as_ref(), rows, cols };
    let product = best(|| {
        let layer = Linear { y: &mut y, weight: w, bias: None, accumulate: false };
        cpu.linear(&x, m, &mut [layer]);
    });
    let words = vec![1_u64; 32 << 20];
    let read = best(|| {
        std::thread::scope(|scope| {
            for part in words.chunks(words.len().div_ceil(cpu.threads())) {
                scope.spawn(|| black_box(part.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word))));
            }
        });
    });
    cpu.profile().take();
    (2.0 * (m * rows * cols) as f64 / product, (8 * words.len()) as f64 / read)
}

/// Seconds of the fastest run of ten.
fn best(mut run: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..10).map(time).fold(f64::INFINITY, f64::min)
}
