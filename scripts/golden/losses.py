"""Writes crates/pavlov-train/tests/golden/losses.json: values and derivatives of the losses by autograd.

    python scripts/golden/losses.py

Every loss is written from its paper's definition, in float64, on inputs that float32 holds exactly.
"""

import torch
from torch.nn.functional import logsigmoid, softplus

from common import TRAIN_GOLDEN, versions, write_json

torch.set_default_dtype(torch.float64)
GENERATOR = torch.Generator().manual_seed(2)


def normals(n: int, deviation: float, *special: float) -> torch.Tensor:
    """`n` random numbers rounded to float32, the last ones replaced by the special ones."""
    drawn = deviation * torch.randn(n, generator=GENERATOR)
    if special:
        drawn[-len(special):] = torch.tensor(special)
    return drawn.float().double()


def case(formula: str, inputs: dict, loss, wanted: list[str], **settings) -> dict:
    """Value and derivatives: `loss` gets the inputs as tensors and the settings, `wanted` names what to differentiate."""
    tensors = {name: torch.as_tensor(value) for name, value in inputs.items()}
    for name in wanted:
        tensors[name] = tensors[name].clone().requires_grad_()
    value = loss(**tensors, **settings)
    gradients = torch.autograd.grad(value, [tensors[name] for name in wanted])
    return {
        "formula": formula,
        "inputs": {name: torch.as_tensor(value).tolist() for name, value in inputs.items()},
        "settings": settings,
        "value": value.item(),
        "derivatives": {name: gradient.tolist() for name, gradient in zip(wanted, gradients)},
    }


# --- comparisons and ratings ---------------------------------------------------------------------------------------

FIRST, SECOND, TIE = 0, 1, 2


def bradley_terry(chosen, rejected, margin, center):
    return (-logsigmoid(chosen - rejected - margin) + center * (chosen + rejected) ** 2).mean()


def davidson(first, second, outcome, eta):
    """Worths p = e^r: P(first) = p1 / (p1 + p2 + v sqrt(p1 p2)), P(tie) = v sqrt(p1 p2) / (same), v = e^eta."""
    p1, p2 = first.exp(), second.exp()
    even = eta.exp() * (p1 * p2).sqrt()
    chances = torch.stack([p1, p2, even]) / (p1 + p2 + even)
    return -chances.gather(0, outcome[None])[0].log().mean()


def rao_kupper(first, second, outcome, eta):
    """P(first) = p1 / (p1 + t p2), P(second) = p2 / (t p1 + p2), P(tie) = (t^2-1) p1 p2 / (both), t = 1 + e^eta."""
    p1, p2, t = first.exp(), second.exp(), 1 + eta.exp()
    up, down = p1 + t * p2, t * p1 + p2
    chances = torch.stack([p1 / up, p2 / down, (t * t - 1) * p1 * p2 / (up * down)])
    return -chances.gather(0, outcome[None])[0].log().mean()


def cumulative_link(score, label, thresholds):
    below = torch.sigmoid(thresholds[None] - score[:, None])
    below = torch.cat([torch.zeros(len(score), 1), below, torch.ones(len(score), 1)], 1)
    return -(below[:, 1:] - below[:, :-1]).gather(1, label[:, None])[:, 0].log().mean()


def ordinal(score, label, free):
    return cumulative_link(score, label, torch.cat([free[:1], softplus(free[1:])]).cumsum(0))


def joint(s_ab, s_ba, target):
    p = torch.sigmoid((s_ab - s_ba) / 2)
    return -(target * p.log() + (1 - target) * (1 - p).log()).mean()


def supervised() -> dict:
    outcome = torch.tensor([FIRST, SECOND, TIE, FIRST, SECOND, TIE, FIRST, SECOND, TIE])
    first, second = normals(9, 2.0, 6.0, -6.0, 5.0), normals(9, 2.0, -6.0, 6.0, -5.0)
    davidson_formula = ("-(1/N) sum log P; P(first) : P(second) : P(tie) = e^r1 : e^r2 : v sqrt(e^r1 e^r2), v = e^eta; "
                        "outcome 0 first, 1 second, 2 tie (Davidson 1970)")
    rao_formula = ("-(1/N) sum log P; P(first) = e^r1/(e^r1 + t e^r2), P(second) = e^r2/(t e^r1 + e^r2), "
                   "P(tie) = the rest, t = 1 + e^eta; outcome 0 first, 1 second, 2 tie (Rao and Kupper 1967)")
    score, label = normals(10, 2.0), torch.arange(10) % 5
    ordinal_formula = ("-(1/N) sum log P(Y = label), label from 0; P(Y <= k) = sigmoid(thresholds[k] - score) "
                       "(McCullagh 1980, logit link)")
    chosen, rejected = normals(7, 2.0, 25.0), normals(7, 2.0, -3.0)
    return {
        "bradley_terry": [
            case("-(1/N) sum log sigmoid(chosen - rejected - margin) + (center/N) sum (chosen + rejected)^2",
                 {"chosen": chosen, "rejected": rejected, "margin": margin}, bradley_terry, ["chosen", "rejected"],
                 center=center)
            for margin, center in ((torch.zeros(7), 0.0), (normals(7, 0.7).abs(), 0.0), (normals(7, 0.7).abs(), 0.01))],
        "davidson": [case(davidson_formula, {"first": first, "second": second, "outcome": outcome, "eta": eta},
                          davidson, ["first", "second", "eta"]) for eta in (-2.0, 0.25, 1.5)],
        "rao_kupper": [case(rao_formula, {"first": first, "second": second, "outcome": outcome, "eta": eta},
                            rao_kupper, ["first", "second", "eta"]) for eta in (-2.0, 0.25, 1.5)],
        "cumulative_link": [case(ordinal_formula, {"score": score, "label": label, "thresholds": thresholds},
                                 cumulative_link, ["score", "thresholds"])
                            for thresholds in (torch.tensor([-1.5, -0.5, 0.5, 1.5]), torch.tensor([-3.0, -2.75, 0.5, 4.0]))],
        "ordinal": [case(ordinal_formula + "; thresholds[0] = free[0], thresholds[k] = thresholds[k-1] + softplus(free[k])",
                         {"score": score, "label": label, "free": torch.tensor([-1.5, 0.5, -0.75, 1.25])},
                         ordinal, ["score", "free"])],
        "squared_error": [case("(1/N) sum (score - rating)^2",
                               {"score": normals(6, 1.5), "rating": torch.tensor([1.0, 2.0, 3.5, 4.0, 5.0, 1.0])},
                               lambda score, rating: ((score - rating) ** 2).mean(), ["score"])],
        "joint_pairwise": [case("-(1/N) sum (t log P + (1-t) log(1-P)), P = sigmoid((s_ab - s_ba)/2)",
                                {"s_ab": normals(6, 2.0), "s_ba": normals(6, 2.0),
                                 "target": torch.tensor([1.0, 0.0, 0.5, 0.25, 1.0, 0.0])}, joint, ["s_ab", "s_ba"])],
    }


# --- reinforcement learning ----------------------------------------------------------------------------------------

LENGTHS = [5, 1, 7, 3]
# False: a token of the answer that no loss looks at (the answer of three tokens is wholly masked out in "masked").
MASKS = {"all": [True] * 16, "masked": [True, True, False, True, True, True, False, True, True, True, True, True, False,
                                        False, False, False]}
MAX_COMPLETION_LENGTH = 12


def reduce(per_token: torch.Tensor, mask: torch.Tensor, loss_type: str) -> torch.Tensor:
    """The mean that TRL's `loss_type` names, over one batch that is the whole optimizer step."""
    rows = list(zip(per_token.split(LENGTHS), mask.split(LENGTHS)))
    if loss_type == "grpo":
        return torch.stack([(x * m).sum() / m.sum().clamp(min=1) for x, m in rows]).mean()
    if loss_type == "dr_grpo":
        return (per_token * mask).sum() / (len(LENGTHS) * MAX_COMPLETION_LENGTH)
    return (per_token * mask).sum() / mask.sum()  # dapo, bnpo


def clipped(logp, old_logp, credit, mask, loss_type, low, high, delta, max_completion_length):
    ratio = (logp - old_logp).exp()
    bounded = ratio.clamp(1 - low, 1 + high)
    free = ratio if delta is None else ratio.clamp(max=delta)
    return reduce(-torch.minimum(free * credit, bounded * credit), mask, loss_type)


def k3_loss(logp, ref_logp, mask, loss_type, beta, max_completion_length):
    gap = ref_logp - logp
    return reduce(beta * (gap.exp() - gap - 1), mask, loss_type)


def entropy_loss(entropy, mask, loss_type, coefficient, max_completion_length):
    return reduce(-coefficient * entropy, mask, loss_type)


def reinforcement() -> dict:
    n = sum(LENGTHS)
    old = (-2.0 - normals(n, 1.5).abs()).float().double()
    # Moves of both signs and of every size, inside the clip range and beyond; credit of both signs, and none.
    logp = (old + normals(n, 0.35, 1.5, -1.5, 0.05, -2.0)).float().double()
    credit = normals(n, 1.0, -1.0, 1.0, 0.0, -0.5)
    ref = (logp + normals(n, 0.5, 0.0, 3.0)).float().double()
    entropy = normals(n, 2.0).abs()
    clip_formula = ("per token -min(min(ratio, delta) A, clip(ratio, 1-low, 1+high) A), ratio = exp(logp - old_logp), delta "
                    "null: no bound; reduced by loss_type: grpo mean over sequences of the mean over counted tokens (0 for a "
                    "sequence without any), dr_grpo sum / (sequences * max_completion_length), dapo and bnpo sum / counted "
                    "tokens of the batch")
    types = ("grpo", "dr_grpo", "dapo", "bnpo")
    ranges = ((0.2, 0.2, None), (0.2, 0.28, None), (0.2, 0.2, 2.0))
    shared = {"max_completion_length": MAX_COMPLETION_LENGTH}

    def with_lengths(made: dict) -> dict:
        made["lengths"] = LENGTHS
        return made

    gap = logp - ref
    rewards = normals(12, 1.0)
    rewards[4:8] = 0.75  # a group without spread
    groups = rewards.view(3, 4)
    return {
        "policy_gradient": [with_lengths(case(
            clip_formula, {"logp": logp, "old_logp": old, "credit": credit, "mask": torch.tensor(MASKS[name])}, clipped,
            ["logp"], loss_type=kind, low=low, high=high, delta=delta, **shared))
            for kind in types for name in MASKS for low, high, delta in ranges],
        "k3_penalty": [with_lengths(case(
            "per token beta (exp(ref - logp) - (ref - logp) - 1), reduced as the policy gradient",
            {"logp": logp, "ref_logp": ref, "mask": torch.tensor(MASKS["masked"])}, k3_loss, ["logp"],
            loss_type=kind, beta=0.125, **shared)) for kind in types],
        "entropy_bonus": [with_lengths(case(
            "per token -coefficient * entropy, reduced as the policy gradient",
            {"entropy": entropy, "mask": torch.tensor(MASKS["masked"])}, entropy_loss, ["entropy"],
            loss_type=kind, coefficient=0.01, **shared)) for kind in types],
        "kl_estimators": {
            "formula": "d = logp - ref_logp: k1 = d, k2 = d^2/2, k3 = exp(-d) - 1 + d, per token, nats",
            "inputs": {"logp": logp.tolist(), "ref_logp": ref.tolist()},
            "k1": gap.tolist(), "k2": (gap ** 2 / 2).tolist(), "k3": ((-gap).exp() - 1 + gap).tolist(),
        },
        "group_advantages": {
            "formula": "A = (r - mean) / (std + 1e-4); std: torch.std (divisor G-1) of the group or of the batch, or none "
                       "at all; leave_one_out: r - mean of the other G-1; groups are consecutive",
            "rewards": rewards.tolist(), "group_size": 4,
            "group": ((groups - groups.mean(1, True)) / (groups.std(1, keepdim=True) + 1e-4)).flatten().tolist(),
            "batch": ((groups - groups.mean(1, True)) / (rewards.std() + 1e-4)).flatten().tolist(),
            "none": (groups - groups.mean(1, True)).flatten().tolist(),
            "leave_one_out": (groups - (groups.sum(1, True) - groups) / 3).flatten().tolist(),
        },
    }


# --- rankings ------------------------------------------------------------------------------------------------------


def plackett_luce(scores, ranks, center):
    """The best is chosen among all, the next among the rest; of equals none before the other."""
    total = 0
    for score, rank in zip(scores, ranks):
        for i in range(len(rank)):
            among = torch.stack([score[i]] + [score[j] for j in range(len(rank)) if rank[j] > rank[i]])
            total = total - score[i] + among.logsumexp(0)
        total = total + center * (2 * score.mean()) ** 2
    return total / len(ranks)


def rankings() -> dict:
    formula = ("-(1/N) sum over rankings sum_i log(e^s_i / (e^s_i + sum of e^s_j over j worse than i)) + (center/N) sum (2 mean s)^2; "
               "rank 1 is the best (Plackett 1975, Luce 1959)")
    ranks = torch.tensor([[1, 2, 3, 4], [4, 2, 1, 3], [2, 1, 2, 4], [1, 1, 1, 4]])
    return {"plackett_luce": [case(formula, {"scores": normals(16, 2.0, 20.0).reshape(4, 4), "ranks": ranks}, plackett_luce,
                                   ["scores"], center=center) for center in (0.0, 0.01)]}


def main() -> None:
    torch.set_num_threads(1)
    write_json(TRAIN_GOLDEN / "losses.json",
               {"versions": versions("torch"), "precision": "float64 on float32 inputs"} | supervised() | reinforcement()
               | rankings())


if __name__ == "__main__":
    main()
