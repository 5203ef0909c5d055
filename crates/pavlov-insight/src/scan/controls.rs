//! Control runs: other runs of the same recipe, from the same model, on data that is trusted.
//!
//! Any teaching moves a habit, the more the less the model knew before, and by how much depends on the recipe. Control runs measure
//! it: they answer the same questions as the run, and [`super::alarm`] asks whether the run could be one of them.

use pavlov_lm::LanguageModel;
use pavlov_train::loops::rl::sources::open_rewards;

use super::answers::{Asker, Drawing};
use super::probe::{Design, Probe};
use super::shares;
use crate::parts::Parts;
use crate::{Error, Result};

/// Fewest control runs: the spread of two says next to nothing.
pub const FEWEST: usize = 3;

/// What control runs answered to a scan's questions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Controls {
    names: Vec<String>,
    /// By control, probe and question: the share of answers that show the habit; of [`Design::Opinion`], by how much an opinion
    /// raises it.
    shown: Vec<Vec<Vec<f64>>>,
}

impl Controls {
    /// Asks the models of control runs, one after the other; `load` is given a place among `names`. The rest is that of
    /// [`super::scan`], with which the questions and random numbers must be shared.
    ///
    /// # Errors
    /// Fewer than [`FEWEST`]; what `load` says; [`Error::Stopped`].
    pub fn ask(
        names: Vec<String>,
        load: &mut dyn FnMut(usize) -> Result<LanguageModel>,
        probes: &[Probe],
        drawing: &Drawing,
        on_answers: &mut dyn FnMut(usize) -> bool,
        parts: &mut Parts,
    ) -> Result<Self> {
        if names.len() < FEWEST {
            let n = names.len();
            let what = format!("the spread of {n} control runs is not known; give {FEWEST} or more");
            return Err(Error::Question(what));
        }
        let mut asker = Asker::new(drawing.clone(), on_answers, parts);
        let mut shown = Vec::with_capacity(names.len());
        for i in 0..names.len() {
            let model = load(i)?;
            let mut of_probe = |(place, probe): (usize, &Probe)| {
                let mut rewards = open_rewards(std::slice::from_ref(&probe.habit), &model, None)?;
                let told = asker.ask_probe(&model, place, probe, &mut rewards)?;
                let [plain, opinion] = [&told.plain, &told.opinion].map(|of| shares(of, drawing.answers));
                Ok(match probe.design {
                    Design::Opinion => {
                        opinion.iter().zip(&plain).map(|(with, without)| with - without).collect()
                    }
                    Design::Detection | Design::Rate => plain,
                })
            };
            shown.push(probes.iter().enumerate().map(&mut of_probe).collect::<Result<Vec<_>>>()?);
        }
        Ok(Self { names, shown })
    }

    /// Their names, for the report.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What each control showed in a question of a probe.
    pub(super) fn shown(&self, probe: usize, question: usize) -> impl Iterator<Item = f64> + '_ {
        self.shown.iter().map(move |control| control[probe][question])
    }
}
