"""Compares `pavlov logprobs --json` with transformers, both in float32.

    pavlov logprobs --model MODEL --data held_out.jsonl --json > found.jsonl
    python logprobs.py MODEL held_out.jsonl found.jsonl

Prints the number of tokens and the largest absolute difference in nats; exits 1 above 1e-4 or where tokens differ.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 1e-4


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@torch.no_grad()
def main(folder, data, found):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows, found = lines(data), lines(found)
    assert len(rows) == len(found), f"{len(rows)} rows, {len(found)} answers"
    worst, tokens = 0.0, 0
    for i, (row, line) in enumerate(zip(rows, found)):
        ids = tokenizer(row["prompt"] + row["completion"])["input_ids"]
        assert ids == line["tokens"], f"row {i + 1}: other tokens"
        logp = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
        expected = logp[:-1].gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
        difference = (torch.tensor(line["logprobs"][1:], dtype=torch.float64) - expected).abs()
        worst, tokens = max(worst, difference.max().item()), tokens + len(ids) - 1
    print(json.dumps({"rows": len(rows), "tokens": tokens, "largest_difference": worst}))
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main(*sys.argv[1:])
