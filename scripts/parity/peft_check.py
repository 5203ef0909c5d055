"""Checks that PEFT and Pavlov read each other's adapter folders.

    python peft_check.py make BASE ADAPTER                 a random adapter, written by PEFT
    pavlov logprobs --model ADAPTER --data ROWS --dtype f32 --json > FOUND
    python peft_check.py compare BASE ADAPTER ROWS FOUND   what PEFT computes from the folder, beside what Pavlov did

`compare` takes an adapter that Pavlov trained just as well. It prints the largest difference of a log-probability, in nats,
and how far the adapter moves the base, both in float32; exits 1 above 1e-4, where tokens differ, where a tensor is missing
or one too many, or where the adapter does nothing, so that any loader would pass.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
TOLERANCE, MOVES = 1e-4, 1e-3


def make(a):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(a.base, dtype=torch.float32)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    # PEFT begins with B = 0, an adapter that does nothing.
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_B" in name:
                tensor.normal_(std=0.02)
    model.save_pretrained(a.adapter)


def logprobs(model, ids):
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].double()
    return torch.log_softmax(logits, -1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]


def same_tensors(model, folder):
    """The names of the adapter's tensors that the file lacks, and of those that the model has no place for."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        saved = set(file.keys())
    expected = set(get_peft_model_state_dict(model))
    return sorted(expected ^ saved)


def compare(a):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(a.base, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(a.base)
    model = PeftModel.from_pretrained(base, a.adapter).eval()
    if other := same_tensors(model, a.adapter):
        sys.exit(f"{a.adapter}: only one side has {other}")
    rows, found = ([json.loads(line) for line in path.open(encoding="utf-8")] for path in (a.rows, a.found))
    assert len(rows) == len(found), f"{len(rows)} rows, {len(found)} answers"
    worst, moved, tokens = 0.0, 0.0, 0
    for i, (row, line) in enumerate(zip(rows, found)):
        ids = tokenizer(row.get("text") or row["prompt"] + row["completion"])["input_ids"]
        assert ids == line["tokens"], f"row {i + 1}: other tokens"
        expected = logprobs(model, ids)
        with model.disable_adapter():
            without = logprobs(model, ids)
        ours = torch.tensor(line["logprobs"][1:], dtype=torch.float64)
        worst = max(worst, (ours - expected).abs().max().item())
        moved = max(moved, (expected - without).abs().max().item())
        tokens += len(ids) - 1
    print(json.dumps({"rows": len(rows), "tokens": tokens, "largest_difference": worst, "adapter_moves": moved}))
    sys.exit(not (worst <= TOLERANCE and moved > MOVES))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, paths in (("make", ()), ("compare", ("rows", "found"))):
        verb = verbs.add_parser(name)
        for path in ("base", "adapter", *paths):
            verb.add_argument(path, type=Path)
    a = parser.parse_args()
    {"make": make, "compare": compare}[a.verb](a)


if __name__ == "__main__":
    main()
