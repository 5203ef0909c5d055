"""Writes the parity fixtures: small random checkpoints and what PyTorch computes from them.

    python scripts/golden/parity.py [case ...]

The format of the fixtures is described in README.md beside this file.
"""

import contextlib
import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from cases import CASES, VOCAB, Case
from common import LM_GOLDEN, versions, write_json

LENGTHS = (5, 17, 40)
TEMPERATURE = 0.7
STEPS = 10
ADAMW = dict(lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
MAX_GRAD_NORM = 1.0


def build(case: Case):
    """A random model whose every parameter matters: no weight of one, no bias of zero."""
    torch.manual_seed(sum(case.name.encode()))
    auto = AutoModelForSequenceClassification if case.kind == "reward" else AutoModelForCausalLM
    model = auto.from_config(case.config, attn_implementation="eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.2)
            elif parameter.dim() == 1:  # norm weights
                parameter.normal_(1.0, 0.3)
            elif "embed" in name or "wte" in name or "wpe" in name:
                parameter.normal_(0.0, 0.5)
            else:
                parameter.normal_(0.0, 0.25)
    return model


def save(case: Case, model, folder: Path) -> None:
    """The Hugging Face folder, in the storage type, sharding, and configuration style of the case."""
    model.to(getattr(torch, case.storage))
    options = {} if case.max_shard_size is None else {"max_shard_size": case.max_shard_size}
    model.save_pretrained(folder, **options)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if case.hub_names:
        path = folder / "model.safetensors"
        tensors = {name.removeprefix("transformer."): t for name, t in load_file(path).items()}
        size = case.config.n_positions
        for layer in range(case.config.n_layer):
            tensors[f"h.{layer}.attn.bias"] = torch.ones(size, size).tril().view(1, 1, size, size)
        save_file(tensors, path, metadata={"format": "pt"})
    if case.old_config:
        config = json.loads((folder / "config.json").read_text())
        for key in ("rope_parameters", "dtype", "layer_types"):
            config.pop(key, None)
        config |= case.old_config
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, VOCAB)}
    words["<unk>"] = words.pop("w3")
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
                            unk_token="<unk>").save_pretrained(folder)


def load(case: Case, folder: Path):
    """The model read back in float32, so that the goldens belong to the rounded weights."""
    auto = AutoModelForSequenceClassification if case.kind == "reward" else AutoModelForCausalLM
    options = {"num_labels": 1} if case.kind == "reward" else {}
    model, report = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                         output_loading_info=True, **options)
    assert not any(report[key] for key in ("missing_keys", "mismatched_keys")), report
    return model.eval()


def sequences(case: Case) -> list[torch.Tensor]:
    """Token ids. A reward case gets two answers to one prompt of six tokens."""
    generator = torch.Generator().manual_seed(7)

    def draw(n: int) -> torch.Tensor:
        return torch.randint(3, VOCAB, (n,), generator=generator)

    if case.kind == "reward":
        prompt = draw(6)
        return [torch.cat([prompt, draw(5)]), torch.cat([prompt, draw(12)])]
    drawn = [draw(n) for n in LENGTHS]
    drawn[0][0] = drawn[2][0] = 1  # two begin with <s>, one does not
    return drawn


def score(model, tokens: torch.Tensor, temperature: float):
    """Log-probs of tokens[1:], entropies of the distributions they were scored under (nats), last logits."""
    logits = model(tokens[None], use_cache=False).logits[0]
    logp = torch.log_softmax(logits.to(torch.float32) / temperature, -1)  # under bf16 autocast: f32 from here on
    picked = logp[:-1].gather(-1, tokens[1:, None])[:, 0]
    entropy = -(logp[:-1].exp() * logp[:-1]).sum(-1)
    return picked, entropy, logits[-1]


def attention(model, tokens: torch.Tensor) -> torch.Tensor:
    """What the last token attends to in the last block, a mean over heads."""
    weights = model(tokens[None], use_cache=False, output_attentions=True).attentions[-1]
    return weights[0, :, -1].mean(0)


def likelihood_loss(model, batch) -> torch.Tensor:
    """-sum(log-prob) / N over all sequences, each run alone without padding; N = number of predicted tokens."""
    total = sum(score(model, tokens, 1.0)[0].sum() for tokens in batch)
    return -total / sum(len(tokens) - 1 for tokens in batch)


def pair_loss(model, batch) -> torch.Tensor:
    """-log sigmoid(r1 - r2)."""
    first, second = (model(tokens[None]).logits[0, 0] for tokens in batch)
    return -torch.nn.functional.logsigmoid(first - second)


def weighted_loss(model, batch, weights) -> torch.Tensor:
    """sum(a * log-prob + b * entropy) at TEMPERATURE: what any per-token loss asks of the backward."""
    total = 0.0
    for tokens, (a, b) in zip(batch, weights):
        logp, entropy, _ = score(model, tokens, TEMPERATURE)
        total = total + (a * logp).sum() + (b * entropy).sum()
    return total


def gradients(model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.detach().clone() for name, p in trained(model)}


def trained(model) -> list[tuple[str, torch.Tensor]]:
    """The parameters that training changes, by the names that a saved file gives them."""
    def saved(name: str) -> str:  # PEFT's names in memory have the adapter's own in them
        return name.replace(".modules_to_save.default", "").replace(".default", "")

    return [(saved(name), p) for name, p in model.named_parameters() if p.requires_grad]


@contextlib.contextmanager
def everything_float64():
    """Makes the upcasts to float32 inside transformers' models go to float64."""
    saved = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = saved


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest absolute difference over the largest magnitude of the reference b."""
    scale = b.double().abs().max().item()
    return (a.double() - b.double()).abs().max().item() / scale if scale > 0 else 0.0


def measure(case: Case, model, batch, weights) -> tuple[dict, dict]:
    """Outputs and gradients of a model in its present precision: tensors and scalars."""
    tensors, scalars = {}, {}
    with torch.no_grad():
        tensors |= {f"attention.{i}": attention(model, tokens) for i, tokens in enumerate(batch)}
    if case.kind == "reward":
        with torch.no_grad():
            tensors["scores"] = torch.stack([model(tokens[None]).logits[0, 0] for tokens in batch])
        loss = pair_loss(model, batch)
    else:
        with torch.no_grad():
            for i, tokens in enumerate(batch):
                tensors[f"logp.{i}"], tensors[f"entropy.{i}"], tensors[f"logits.{i}"] = score(model, tokens, 1.0)
                tensors[f"logp_t.{i}"], tensors[f"entropy_t.{i}"], _ = score(model, tokens, TEMPERATURE)
        loss = likelihood_loss(model, batch)
    scalars["loss"] = loss.item()
    tensors |= {f"grad.{name}": g for name, g in gradients(model, loss).items()}
    if case.weighted:
        loss = weighted_loss(model, batch, weights)
        scalars["weighted_loss"] = loss.item()
        tensors |= {f"weighted_grad.{name}": g for name, g in gradients(model, loss).items()}
    return tensors, scalars


def optimize(case: Case, model, batch) -> tuple[dict, dict]:
    """Ten AdamW steps on the same batch; every parameter decays."""
    loss_of = pair_loss if case.kind == "reward" else likelihood_loss
    parameters = [p for _, p in trained(model)]
    optimizer = torch.optim.AdamW(parameters, foreach=False, **ADAMW)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model, batch)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM).item())
        optimizer.step()
        losses.append(loss.item())
    after = {f"after.{name}": p.detach().clone() for name, p in trained(model)}
    return after, {"losses": losses, "grad_norms": norms}


def under_autocast(case: Case, model, batch) -> tuple[dict, dict]:
    """Log-probs and gradients with matrix products in bfloat16, and how far they are from float32."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tensors = {}
        with torch.no_grad():
            for i, tokens in enumerate(batch):
                tensors[f"bf16_logp.{i}"] = score(model, tokens, 1.0)[0]
        loss = likelihood_loss(model, batch)
    tensors |= {f"bf16_grad.{name}": g for name, g in gradients(model, loss).items()}
    return tensors, {"bf16_loss": loss.item()}


def without_gradient(case: Case) -> list[dict]:
    """Ranges of parameters whose gradient is zero but for rounding, so that AdamW moves them at random.

    A key bias without rotary positions adds the same number to all scores of a query: the softmax cancels it.
    """
    if case.config.model_type != "gpt2":
        return []
    n = case.config.n_embd
    return [{"tensor": f"transformer.h.{i}.attn.c_attn.bias", "start": n, "end": 2 * n}
            for i in range(case.config.n_layer)]


def worst(found: dict, reference: dict, prefix: str) -> dict:
    """Largest relative distance over the tensors of a prefix, and which tensor has it."""
    distances = {name: distance(t, reference[name]) for name, t in found.items() if name.startswith(prefix)}
    name = max(distances, key=distances.get)
    return {"worst": distances[name], "tensor": name}


def make(case: Case) -> None:
    folder = LM_GOLDEN / case.name
    shutil.rmtree(folder, ignore_errors=True)
    save(case, build(case), folder)
    compute(case, folder, load, versions("torch", "transformers", "safetensors", "tokenizers"))


def compute(case: Case, folder: Path, load, versions: dict) -> None:
    """Writes what the model of a folder computes; `load(case, folder)` gives the model in float32."""
    batch = sequences(case)
    generator = torch.Generator().manual_seed(11)
    weights = [tuple(torch.randn(len(t) - 1, generator=generator) for _ in "ab") for t in batch]

    model = load(case, folder)
    tensors, scalars = measure(case, model, batch, weights)
    steps = {}
    if case.optimizer:
        after, steps = optimize(case, model, batch)
        tensors |= after
    if case.bf16:
        found, extra = under_autocast(case, load(case, folder), batch)
        tensors |= found
        scalars |= extra

    # The same in float64: the distance is the rounding noise of float32, the ground for the tests' tolerances.
    exact_model = load(case, folder).double()
    with everything_float64():
        for module in exact_model.modules():
            if rotary := getattr(module, "rotary_emb", None):
                module.rotary_emb = type(rotary)(config=rotary.config)  # float64 frequencies
        weights64 = [(a.double(), b.double()) for a, b in weights]
        exact, _ = measure(case, exact_model, batch, weights64)
        if case.optimizer:
            after, exact_steps = optimize(case, exact_model, batch)
            exact |= after
    holes = [hole for hole in without_gradient(case) if f"grad.{hole['tensor']}" in tensors]
    prefixes = ["scores"] if case.kind == "reward" else ["logp", "entropy", "logits"]
    prefixes += ["attention", "grad."] + ["weighted_grad."] * case.weighted + ["after."] * case.optimizer
    for hole in holes:
        for prefix in ("grad.", "weighted_grad.", "after."):
            if (name := prefix + hole["tensor"]) in exact:
                hidden = slice(hole["start"], hole["end"])
                exact[name][hidden] = tensors[name][hidden].double()
    noise = {prefix.rstrip("."): worst(tensors, exact, prefix) for prefix in prefixes}
    for key, values in steps.items():
        noise[key] = {"worst": max(abs(a - b) / abs(b) for a, b in zip(values, exact_steps[key]))}
    if case.bf16:
        exact |= {f"bf16_{name}": t for name, t in exact.items()}
        noise |= {prefix.rstrip("."): worst(tensors, exact, prefix) for prefix in ("bf16_logp.", "bf16_grad.")}

    for i, tokens in enumerate(batch):
        tensors[f"tokens.{i}"] = tokens.to(torch.int32)
        if case.weighted:
            tensors[f"weight_logp.{i}"], tensors[f"weight_entropy.{i}"] = weights[i]
    assert all(t.dtype in (torch.float32, torch.int32) for t in tensors.values())
    assert all(torch.isfinite(t).all() for t in tensors.values())
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "fixture.safetensors")
    for path in folder.iterdir():
        path.chmod(0o644)
    write_json(folder / "fixture.json", {
        "name": case.name, "about": case.about, "kind": case.kind, "storage": case.storage,
        "sequences": [len(tokens) for tokens in batch], "temperature": TEMPERATURE, **scalars,
        "optimizer": ADAMW | {"max_grad_norm": MAX_GRAD_NORM, "steps": STEPS, **steps} if case.optimizer else None,
        "without_gradient": holes, "float64_distance": noise,
        "versions": versions,
    })


def main() -> None:
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    wanted = set(sys.argv[1:]) or {case.name for case in CASES}
    unknown = wanted - {case.name for case in CASES}
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}")
    for case in CASES:
        if case.name in wanted:
            make(case)


if __name__ == "__main__":
    main()
