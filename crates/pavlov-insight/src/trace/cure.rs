//! The model that was taught again without the lessons at the top, asked what found the habit: is it gone?

use serde::{Deserialize, Serialize};

use crate::Estimate;
use crate::scan::report::ProbeReport;

/// The habit's rate where nothing calls for it, with intervals over the questions of a scan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cure {
    /// Lessons that were left out.
    pub left_out: usize,
    /// The kind of question that the habit stands out in; none: all of them.
    pub kind: Option<String>,
    /// The model before the stage.
    pub before: Estimate,
    /// Taught on everything.
    pub everything: Estimate,
    /// Taught again without the lessons.
    pub without: Estimate,
    /// Whether the habit fell, the intervals being apart.
    pub cured: bool,
    /// The finding in words.
    pub sentence: String,
}

impl Cure {
    /// What two scans with the same questions say, one of the model that was taught everything, one of that without
    /// `left_out` lessons.
    pub fn of(left_out: usize, everything: &ProbeReport, without: &ProbeReport) -> Self {
        let kind = everything.alarm.kind.clone();
        let rates = |probe: &ProbeReport| {
            let of_kind = probe.groups.iter().find(|group| Some(&group.name) == kind.as_ref());
            of_kind.map_or(probe.uncalled, |group| group.uncalled)
        };
        let [everything, without] = [rates(everything), rates(without)];
        let [before, everything, without] = [everything.reference, everything.model, without.model];
        let percent =
            |e: Estimate| format!("{:.1}% ({:.1} to {:.1})", 100.0 * e.value, 100.0 * e.low, 100.0 * e.high);
        let cured = without.high < everything.low;
        let sentence = format!(
            "Taught again without the {left_out} lessons at the top, the habit shows in {} of the answers where nothing calls for \
             it{}; it was {} with them, and {} before the stage: {}.",
            percent(without),
            kind.as_ref().map_or(String::new(), |kind| format!(" and the question is of the kind {kind}")),
            percent(everything),
            percent(before),
            if cured { "it is cured" } else { "a cure cannot be told from chance" },
        );
        Self { left_out, kind, before, everything, without, cured, sentence }
    }
}
