//! Where in the network does a gain lie: in few layers' weights, in one direction of its representation, or everywhere?
//!
//! Three questions about two models of one architecture, of one metric ([`Metric`]):
//! which weight changes carry the gain (gates), where in the stream the difference shows ([`report::Patches`]), and whether
//! one constant shift of the stream is enough ([`report::Shifts`]).

mod gates;
pub mod metric;
pub mod models;
mod patch;
pub mod report;
mod rewarded;
mod say;
mod shift;

use pavlov_schema::rng::{Rng, Stream};
use pavlov_train::stage::score::Reward;

pub use metric::{Contrast, Metric, Rewarded, Set};
pub use models::{Models, Part, Weights};
pub use report::LayersReport;

use crate::estimate::Unit;
use crate::parts::{Key, Parts};
use crate::{Error, Estimate, Result};
use report::{Curve, Gates, Place, ShiftVerdict};

/// How the question is asked.
#[derive(Clone, Debug)]
pub struct LayersOptions {
    /// What the two models are called.
    pub names: [String; 2],
    /// What the metric is called.
    pub metric: String,
    /// Groups for Shapley values (2^groups evaluations), at most 8; 0 for none.
    pub groups: usize,
    /// Random orders that the order of credit is compared with.
    pub orders: usize,
    /// Cells that are patched exactly: so many of the largest, and as many at random.
    pub cells: usize,
    /// Names the random numbers.
    pub seed: u64,
}

/// Whoever asked: is told before each evaluation, and may stop.
pub struct Asked<'a> {
    /// Returns whether to go on.
    pub on_evaluation: &'a mut dyn FnMut() -> bool,
    /// What was measured before it was interrupted.
    pub parts: Parts,
}

impl Asked<'_> {
    fn tick(&mut self) -> Result<()> {
        if (self.on_evaluation)() { Ok(()) } else { Err(Error::Stopped) }
    }

    /// The values of one evaluation, if it was not made before.
    fn values(&mut self, evaluate: impl FnOnce() -> Result<Vec<f64>>) -> Result<Vec<f64>> {
        self.tick()?;
        self.parts.next(evaluate)
    }
}

/// What the parts of [`measure`] depend on: what models and the metric are called is not among it.
pub fn key(models: &Models, metric: &Metric, set: &Set, options: &LayersOptions) -> Key {
    let weights = [models.reference(), models.trained()].map(|(_, w)| (w.compute_digest(), w.dtype()));
    let rewarded = match metric {
        Metric::LogOdds => None,
        Metric::Reward(own) => {
            let rewards: Vec<_> = own.rewards.iter().map(Reward::identity).collect();
            Some((rewards, &own.prompts, &own.drawing))
        }
    };
    let LayersOptions { names: _, metric: _, groups, orders, cells, seed } = options;
    Key::of(&(weights, rewarded, set, groups, orders, cells, seed))
}

/// Evaluations of the metric on all examples that a report takes at most: what it costs.
pub fn cost(models: &Models, options: &LayersOptions) -> usize {
    let layers = models.trained().0.config().num_layers;
    2 + gates::cost(models.parts().len(), options.groups, options.orders)
        + patch::cost(layers)
        + shift::cost(layers + 1)
}

/// Σ numbers / Σ gain, over examples that belong together.
fn share(numbers: &[f64], gain: &[f64], rng: &mut Rng) -> Estimate {
    let pairs: Vec<(f64, f64)> = numbers.iter().copied().zip(gain.iter().copied()).collect();
    Estimate::of(&pairs, Unit::Share, rng, |sample| {
        let (number, gain) = sample.iter().fold((0.0, 0.0), |(n, g), (a, b)| (n + a, g + b));
        number / gain
    })
}

/// Answers all three questions. `set.contrasts` may be empty for a reward that taught no answer apart: then only the gates
/// are measured.
pub fn measure(
    models: &mut Models,
    metric: &mut Metric,
    set: &Set,
    options: &LayersOptions,
    asked: &mut Asked<'_>,
) -> Result<LayersReport> {
    if metric.examples(set) < 4 {
        let found = metric.examples(set);
        return Err(Error::Question(format!(
            "{found} examples are too few for an interval; give at least 4"
        )));
    }
    let before = asked.values(|| metric.measure(set, models, models.reference(), &[]))?;
    let after = asked.values(|| metric.measure(set, models, models.trained(), &[]))?;
    let gain: Vec<f64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    let mut rng = Rng::new(options.seed, Stream::Bootstrap, 4, 0);
    let mut estimate = |values: &[f64]| Estimate::mean(values, metric.unit(), &mut rng);
    let mut report = LayersReport {
        models: options.names.clone(),
        metric: options.metric.clone(),
        before: estimate(&before),
        after: estimate(&after),
        gain: estimate(&gain),
        gates: Gates {
            parts: Vec::new(),
            groups: Vec::new(),
            curve: Curve { by_credit: Vec::new(), random: Vec::new(), area: None, random_areas: Vec::new() },
        },
        patches: None,
        shifts: None,
        place: Place::NoGain,
        shift: ShiftVerdict::NotMeasured,
        sentences: Vec::new(),
    };
    // Shares of a gain that may be zero say nothing.
    if report.gain.stands_out() {
        let gate = gates::GateOptions { groups: options.groups, orders: options.orders, seed: options.seed };
        report.gates = gates::measure(models, metric, set, [&before, &after], gate, asked)?;
        report.place = say::place(&report.gates);
        if !set.contrasts.is_empty() {
            let Asked { on_evaluation, parts } = asked;
            let inner = &mut Asked { on_evaluation, parts: Parts::nowhere() };
            let (cells, seed) = (options.cells, options.seed);
            report.patches = Some(parts.next(|| patch::measure(models, &set.contrasts, cells, seed, inner))?);
        }
        let (train, held_out) = (set.half(0), set.half(1));
        if !train.contrasts.is_empty() {
            report.shifts = shift::measure(models, metric, [&train, &held_out], options.seed, asked)?;
            report.shift = report.shifts.as_ref().map_or(ShiftVerdict::NotMeasured, say::shift);
        }
    }
    report.sentences = say::sentences(&report);
    Ok(report)
}
