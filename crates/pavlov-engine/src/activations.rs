//! The memory of a forward and a backward pass, kept between calls: after the first step of a size, nothing is
//! allocated.

use crate::backend::{Backend, Score};
use crate::config::{DecoderConfig, Position, rotary_frequencies};
use crate::cpu::Cpu;
use crate::parameters::LINEARS;
use crate::plan::AttentionPlan;

/// What a block's backward pass reads again.
pub(crate) struct BlockActivations<B: Backend> {
    /// Its large arrays, or nothing while they are kept as bf16.
    pub(crate) wide: Wide<B>,
    halves: [Option<B::Half>; WIDE],
    pub(crate) stats1: B::Buffer,
    /// Queries and keys before their norms, and the statistics of those.
    pub(crate) raw: [B::Buffer; 2],
    pub(crate) raw_stats: [B::Buffer; 2],
    pub(crate) lse: B::Buffer,
    /// The residual stream between the two halves.
    pub(crate) mid: B::Buffer,
    pub(crate) stats2: B::Buffer,
    /// What the low-rank update of each linear layer gives its second matrix, \[rows, rank\]; empty without an adapter.
    pub(crate) low: [B::Buffer; LINEARS],
}

/// The arrays that make up most of a block's memory. Where products run in bf16 they are kept as bf16 between the two
/// passes, half the bytes: all blocks then compute in one set of arrays, lent to each in turn.
pub(crate) struct Wide<B: Backend> {
    pub(crate) q: B::Buffer,
    pub(crate) k: B::Buffer,
    pub(crate) v: B::Buffer,
    /// What attention gives to its output layer.
    pub(crate) out: B::Buffer,
    pub(crate) gate: B::Buffer,
    pub(crate) up: B::Buffer,
}

/// Arrays of a [`Wide`].
const WIDE: usize = 6;

/// Arrays that every block uses in turn.
pub(crate) struct Shared<B: Backend> {
    wide: Wide<B>,
    pub(crate) normed: B::Buffer,
    pub(crate) act: B::Buffer,
    pub(crate) key_store: B::Buffer,
    pub(crate) value_store: B::Buffer,
    pub(crate) rotary: B::Buffer,
    rotary_positions: usize,
}

/// Gradients of activations.
pub(crate) struct Backward<B: Backend> {
    pub(crate) dx: B::Buffer,
    pub(crate) dnormed: B::Buffer,
    pub(crate) dact: B::Buffer,
    pub(crate) dout: B::Buffer,
    pub(crate) dq: B::Buffer,
    pub(crate) dk: B::Buffer,
    pub(crate) dv: B::Buffer,
    pub(crate) draw: [B::Buffer; 2],
    pub(crate) dlow: B::Buffer,
}

/// Rows of the last block's output that a head reads.
pub(crate) struct HeadActivations<B: Backend> {
    pub(crate) rows: Vec<u32>,
    pub(crate) gathered: B::Buffer,
    pub(crate) normed: B::Buffer,
    pub(crate) stats: B::Buffer,
    pub(crate) outputs: B::Buffer,
    pub(crate) doutputs: B::Buffer,
    pub(crate) dnormed: B::Buffer,
    pub(crate) dgathered: B::Buffer,
}

/// Working memory of a decoder's passes.
pub struct Activations<B: Backend = Cpu> {
    pub(crate) recompute: bool,
    /// Whether blocks keep their large arrays as bf16.
    pub(crate) halved: bool,
    pub(crate) plan: AttentionPlan,
    /// The residual stream before each block and after the last; in recompute mode all that is kept.
    pub(crate) streams: Vec<B::Buffer>,
    pub(crate) blocks: Vec<BlockActivations<B>>,
    pub(crate) shared: Option<Shared<B>>,
    pub(crate) backward: Option<Backward<B>>,
    pub(crate) targets: Option<HeadActivations<B>>,
    pub(crate) reads: Option<HeadActivations<B>>,
    pub(crate) target_tokens: Vec<u32>,
    pub(crate) scores: Vec<Score>,
}

impl<B: Backend> Activations<B> {
    /// Empty memory. With `recompute`, only the stream between blocks is kept and each block is computed again during
    /// the backward pass: a block's worth of memory instead of all blocks', for a third more time.
    pub fn new(recompute: bool) -> Self {
        Self {
            recompute,
            halved: false,
            plan: AttentionPlan::default(),
            streams: Vec::new(),
            blocks: Vec::new(),
            shared: None,
            backward: None,
            targets: None,
            reads: None,
            target_tokens: Vec::new(),
            scores: Vec::new(),
        }
    }

    /// Sizes the memory of a forward pass over `rows` rows with `kept` blocks and `streams` residual streams.
    pub(crate) fn fit(
        &mut self,
        backend: &B,
        config: &DecoderConfig,
        rows: usize,
        [kept, streams]: [usize; 2],
        positions: usize,
    ) {
        while self.streams.len() < streams {
            self.streams.push(backend.zeros(0));
        }
        while self.blocks.len() < kept {
            self.blocks.push(BlockActivations::empty(backend));
        }
        for stream in &mut self.streams[..streams] {
            backend.resize(stream, rows * config.hidden_size);
        }
        let shared = self.shared.get_or_insert_with(|| Shared::empty(backend));
        for block in &mut self.blocks[..kept] {
            block.fit(backend, config, rows);
            if !self.halved {
                block.wide.fit(backend, config, rows);
            }
        }
        if self.halved {
            shared.wide.fit(backend, config, rows);
        }
        backend.resize(&mut shared.normed, rows * config.hidden_size);
        backend.resize(&mut shared.act, rows * config.intermediate_size);
        shared.fit_rotary(backend, config, positions);
    }

    /// Sizes the memory of a backward pass.
    pub(crate) fn fit_backward(&mut self, backend: &B, config: &DecoderConfig, rows: usize) {
        let b = self.backward.get_or_insert_with(|| Backward {
            dx: backend.zeros(0),
            dnormed: backend.zeros(0),
            dact: backend.zeros(0),
            dout: backend.zeros(0),
            dq: backend.zeros(0),
            dk: backend.zeros(0),
            dv: backend.zeros(0),
            draw: [backend.zeros(0), backend.zeros(0)],
            dlow: backend.zeros(0),
        });
        backend.resize(&mut b.dx, rows * config.hidden_size);
        backend.resize(&mut b.dnormed, rows * config.hidden_size);
        backend.resize(&mut b.dact, rows * config.intermediate_size);
        backend.resize(&mut b.dout, rows * config.query_width());
        backend.resize(&mut b.dq, rows * config.query_width());
        backend.resize(&mut b.dk, rows * config.kv_width());
        backend.resize(&mut b.dv, rows * config.kv_width());
        if config.qk_norm {
            backend.resize(&mut b.draw[0], rows * config.query_width());
            backend.resize(&mut b.draw[1], rows * config.kv_width());
        }
    }
}

impl<B: Backend> BlockActivations<B> {
    fn empty(backend: &B) -> Self {
        let zero = || backend.zeros(0);
        Self {
            wide: Wide::empty(backend),
            halves: std::array::from_fn(|_| None),
            stats1: zero(),
            raw: [zero(), zero()],
            raw_stats: [zero(), zero()],
            lse: zero(),
            mid: zero(),
            stats2: zero(),
            low: std::array::from_fn(|_| zero()),
        }
    }

    fn fit(&mut self, backend: &B, config: &DecoderConfig, rows: usize) {
        let (qw, kw) = (config.query_width(), config.kv_width());
        backend.resize(&mut self.stats1, 2 * rows);
        backend.resize(&mut self.stats2, 2 * rows);
        if config.qk_norm {
            backend.resize(&mut self.raw[0], rows * qw);
            backend.resize(&mut self.raw[1], rows * kw);
            backend.resize(&mut self.raw_stats[0], 2 * rows * config.num_heads);
            backend.resize(&mut self.raw_stats[1], 2 * rows * config.num_kv_heads);
        }
        backend.resize(&mut self.lse, rows * config.num_heads);
        backend.resize(&mut self.mid, rows * config.hidden_size);
    }

    /// Gives the block the shared arrays to compute in; before its backward pass with what it kept.
    pub(crate) fn borrow(&mut self, shared: &mut Shared<B>, backend: &B, recall: bool) {
        if recall {
            for (array, half) in shared.wide.arrays().into_iter().zip(&self.halves) {
                backend.unpack(array, half.as_ref().expect("kept by the forward pass"));
            }
        }
        std::mem::swap(&mut self.wide, &mut shared.wide);
    }

    /// Its queries and keys of so many rows after a forward pass; `halved` says that it kept them as bf16.
    pub(crate) fn queries_and_keys(
        &self,
        backend: &B,
        config: &DecoderConfig,
        rows: usize,
        halved: bool,
    ) -> [Vec<f32>; 2] {
        let [mut q, mut k] = [Vec::new(), Vec::new()];
        if halved {
            let mut array = backend.zeros(0);
            let widths = [(&mut q, config.query_width()), (&mut k, config.kv_width())];
            for ((to, width), half) in widths.into_iter().zip(&self.halves) {
                backend.resize(&mut array, rows * width);
                backend.unpack(&mut array, half.as_ref().expect("kept by the forward pass"));
                backend.download(to, &array);
            }
        } else {
            backend.download(&mut q, &self.wide.q);
            backend.download(&mut k, &self.wide.k);
        }
        [q, k]
    }

    /// Gives the shared arrays back; after the forward pass it keeps what they hold.
    pub(crate) fn give_back(&mut self, shared: &mut Shared<B>, backend: &B, keep: bool) {
        std::mem::swap(&mut self.wide, &mut shared.wide);
        if keep {
            for (array, half) in shared.wide.arrays().into_iter().zip(&mut self.halves) {
                backend.pack(half, array);
            }
        }
    }
}

impl<B: Backend> Wide<B> {
    fn empty(backend: &B) -> Self {
        let zero = || backend.zeros(0);
        Self { q: zero(), k: zero(), v: zero(), out: zero(), gate: zero(), up: zero() }
    }

    fn fit(&mut self, backend: &B, config: &DecoderConfig, rows: usize) {
        let (qw, kw, f) = (config.query_width(), config.kv_width(), config.intermediate_size);
        let widths = [qw, kw, kw, qw, if config.gated_mlp { f } else { 0 }, f];
        for (array, width) in self.arrays().into_iter().zip(widths) {
            backend.resize(array, rows * width);
        }
    }

    fn arrays(&mut self) -> [&mut B::Buffer; WIDE] {
        let Self { q, k, v, out, gate, up } = self;
        [q, k, v, out, gate, up]
    }
}

impl<B: Backend> Shared<B> {
    fn empty(backend: &B) -> Self {
        let zero = || backend.zeros(0);
        Self {
            wide: Wide::empty(backend),
            normed: zero(),
            act: zero(),
            key_store: zero(),
            value_store: zero(),
            rotary: zero(),
            rotary_positions: 0,
        }
    }

    /// Makes the table of cosines and sines reach `positions`: \[position\]\[cos of each pair, sin of each pair\].
    fn fit_rotary(&mut self, backend: &B, config: &DecoderConfig, positions: usize) {
        let Position::Rotary { theta, scaling } = config.position else { return };
        if positions <= self.rotary_positions {
            return;
        }
        let positions = positions.next_power_of_two().min(config.max_positions);
        let frequencies = rotary_frequencies(config.head_dim, theta, scaling);
        let mut table = Vec::with_capacity(positions * config.head_dim);
        for position in 0..positions {
            // The angle is rounded to f32 before its cosine is taken, as in transformers.
            let angle = |f: &f32| f64::from(position as f32 * f);
            table.extend(frequencies.iter().map(|f| angle(f).cos() as f32));
            table.extend(frequencies.iter().map(|f| angle(f).sin() as f32));
        }
        backend.upload(&mut self.rotary, &table);
        self.rotary_positions = positions;
    }
}

impl<B: Backend> HeadActivations<B> {
    /// The slot's memory, made at first use.
    pub(crate) fn of<'a>(slot: &'a mut Option<Self>, backend: &B) -> &'a mut Self {
        slot.get_or_insert_with(|| {
            let zero = || backend.zeros(0);
            Self {
                rows: Vec::new(),
                gathered: zero(),
                normed: zero(),
                stats: zero(),
                outputs: zero(),
                doutputs: zero(),
                dnormed: zero(),
                dgathered: zero(),
            }
        })
    }
}
