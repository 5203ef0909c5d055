//! Where each parameter of the engine stands in a checkpoint: names, transposition, fused projections.

use pavlov_engine::{DecoderConfig, ParameterKind, ParameterSpec};

use crate::hf_config::Family;

/// One tensor of a checkpoint and the parameters it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredTensor {
    /// Its name, with the prefix of a head model (`model.`, `transformer.`).
    pub(crate) name: String,
    /// Its shape in the file.
    pub(crate) shape: Vec<usize>,
    /// Whether a matrix is stored [in, out], as GPT-2's Conv1D does; the engine has [out, in].
    pub(crate) transposed: bool,
    /// The parameters stacked along the output dimension: one, or queries, keys and values.
    pub(crate) parameters: Vec<ParameterSpec>,
}

/// The prefix of the decoder's tensors in a model with a head.
pub(crate) fn prefix(family: Family) -> &'static str {
    if family == Family::Gpt2 { "transformer." } else { "model." }
}

/// A tensor whose presence tells whether the names have the prefix.
pub(crate) fn embedding(family: Family) -> &'static str {
    if family == Family::Gpt2 { "wte.weight" } else { "embed_tokens.weight" }
}

/// Buffers that some versions of transformers saved and that are no parameters.
pub(crate) fn is_buffer(name: &str) -> bool {
    [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"].iter().any(|suffix| name.ends_with(suffix))
}

/// Every tensor of a checkpoint, in the order of the engine's parameters.
pub(crate) fn stored_tensors(config: &DecoderConfig, family: Family) -> Vec<StoredTensor> {
    let mut tensors: Vec<StoredTensor> = Vec::new();
    for spec in config.parameters() {
        let (name, transposed) = match family {
            Family::Gpt2 => gpt2_name(&spec.name),
            _ => (spec.name.clone(), false),
        };
        // The engine lists each projection's weight and bias, so the parts of a fused tensor stand at most six apart.
        let near = tensors.len().saturating_sub(6);
        if let Some(fused) = tensors[near..].iter_mut().find(|tensor| tensor.name == name) {
            let (axis, more) = if transposed { (1, spec.rows) } else { (0, spec.cols) };
            fused.shape[axis] += more;
            fused.parameters.push(spec);
            continue;
        }
        let shape = match (spec.kind, transposed) {
            (ParameterKind::Vector, _) => vec![spec.cols],
            (_, true) => vec![spec.cols, spec.rows],
            (_, false) => vec![spec.rows, spec.cols],
        };
        tensors.push(StoredTensor { name, shape, transposed, parameters: vec![spec] });
    }
    tensors
}

/// GPT-2's name of a parameter, and whether it is the weight of a Conv1D.
fn gpt2_name(name: &str) -> (String, bool) {
    let Some(rest) = name.strip_prefix("model.layers.") else {
        let name = match name {
            "model.embed_tokens.weight" => "transformer.wte.weight",
            "model.embed_positions.weight" => "transformer.wpe.weight",
            "model.norm.weight" => "transformer.ln_f.weight",
            "model.norm.bias" => "transformer.ln_f.bias",
            head => head,
        };
        return (name.to_owned(), false);
    };
    let (layer, rest) = rest.split_once('.').unwrap_or((rest, ""));
    let (module, kind) = rest.rsplit_once('.').unwrap_or((rest, ""));
    let (module, conv) = match module {
        "input_layernorm" => ("ln_1", false),
        "post_attention_layernorm" => ("ln_2", false),
        "self_attn.o_proj" => ("attn.c_proj", true),
        "mlp.up_proj" => ("mlp.c_fc", true),
        "mlp.down_proj" => ("mlp.c_proj", true),
        _ => ("attn.c_attn", true),
    };
    (format!("transformer.h.{layer}.{module}.{kind}"), conv && kind == "weight")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pavlov_engine::{Activation, NormKind, Position};

    fn gpt2() -> DecoderConfig {
        DecoderConfig {
            vocab_size: 7,
            hidden_size: 4,
            intermediate_size: 6,
            num_layers: 1,
            num_heads: 2,
            num_kv_heads: 2,
            head_dim: 2,
            max_positions: 5,
            norm: NormKind::Layer,
            norm_eps: 1e-5,
            position: Position::Learned,
            activation: Activation::GeluTanh,
            gated_mlp: false,
            attention_bias: true,
            output_bias: true,
            mlp_bias: true,
            qk_norm: false,
            tie_embeddings: true,
            windows: vec![None],
            language_head: true,
            scalar_outputs: 0,
        }
    }

    #[test]
    fn gpt2_fuses_and_transposes() {
        let tensors = stored_tensors(&gpt2(), Family::Gpt2);
        let find = |name: &str| tensors.iter().find(|t| t.name == name).unwrap();
        let fused = find("transformer.h.0.attn.c_attn.weight");
        assert_eq!(
            (fused.shape.as_slice(), fused.transposed, fused.parameters.len()),
            ([4, 12].as_slice(), true, 3)
        );
        let bias = find("transformer.h.0.attn.c_attn.bias");
        assert_eq!(
            (bias.shape.as_slice(), bias.transposed, bias.parameters.len()),
            ([12].as_slice(), false, 3)
        );
        assert_eq!(find("transformer.h.0.mlp.c_fc.weight").shape, [4, 6]);
        assert_eq!(find("transformer.wpe.weight").shape, [5, 4]);
        assert_eq!(tensors.len(), 16);
        let stored: usize = tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum();
        assert_eq!(stored, gpt2().parameter_count());
    }

    #[test]
    fn buffers_are_not_parameters() {
        assert!(
            is_buffer("transformer.h.0.attn.bias")
                && is_buffer("model.layers.1.self_attn.rotary_emb.inv_freq")
        );
        assert!(!is_buffer("transformer.h.0.attn.c_attn.bias"));
    }
}
