//! From numbers to verdicts and sentences.

use super::models::Part;
use super::report::{Gates, LayersReport, Place, ShiftVerdict, Shifts};
use crate::estimate::{Estimate, Unit};

/// Of the credit, what few parts must carry to be called the place of it.
const MOST: f64 = 0.8;
/// Of the parts that changed, how many are few.
const FEW: f64 = 1.0 / 3.0;
/// Of the gain, what a shift must make to be enough.
const ENOUGH: f64 = 0.8;

/// Whether a third of the parts, or one, carries 80% of the positive credit.
pub(super) fn place(gates: &Gates) -> Place {
    let mut parts: Vec<(Part, f64)> =
        gates.parts.iter().map(|gate| (gate.part, gate.credit.max(0.0))).collect();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    let all: f64 = parts.iter().map(|(_, credit)| credit).sum();
    let few = ((parts.len() as f64 * FEW) as usize).max(1);
    let mut carried = 0.0;
    for (i, (_, credit)) in parts.iter().enumerate().take(few) {
        carried += credit;
        if carried >= MOST * all {
            return Place::Concentrated { parts: parts[..=i].iter().map(|(part, _)| *part).collect() };
        }
    }
    Place::Spread
}

/// By the held-out share at the layer that was best on the other half.
pub(super) fn shift(shifts: &Shifts) -> ShiftVerdict {
    let Some(best) = shifts.layers.iter().find(|shift| shift.layer == shifts.best) else {
        return ShiftVerdict::NotMeasured;
    };
    if !best.share.stands_out() || best.share.value < 0.0 {
        ShiftVerdict::No
    } else if best.share.value >= ENOUGH {
        ShiftVerdict::Enough
    } else {
        ShiftVerdict::Partly
    }
}

fn percent(estimate: &Estimate) -> String {
    let [value, low, high] = [estimate.value, estimate.low, estimate.high].map(|x| 100.0 * x);
    format!("{value:.0}% ({low:.0} to {high:.0}%)")
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::RewardPoints => "reward points",
        Unit::LogOdds => "nats",
        Unit::Bits | Unit::Nats | Unit::Episodes | Unit::Share | Unit::Sigmas | Unit::Correlation => "",
    }
}

pub(super) fn sentences(report: &LayersReport) -> Vec<String> {
    let gain = &report.gain;
    let way = if gain.value < 0.0 { "lowered" } else { "raised" };
    let (size, points) = (gain.value.abs(), unit(gain.unit));
    let (low, high) = (gain.low, gain.high);
    if report.place == Place::NoGain {
        let what = "the interval holds zero, so there is nothing to place";
        return vec![format!(
            "Training changed {} by {:+.3} {points} ({low:+.3} to {high:+.3}): {what}.",
            report.metric, gain.value
        )];
    }
    let mut said = vec![format!(
        "Training {way} {} by {size:.3} {points} (change {low:+.3} to {high:+.3}).",
        report.metric
    )];
    said.push(of_gates(report));
    said.extend(of_patches(report));
    said.extend(of_shifts(report));
    said
}

fn of_gates(report: &LayersReport) -> String {
    let gates = &report.gates;
    let sum = |of: &dyn Fn(&super::report::Gate) -> f64| gates.parts.iter().map(of).sum::<f64>();
    let (alone, needed) = (sum(&|g| g.alone.value), sum(&|g| g.needed.value));
    let list = |parts: &[Part]| parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let begin = match &report.place {
        Place::Concentrated { parts } if gates.parts.len() == 1 => {
            return format!("Training changed {} alone.", list(parts));
        }
        Place::Concentrated { parts } => {
            let gate = gates.parts.iter().find(|gate| gate.part == parts[0]);
            let told = gate.map(|gate| {
                let (alone, needed) = (percent(&gate.alone), percent(&gate.needed));
                format!(" The change of {} alone makes {alone} of the gain; removing it would lower the gain by {needed}.", gate.part)
            });
            format!(
                "Most of it is carried by {} of {} parts: {}.{}",
                parts.len(),
                gates.parts.len(),
                list(parts),
                told.unwrap_or_default()
            )
        }
        Place::Spread | Place::NoGain => {
            format!("It takes many of the {} parts that training changed.", gates.parts.len())
        }
    };
    let together = if alone < 0.75 && needed > 1.25 {
        " Parts need one another: alone they make less than together."
    } else if alone > 1.25 && needed < 0.75 {
        " Parts stand in for one another: each alone makes more than is lost without it."
    } else {
        ""
    };
    let (all_alone, all_needed) = (100.0 * alone, 100.0 * needed);
    format!(
        "{begin} Sum of all parts alone {all_alone:.0}%, sum of what is lost without each {all_needed:.0}%.{together}"
    )
}

fn of_patches(report: &LayersReport) -> Option<String> {
    let patches = report.patches.as_ref()?;
    let half = patches.layers.iter().find(|layer| layer.brought.value >= 0.5)?;
    Some(format!(
        "After {} of {} blocks the trained model's stream brings {} of the gain to the reference; first-order estimates \
         and exact patches of {} cells {}.",
        half.layer,
        patches.layers.len() - 1,
        percent(&half.brought),
        patches.top.len() + patches.random.len(),
        patches.agreement.map_or("do not vary".to_owned(), |r| format!("correlate at {r:.2}"))
    ))
}

fn of_shifts(report: &LayersReport) -> Option<String> {
    let shifts = report.shifts.as_ref()?;
    let best = shifts.layers.iter().find(|shift| shift.layer == shifts.best)?;
    let floor = 100.0 * best.share.noise_floor.unwrap_or(0.0);
    let verdict = match report.shift {
        ShiftVerdict::Enough => "One constant shift of the representation is enough",
        ShiftVerdict::Partly => "One constant shift of the representation makes part of it",
        ShiftVerdict::No => "No constant shift of the representation can be told from random directions",
        ShiftVerdict::NotMeasured => return None,
    };
    Some(format!(
        "{verdict}: the mean difference after {} blocks, added to the reference, makes {} of the gain on held-out examples \
         (random directions: up to {floor:.0}%); projecting it out of the trained model would lower the gain by {} (random: \
         up to {:.0}%).",
        best.layer,
        percent(&best.share),
        percent(&best.necessity),
        100.0 * best.necessity.noise_floor.unwrap_or(0.0)
    ))
}
