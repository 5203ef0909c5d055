//! `summary.json`, and the table that people read.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use pavlov_schema::files::write_atomic;
use serde::Serialize;

use super::habit::Habit;
use super::measure::Accuracy;

/// What one stage was given and what came of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    /// Share of held-out worlds answered right; for the reward model, of held-out comparisons.
    pub(super) accuracy: f64,
    /// Its 95% interval.
    pub(super) low: f64,
    pub(super) high: f64,
    /// At most so many bits of feedback.
    pub(super) bits_offered: f64,
    /// Demonstrations, comparisons or rewarded answers.
    pub(super) lessons: u64,
    pub(super) seconds: f64,
}

impl Stage {
    pub(super) fn new(
        name: &'static str,
        accuracy: Accuracy,
        bits_offered: f64,
        lessons: u64,
        seconds: f64,
    ) -> Self {
        let Accuracy { share, low, high } = accuracy;
        Self { name, accuracy: share, low, high, bits_offered, lessons, seconds }
    }
}

/// Answers to one held-out world before and after.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) prompt: String,
    pub(super) truth: String,
    /// The answer of each stage's model that writes answers.
    pub(super) answers: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    seed: u64,
    stages: Vec<Stage>,
    samples: Vec<Sample>,
    #[serde(skip_serializing_if = "Option::is_none")]
    habit: Option<Habit>,
    seconds: f64,
}

impl Summary {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, stages: Vec::new(), samples: Vec::new(), habit: None, seconds: 0.0 }
    }

    pub(super) fn push(&mut self, stage: Stage) {
        self.stages.push(stage);
    }

    pub(super) fn habit(&mut self, habit: Habit) {
        self.habit = Some(habit);
    }

    pub(super) fn finish(&mut self, samples: Vec<Sample>, seconds: f64) {
        self.samples = samples;
        self.seconds = seconds;
    }

    pub(super) fn write(&self, file: &Path) -> Result<()> {
        write_atomic(file, |to| {
            serde_json::to_writer_pretty(&mut *to, self)?;
            to.write_all(b"\n")
        })?;
        Ok(())
    }

    /// The stages as a table with bars, and the sampled answers.
    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "\nstage            accuracy   95% interval                              lessons   bits offered   seconds\n",
        );
        for stage in &self.stages {
            let bar = "█".repeat((stage.accuracy * 20.0).round() as usize);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:<16} {:>7.1}%   {:>4.1}–{:>4.1}%  {bar:<20} {:>12} {:>14.0} {:>9.1}",
                stage.name,
                100.0 * stage.accuracy,
                100.0 * stage.low,
                100.0 * stage.high,
                stage.lessons,
                stage.bits_offered,
                stage.seconds,
            );
        }
        text.push_str(
            "\nAccuracy: drawn answers to held-out worlds; for reward_model, held-out comparisons.\nBits offered, as pavlov ledger \
             counts them: the surprisal of a demonstration or comparison before it is learned from, the entropy of\nthe rewards of \
             each group of answers; rl_reward_model passes on the bits of the comparisons and adds none.\n",
        );
        for sample in &self.samples {
            let _ = writeln!(text, "\n{}\n  truth: {}", sample.prompt.trim(), sample.truth);
            for (stage, answer) in &sample.answers {
                let mark = if *answer == sample.truth { "✓" } else { "✗" };
                let _ = writeln!(text, "  {mark} {stage:<15} {answer}");
            }
        }
        text += &self.habit.as_ref().map_or_else(String::new, Habit::text);
        let _ = writeln!(text, "\n{:.0} seconds, seed {}", self.seconds, self.seed);
        text
    }
}
