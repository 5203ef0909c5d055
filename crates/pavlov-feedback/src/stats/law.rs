//! The law of [`super::strength`]: its likelihood, its maximum, and how sure that is.

use super::matrix::{Matrix, inverse, product, solve};
use super::strength::{Outcome, Terms, Vote};
use super::style::Style;

const STYLES: usize = Style::ALL.len();
/// Parameters that one vote touches at most: two strengths, ln γ, ln ν, and β.
const MOST: usize = 4 + STYLES;
/// The largest step of Newton's method that still counts as none, nats.
const STILL: f64 = 1e-10;
/// Steps of Newton's method.
const STEPS: usize = 100;

/// What the law reads of a vote.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Kind {
    pub(super) first: u32,
    pub(super) second: u32,
    pub(super) outcome: Outcome,
    style: [f32; STYLES],
}

/// Votes of one kind, and how many they are.
pub(super) struct Cell {
    pub(super) kind: Kind,
    n: u32,
}

fn kind(vote: &Vote, terms: Terms) -> Kind {
    let style = if terms.style { vote.style } else { [0.0; STYLES] };
    Kind { first: vote.first as u32, second: vote.second as u32, outcome: vote.outcome, style }
}

/// The votes that the law reads, alike ones together: a million votes are some hundred cells without style.
pub(super) fn cells(votes: &[Vote], terms: Terms) -> Vec<Cell> {
    let read = votes.iter().filter(|vote| terms.ties || vote.outcome != Outcome::Tie);
    let mut order: Vec<&Vote> = read.collect();
    order.sort_unstable_by_key(|vote| {
        let Kind { first, second, outcome, style } = kind(vote, terms);
        (first, second, outcome, style.map(f32::to_bits))
    });
    let alike = order.chunk_by(|one, other| kind(one, terms) == kind(other, terms));
    alike.map(|some| Cell { kind: kind(some[0], terms), n: some.len() as u32 }).collect()
}

pub(super) struct Law {
    pub(super) policies: usize,
    pub(super) terms: Terms,
    /// λ.
    pub(super) prior: f64,
}

/// The parameters beside θ; those that are not fitted are what they are without.
pub(super) struct Rest {
    pub(super) order: f64,
    pub(super) tie: f64,
    pub(super) style: [f64; STYLES],
}

/// What a vote's three log-weights are linear in: d, ln γ, ln ν.
const LINEAR: usize = 3;
/// Derivatives of the log-weights of first, second and tie with respect to them.
const SLOPES: [[f64; LINEAR]; 3] = [[0.5, 0.0, 0.0], [-0.5, 1.0, 0.0], [0.0, 0.0, 1.0]];

/// One vote under the law, over d, ln γ and ln ν.
struct Local {
    log_likelihood: f64,
    score: [f64; LINEAR],
    /// Expected information, which of a concave log-linear law is the negative Hessian too.
    information: [[f64; LINEAR]; LINEAR],
}

/// How a parameter enters a vote: its place, which of d, ln γ and ln ν it moves, and how far.
#[derive(Clone, Copy, Default)]
struct Touch {
    parameter: usize,
    moves: usize,
    by: f64,
}

/// The parameters a vote touches.
struct Touches {
    all: [Touch; MOST],
    n: usize,
}

impl Touches {
    fn iter(&self) -> std::slice::Iter<'_, Touch> {
        self.all[..self.n].iter()
    }
}

impl Law {
    /// θ…, and the fitted ones of ln γ, ln ν, β….
    fn size(&self) -> usize {
        self.style_at() + if self.terms.style { STYLES } else { 0 }
    }

    fn style_at(&self) -> usize {
        self.policies + usize::from(self.terms.order) + usize::from(self.terms.ties)
    }

    pub(super) fn read(&self, parameters: &[f64]) -> Rest {
        let Terms { ties, order, style } = self.terms;
        let (tie_at, style_at) = (self.policies + usize::from(order), self.style_at());
        Rest {
            order: if order { parameters[self.policies] } else { 0.0 },
            tie: if ties { parameters[tie_at] } else { f64::NEG_INFINITY },
            style: std::array::from_fn(|k| if style { parameters[style_at + k] } else { 0.0 }),
        }
    }

    fn touches(&self, vote: &Kind) -> Touches {
        let mut found = Touches { all: [Touch::default(); MOST], n: 0 };
        let mut add = |parameter, moves, by| {
            found.all[found.n] = Touch { parameter, moves, by };
            found.n += 1;
        };
        add(vote.first as usize, 0, 1.0);
        add(vote.second as usize, 0, -1.0);
        if self.terms.order {
            add(self.policies, 1, 1.0);
        }
        if self.terms.ties {
            add(self.policies + usize::from(self.terms.order), 2, 1.0);
        }
        if self.terms.style {
            vote.style
                .iter()
                .enumerate()
                .for_each(|(k, &share)| add(self.style_at() + k, 0, f64::from(share)));
        }
        found
    }

    fn of(&self, vote: &Kind, parameters: &[f64]) -> Local {
        let Rest { order, tie, style } = self.read(parameters);
        let styled: f64 = style.iter().zip(&vote.style).map(|(beta, &share)| beta * f64::from(share)).sum();
        let d = parameters[vote.first as usize] - parameters[vote.second as usize] + styled;
        let logs = [d / 2.0, order - d / 2.0, tie];
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights = logs.map(|log| (log - most).exp());
        let total: f64 = weights.iter().sum();
        let chances = weights.map(|weight| weight / total);
        let said = match vote.outcome {
            Outcome::First => 0,
            Outcome::Second => 1,
            Outcome::Tie => 2,
        };
        let mean: [f64; LINEAR] =
            std::array::from_fn(|f| chances.iter().zip(&SLOPES).map(|(p, slope)| p * slope[f]).sum());
        let centred = SLOPES.map(|slope| std::array::from_fn::<f64, LINEAR, _>(|f| slope[f] - mean[f]));
        let cell = |f: usize, g: usize| chances.iter().zip(&centred).map(|(p, c)| p * c[f] * c[g]).sum();
        Local {
            log_likelihood: logs[said] - most - total.ln(),
            score: centred[said],
            information: std::array::from_fn(|f| std::array::from_fn(|g| cell(f, g))),
        }
    }

    pub(super) fn log_likelihood(&self, cells: &[Cell], parameters: &[f64]) -> f64 {
        cells.iter().map(|cell| f64::from(cell.n) * self.of(&cell.kind, parameters).log_likelihood).sum()
    }

    /// The penalised log-likelihood, its gradient, and its negative Hessian, to which 11ᵀ/n is added over θ: the sum of θ
    /// tells nothing, and must not make the matrix singular.
    fn newton(&self, cells: &[Cell], parameters: &[f64]) -> (f64, Vec<f64>, Matrix) {
        let size = self.size();
        let (mut value, mut gradient, mut hessian) = (0.0, vec![0.0; size], vec![vec![0.0; size]; size]);
        for cell in cells {
            let (local, n) = (self.of(&cell.kind, parameters), f64::from(cell.n));
            value += n * local.log_likelihood;
            let touches = self.touches(&cell.kind);
            for one in touches.iter() {
                gradient[one.parameter] += n * one.by * local.score[one.moves];
                for other in touches.iter() {
                    hessian[one.parameter][other.parameter] +=
                        n * one.by * other.by * local.information[one.moves][other.moves];
                }
            }
        }
        for i in (0..self.policies).chain(self.style_at()..size) {
            value -= self.prior / 2.0 * parameters[i] * parameters[i];
            gradient[i] -= self.prior * parameters[i];
            hessian[i][i] += self.prior;
        }
        for row in &mut hessian[..self.policies] {
            row[..self.policies].iter_mut().for_each(|cell| *cell += 1.0 / self.policies as f64);
        }
        (value, gradient, hessian)
    }

    /// Covariances at the maximum: clustered by item and rater (Cameron, Gelbach and Miller 2011: item + rater − both), and naive.
    pub(super) fn covariances(
        &self,
        votes: &[Vote],
        cells: &[Cell],
        parameters: &[f64],
    ) -> Option<(Matrix, Matrix)> {
        let (_, _, hessian) = self.newton(cells, parameters);
        // inv(H + 11ᵀ/n) − 11ᵀ/n: along the sum of θ, of which nothing is known, the variance is 0, not 1e12.
        let mut bread = inverse(hessian)?;
        let share = 1.0 / (self.policies as f64 * (1.0 + self.prior));
        for row in &mut bread[..self.policies] {
            row[..self.policies].iter_mut().for_each(|cell| *cell -= share);
        }
        let sandwich = |cluster: &dyn Fn(&Vote) -> (usize, usize)| {
            product(&product(&bread, &self.meat(votes, parameters, cluster)), &bread)
        };
        let items = sandwich(&|vote| (vote.item, 0));
        let raters = sandwich(&|vote| (vote.rater, 0));
        let both = sandwich(&|vote| (vote.item, vote.rater));
        let size = self.size();
        let mut two_way = vec![vec![0.0; size]; size];
        for i in 0..size {
            for j in 0..size {
                two_way[i][j] = items[i][j] + raters[i][j] - both[i][j];
            }
        }
        // Few clusters can make the difference no covariance at all; then the wider one-way covariance is. A term of style of which
        // no answer has any is known to be nothing.
        let wider = if trace(&items) > trace(&raters) { items } else { raters };
        let positive = |i: usize| two_way[i][i] > 0.0 || wider[i][i] == 0.0;
        let sound = (0..size).all(positive) && trace(&two_way) >= 0.5 * trace(&wider);
        Some((if sound { two_way } else { wider }, bread))
    }

    /// Σ s·sᵀ over clusters, s the score summed within one.
    fn meat(&self, votes: &[Vote], parameters: &[f64], cluster: &dyn Fn(&Vote) -> (usize, usize)) -> Matrix {
        let size = self.size();
        let mut order: Vec<&Vote> =
            votes.iter().filter(|vote| self.terms.ties || vote.outcome != Outcome::Tie).collect();
        order.sort_by_key(|vote| cluster(vote));
        let mut meat = vec![vec![0.0; size]; size];
        for votes in order.chunk_by(|one, other| cluster(one) == cluster(other)) {
            let mut sum = vec![0.0; size];
            for vote in votes {
                let kind = kind(vote, self.terms);
                let (local, touches) = (self.of(&kind, parameters), self.touches(&kind));
                touches.iter().for_each(|one| sum[one.parameter] += one.by * local.score[one.moves]);
            }
            let touched: Vec<usize> = (0..size).filter(|&i| sum[i] != 0.0).collect();
            for &i in &touched {
                for &j in &touched {
                    meat[i][j] += sum[i] * sum[j];
                }
            }
        }
        meat
    }
}

fn trace(matrix: &[Vec<f64>]) -> f64 {
    matrix.iter().enumerate().map(|(i, row)| row[i]).sum()
}

/// Newton's method, each step halved until the penalised likelihood does not fall. `None`: no finite maximum was found.
pub(super) fn maximum(law: &Law, cells: &[Cell]) -> Option<Vec<f64>> {
    let mut parameters = vec![0.0; law.size()];
    let mut at = law.newton(cells, &parameters);
    for _ in 0..STEPS {
        let (value, gradient, hessian) = at;
        let step = solve(hessian, gradient.iter().map(|&g| vec![g]).collect())?;
        let mut scale = 1.0;
        at = loop {
            let next: Vec<f64> = parameters.iter().zip(&step).map(|(p, s)| p + scale * s[0]).collect();
            let there = law.newton(cells, &next);
            if there.0 >= value - 1e-12 * value.abs() {
                parameters = next;
                break there;
            }
            scale /= 2.0;
            if scale < 1e-9 {
                return None;
            }
        };
        if step.iter().all(|s| s[0].abs() < STILL) {
            return Some(parameters);
        }
    }
    None
}
