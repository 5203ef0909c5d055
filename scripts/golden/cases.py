"""The checkpoints of the parity fixtures: one entry a decoder family or switch.

Every size is odd on purpose: no vocabulary, hidden or intermediate size is a multiple of a vector
width, so that ragged edges of every kernel are exercised.
"""

from dataclasses import dataclass, field

from transformers import GPT2Config, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

VOCAB = 97
# Shared by all families. Token 0 pads, 1 begins, 2 ends; the fixtures' sequences use none of 0 and 2.
COMMON = dict(vocab_size=VOCAB, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)


@dataclass
class Case:
    """One checkpoint and what is stored for it."""

    name: str
    about: str
    config: object
    kind: str = "causal"  # causal | reward
    storage: str = "float32"  # dtype of the saved weights; the goldens use the weights read back
    max_shard_size: int | None = None  # bytes; None: a single model.safetensors
    weighted: bool = False  # also the gradient of random weights on log-probs and entropies at temperature 0.7
    bf16: bool = False  # also log-probs and gradients under bfloat16 autocast
    optimizer: bool = True  # ten AdamW steps
    old_config: dict = field(default_factory=dict)  # rewrites config.json in the style of transformers 4
    hub_names: bool = False  # GPT-2 as on the hub: no "transformer." prefix, causal masks stored beside the weights


def rope(theta: float, **scaling) -> dict:
    """Rotary parameters in the style of transformers 5."""
    return {"rope_type": "default", "rope_theta": theta} | scaling


LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)

CASES = [
    Case("llama", "Llama, grouped-query attention, untied head", LlamaConfig(
        **COMMON, hidden_size=40, intermediate_size=53, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rms_norm_eps=1e-5, rope_parameters=rope(10000.0)),
        weighted=True, bf16=True,
        old_config={"rope_theta": 10000.0, "rope_scaling": None, "torch_dtype": "float32"}),
    Case("llama3-rope", "Llama with llama3 rotary scaling; frequencies in all three bands; sharded", LlamaConfig(
        **COMMON, hidden_size=32, intermediate_size=45, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, rms_norm_eps=1e-5, rope_parameters=rope(10000.0, **LLAMA3)),
        max_shard_size=30_000,
        old_config={"rope_theta": 10000.0, "rope_scaling": LLAMA3, "torch_dtype": "float32"}),
    Case("llama-tied", "Llama with a tied head, stored in bfloat16", LlamaConfig(
        **COMMON, hidden_size=36, intermediate_size=50, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=6, rms_norm_eps=1e-6, tie_word_embeddings=True, rope_parameters=rope(10000.0)),
        storage="bfloat16"),
    Case("llama-bias", "Llama with biases on attention (output too) and on the MLP", LlamaConfig(
        **COMMON, hidden_size=28, intermediate_size=39, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, rms_norm_eps=1e-5, attention_bias=True, mlp_bias=True,
        rope_parameters=rope(10000.0))),
    Case("llama-mqa", "Llama with one key-value head (multi-query attention)", LlamaConfig(
        **COMMON, hidden_size=42, intermediate_size=35, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, rms_norm_eps=1e-5, rope_parameters=rope(500000.0))),
    Case("smollm2", "Like SmolLM2: Llama, tied head, three query heads a key-value head, stored in bfloat16, sharded",
         LlamaConfig(
        **COMMON, hidden_size=36, intermediate_size=61, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, rms_norm_eps=1e-5, tie_word_embeddings=True, rope_parameters=rope(100000.0)),
        storage="bfloat16", max_shard_size=20_000,
        old_config={"rope_theta": 100000.0, "rope_scaling": None, "torch_dtype": "bfloat16"}),
    Case("mistral", "Mistral with a sliding window of 7 tokens, head_dim given", MistralConfig(
        **COMMON, hidden_size=36, intermediate_size=47, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=10, rms_norm_eps=1e-5, sliding_window=7, rope_parameters=rope(10000.0)),
        weighted=True),
    Case("qwen2", "Qwen2 with biases on q, k, v; stored in float16", Qwen2Config(
        **COMMON, hidden_size=36, intermediate_size=43, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, rms_norm_eps=1e-6, rope_parameters=rope(1000000.0)),
        storage="float16",  # as in Qwen2.5 folders: a window is named but not used
        old_config={"rope_theta": 1000000.0, "torch_dtype": "float16", "sliding_window": 3}),
    Case("qwen2-window", "Qwen2 whose layers from the second on have a sliding window of 5 tokens; tied head", Qwen2Config(
        **COMMON, hidden_size=28, intermediate_size=37, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, rms_norm_eps=1e-6, use_sliding_window=True, sliding_window=5, max_window_layers=1,
        tie_word_embeddings=True, rope_parameters=rope(10000.0)),
        old_config={"rope_theta": 10000.0, "torch_dtype": "float32"}),
    Case("qwen3-window", "Qwen3 with layer_types: sliding window of 6 tokens on the second layer alone", Qwen3Config(
        **COMMON, hidden_size=22, intermediate_size=29, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=14, rms_norm_eps=1e-6, use_sliding_window=True, sliding_window=6,
        layer_types=["full_attention", "sliding_attention", "full_attention"], rope_parameters=rope(10000.0)),
        optimizer=False),
    Case("qwen3", "Qwen3: q and k norms, head_dim 16 with hidden 40 and 4 heads, grouped-query attention", Qwen3Config(
        **COMMON, hidden_size=40, intermediate_size=51, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-6, rope_parameters=rope(1000000.0)),
        weighted=True),
    Case("gpt2", "GPT-2: learned positions, LayerNorm, biases everywhere, transposed matrices, tied head", GPT2Config(
        vocab_size=VOCAB, n_positions=64, n_embd=39, n_layer=2, n_head=3, n_inner=58, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=2, pad_token_id=0), weighted=True),
    Case("gpt2-hub", "GPT-2 with the tensor names of the hub's gpt2 folder (no prefix, mask buffers), n_inner null",
         GPT2Config(
        vocab_size=VOCAB, n_positions=64, n_embd=20, n_layer=1, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=1, eos_token_id=2), optimizer=False, hub_names=True),
    Case("reward-llama", "LlamaForSequenceClassification with one label, read at the last token", LlamaConfig(
        **COMMON, hidden_size=40, intermediate_size=53, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rms_norm_eps=1e-5, num_labels=1, rope_parameters=rope(10000.0)), kind="reward"),
    Case("reward-qwen3", "Qwen3ForSequenceClassification with one label, read at the last token", Qwen3Config(
        **COMMON, hidden_size=32, intermediate_size=41, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=10, rms_norm_eps=1e-6, num_labels=1, rope_parameters=rope(1000000.0)),
        kind="reward", optimizer=False),
]
