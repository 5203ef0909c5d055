"""What choix, krippendorff, crowd-kit, statsmodels and scipy say about simulated votes, for the statistics of pavlov-feedback.

    pip install choix==0.4.1 krippendorff==0.9.0 crowd-kit==1.4.2 statsmodels==0.15.0 scipy numpy pandas
    python scripts/golden/feedback.py      # → crates/pavlov-feedback/tests/golden/statistics.json
"""

import warnings

import choix
import krippendorff
import numpy as np
import pandas as pd
from common import ROOT, versions, write_json
from crowdkit.aggregation import DawidSkene
from scipy import optimize, stats
from statsmodels.api import Logit
from statsmodels.stats.inter_rater import cohens_kappa, to_table
from statsmodels.stats.multitest import multipletests

warnings.filterwarnings("ignore")
rng = np.random.default_rng(4)
POLICIES, RATERS, ITEMS = 5, 7, 240
THETA = np.array([-0.9, -0.3, 0.0, 0.4, 0.8])


def board():
    """Votes of several raters an item: Davidson with an order and a length effect."""
    votes = []
    for item in range(ITEMS):
        i, j = rng.choice(POLICIES, 2, replace=False)
        longer = float(np.round(rng.normal(), 3))
        for rater in rng.choice(RATERS, rng.integers(1, 4), replace=False):
            d = THETA[i] - THETA[j] + 0.3 * longer
            w = np.array([np.exp(d / 2), 0.7 * np.exp(-d / 2), 0.5])
            votes.append([int(i), int(j), int(rng.choice(3, p=w / w.sum())), item, int(rater), longer])
    return votes


def unpack(x):
    return x[:POLICIES], np.exp(x[POLICIES]), np.exp(x[POLICIES + 1]), x[POLICIES + 2]


def likelihoods(x, votes):
    """Davidson's probabilities as the literature writes them; complex x gives derivatives."""
    theta, gamma, nu, beta = unpack(x)
    out = []
    for i, j, outcome, _, _, longer in votes:
        lift = np.exp(beta * longer)
        a, b = np.exp(theta[i]) * lift, gamma * np.exp(theta[j])
        t = nu * np.exp((theta[i] + theta[j] + beta * longer) / 2)
        out.append(np.log([a, b, t][outcome] / (a + b + t)))
    return np.array(out)


def davidson(votes, prior, fitted):
    """The maximum over the fitted parameters, scores by the complex step, Hessian by differences of scores."""
    free = np.array(fitted)

    def full(y):
        x = np.zeros(POLICIES + 3, dtype=np.asarray(y).dtype)
        x[free] = y
        return x

    def scores(y):
        columns = []
        for k in range(len(y)):
            z = np.array(y, dtype=complex)
            z[k] += 1e-30j
            columns.append(likelihoods(full(z), votes).imag / 1e-30)
        return np.array(columns).T

    shrink = (free < POLICIES) * prior

    def gradient(y):
        return -(scores(y).sum(0) - shrink * y)

    def value(y):
        return -(likelihoods(full(y), votes).sum() - 0.5 * (shrink * y * y).sum())

    y = optimize.minimize(value, np.zeros(len(free)), jac=gradient, method="BFGS", options={"gtol": 1e-9}).x

    def hessian(y):
        columns = []
        for k in range(len(y)):
            h = np.zeros(len(y))
            h[k] = 1e-5
            columns.append((gradient(y + h) - gradient(y - h)) / 2e-5)
        return (np.array(columns) + np.array(columns).T) / 2

    for _ in range(5):
        y = y - np.linalg.pinv(hessian(y), rcond=1e-7) @ gradient(y)
    s = scores(y)
    # Project on sum(theta) = 0, the constrained problem.
    n = len(free)
    one = (free < POLICIES) / np.sqrt(POLICIES)
    basis = np.linalg.svd(np.eye(n) - np.outer(one, one))[0][:, : n - 1]
    bread = basis @ np.linalg.inv(basis.T @ hessian(y) @ basis) @ basis.T

    def meat(key):
        groups = {}
        for vote, row in zip(votes, s):
            groups.setdefault(key(vote), np.zeros(n))
            groups[key(vote)] += row
        return sum(np.outer(g, g) for g in groups.values())

    total = meat(lambda v: v[3]) + meat(lambda v: v[4]) - meat(lambda v: (v[3], v[4]))
    covariance = bread @ total @ bread
    return {
        "parameters": list(y),
        "log_likelihood": float(likelihoods(full(y), votes).sum()),
        "errors": [float(e) for e in np.sqrt(np.diag(covariance))],
        "naive": [float(e) for e in np.sqrt(np.diag(bread))],
    }


def bradley_terry(votes):
    decided = [v for v in votes if v[2] < 2]
    pairs = [(v[0], v[1]) if v[2] == 0 else (v[1], v[0]) for v in decided]
    design = np.zeros((len(decided), POLICIES))
    for row, v in enumerate(decided):
        design[row, v[0]], design[row, v[1]] = 1.0, -1.0
    y = np.array([v[2] == 0 for v in decided], dtype=float)
    groups = np.array([[v[3], v[4]] for v in decided])
    model = Logit(y, design[:, 1:])
    kwds = {"groups": groups, "use_correction": False}
    fit = model.fit(disp=0, tol=1e-12, cov_type="cluster", cov_kwds=kwds)
    # θ_0 = 0 there; Σθ = 0 here.
    centre = (np.eye(POLICIES) - 1.0 / POLICIES)[:, 1:]
    return {
        "prior_0.1": list(map(float, choix.opt_pairwise(POLICIES, pairs, alpha=0.05, tol=1e-12))),
        "no_prior": list(map(float, choix.ilsr_pairwise(POLICIES, pairs, tol=1e-12, max_iter=1000))),
        "statsmodels": list(map(float, centre @ fit.params)),
        "errors": list(map(float, np.sqrt(np.diag(centre @ fit.cov_params() @ centre.T)))),
    }


def ratings():
    rows = []
    for item in range(60):
        truth = rng.normal()
        for rater in rng.choice(RATERS, rng.integers(1, 5), replace=False):
            rows.append([item, int(rater), int(np.clip(np.round(3 + truth + 0.7 * rng.normal()), 1, 5))])
    return rows


def agreement(rows):
    table = np.full((RATERS, 60), np.nan)
    for item, rater, value in rows:
        table[rater, item] = value
    out = {level: float(krippendorff.alpha(table, level_of_measurement=level)) for level in ["nominal", "ordinal", "interval"]}
    kappas = []
    for a in range(RATERS):
        for b in range(a + 1, RATERS):
            both = ~np.isnan(table[a]) & ~np.isnan(table[b])
            if both.sum() > 5:
                counts, _ = to_table(np.stack([table[a][both], table[b][both]], 1))
                kappas.append([a, b, int(both.sum()), float(cohens_kappa(counts).kappa)])
    return out | {"kappas": kappas}


def dawid_skene():
    accuracy = [0.9, 0.85, 0.8, 0.7, 0.35]
    rows = []
    for item in range(150):
        truth = rng.choice(3, p=[0.5, 0.3, 0.2])
        for rater, a in enumerate(accuracy):
            if rng.random() < 0.8:
                label = truth if rng.random() < a else rng.choice([c for c in range(3) if c != truth])
                rows.append([item, rater, int(label)])
    frame = pd.DataFrame(rows, columns=["task", "worker", "label"])
    model = DawidSkene(n_iter=400, tol=0.0).fit(frame)
    confusion = [[[float(model.errors_.loc[(k, label), truth]) for label in range(3)] for truth in range(3)] for k in range(5)]
    items = [[float(model.probas_.loc[item, c]) for c in range(3)] for item in sorted(set(frame.task))]
    return {"labels": rows, "prior": [float(model.priors_[c]) for c in range(3)], "confusion": confusion, "items": items}


def main():
    votes, rows = board(), ratings()
    p = [0.001, 0.2, 0.03, 0.04, 0.5, 0.9, 0.011]
    binomial = [[k, n, q, float(stats.binomtest(k, n, q).pvalue)] for k, n, q in [(3, 10, 0.5), (61, 100, 0.5), (7, 30, 0.1), (480, 1000, 0.5), (0, 20, 0.5)]]
    gold = [[r, w, *(float(stats.beta.ppf(q, 1 + r, 1 + w)) for q in (0.025, 0.975))] for r, w in [(0, 0), (9, 1), (3, 40), (200, 7)]]
    write_json(
        ROOT / "crates" / "pavlov-feedback" / "tests" / "golden" / "statistics.json",
        {
            "versions": versions("choix", "krippendorff", "crowd-kit", "statsmodels", "scipy", "numpy"),
            "votes": votes,
            "bradley_terry": bradley_terry(votes),
            "davidson": davidson(votes, 0.05, [0, 1, 2, 3, 4, 6]),
            "davidson_order": davidson(votes, 0.05, [0, 1, 2, 3, 4, 5, 6]),
            "davidson_order_length": davidson(votes, 0.05, [0, 1, 2, 3, 4, 5, 6, 7]),
            "ratings": rows,
            "agreement": agreement(rows),
            "dawid_skene": dawid_skene(),
            "false_discovery": [p, list(map(float, multipletests(p, method="fdr_bh")[1]))],
            "binomial": binomial,
            "gold": gold,
            "chi2_1": [[x, float(stats.chi2.sf(x, 1))] for x in (0.1, 3.84, 20.0)],
        },
    )


main()
