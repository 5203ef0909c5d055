"""Loads an adapter's folder that Pavlov saved in `peft`, and compares it with what Pavlov computes with it.

    pavlov logprobs --model BASE --adapter SAVED --data ROWS.jsonl --dtype f32 --json > LINES.jsonl
    python scripts/golden/reload_adapter.py BASE SAVED LINES.jsonl
    python scripts/golden/reload_adapter.py BASE SAVED --merged MERGED

LINES.jsonl: prints the largest difference of the log-probabilities, relative to max(1, |x|); exits 1 above 1e-5. MERGED, the folder
that `pavlov merge` wrote: the same of the logits on fixed inputs, against `merge_and_unload` of `peft`.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from reload import inputs

TOLERANCE = 1e-5


def model(base: Path, adapter: Path):
    """The base with its adapter, in float32; an error where tensors do not fit."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    if config["task_type"] == "SEQ_CLS":
        loaded = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    else:
        loaded = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(loaded, adapter)
    report = loaded.load_adapter(adapter, adapter_name="default")
    # The base's own weights are missing in an adapter's file; no tensor of the adapter may be, and none left over.
    missing = [key for key in report.missing_keys if "lora_" in key or "modules_to_save" in key]
    if missing or report.unexpected_keys:
        sys.exit(f"{adapter}: missing {missing}, unexpected {report.unexpected_keys}")
    return loaded.eval()


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs() / expected.abs().clamp(min=1)).max().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("saved", type=Path)
    parser.add_argument("lines", type=Path, nargs="?")
    parser.add_argument("--merged", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    ours = model(arguments.base, arguments.saved)
    worst, count = 0.0, 0
    with torch.no_grad():
        if arguments.lines:
            for line in map(json.loads, arguments.lines.read_text().splitlines()):
                tokens = torch.tensor(line["tokens"])
                logp = torch.log_softmax(ours(tokens[None]).logits[0], -1)[:-1].gather(-1, tokens[1:, None])[:, 0]
                worst, count = max(worst, difference(torch.tensor(line["logprobs"][1:]), logp)), count + len(logp)
        if arguments.merged:
            auto = type(ours.get_base_model())
            merged = auto.from_pretrained(arguments.merged, dtype=torch.float32).eval()
            theirs = ours.merge_and_unload()
            for tokens in inputs(theirs.config):
                found, expected = merged(tokens).logits, theirs(tokens).logits
                worst, count = max(worst, difference(found, expected)), count + found.numel()
    if count == 0:
        sys.exit("nothing to compare: give lines of pavlov logprobs, or --merged")
    print(f"largest difference of {count} numbers: {worst:.3e} (tolerance {TOLERANCE:.0e})")
    sys.exit(0 if worst <= TOLERANCE else 1)


if __name__ == "__main__":
    main()
