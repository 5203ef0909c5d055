//! The flag `--controls`: runs of the same recipe beside the one that is scanned.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use pavlov_engine::{Cpu, Dtype};
use pavlov_insight::parts::Parts;
use pavlov_insight::scan::answers::Drawing;
use pavlov_insight::scan::controls::Controls;
use pavlov_insight::scan::probe::Probe;
use pavlov_insight::taught::Taught;
use pavlov_lm::LanguageModel;
use pavlov_schema::Value;

use crate::failure::bad_input;
use crate::screen;

/// Keys in which control runs may differ: what was taught, and what leaves the weights alone.
const OTHERWISE: [&str; 13] = [
    "data",
    "eval_data",
    "eval_steps",
    "logging_steps",
    "model",
    "output_dir",
    "overwrite_output_dir",
    "per_device_eval_batch_size",
    "resume_from_checkpoint",
    "save_steps",
    "save_total_limit",
    "seed",
    "threads",
];

/// Control runs, read and checked.
pub(super) struct ControlRuns {
    runs: Vec<Taught>,
    digests: Vec<String>,
    backend: Arc<Cpu>,
    dtype: Dtype,
}

impl ControlRuns {
    /// Reads the runs. An error names the one that began with another model than `before`, or whose weights are those of another or of
    /// the scanned model (`own`); a recipe that differs from the scanned run's is said.
    pub(super) fn read(
        folders: &[PathBuf],
        scanned: Option<&Taught>,
        before: &Path,
        own: &str,
        backend: &Arc<Cpu>,
        dtype: Dtype,
    ) -> Result<Self> {
        let mut runs = Self { runs: Vec::new(), digests: Vec::new(), backend: backend.clone(), dtype };
        for folder in folders {
            let name = folder.display();
            let control = Taught::read(folder)?;
            if !same_folder(&control.before, before) {
                return Err(bad_input(format!(
                    "--controls: {name} began with {}, not with {}; give runs that began with the same model",
                    control.before.display(),
                    before.display()
                )));
            }
            let digest = format!("{:016x}", runs.load(&control)?.params.compute_digest());
            if digest == own || runs.digests.contains(&digest) {
                let other = if digest == own { "the model that is scanned" } else { "another control" };
                return Err(bad_input(format!(
                    "--controls: {name} has the weights of {other}; give runs on other data, or with another seed"
                )));
            }
            for difference in scanned.iter().flat_map(|scanned| differences(scanned, &control)) {
                screen::line(&format!(
                    "--controls: {name} differs: {difference}; it changes habits in its own way"
                ));
            }
            runs.runs.push(control);
            runs.digests.push(digest);
        }
        Ok(runs)
    }

    /// Of their weights.
    pub(super) fn digests(&self) -> &[String] {
        &self.digests
    }

    /// What they answer; nothing where there are none.
    pub(super) fn ask(
        &self,
        probes: &[Probe],
        drawing: &Drawing,
        on_answers: &mut dyn FnMut(usize) -> bool,
        parts: &mut Parts,
    ) -> pavlov_insight::Result<Controls> {
        if self.runs.is_empty() {
            return Ok(Controls::default());
        }
        let names = self.runs.iter().map(|control| control.run.display().to_string()).collect();
        Controls::ask(names, &mut |i| self.load(&self.runs[i]), probes, drawing, on_answers, parts)
    }

    fn load(&self, control: &Taught) -> pavlov_insight::Result<LanguageModel> {
        Ok(LanguageModel::load_frozen(&control.after, &self.backend, self.dtype)?)
    }
}

fn same_folder(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(a) == real(b)
}

/// In which keys of the configuration, and in how many updates, the recipes differ.
fn differences(scanned: &Taught, control: &Taught) -> Vec<String> {
    let keys =
        scanned.config.keys().chain(control.config.keys().filter(|key| !scanned.config.contains_key(*key)));
    let mut found: Vec<String> = keys
        .filter(|key| {
            !OTHERWISE.contains(&key.as_str()) && scanned.config.get(*key) != control.config.get(*key)
        })
        .map(|key| {
            let value = |run: &Taught| run.config.get(key).map_or("not set".to_owned(), Value::to_string);
            format!("{key} is {} there and {} here", value(control), value(scanned))
        })
        .collect();
    let updates = |run: &Taught| {
        let metrics = run.metrics().ok()?;
        metrics.iter().filter_map(|line| line.get("step")?.as_u64()).max()
    };
    // A tenth more or less is not another recipe.
    if let (Some(there), Some(here)) = (updates(control), updates(scanned))
        && there.abs_diff(here) * 10 > here
    {
        found.push(format!("it made {there} updates, {here} were made here"));
    }
    found
}
