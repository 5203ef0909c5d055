//! config.json of a Hugging Face folder: read as the engine's configuration, and written back with only what changed.

use std::path::Path;

use pavlov_engine::{Activation, DecoderConfig, Llama3Scaling, NormKind, Position};
use serde_json::{Map, Value, json};

use crate::files;
use crate::keys::Keys;
use crate::{Error, Result};

/// A family of architectures, by the prefix of their names in transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama 1 to 3, SmolLM, TinyLlama and whoever else uses its code.
    Llama,
    /// Mistral: Llama with a sliding window in every layer.
    Mistral,
    /// Qwen2 and Qwen2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen3: norms on queries and keys.
    Qwen3,
    /// GPT-2.
    Gpt2,
}

impl Family {
    const ALL: [(Self, &'static str, &'static str, &'static str); 5] = [
        (Self::Llama, "llama", "LlamaForCausalLM", "LlamaForSequenceClassification"),
        (Self::Mistral, "mistral", "MistralForCausalLM", "MistralForSequenceClassification"),
        (Self::Qwen2, "qwen2", "Qwen2ForCausalLM", "Qwen2ForSequenceClassification"),
        (Self::Qwen3, "qwen3", "Qwen3ForCausalLM", "Qwen3ForSequenceClassification"),
        (Self::Gpt2, "gpt2", "GPT2LMHeadModel", "GPT2ForSequenceClassification"),
    ];

    fn architecture(self, scalar: bool) -> &'static str {
        let found = Self::ALL.iter().find(|entry| entry.0 == self);
        found.map_or("", |entry| if scalar { entry.3 } else { entry.2 })
    }
}

/// What config.json says: the engine's configuration, and the rest of the file to save again.
#[derive(Clone, Debug)]
pub struct HfConfig {
    /// The engine's configuration.
    pub decoder: DecoderConfig,
    /// The family, which decides how tensors are named.
    pub family: Family,
    json: Map<String, Value>,
}

impl HfConfig {
    /// Reads config.json of a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("config.json");
        if !file.exists() {
            return Err(Error::file(&file, "there is no such file; give the folder of a Hugging Face model"));
        }
        Self::from_json(files::read_json(&file)?, &file)
    }

    /// Reads the content of a config.json; `file` is for errors.
    pub fn from_json(json: Map<String, Value>, file: &Path) -> Result<Self> {
        let keys = Keys::new(file, &json);
        let (family, scalar) = architecture(&keys)?;
        if keys.get("quantization_config").is_some() {
            return Err(keys.wrong(
                "quantization_config",
                "quantized weights cannot be trained; take the original ones",
            ));
        }
        let mut decoder = match family {
            Family::Gpt2 => gpt2(&keys)?,
            _ => llama_like(&keys, family)?,
        };
        if scalar {
            decoder.language_head = false;
            decoder.scalar_outputs = match keys.get("id2label") {
                Some(labels) => labels.as_object().map_or(0, Map::len),
                None => keys.size_or("num_labels", 2)?,
            };
        }
        check_sizes(&keys, &decoder)?;
        Ok(Self { decoder, family, json })
    }

    /// A config.json for a new model of the Llama family, with the ids of its special tokens.
    pub fn new_llama(
        decoder: &DecoderConfig,
        bos: Option<u32>,
        eos: Option<u32>,
        pad: Option<u32>,
    ) -> Result<Self> {
        let Position::Rotary { theta, scaling: None } = decoder.position else {
            return Err(Error::Model("a new Llama model needs rotary positions without scaling".into()));
        };
        let json = json!({
            "architectures": [Family::Llama.architecture(false)], "model_type": "llama",
            "vocab_size": decoder.vocab_size, "hidden_size": decoder.hidden_size,
            "intermediate_size": decoder.intermediate_size, "num_hidden_layers": decoder.num_layers,
            "num_attention_heads": decoder.num_heads, "num_key_value_heads": decoder.num_kv_heads,
            "head_dim": decoder.head_dim, "hidden_act": "silu",
            "max_position_embeddings": decoder.max_positions,
            // The shortest decimal of the f32, not the digits of its f64 image.
            "rms_norm_eps": decoder.norm_eps.to_string().parse::<f64>().unwrap_or(f64::from(decoder.norm_eps)),
            "rope_theta": theta, "tie_word_embeddings": decoder.tie_embeddings,
            "attention_bias": decoder.attention_bias, "mlp_bias": decoder.mlp_bias, "initializer_range": 0.02,
            "bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad,
        });
        let Value::Object(json) = json else { unreachable!("the literal above is an object") };
        let read = Self::from_json(json, Path::new("new model"))?;
        if read.decoder == *decoder {
            Ok(read)
        } else {
            Err(Error::Model(
                "this configuration is not one of a Llama model; change what Llama has not".into(),
            ))
        }
    }

    /// The same decoder with `outputs` scalar outputs in place of the language head.
    ///
    /// `pad` is the padding token: transformers reads the score at the last token that is not padding.
    #[must_use]
    pub fn with_scalar_head(mut self, outputs: usize, pad: Option<u32>) -> Self {
        self.decoder.language_head = false;
        self.decoder.scalar_outputs = outputs;
        let label = |i: usize| format!("LABEL_{i}");
        let labels: Map<_, _> = (0..outputs).map(|i| (i.to_string(), Value::from(label(i)))).collect();
        let numbers: Map<_, _> = (0..outputs).map(|i| (label(i), Value::from(i))).collect();
        self.json.insert("architectures".into(), json!([self.family.architecture(true)]));
        // `num_labels` is what `id2label` counts: transformers writes only the latter, and reads both.
        self.json.insert("num_labels".into(), outputs.into());
        self.json.insert("id2label".into(), labels.into());
        self.json.insert("label2id".into(), numbers.into());
        self.json.insert("problem_type".into(), "regression".into());
        if let Some(pad) = pad {
            self.json.insert("pad_token_id".into(), pad.into());
        }
        self
    }

    /// The padding token that config.json names.
    pub fn pad(&self) -> Option<u32> {
        self.json.get("pad_token_id")?.as_u64().and_then(|id| u32::try_from(id).ok())
    }

    /// The content of config.json to save weights of `dtype` (`float32`, `bfloat16`, `float16`) with.
    pub fn to_json(&self, dtype: &str) -> Map<String, Value> {
        let mut json = self.json.clone();
        let key = if json.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        json.insert(key.into(), dtype.into());
        json
    }
}

fn architecture(keys: &Keys) -> Result<(Family, bool)> {
    let known = || Family::ALL.map(|entry| entry.2).join(", ");
    if let Some(list) = keys.get("architectures") {
        let name = list.get(0).and_then(Value::as_str).unwrap_or_default();
        for (family, _, language, scalar) in Family::ALL {
            if name == language || name == scalar {
                return Ok((family, name == scalar));
            }
        }
        let name: String = name.chars().take(80).collect();
        return Err(
            keys.wrong("architectures", &format!("{name:?} is not supported; use one of {}", known()))
        );
    }
    let name = keys.text("model_type")?;
    match Family::ALL.iter().find(|entry| entry.1 == name) {
        Some(entry) => Ok((entry.0, false)),
        None => Err(keys.wrong("model_type", &format!("{name:?} is not supported; use one of {}", known()))),
    }
}

fn llama_like(keys: &Keys, family: Family) -> Result<DecoderConfig> {
    let num_layers = keys.size("num_hidden_layers")?;
    let num_heads = keys.size("num_attention_heads")?;
    let hidden_size = keys.size("hidden_size")?;
    let head_dim = match (keys.get("head_dim"), family) {
        (Some(_), _) => keys.size("head_dim")?,
        (None, Family::Qwen3) => 128,
        (None, _) if hidden_size % num_heads == 0 => hidden_size / num_heads,
        (None, _) => {
            let what = format!(
                "{hidden_size} is not a multiple of num_attention_heads ({num_heads}); correct one or add head_dim"
            );
            return Err(keys.wrong("hidden_size", &what));
        }
    };
    // An explicit null means as many as query heads; the defaults are those of transformers.
    let num_kv_heads = match (keys.has("num_key_value_heads"), family) {
        (true, _) | (false, Family::Llama) => keys.size_or("num_key_value_heads", num_heads)?,
        (false, Family::Mistral) => 8,
        (false, _) => 32,
    };
    let bias = matches!(family, Family::Llama | Family::Qwen3) && keys.flag_or("attention_bias", false)?;
    Ok(DecoderConfig {
        vocab_size: keys.size("vocab_size")?,
        hidden_size,
        intermediate_size: keys.size("intermediate_size")?,
        num_layers,
        num_heads,
        num_kv_heads,
        head_dim,
        max_positions: keys.size("max_position_embeddings")?,
        norm: NormKind::Rms,
        norm_eps: keys.number_or("rms_norm_eps", 1e-6)? as f32,
        position: rotary(keys)?,
        activation: activation(keys, "hidden_act", "silu")?,
        gated_mlp: true,
        attention_bias: bias || family == Family::Qwen2,
        output_bias: bias,
        mlp_bias: family == Family::Llama && keys.flag_or("mlp_bias", false)?,
        qk_norm: family == Family::Qwen3,
        tie_embeddings: keys.flag_or("tie_word_embeddings", false)?,
        windows: windows(keys, family, num_layers)?,
        language_head: true,
        scalar_outputs: 0,
    })
}

fn gpt2(keys: &Keys) -> Result<DecoderConfig> {
    for (key, supported) in [
        ("scale_attn_weights", true),
        ("scale_attn_by_inverse_layer_idx", false),
        ("add_cross_attention", false),
    ] {
        if keys.flag_or(key, supported)? != supported {
            return Err(keys.wrong(key, &format!("only {supported} is supported; use another checkpoint")));
        }
    }
    let (hidden_size, num_heads) = (keys.size("n_embd")?, keys.size("n_head")?);
    if hidden_size % num_heads != 0 {
        return Err(keys.wrong(
            "n_embd",
            &format!("{hidden_size} is not a multiple of n_head ({num_heads}); correct one"),
        ));
    }
    let num_layers = keys.size("n_layer")?;
    Ok(DecoderConfig {
        vocab_size: keys.size("vocab_size")?,
        hidden_size,
        intermediate_size: keys.size_or("n_inner", 4 * hidden_size)?,
        num_layers,
        num_heads,
        num_kv_heads: num_heads,
        head_dim: hidden_size / num_heads,
        max_positions: keys.size("n_positions")?,
        norm: NormKind::Layer,
        norm_eps: keys.number_or("layer_norm_epsilon", 1e-5)? as f32,
        position: Position::Learned,
        activation: activation(keys, "activation_function", "gelu_new")?,
        gated_mlp: false,
        attention_bias: true,
        output_bias: true,
        mlp_bias: true,
        qk_norm: false,
        tie_embeddings: keys.flag_or("tie_word_embeddings", true)?,
        windows: keys.repeated(None, num_layers)?,
        language_head: true,
        scalar_outputs: 0,
    })
}

fn activation(keys: &Keys, key: &str, default: &str) -> Result<Activation> {
    match keys.text_or(key, default)? {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        other => {
            let what =
                format!("activation {other:?} is not supported; silu, gelu_new and gelu_pytorch_tanh are");
            Err(keys.wrong(key, &what))
        }
    }
}

/// `rope_theta` and `rope_scaling`, or both in `rope_parameters` as transformers writes since version 5.
fn rotary(keys: &Keys) -> Result<Position> {
    let (name, value) = match keys.get("rope_parameters") {
        Some(value) => ("rope_parameters", Some(value)),
        None => ("rope_scaling", keys.get("rope_scaling")),
    };
    let empty = Map::new();
    let Some(object) = value.map_or(Some(&empty), Value::as_object) else {
        return Err(keys.wrong(name, "it must be an object; correct it"));
    };
    let rope = keys.inside(name, object);
    let theta = match rope.get("rope_theta") {
        Some(_) => rope.number_or("rope_theta", 0.0)?,
        None => keys.number_or("rope_theta", 10_000.0)?,
    };
    if theta <= 0.0 {
        return Err(keys.wrong("rope_theta", "it must be positive; correct it"));
    }
    for keys in [keys, &rope] {
        if keys.number_or("partial_rotary_factor", 1.0)? < 1.0 {
            return Err(
                keys.wrong("partial_rotary_factor", "rotary positions on a part of a head are not supported")
            );
        }
    }
    if let Some((key, _)) = object.iter().find(|(_, value)| value.is_object()) {
        return Err(rope.wrong(key, "rotary positions that differ by kind of layer are not supported"));
    }
    let old_key = if rope.get("rope_type").is_some() { "rope_type" } else { "type" };
    let scaling = match rope.text_or(old_key, "default")? {
        "default" => None,
        "llama3" => Some(Llama3Scaling {
            factor: rope.positive("factor")?,
            low_freq_factor: rope.positive("low_freq_factor")?,
            high_freq_factor: rope.positive("high_freq_factor")?,
            original_max_positions: rope.size("original_max_position_embeddings")?,
        }),
        other => {
            let what = format!("rotary scaling {other:?} is not supported; \"default\" and \"llama3\" are");
            return Err(rope.wrong(old_key, &what));
        }
    };
    if let Some(s) = scaling
        && s.high_freq_factor <= s.low_freq_factor
    {
        return Err(rope.wrong("high_freq_factor", "it must be greater than low_freq_factor; correct it"));
    }
    Ok(Position::Rotary { theta, scaling })
}

/// The sliding window of each layer.
fn windows(keys: &Keys, family: Family, layers: usize) -> Result<Vec<Option<usize>>> {
    let window = |default: Option<usize>| match (keys.has("sliding_window"), keys.get("sliding_window")) {
        (true, None) => Ok(None),
        (true, Some(_)) => keys.size("sliding_window").map(Some),
        (false, _) => Ok(default),
    };
    match family {
        Family::Llama | Family::Gpt2 => keys.repeated(None, layers),
        Family::Mistral => keys.repeated(window(Some(4096))?, layers),
        Family::Qwen2 | Family::Qwen3 => {
            let window = if keys.flag_or("use_sliding_window", false)? { window(Some(4096))? } else { None };
            let Some(kinds) = keys.get("layer_types") else {
                let first = keys.count_or("max_window_layers", 28)?;
                let mut windows = keys.repeated(window, layers)?;
                windows.iter_mut().take(first).for_each(|window| *window = None);
                return Ok(windows);
            };
            let kinds = kinds.as_array().filter(|kinds| kinds.len() == layers).ok_or_else(|| {
                keys.wrong("layer_types", &format!("it must list one kind for each of the {layers} layers"))
            })?;
            let of_kind = |kind: &Value| match (kind.as_str(), window) {
                (Some("full_attention"), _) => Ok(None),
                (Some("sliding_attention"), Some(window)) => Ok(Some(window)),
                (Some("sliding_attention"), None) => Err(keys
                    .wrong("layer_types", "it has sliding_attention but there is no sliding_window in use")),
                _ => {
                    Err(keys.wrong("layer_types", "only full_attention and sliding_attention are supported"))
                }
            };
            kinds.iter().map(of_kind).collect()
        }
    }
}

/// The engine's own checks, and sizes that no computer holds.
fn check_sizes(keys: &Keys, decoder: &DecoderConfig) -> Result<()> {
    const MOST: usize = 1 << 31;
    let wide = |key: &str, a: usize, b: usize| match a.checked_mul(b) {
        Some(size) if size <= MOST => Ok(()),
        _ => Err(keys.wrong(key, &format!("{a} x {b} numbers in one tensor are more than 2^31; correct it"))),
    };
    wide("vocab_size", decoder.vocab_size, decoder.hidden_size)?;
    wide("intermediate_size", decoder.intermediate_size, decoder.hidden_size)?;
    wide("head_dim", decoder.num_heads, decoder.head_dim)?;
    wide("num_key_value_heads", decoder.num_kv_heads, decoder.head_dim)?;
    wide("hidden_size", decoder.query_width(), decoder.hidden_size)?;
    wide("hidden_size", decoder.kv_width(), decoder.hidden_size)?;
    if decoder.position == Position::Learned {
        wide("n_positions", decoder.max_positions, decoder.hidden_size)?;
    }
    if !decoder.language_head && (decoder.scalar_outputs == 0 || decoder.scalar_outputs > 1 << 16) {
        return Err(keys.wrong("id2label", "it must name between 1 and 65536 outputs; correct it"));
    }
    decoder.validate().map_err(|e| Error::file(keys.file(), format!("{e}; correct the key")))
}
