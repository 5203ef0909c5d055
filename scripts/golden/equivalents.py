"""How far PyTorch is from itself: the AdamW steps of the parity cases against the goldens, computed in f32 in ways that
are equal in exact arithmetic. Writes the largest distances to fixture.json as `equivalents`, in multiples of the
golden's own distance from float64: the ground of the limits in crates/pavlov-lm/tests/parity/main.rs.

    python scripts/golden/equivalents.py [case ...]
"""

import itertools
import json
import sys

import torch
import transformers
from safetensors.torch import load_file

import parity
from cases import CASES
from common import LM_GOLDEN, write_json


def ways(case):
    """Order of the sequences, attention, layout of the batch, and threads: none of them changes what is computed."""
    orders = list(itertools.permutations(range(3)))[1:] if case.kind != "reward" else []
    for order in orders:
        yield {"order": order}
    for attention in ("sdpa", "eager"):
        for threads in (1, 2):
            yield {"attention": attention, "threads": threads, "padded": case.kind != "reward"}
    yield {"attention": "sdpa"}
    yield {"fused": True}


def padded_loss(model, batch):
    """The same mean over all predicted tokens, with the sequences padded to one batch."""
    longest = max(len(tokens) for tokens in batch)
    ids = torch.stack([torch.nn.functional.pad(tokens, (0, longest - len(tokens))) for tokens in batch])
    mask = torch.stack([(torch.arange(longest) < len(tokens)).long() for tokens in batch])
    logits = model(ids, attention_mask=mask, use_cache=False).logits.float()
    logp = torch.log_softmax(logits[:, :-1], -1).gather(-1, ids[:, 1:, None])[..., 0]
    return -(logp * mask[:, 1:]).sum() / mask[:, 1:].sum()


def optimize(case, model, batch, way):
    loss_of = parity.pair_loss if case.kind == "reward" else parity.likelihood_loss
    loss_of = padded_loss if way.get("padded") else loss_of
    options = {"fused": True} if way.get("fused") else {"foreach": False}
    optimizer = torch.optim.AdamW(model.parameters(), **options, **parity.ADAMW)
    losses, norms = [], []
    for _ in range(parity.STEPS):
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model, [batch[i] for i in way.get("order", range(len(batch)))])
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), parity.MAX_GRAD_NORM).item())
        optimizer.step()
        losses.append(loss.item())
    return {name: p.detach().clone() for name, p in model.named_parameters()}, losses, norms


def multiples(case, way):
    """Distances of one way from the goldens, in units of the goldens' distance from float64."""
    folder = LM_GOLDEN / case.name
    about = json.loads((folder / "fixture.json").read_text())
    golden = load_file(folder / "fixture.safetensors")
    torch.set_num_threads(way.get("threads", 1))
    model = parity.load(case, folder)
    model.set_attn_implementation(way.get("attention", "eager"))
    unit = {name: noise["worst"] for name, noise in about["float64_distance"].items()}
    after, losses, norms = optimize(case, model, parity.sequences(case), way)
    relative = lambda found, wanted: max(abs(a - b) / abs(b) for a, b in zip(found, wanted))
    worst = 0.0
    for name, found in after.items():
        wanted = golden[f"after.{name}"]
        for hole in about["without_gradient"]:
            if hole["tensor"] == name:
                found[hole["start"]:hole["end"]] = wanted[hole["start"]:hole["end"]]
        worst = max(worst, parity.distance(found, wanted))
    steps = about["optimizer"]
    return {
        "after": worst / unit["after"],
        "losses": relative(losses, steps["losses"]) / unit["losses"],
        "grad_norms": relative(norms, steps["grad_norms"]) / unit["grad_norms"],
    }


def main():
    transformers.utils.logging.disable_progress_bar()
    wanted = set(sys.argv[1:]) or {case.name for case in CASES}
    print(f"{'case':24} {'ways':>4} {'losses':>7} {'norms':>7} {'after':>7}   (largest multiple of the distance from float64)")
    most = 0.0
    for case in CASES:
        if case.name in wanted and case.optimizer:
            found = [multiples(case, way) for way in ways(case)]
            worst = {key: round(max(one[key] for one in found), 2) for key in ("losses", "grad_norms", "after")}
            path = LM_GOLDEN / case.name / "fixture.json"
            write_json(path, json.loads(path.read_text()) | {"equivalents": worst})
            most = max(most, *worst.values())
            print(f"{case.name:24} {len(found):4} {worst['losses']:7.2f} {worst['grad_norms']:7.2f} {worst['after']:7.2f}")
    print(f"largest: {most:.2f}")


if __name__ == "__main__":
    main()
