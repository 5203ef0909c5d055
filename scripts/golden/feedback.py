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
from statsmodels.api import OLS, Logit
from statsmodels.stats.inter_rater import cohens_kappa, to_table
from statsmodels.stats.multitest import multipletests

warnings.filterwarnings("ignore")
rng = np.random.default_rng(4)
POLICIES, RATERS, ITEMS = 5, 7, 240
THETA = np.array([-0.9, -0.3, 0.0, 0.4, 0.8])
# Length, headers, lists, bold.
STYLE = np.array([0.3, 0.0, 0.6, -0.2])


def board():
    """Votes of several raters an item: Davidson with an order effect and effects of style."""
    votes = []
    for item in range(ITEMS):
        i, j = rng.choice(POLICIES, 2, replace=False)
        # Exact in 32 bits.
        style = [float(s) for s in np.round(256 * rng.normal(size=4)) / 256]
        for rater in rng.choice(RATERS, rng.integers(1, 4), replace=False):
            d = THETA[i] - THETA[j] + STYLE @ style
            w = np.array([np.exp(d / 2), 0.7 * np.exp(-d / 2), 0.5])
            votes.append([int(i), int(j), int(rng.choice(3, p=w / w.sum())), item, int(rater), *style])
    return votes


def unpack(x):
    return x[:POLICIES], np.exp(x[POLICIES]), np.exp(x[POLICIES + 1]), x[POLICIES + 2 :]


def likelihoods(x, votes):
    """Davidson's probabilities as the literature writes them; complex x gives derivatives."""
    theta, gamma, nu, beta = unpack(x)
    out = []
    for i, j, outcome, _, _, *style in votes:
        styled = beta @ np.array(style)
        a, b = np.exp(theta[i] + styled), gamma * np.exp(theta[j])
        t = nu * np.exp((theta[i] + theta[j] + styled) / 2)
        out.append(np.log([a, b, t][outcome] / (a + b + t)))
    return np.array(out)


def davidson(votes, prior, fitted):
    """The maximum over the fitted parameters, scores by the complex step, Hessian by differences of scores."""
    free = np.array(fitted)

    def full(y):
        x = np.zeros(POLICIES + 2 + len(STYLE), dtype=np.asarray(y).dtype)
        x[free] = y
        return x

    def scores(y):
        columns = []
        for k in range(len(y)):
            z = np.array(y, dtype=complex)
            z[k] += 1e-30j
            columns.append(likelihoods(full(z), votes).imag / 1e-30)
        return np.array(columns).T

    # θ and β have the prior, ln γ and ln ν none.
    shrink = ((free < POLICIES) | (free >= POLICIES + 2)) * prior

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


def logit(votes, styled):
    """The decided votes as pairs, better first; and statsmodels' logit of them, with errors clustered by item and rater."""
    decided = [v for v in votes if v[2] < 2]
    design = np.zeros((len(decided), POLICIES))
    for row, v in enumerate(decided):
        design[row, v[0]], design[row, v[1]] = 1.0, -1.0
    style = np.array([v[5:] for v in decided]) if styled else np.zeros((len(decided), 0))
    y = np.array([v[2] == 0 for v in decided], dtype=float)
    groups = np.array([[v[3], v[4]] for v in decided])
    # θ_0 = 0 there; Σθ = 0 here.
    model = Logit(y, np.hstack([design[:, 1:], style]))
    kwds = {"groups": groups, "use_correction": False}
    fit = model.fit(disp=0, tol=1e-12, cov_type="cluster", cov_kwds=kwds)
    return [(v[0], v[1]) if v[2] == 0 else (v[1], v[0]) for v in decided], fit


CENTRE = (np.eye(POLICIES) - 1.0 / POLICIES)[:, 1:]


def bradley_terry_style(votes):
    _, fit = logit(votes, True)
    n = POLICIES - 1
    covariance = fit.cov_params()
    return {
        "theta": list(map(float, CENTRE @ fit.params[:n])),
        "errors": list(map(float, np.sqrt(np.diag(CENTRE @ covariance[:n, :n] @ CENTRE.T)))),
        "style": list(map(float, fit.params[n:])),
        "style_errors": list(map(float, np.sqrt(np.diag(covariance)[n:]))),
    }


def bradley_terry(votes):
    pairs, fit = logit(votes, False)
    return {
        "prior_0.1": list(map(float, choix.opt_pairwise(POLICIES, pairs, alpha=0.05, tol=1e-12))),
        "no_prior": list(map(float, choix.ilsr_pairwise(POLICIES, pairs, tol=1e-12, max_iter=1000))),
        "statsmodels": list(map(float, CENTRE @ fit.params)),
        "errors": list(map(float, np.sqrt(np.diag(CENTRE @ fit.cov_params() @ CENTRE.T)))),
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


def crowd_bt():
    """Chen et al. 2013: the maximum of likelihood times priors by scipy, and expected information by the complex step."""
    theta, eta, prior = np.array([-1.0, -0.2, 0.3, 0.9]), np.array([0.98, 0.9, 0.85, 0.7, 0.5, 0.15]), 0.05
    n, raters = len(theta), len(eta)
    votes = []
    for rater in range(raters):
        for _ in range(80):
            i, j = rng.choice(n, 2, replace=False)
            sigma = 1 / (1 + np.exp(theta[j] - theta[i]))
            q = eta[rater] * sigma + (1 - eta[rater]) * (1 - sigma)
            votes.append([int(i), int(j), int(rng.random() < q), rater])
    first, second, won, who = np.array(votes).T

    def chances(x):
        sigma = 1 / (1 + np.exp(x[second] - x[first]))
        k = x[n:][who]
        return k * sigma + (1 - k) * (1 - sigma)

    def log_posterior(x):
        q = chances(x)
        said = np.where(won == 1, q, 1 - q)
        return np.log(said).sum() - prior / 2 * (x[:n] ** 2).sum() + (2 * np.log(x[n:]) + np.log(1 - x[n:])).sum()

    def complex_step(f, x):
        columns = []
        for k in range(len(x)):
            z = np.array(x, dtype=complex)
            z[k] += 1e-30j
            columns.append(f(z).imag / 1e-30)
        return np.array(columns)

    def gradient(x):
        return complex_step(log_posterior, x)

    def hessian(x):
        h = 1e-6
        return np.array([(gradient(x + h * e) - gradient(x - h * e)) / (2 * h) for e in np.eye(len(x))])

    start = np.concatenate([0.1 * theta, np.full(raters, 0.66)])
    bounds = [(None, None)] * n + [(1e-6, 1 - 1e-6)] * raters
    x = optimize.minimize(lambda x: -log_posterior(x), start, jac=lambda x: -gradient(x), method="L-BFGS-B", bounds=bounds).x
    for _ in range(8):
        x = x - np.linalg.solve(hessian(x), gradient(x))
    # θ, and log-odds of η: d η / d u = η (1 − η).
    slope = np.concatenate([np.ones(n), x[n:] * (1 - x[n:])])
    q = chances(x)
    d = complex_step(chances, x) * slope[:, None]
    information = (d / (q * (1 - q))) @ d.T + np.diag([prior] * n + list(3 * x[n:] * (1 - x[n:])))
    error = np.sqrt(np.diag(np.linalg.inv(information)))[n:]
    u, z = np.log(x[n:] / (1 - x[n:])), stats.norm.ppf(0.975)
    return {
        "votes": votes,
        "theta": list(map(float, x[:n])),
        "eta": list(map(float, x[n:])),
        "low": list(map(float, 1 / (1 + np.exp(z * error - u)))),
        "high": list(map(float, 1 / (1 + np.exp(-z * error - u)))),
        "log_posterior": float(log_posterior(x)),
    }


def clustered_mean(rows):
    """The widest of the errors clustered by item and rater, by item alone, and by rater alone."""
    y, groups = np.array([r[2] for r in rows], dtype=float), np.array([r[:2] for r in rows])

    def interval(by):
        kwds = {"groups": by, "use_correction": False}
        fit = OLS(y, np.ones((len(y), 1))).fit(cov_type="cluster", cov_kwds=kwds)
        return [float(fit.params[0]), *map(float, fit.conf_int()[0])]

    return max([interval(groups), interval(groups[:, 0]), interval(groups[:, 1])], key=lambda i: i[2] - i[1])


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
            "davidson_order_style": davidson(votes, 0.05, list(range(11))),
            "bradley_terry_style": bradley_terry_style(votes),
            "ratings": rows,
            "clustered_mean": clustered_mean(rows),
            "agreement": agreement(rows),
            "dawid_skene": dawid_skene(),
            "crowd_bt": crowd_bt(),
            "false_discovery": [p, list(map(float, multipletests(p, method="fdr_bh")[1]))],
            "binomial": binomial,
            "gold": gold,
            "chi2_1": [[x, float(stats.chi2.sf(x, 1))] for x in (0.1, 3.84, 20.0)],
        },
    )


main()
