//! `pavlov bench reward`: updates of the loop that teaches a reward model comparisons.

use anyhow::Result;
use pavlov_schema::dataset;
use pavlov_train::loops::reward_model::{self, RewardConfig};
use pavlov_train::run::{Event, Host};
use serde_json::json;

use super::clock::Clock;
use super::{BenchArgs, backend_of, on_event, report};
use crate::{interrupt, screen};

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let (path, batch, length) = (args.data()?, args.batch(), args.length());
    let rows = dataset::read(path)?;
    let model = args.load(length)?;
    let folder = tempfile::tempdir()?;
    let mut config = RewardConfig {
        training: args.training(folder.path()),
        max_length: length,
        ..RewardConfig::default()
    };
    path.clone_into(&mut config.training.data);
    let mut model = reward_model::with_head(model, config.training.seed)?;
    let mut clock = Clock::new(backend_of(&model), true);
    let mut notes = |event: Event| {
        if let Event::Note(line) = event {
            screen::line(&format!("note: {line}"));
        }
    };
    let mut host = Host { stop: interrupt::flag(), events: &mut notes, command: &[] };
    let lessons = reward_model::prepare(&model, &rows, &[], &config, &mut host)?;
    super::enough(path, lessons.rows.len(), batch)?;
    let mut events = |event: Event| on_event(event, &mut clock);
    let mut host = Host { stop: interrupt::flag(), events: &mut events, command: &[] };
    reward_model::train(&mut model, &lessons, &config, &mut host)?;
    let sizes = [("pairs", json!(batch)), ("length", json!(length))];
    report::write(args, &model, clock, 2 * batch * length, &sizes)
}
