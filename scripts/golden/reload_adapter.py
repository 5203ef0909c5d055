"""Loads an adapter's folder that Pavlov saved in `peft`, merges it there, and compares it with what `pavlov merge` made of it.

    pavlov merge --model BASE --adapter SAVED --out MERGED --dtype f32
    python scripts/golden/reload_adapter.py BASE SAVED MERGED

Prints the largest difference of the logits (of a reward model: of the score) on fixed inputs, relative to max(1, |x|), and how far
the adapter moves them; exits 1 above 1e-5, where the adapter does nothing, or where the folder lacks a tensor of the adapter or
has one too many. `scripts/parity/peft_check.py` compares the log-probabilities of an adapter that is not merged.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import transformers
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from reload import inputs

TOLERANCE, MOVES = 1e-5, 1e-3


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs() / expected.abs().clamp(min=1)).max().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("base", "saved", "merged"):
        parser.add_argument(name, type=Path)
    a = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()

    reward = json.loads((a.saved / "adapter_config.json").read_text())["task_type"] == "SEQ_CLS"
    auto, options = (AutoModelForSequenceClassification, {"num_labels": 1}) if reward else (AutoModelForCausalLM, {})
    base = auto.from_pretrained(a.base, dtype=torch.float32, **options).eval()
    merged = auto.from_pretrained(a.merged, dtype=torch.float32).eval()
    tokens = inputs(merged.config)
    with torch.no_grad():
        before = [base(t).logits.clone() for t in tokens]
        model = PeftModel.from_pretrained(base, a.saved).eval()
        saved = set(load_file(a.saved / "adapter_model.safetensors"))
        if other := sorted(saved ^ set(get_peft_model_state_dict(model))):
            sys.exit(f"{a.saved}: only one side has {other}")
        theirs = model.merge_and_unload()
        expected = [theirs(t).logits for t in tokens]
        worst = max(difference(merged(t).logits, e) for t, e in zip(tokens, expected))
        moved = max(difference(b, e) for b, e in zip(before, expected))
    print(f"largest difference of the logits: {worst:.3e} (tolerance {TOLERANCE:.0e}); the adapter moves them by {moved:.3f}")
    sys.exit(0 if worst <= TOLERANCE and moved > MOVES else 1)


if __name__ == "__main__":
    main()
