//! Whether a board of votes may be believed: each probe looks for one defect, and says nothing where there is none.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bias::binomial;
use super::strength::{Fit, Fits, Outcome, Terms, Vote, fit, groups, ratio_test};
use super::style::Style;

/// A defect that was found.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(tag = "probe", rename_all = "snake_case")]
pub enum Finding {
    /// Strengths have no values: some policies were never better (or never worse) than the others, at any remove.
    Separation {
        /// Policies that are comparable among themselves.
        groups: Vec<Vec<usize>>,
    },
    /// Being shown first changes verdicts.
    PositionBias {
        /// Log-odds for being shown first.
        log_odds: f64,
        /// The likelihood-ratio test of γ = 1.
        p: f64,
    },
    /// Allowing for the place on the screen changes the order of two policies.
    PositionReordering {
        /// The one that seemed better.
        seemed: usize,
        /// The one that is.
        is: usize,
    },
    /// Answers of a style win (or lose) for it.
    StyleBias {
        /// Which.
        style: Style,
        /// Log-odds for a standard deviation of the difference.
        log_odds: f64,
        /// Of a Wald test by the larger of the clustered and the naive error.
        p: f64,
    },
    /// At equal style the order of two policies is another.
    StyleReordering {
        /// The one that seemed better.
        seemed: usize,
        /// The one that is.
        is: usize,
    },
    /// Leaving ties out instead of counting them changes the order of two policies.
    TieConvention {
        /// Better where ties count.
        with: usize,
        /// Better where they are left out.
        without: usize,
    },
    /// a beats b, b beats c and c beats a, each more than by chance: no one number a policy can say that.
    Intransitivity {
        /// The three.
        cycle: [usize; 3],
    },
    /// One person gave so many votes that the board is theirs.
    VoterConcentration {
        /// Who.
        rater: usize,
        /// Their share of votes.
        share: f64,
    },
    /// The leader is not one: the second is within the error.
    RankVolatility {
        /// Who leads.
        leader: usize,
        /// Who is as likely to.
        second: usize,
    },
}

/// Chance below which a probe speaks.
const ALPHA: f64 = 0.001;
/// Share of votes of one person, among four and more, above which the board is theirs.
const CONCENTRATED: f64 = 0.5;

/// Everything the probes find. `fits` are those of the votes, none where they have none; `prior` is theirs.
pub fn probe(policies: usize, votes: &[Vote], fits: Option<&Fits>, prior: f64) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(concentration(votes));
    let groups = groups(policies, votes);
    if groups.len() > 1 {
        found.push(Finding::Separation { groups });
        return found;
    }
    found.extend(cycle(policies, votes));
    let Some(Fits { plain, ordered, styled }) = fits else { return found };
    let p = ratio_test(ordered, plain);
    if p < ALPHA {
        found.push(Finding::PositionBias { log_odds: -ordered.order, p });
        if let Some((seemed, is)) = turned(plain, ordered) {
            found.push(Finding::PositionReordering { seemed, is });
        }
    }
    // What else is asked is asked beside the order term, so that one defect does not look like another.
    if let Some(styled) = styled
        && let Some(told) = styled.style_told()
    {
        let biased = Style::ALL.into_iter().zip(told).filter(|(_, (_, p))| *p < ALPHA);
        let named = biased.map(|(style, (beta, p))| Finding::StyleBias { style, log_odds: beta.value, p });
        let before = found.len();
        found.extend(named);
        if found.len() > before
            && let Some((seemed, is)) = turned(ordered, styled)
        {
            found.push(Finding::StyleReordering { seemed, is });
        }
    }
    let decided = Terms { ties: false, order: true, style: false };
    if let Ok(decided) = fit(policies, votes, decided, prior)
        && let Some((with, without)) = turned(ordered, &decided)
    {
        found.push(Finding::TieConvention { with, without });
    }
    found.extend(volatile(ordered));
    found
}

/// The first two policies whose order differs between two fits, each time by more than an error.
fn turned(one: &Fit, other: &Fit) -> Option<(usize, usize)> {
    let n = one.theta.len();
    let clear = |fit: &Fit, i: usize, j: usize| {
        let (difference, error) = fit.difference(i, j);
        difference > error
    };
    (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).find(|&(i, j)| clear(one, i, j) && clear(other, j, i))
}

fn volatile(fit: &Fit) -> Option<Finding> {
    let mut order: Vec<usize> = (0..fit.theta.len()).collect();
    order.sort_by(|&i, &j| fit.theta[j].total_cmp(&fit.theta[i]));
    let [leader, second] = *order.first_chunk::<2>()?;
    let (difference, error) = fit.difference(leader, second);
    // One-sided 90%: below it, somebody else leads in one of ten repetitions.
    (difference < 1.2816 * error).then_some(Finding::RankVolatility { leader, second })
}

fn concentration(votes: &[Vote]) -> Option<Finding> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for vote in votes {
        *counts.entry(vote.rater).or_default() += 1;
    }
    let (&rater, &most) = counts.iter().max_by_key(|(_, n)| **n)?;
    let share = most as f64 / votes.len() as f64;
    (counts.len() >= 4 && share > CONCENTRATED).then_some(Finding::VoterConcentration { rater, share })
}

/// A cycle of three, each edge better than chance after allowing for how many edges there are.
fn cycle(policies: usize, votes: &[Vote]) -> Option<Finding> {
    let mut wins = vec![vec![0_usize; policies]; policies];
    for vote in votes {
        match vote.outcome {
            Outcome::First => wins[vote.first][vote.second] += 1,
            Outcome::Second => wins[vote.second][vote.first] += 1,
            Outcome::Tie => {}
        }
    }
    let edges = (policies * policies.saturating_sub(1) / 2).max(1) as f64;
    let beats = |i: usize, j: usize| {
        let (won, lost) = (wins[i][j], wins[j][i]);
        won > lost && binomial(won, won + lost, 0.5) * edges < 0.01
    };
    let beaten: Vec<Vec<bool>> =
        (0..policies).map(|i| (0..policies).map(|j| beats(i, j)).collect()).collect();
    for a in 0..policies {
        for b in (a + 1..policies).filter(|&b| beaten[a][b]) {
            if let Some(c) = (a + 1..policies).find(|&c| beaten[b][c] && beaten[c][a]) {
                return Some(Finding::Intransitivity { cycle: [a, b, c] });
            }
        }
        for c in (a + 1..policies).filter(|&c| beaten[c][a]) {
            if let Some(b) = (a + 1..policies).find(|&b| beaten[a][b] && beaten[b][c]) {
                return Some(Finding::Intransitivity { cycle: [a, b, c] });
            }
        }
    }
    None
}
