//! What this machine can do at most: the fastest matrix product, and how fast memory is read.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pavlov_engine::backend::{Backend, Linear, LinearGradient, MatrixGradient, Weight};
use pavlov_engine::{Buffer, Cpu, Dtype, Half};
use pavlov_schema::rng::{Rng, Stream};

/// Rows, outputs and inputs of the products that the peak is looked for in: large, and in caches or beyond them.
const LARGE: [[usize; 3]; 4] = [[1024, 1024, 1024], [512, 512, 2048], [1024, 2048, 512], [2048, 1536, 576]];
/// Each product is repeated for this long, and its fastest run counts.
const PATIENCE: Duration = Duration::from_millis(60);
/// Memory that is read to measure its speed: more than any cache holds.
const READ_BYTES: usize = 256 << 20;

/// The limits that floors are computed from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// FLOP/s of matrix products in the number format of the run.
    pub(super) flops: f64,
    /// Bytes a second that all threads read from memory together, if they were measured.
    pub(super) bytes: Option<f64>,
    /// Seconds to wake all threads and wait for them.
    pub(super) fork: f64,
}

impl Limits {
    /// The shortest time that work can take, in seconds.
    pub(super) fn floor(&self, flops: u64, bytes: u64) -> f64 {
        let memory = self.bytes.map_or(0.0, |limit| bytes as f64 / limit);
        memory.max(flops as f64 / self.flops)
    }
}

/// Which of the three products of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// y = x·Wᵀ.
    Forward,
    /// dx = dy·W.
    InputGradient,
    /// dW = dyᵀ·x.
    WeightGradient,
}

impl Pass {
    pub(super) const ALL: [Self; 3] = [Self::Forward, Self::InputGradient, Self::WeightGradient];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::InputGradient => "input gradient",
            Self::WeightGradient => "weight gradient",
        }
    }
}

/// The operands of a product.
pub(super) struct Product<'a> {
    cpu: &'a Cpu,
    shape: [usize; 3],
    x: Buffer,
    y: Buffer,
    master: Buffer,
    gradient: Buffer,
    half: Option<Half>,
}

impl<'a> Product<'a> {
    /// Random operands of a linear layer with [rows, outputs, inputs].
    pub(super) fn new(cpu: &'a Cpu, shape: [usize; 3], dtype: Dtype) -> Self {
        let [m, n, k] = shape;
        let mut rng = Rng::new(0, Stream::Init, 0, 0);
        let mut random = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.normal()).collect() };
        let (mut x, mut y) = (cpu.zeros(0), cpu.zeros(0));
        cpu.upload(&mut x, &random(m * k));
        cpu.upload(&mut y, &random(m * n));
        let mut master = cpu.zeros(cpu.matrix_len(n, k));
        cpu.upload_matrix(&mut master, n, k, &random(n * k));
        let mut half = None;
        if dtype == Dtype::Bf16 {
            cpu.narrow(&mut half, &master, k, true);
        }
        Self { cpu, shape, x, y, master, gradient: cpu.zeros(cpu.matrix_len(n, k)), half }
    }

    fn run(&mut self, pass: Pass) {
        let [m, rows, cols] = self.shape;
        let weight = Weight { master: &self.master, compute: self.half.as_ref(), rows, cols };
        match pass {
            Pass::Forward => {
                let layer = Linear { y: &mut self.y, weight, bias: None, accumulate: false };
                self.cpu.linear(&self.x, m, &mut [layer]);
            }
            Pass::InputGradient => {
                let layer = LinearGradient { dy: &self.y, weight, dweight: None };
                self.cpu.linear_backward(&self.master, m, &mut [layer], Some((&mut self.x, false)));
            }
            Pass::WeightGradient => {
                let dweight = Some(MatrixGradient { data: &mut self.gradient, accumulate: true });
                let layer = LinearGradient { dy: &self.y, weight, dweight };
                self.cpu.linear_backward(&self.x, m, &mut [layer], None);
            }
        }
    }

    /// The fastest run in seconds.
    pub(super) fn seconds(&mut self, pass: Pass) -> f64 {
        let start = Instant::now();
        let mut best = f64::INFINITY;
        let mut runs = 0;
        while runs < 3 || start.elapsed() < PATIENCE {
            let begin = Instant::now();
            self.run(pass);
            best = best.min(begin.elapsed().as_secs_f64());
            runs += 1;
        }
        best
    }

    /// Multiplications and additions of a run.
    pub(super) fn flops(&self) -> f64 {
        2.0 * self.shape.iter().map(|size| *size as f64).product::<f64>()
    }
}

/// A large product and its speed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peak {
    pub(super) pass: Pass,
    pub(super) shape: [usize; 3],
    /// FLOP/s.
    pub(super) flops: f64,
}

/// Every large product.
pub(super) fn large_products(cpu: &Cpu, dtype: Dtype) -> Vec<Peak> {
    let mut all = Vec::new();
    for shape in LARGE {
        let mut product = Product::new(cpu, shape, dtype);
        for pass in Pass::ALL {
            all.push(Peak { pass, shape, flops: product.flops() / product.seconds(pass) });
        }
    }
    all
}

/// The fastest of the large products, in FLOP/s.
pub(super) fn peak(cpu: &Cpu, dtype: Dtype) -> f64 {
    large_products(cpu, dtype).iter().fold(0.0, |best: f64, product| best.max(product.flops))
}

/// Seconds to wake all threads of a device and wait for them: the mean of many times in a row, when they are awake.
pub(super) fn fork(cpu: &Cpu) -> f64 {
    const TIMES: u32 = 10_000;
    let start = Instant::now();
    (0..TIMES).for_each(|_| cpu.fork_and_join());
    start.elapsed().as_secs_f64() / f64::from(TIMES)
}

/// Bytes a second that all threads of a device read from memory together: the best of several passes.
pub(super) fn read_bandwidth(cpu: &Cpu) -> f64 {
    let words = vec![1_u64; READ_BYTES / size_of::<u64>()];
    let share = words.len().div_ceil(cpu.threads());
    let pass = || {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for part in words.chunks(share) {
                scope.spawn(|| black_box(part.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word))));
            }
        });
        start.elapsed().as_secs_f64()
    };
    READ_BYTES as f64 / (0..5).map(|_| pass()).fold(f64::INFINITY, f64::min)
}
