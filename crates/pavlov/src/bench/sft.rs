//! `pavlov bench sft`: updates of the loop that learns texts, in pieces of exactly `--length` tokens.

use anyhow::Result;
use pavlov_schema::dataset;
use pavlov_train::loops::pretrain::{self, PretrainConfig};
use pavlov_train::loops::sft::Lessons;
use pavlov_train::run::{Event, Host};
use serde_json::json;

use super::clock::Clock;
use super::{BenchArgs, backend_of, on_event, report};
use crate::failure::bad_input;
use crate::interrupt;

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let (path, batch, length) = (args.data()?, args.batch(), args.length());
    let rows = dataset::read(path)?;
    let mut model = args.load(length)?;
    let mut rows = pretrain::cut(&model.encoder(), &rows, length, path)?;
    rows.retain(|row| row.tokens.len() == length);
    if rows.len() < batch {
        let (file, needed) = (path.display(), batch * length);
        return Err(bad_input(format!(
            "{file}: has fewer than the {needed} tokens of one step; give it more rows"
        )));
    }
    let folder = tempfile::tempdir()?;
    let config = PretrainConfig {
        training: args.training(folder.path()),
        max_length: length,
        ..PretrainConfig::default()
    };
    let lessons = Lessons { rows, ..Lessons::default() };
    let mut clock = Clock::new(backend_of(&model), true);
    let mut events = |event: Event| on_event(event, &mut clock);
    let mut host = Host { stop: interrupt::flag(), events: &mut events, command: &[] };
    pretrain::train(&mut model, &lessons, &config, &mut host)?;
    let sizes = [("batch", json!(batch)), ("length", json!(length))];
    report::write(args, &model, clock, batch * length, &sizes)
}
