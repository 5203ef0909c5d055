"""Prints how Pavlov's curves compare with TRL's, and draws both.

    python compare.py --sft TRL_JSON METRICS_JSONL [--replay TRL_JSON METRICS_JSONL]
        [--grpo TRL_JSON,... METRICS_JSONL,...] [--plot OUT_PNG]

TRL's files are those of trl_curves.py; Pavlov's are the metrics.jsonl of its runs. Lists have one file a seed. A replay is
TRL's run on the answers of that run of Pavlov.
"""

import argparse
import json
from statistics import mean

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LAST_LOSSES, LAST_REWARDS = 20, 10
COLOURS = {"TRL": "#d95f02", "Pavlov": "#1b6ca8"}


def trl(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)["steps"]


def pavlov(path):
    with open(path, encoding="utf-8") as file:
        return [line for line in map(json.loads, file) if "loss" in line]


def compare_sft(theirs, ours):
    assert len(theirs) == len(ours)
    pairs = [(a["loss"], b["loss"]) for a, b in zip(theirs, ours)]
    relative = [abs(a - b) / a for a, b in pairs]
    end = [mean(pair[side] for pair in pairs[-LAST_LOSSES:]) for side in (0, 1)]
    print(f"SFT, {len(pairs)} updates; TRL, Pavlov, difference")
    print(f"  first loss                 {pairs[0][0]:.6f}  {pairs[0][1]:.6f}  {abs(pairs[0][0] - pairs[0][1]):.1e}")
    print(f"  mean of the last {LAST_LOSSES} losses  {end[0]:.6f}  {end[1]:.6f}  {abs(end[0] - end[1]) / end[0]:.3%}")
    print(f"  largest relative difference of a loss  {max(relative):.2e} (update {1 + relative.index(max(relative))}),"
          f" in the first 20 updates {max(relative[:20]):.2e}")


def compare_replay(theirs, ours):
    """Both learned from the same answers, so that every number must agree but for rounding."""
    assert len(theirs) == len(ours)
    print(f"GRPO on the same answers, {len(ours)} updates; largest difference")
    for key in ("reward", "loss", "grad_norm", "entropy"):
        print(f"  {key:10} {max(abs(a[key] - b[key]) for a, b in zip(theirs, ours)):.1e}")


def surprise(name, run):
    """Whether answers were drawn from the model itself: the mean of -log p - entropy is then 0 but for chance."""
    mean_of_all = mean(line["surprise"] for line in run)
    error = sum(line["surprise_error"] ** 2 for line in run) ** 0.5 / len(run)
    print(f"  answers of {name}: -log p - entropy {mean_of_all:+.4f} nats, standard error {error:.4f}")


def compare_grpo(name, runs):
    first = [mean(line["reward"] for line in run[:LAST_REWARDS]) for run in runs]
    last = [mean(line["reward"] for line in run[-LAST_REWARDS:]) for run in runs]
    show = lambda values: " ".join(f"{value:.4f}" for value in values)
    print(f"GRPO {name}, {len(runs)} seeds: mean reward of the first {LAST_REWARDS} updates {show(first)}"
          f" (mean {mean(first):.4f}), of the last {LAST_REWARDS} {show(last)} (mean {mean(last):.4f})")


def compare_ends(theirs, ours):
    """Welch's interval for the difference of the methods; a seed is one observation."""
    from scipy.stats import ttest_ind

    ends = [[mean(line["reward"] for line in run[-LAST_REWARDS:]) for run in runs] for runs in (ours, theirs)]
    test = ttest_ind(*ends, equal_var=False)
    low, high = test.confidence_interval(0.95)
    print(f"  Pavlov - TRL, last {LAST_REWARDS} updates: {mean(ends[0]) - mean(ends[1]):+.4f}, 95% interval {low:+.4f} to"
          f" {high:+.4f}, p = {test.pvalue:.2f}")


def draw(sft, grpo, path):
    figure, axes = plt.subplots(1, 1 + bool(grpo), figsize=(4.6 * (1 + bool(grpo)), 3.2), dpi=100, squeeze=False)
    left = axes[0][0]
    for (name, run), width, style in zip(sft.items(), (3.5, 1.2), ("-", "-")):
        left.plot([line["step"] for line in run], [line["loss"] for line in run], style, lw=width, label=name,
                  color=COLOURS[name])
    left.set(title="SFT on GSM8K", xlabel="update", ylabel="loss, nats per token")
    if grpo:
        right = axes[0][1]
        for name, runs in grpo.items():
            for i, run in enumerate(runs):
                right.plot([line["step"] for line in run], [line["reward"] for line in run], lw=1.1,
                           color=COLOURS[name], alpha=0.8, label=name if i == 0 else None)
        right.set(title="GRPO, one line a seed", xlabel="update", ylabel="mean reward of 32 answers")
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sft", nargs=2, required=True)
    parser.add_argument("--replay", nargs=2)
    parser.add_argument("--grpo", nargs=2)
    parser.add_argument("--plot")
    a = parser.parse_args()
    sft = {"TRL": trl(a.sft[0]), "Pavlov": pavlov(a.sft[1])}
    compare_sft(*sft.values())
    if a.replay:
        theirs = trl(a.replay[0])
        compare_replay(theirs, pavlov(a.replay[1]))
        surprise("Pavlov", theirs)
    grpo = {}
    if a.grpo:
        grpo = {"TRL": [trl(path) for path in a.grpo[0].split(",")],
                "Pavlov": [pavlov(path) for path in a.grpo[1].split(",")]}
        for name, runs in grpo.items():
            compare_grpo(name, runs)
        for path, run in zip(a.grpo[0].split(","), grpo["TRL"]):
            surprise(f"TRL, {path}", run)
        if min(map(len, grpo.values())) > 1:
            compare_ends(*grpo.values())
    if a.plot:
        draw(sft, grpo, a.plot)


if __name__ == "__main__":
    main()
