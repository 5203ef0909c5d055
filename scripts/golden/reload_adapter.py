"""Loads an adapter's folder that Pavlov saved in `peft`, merges it there, and compares it with what `pavlov merge` made of it.

    pavlov merge --model BASE --adapter SAVED --out MERGED --dtype f32
    python scripts/golden/reload_adapter.py BASE SAVED MERGED

Prints how far the logits (of a reward model: the score) of Pavlov's merge are from those of the adapter in `peft`, on fixed inputs
and relative to max(1, |x|), how far those of `peft`'s own merge are, and how far the adapter moves the base. Exits 1 where Pavlov's
merge is further than 1e-5 and more than twice as far as `peft`'s own, where the adapter does nothing, or where the folder lacks a tensor of the adapter
or has one too many. `scripts/parity/peft_check.py` compares the log-probabilities of an adapter that is not merged.
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

# Both merges round a sum, each in its own order.
TIMES, TOLERANCE, MOVES = 2.0, 1e-5, 1e-3


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
        expected = [model(t).logits.clone() for t in tokens]
        theirs = model.merge_and_unload()

        def furthest(found) -> float:
            return max(difference(f, e) for f, e in zip(found, expected))

        ours = furthest(merged(t).logits for t in tokens)
        peft = furthest(theirs(t).logits for t in tokens)
        moved = furthest(before)
    print(f"from the adapter: merged by Pavlov {ours:.2e}, by peft {peft:.2e}; the adapter moves the base by {moved:.2f}")
    sys.exit(0 if ours <= max(TIMES * peft, TOLERANCE) and moved > MOVES else 1)


if __name__ == "__main__":
    main()
