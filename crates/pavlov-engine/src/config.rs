//! The description of a decoder: every supported family is one choice of these switches.

use crate::{Error, Result};

/// Which normalisation stands before each half of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Root mean square, scale only (Zhang and Sennrich, arXiv:1910.07467).
    Rms,
    /// Mean and variance, scale and shift (Ba, Kiros and Hinton, arXiv:1607.06450).
    Layer,
}

/// Llama 3's stretching of the rotary wavelengths, as `rope_type = "llama3"` of a Hugging Face configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3Scaling {
    /// How much longer the long wavelengths become.
    pub factor: f64,
    /// Wavelengths above `original_max_positions / low_freq_factor` are stretched by the whole factor.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_max_positions / high_freq_factor` stay as they are.
    pub high_freq_factor: f64,
    /// Context length of the model before stretching, in tokens.
    pub original_max_positions: usize,
}

/// How a token knows its position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Position {
    /// Rotary embedding of queries and keys (Su et al., arXiv:2104.09864), halves paired as in Llama.
    Rotary {
        /// Base of the wavelengths.
        theta: f64,
        /// Llama 3's scaling, if any.
        scaling: Option<Llama3Scaling>,
    },
    /// A learned vector added to the token's embedding, as in GPT-2.
    Learned,
}

/// The non-linearity of the feed-forward half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x·σ(x).
    Silu,
    /// GELU by its tanh approximation (GPT-2's `gelu_new`).
    GeluTanh,
}

/// A decoder-only transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward half.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Width of a head; even when positions are rotary.
    pub head_dim: usize,
    /// Longest sequence, in tokens.
    pub max_positions: usize,
    /// Kind of every norm.
    pub norm: NormKind,
    /// Added to the mean square or variance.
    pub norm_eps: f32,
    /// How positions enter.
    pub position: Position,
    /// Non-linearity.
    pub activation: Activation,
    /// Whether the feed-forward half is down(act(gate(x)) * up(x)) rather than down(act(up(x))).
    pub gated_mlp: bool,
    /// Biases on the query, key and value projections.
    pub attention_bias: bool,
    /// Bias on the output projection of attention.
    pub output_bias: bool,
    /// Biases in the feed-forward half.
    pub mlp_bias: bool,
    /// RMS norm of each query and key head before the rotary embedding (Qwen3).
    pub qk_norm: bool,
    /// Whether the language head is the token embedding.
    pub tie_embeddings: bool,
    /// One entry a layer: `Some(w)` lets a token see itself and the w - 1 tokens before it.
    pub windows: Vec<Option<usize>>,
    /// Whether there is a head over the vocabulary.
    pub language_head: bool,
    /// Rows of the scalar head `score.weight` (0: none), read at the rows a batch asks for.
    pub scalar_outputs: usize,
}

/// Where a parameter is used, which decides how a backend stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Operand of a matrix product, [out, in].
    Matrix,
    /// A table of vectors indexed by token or position, [entries, width].
    Table,
    /// A vector, [1, width].
    Vector,
}

/// Name and shape of one parameter, row-major as in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// The Hugging Face Llama name, whatever the family.
    pub name: String,
    /// First dimension (1 for a vector).
    pub rows: usize,
    /// Second dimension.
    pub cols: usize,
    /// How it is used.
    pub kind: ParameterKind,
    /// Whether training changes it: a frozen parameter has no gradient, no moments and, where products run in bf16, no
    /// values but its rounded ones.
    pub trainable: bool,
}

impl ParameterSpec {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether it is added rather than multiplied.
    pub fn is_bias(&self) -> bool {
        self.kind == ParameterKind::Vector && self.name.rsplit('.').next() == Some("bias")
    }

    /// Never true for a validated configuration.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl DecoderConfig {
    /// A Llama of this size: rotary positions, a context of 2048 tokens, as many key and value heads as query heads,
    /// which share the width, a feed-forward half 8/3 as wide (a multiple of 32), a language head of its own.
    ///
    /// Families differ in a few fields: `DecoderConfig { num_kv_heads: 1, ..DecoderConfig::llama(…) }`.
    pub fn llama(vocab_size: usize, hidden_size: usize, num_layers: usize, num_heads: usize) -> Self {
        Self {
            vocab_size,
            hidden_size,
            intermediate_size: (8 * hidden_size / 3).next_multiple_of(32),
            num_layers,
            num_heads,
            num_kv_heads: num_heads,
            head_dim: hidden_size / num_heads.max(1),
            max_positions: 2048,
            norm: NormKind::Rms,
            norm_eps: 1e-5,
            position: Position::Rotary { theta: 10_000.0, scaling: None },
            activation: Activation::Silu,
            gated_mlp: true,
            attention_bias: false,
            output_bias: false,
            mlp_bias: false,
            qk_norm: false,
            tie_embeddings: false,
            windows: vec![None; num_layers],
            language_head: true,
            scalar_outputs: 0,
        }
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_width(&self) -> usize {
        self.num_kv_heads * self.head_dim
    }

    /// The parameters in their fixed order: embedding, blocks, final norm, heads.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        let mut list = ParameterList::default();
        let (d, f) = (self.hidden_size, self.intermediate_size);
        // A tied embedding is an operand of the head's product, so it is stored as one.
        let embedding = if self.tie_embeddings && self.language_head {
            ParameterKind::Matrix
        } else {
            ParameterKind::Table
        };
        list.push("model.embed_tokens.weight", self.vocab_size, d, embedding);
        if self.position == Position::Learned {
            list.push("model.embed_positions.weight", self.max_positions, d, ParameterKind::Table);
        }
        for layer in 0..self.num_layers {
            let at = |name: &str| format!("model.layers.{layer}.{name}");
            list.norm(&at("input_layernorm"), d, self.norm);
            list.linear(&at("self_attn.q_proj"), self.query_width(), d, self.attention_bias);
            list.linear(&at("self_attn.k_proj"), self.kv_width(), d, self.attention_bias);
            list.linear(&at("self_attn.v_proj"), self.kv_width(), d, self.attention_bias);
            if self.qk_norm {
                list.norm(&at("self_attn.q_norm"), self.head_dim, NormKind::Rms);
                list.norm(&at("self_attn.k_norm"), self.head_dim, NormKind::Rms);
            }
            list.linear(&at("self_attn.o_proj"), d, self.query_width(), self.output_bias);
            list.norm(&at("post_attention_layernorm"), d, self.norm);
            if self.gated_mlp {
                list.linear(&at("mlp.gate_proj"), f, d, self.mlp_bias);
            }
            list.linear(&at("mlp.up_proj"), f, d, self.mlp_bias);
            list.linear(&at("mlp.down_proj"), d, f, self.mlp_bias);
        }
        list.norm("model.norm", d, self.norm);
        if self.language_head && !self.tie_embeddings {
            list.linear("lm_head", self.vocab_size, d, false);
        }
        if self.scalar_outputs > 0 {
            list.linear("score", self.scalar_outputs, d, false);
        }
        list.0
    }

    /// Number of parameters.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(ParameterSpec::len).sum()
    }

    /// Refuses a configuration that the engine cannot compute, naming the field.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_layers", self.num_layers),
            ("num_heads", self.num_heads),
            ("num_kv_heads", self.num_kv_heads),
            ("head_dim", self.head_dim),
            ("max_positions", self.max_positions),
        ];
        for (field, value) in positive {
            if value == 0 || value > 1 << 28 {
                return Err(Error::Config(format!("{field} is {value}; it must be between 1 and 2^28")));
            }
        }
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            return Err(Error::Config(format!(
                "num_heads ({}) is not a multiple of num_kv_heads ({})",
                self.num_heads, self.num_kv_heads
            )));
        }
        if matches!(self.position, Position::Rotary { .. }) && !self.head_dim.is_multiple_of(2) {
            return Err(Error::Config(format!(
                "head_dim is {}; rotary positions need an even one",
                self.head_dim
            )));
        }
        if self.windows.len() != self.num_layers {
            return Err(Error::Config(format!(
                "windows has {} entries for {} layers",
                self.windows.len(),
                self.num_layers
            )));
        }
        if self.windows.contains(&Some(0)) {
            return Err(Error::Config("a sliding window of 0 tokens sees nothing".into()));
        }
        if !self.language_head && self.scalar_outputs == 0 {
            return Err(Error::Config("the decoder has neither a language head nor a scalar head".into()));
        }
        Ok(())
    }
}

#[derive(Default)]
struct ParameterList(Vec<ParameterSpec>);

impl ParameterList {
    fn push(&mut self, name: &str, rows: usize, cols: usize, kind: ParameterKind) {
        self.0.push(ParameterSpec { name: name.into(), rows, cols, kind, trainable: true });
    }

    fn linear(&mut self, name: &str, out: usize, input: usize, bias: bool) {
        self.push(&format!("{name}.weight"), out, input, ParameterKind::Matrix);
        if bias {
            self.push(&format!("{name}.bias"), 1, out, ParameterKind::Vector);
        }
    }

    fn norm(&mut self, name: &str, width: usize, kind: NormKind) {
        self.push(&format!("{name}.weight"), 1, width, ParameterKind::Vector);
        if kind == NormKind::Layer {
            self.push(&format!("{name}.bias"), 1, width, ParameterKind::Vector);
        }
    }
}

/// Rotary angles per position for each pair of a head, radians: θ^(-2i/d), stretched as Llama 3 does if asked.
pub(crate) fn rotary_frequencies(head_dim: usize, theta: f64, scaling: Option<Llama3Scaling>) -> Vec<f32> {
    let stretch = |frequency: f64| {
        let Some(s) = scaling else { return frequency };
        let wavelength = std::f64::consts::TAU / frequency;
        let original = s.original_max_positions as f64;
        if wavelength < original / s.high_freq_factor {
            frequency
        } else if wavelength > original / s.low_freq_factor {
            frequency / s.factor
        } else {
            let smooth =
                (original / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
            (1.0 - smooth) * frequency / s.factor + smooth * frequency
        }
    };
    (0..head_dim / 2).map(|i| stretch(theta.powf(-2.0 * i as f64 / head_dim as f64)) as f32).collect()
}
