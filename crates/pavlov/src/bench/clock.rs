//! Time, operations and memory of steps, one after another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use pavlov_engine::Cpu;
use pavlov_engine::backend::Backend;
use pavlov_engine::profile::{Kind, Record};

use super::memory;

/// A step.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// From the end of the step before to its own.
    pub(super) seconds: f64,
    /// What the device did.
    pub(super) records: BTreeMap<Kind, Record>,
}

/// A clock that is told when a step ends.
pub(super) struct Clock {
    backend: Arc<Cpu>,
    /// Whether operations of all steps are recorded, and not of the first alone.
    recording: bool,
    last: Instant,
    steps: Vec<Step>,
    peak_rss: Option<u64>,
}

impl Clock {
    /// A clock of a device. Recording costs two readings of the time an operation: nothing beside an update, but some
    /// percent of decoding one token with a tiny model.
    pub(super) fn new(backend: Arc<Cpu>, recording: bool) -> Self {
        Self { backend, recording, last: Instant::now(), steps: Vec::new(), peak_rss: None }
    }

    /// The first step begins.
    pub(super) fn start(&mut self) {
        self.backend.profile().switch(true);
        self.backend.profile().take();
        self.last = Instant::now();
    }

    /// A step ends, and the next one begins.
    pub(super) fn step(&mut self) {
        let now = Instant::now();
        let profile = self.backend.profile();
        profile.switch(self.recording);
        self.steps.push(Step { seconds: (now - self.last).as_secs_f64(), records: profile.take() });
        self.peak_rss = memory::peak_rss();
        self.last = Instant::now();
    }

    /// The steps but the first, which warms up; one that was not recorded did what the first did. With the most
    /// memory that the process had until the last ended, in bytes.
    pub(super) fn finish(self) -> (Vec<Step>, Option<u64>) {
        self.backend.profile().switch(false);
        self.backend.profile().take();
        let mut steps = self.steps.into_iter();
        let Some(first) = steps.next() else { return (Vec::new(), self.peak_rss) };
        let recorded = |mut step: Step| {
            if step.records.is_empty() {
                step.records.clone_from(&first.records);
            }
            step
        };
        (steps.map(recorded).collect(), self.peak_rss)
    }
}
