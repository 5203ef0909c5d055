//! What `pavlov layers` says: numbers with intervals and floors, and what they mean.

use serde::{Deserialize, Serialize};

use super::models::Part;
use crate::estimate::Estimate;

/// The name that the report is kept under.
pub const NAME: &str = "layers";

/// Where in the network a gain lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayersReport {
    /// The model before training and the one after.
    pub models: [String; 2],
    /// What was measured: the reward, or a behaviour's log-odds.
    pub metric: String,
    /// The metric before training.
    pub before: Estimate,
    /// The metric after training.
    pub after: Estimate,
    /// What there is to explain.
    pub gain: Estimate,
    /// The parts of the network that training changed.
    pub gates: Gates,
    /// Where the difference shows in the residual stream; without contrasts nothing.
    pub patches: Option<Patches>,
    /// How much of the gain one constant shift makes.
    pub shifts: Option<Shifts>,
    /// Whether few parts carry the gain.
    pub place: Place,
    /// Whether one constant shift of the stream is enough.
    pub shift: ShiftVerdict,
    /// The findings in words.
    pub sentences: Vec<String>,
}

/// Whether few parts carry the gain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Place {
    /// There is no gain to place.
    NoGain,
    /// These carry most of it, and they are a third of the parts that changed, or less.
    Concentrated {
        /// From the one that carries most on.
        parts: Vec<Part>,
    },
    /// It takes many parts.
    Spread,
}

/// Whether one constant shift of the stream is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShiftVerdict {
    /// There was no gain, or nothing to fit a shift on.
    NotMeasured,
    /// It makes 80% of the gain or more, on held-out examples.
    Enough,
    /// It makes some of the gain, more than random directions of the same length do.
    Partly,
    /// No more than random directions.
    No,
}

/// The weight changes of parts, let through or held back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gates {
    /// One after another, in the order of the network.
    pub parts: Vec<Gate>,
    /// Shapley values over groups of parts, if asked for.
    pub groups: Vec<Group>,
    /// How fast the gain comes if parts are added by their credit, and in random orders.
    pub curve: Curve,
}

/// One part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Which.
    pub part: Part,
    /// Norm of its change over the norm of what was there.
    pub change: f64,
    /// Leave-one-in: share of the gain that this part's change alone makes.
    pub alone: Estimate,
    /// Leave-one-out: share of the gain that is lost without it.
    pub needed: Estimate,
    /// The mean of both: the Shapley value if no more than two parts interact.
    pub credit: f64,
}

/// Neighbouring parts as one player.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its parts.
    pub parts: Vec<Part>,
    /// Its Shapley value, a share of the gain; all sum to 1.
    pub shapley: Estimate,
}

/// Share of the gain with the first k parts of an order let through, k from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// In the order of credit as found on the other half of the examples.
    pub by_credit: Vec<f64>,
    /// In random orders, the mean.
    pub random: Vec<f64>,
    /// Mean height of the first; none where nothing was measured.
    pub area: Option<f64>,
    /// Mean height of each random order.
    pub random_areas: Vec<f64>,
}

/// The trained model's stream put into the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Patches {
    /// The gain in log-odds that is patched, nats.
    pub gain: Estimate,
    /// By layer of the stream: 0 is the embedding, ℓ what comes out of ℓ blocks.
    pub layers: Vec<PatchedLayer>,
    /// Cells with the largest estimate, each patched exactly.
    pub top: Vec<Cell>,
    /// Cells at random among those that differ, patched exactly.
    pub random: Vec<Cell>,
    /// Correlation of estimate and exact patch over both, if they vary.
    pub agreement: Option<f64>,
}

/// The stream after so many blocks, at all positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PatchedLayer {
    /// Blocks before it.
    pub layer: usize,
    /// First-order estimate of the share of the gain that the trained stream here brings to the reference.
    pub estimated: Estimate,
    /// The share that it does bring.
    pub brought: Estimate,
    /// The share that the trained model loses with the reference's stream here.
    pub lost: Estimate,
}

/// One position of one example at one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The example, from 0.
    pub example: usize,
    /// Blocks before it.
    pub layer: usize,
    /// Its place in the sequence.
    pub position: usize,
    /// What it is part of.
    pub segment: Segment,
    /// Its token's text.
    pub token: String,
    /// First-order estimate of the change of the log-odds, nats.
    pub estimated: f64,
    /// The change itself.
    pub exact: f64,
}

/// Part of an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Segment {
    /// The prompt.
    Prompt,
    /// The answer that shows the behaviour.
    Behaviour,
    /// The other answer.
    Alternative,
}

/// One constant vector added to the stream, or projected out of it, at every position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shifts {
    /// The layer that was best on the examples that the shifts were fitted on.
    pub best: usize,
    /// By layer of the stream.
    pub layers: Vec<Shift>,
}

/// The mean difference of the streams at one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// Blocks before it.
    pub layer: usize,
    /// Length of the mean difference over the root mean square length of the reference's stream.
    pub length: f64,
    /// What the mean difference was multiplied with: best on the examples that it was fitted on.
    pub scale: f64,
    /// Representation share: of the gain, what the reference has with the shift. Held-out examples; its floor is the
    /// largest share that a random direction of the same length made at any layer.
    pub share: Estimate,
    /// The same of random directions of the same length, at the same scale.
    pub random_shares: Vec<f64>,
    /// Necessity: of the gain, what the trained model loses if the direction is projected out. Its floor is the largest
    /// loss by a random direction.
    pub necessity: Estimate,
    /// The same of the random directions.
    pub random_necessities: Vec<f64>,
}
