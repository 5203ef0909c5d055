"""Compares a folder saved by Pavlov with the folder it was loaded from, both loaded in `transformers`.

    python scripts/golden/reload.py SAVED ORIGINAL

Prints the largest absolute difference of the logits on fixed inputs; exits 1 above 1e-5, or when the saved folder
lacks a tensor, has one too many, or keeps other token ids, head or tokenizer than the original.
"""

import argparse
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

TOLERANCE = 1e-5
SAMPLE = "  The key is in the tin; naïve?\n\nAna's tin: 42."
# What decides how a checkpoint is read. Each may be spelled in another place, so the loaded values are compared.
SAME = ("model_type", "architectures", "vocab_size", "tie_word_embeddings", "bos_token_id", "eos_token_id",
        "pad_token_id", "num_labels")


def load(folder: Path):
    """The model in float32 with its configuration; an error when tensors do not fit the architecture."""
    config = AutoConfig.from_pretrained(folder)
    reward = config.architectures[0].endswith("ForSequenceClassification")
    auto = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
    model, report = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                         output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[key]:
            sys.exit(f"{folder}: {key}: {sorted(map(str, report[key]))}")
    return model.eval(), config


def inputs(config) -> list[torch.Tensor]:
    """Three sequences without the padding token, so that a classifier reads the last token."""
    generator = torch.Generator().manual_seed(3)
    longest = min(40, config.max_position_embeddings)
    drawn = [torch.randint(3, config.vocab_size, (1, n), generator=generator) for n in (1, longest // 2, longest)]
    if config.pad_token_id is not None:
        other = 3 if config.pad_token_id != 3 else 4
        drawn = [torch.where(tokens == config.pad_token_id, other, tokens) for tokens in drawn]
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("saved", type=Path)
    parser.add_argument("original", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()

    saved, saved_config = load(arguments.saved)
    original, config = load(arguments.original)
    failed = False
    for key in SAME:
        if getattr(saved_config, key, None) != getattr(config, key, None):
            print(f"{key}: saved {getattr(saved_config, key, None)!r}, original {getattr(config, key, None)!r}")
            failed = True
    if (arguments.original / "tokenizer.json").exists():
        ours, theirs = (AutoTokenizer.from_pretrained(folder) for folder in (arguments.saved, arguments.original))
        if ours(SAMPLE)["input_ids"] != theirs(SAMPLE)["input_ids"] or ours.chat_template != theirs.chat_template:
            print("the tokenizer or its chat template differs")
            failed = True
    worst = 0.0
    with torch.no_grad():
        for tokens in inputs(config):
            difference = (saved(tokens).logits - original(tokens).logits).abs().max().item()
            worst = max(worst, difference) if difference == difference else float("inf")
    print(f"max abs difference of logits: {worst:.3e} (tolerance {TOLERANCE:.0e})")
    sys.exit(1 if failed or worst > TOLERANCE else 0)


if __name__ == "__main__":
    main()
