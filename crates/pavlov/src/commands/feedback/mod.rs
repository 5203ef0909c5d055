//! `pavlov feedback`: ask people, and get their answers into training.

mod data;
mod sampled;
mod serve;

use std::path::{Path, PathBuf};

use anyhow::{Error, Result};
use clap::{Args, Subcommand};
use pavlov_feedback::{Clock, Store};

use crate::failure::bad_input;

/// `pavlov feedback`.
#[derive(Debug, Args)]
#[command(after_help = "\
A first round, on this machine:
  pavlov feedback serve                                  prints a one-time link: open it, make yourself the owner
  pavlov feedback import --project demo --create --data pairs.jsonl
  pavlov feedback invite --project demo --role rater     prints a one-time link for a rater
  pavlov feedback stats --project demo
  pavlov feedback export --project demo --format dpo --out pairs.jsonl

All of these work while the server runs. docs/feedback.md has the rest.")]
pub(crate) struct FeedbackArgs {
    #[command(subcommand)]
    verb: FeedbackVerb,
}

#[derive(Debug, Subcommand)]
enum FeedbackVerb {
    /// Serve the pages and the API until Ctrl-C
    Serve(serve::ServeArgs),
    /// Make tasks of a file, or of what models answer to its prompts
    Import(Box<data::ImportArgs>),
    /// Write what people said: judgments, or rows to train on
    Export(data::ExportArgs),
    /// Show where a project stands
    Stats(data::StatsArgs),
    /// Make a one-time link for a person, or a token for a trainer
    Invite(data::InviteArgs),
    /// Copy the database while it is in use
    Backup(data::BackupArgs),
}

/// Which database.
#[derive(Debug, Args)]
struct DbArgs {
    /// The database: one file
    #[arg(long, value_name = "FILE", default_value = "feedback.db")]
    db: PathBuf,
}

impl DbArgs {
    /// Opens the database, which `serve` and `import --create` make.
    fn open(&self, make: bool) -> Result<Store> {
        if !make && !self.db.exists() {
            let db = self.db.display();
            return Err(bad_input(format!(
                "--db: {db} is not there; `pavlov feedback serve --db {db}` makes it"
            )));
        }
        open(&self.db)
    }
}

fn open(path: &Path) -> Result<Store> {
    Store::open(path, Clock::system()).map_err(wrong)
}

/// An error of the store, as the user's or the run's.
fn wrong(error: pavlov_feedback::Error) -> Error {
    use pavlov_feedback::Error::{Bug, Closed, Storage};
    match error {
        Bug(_) | Closed | Storage { .. } => Error::new(error),
        other => bad_input(other.to_string()),
    }
}

pub(crate) fn run(args: &FeedbackArgs) -> Result<()> {
    match &args.verb {
        FeedbackVerb::Serve(args) => serve::run(args),
        FeedbackVerb::Import(args) => data::import(args),
        FeedbackVerb::Export(args) => data::export(args),
        FeedbackVerb::Stats(args) => data::stats(args),
        FeedbackVerb::Invite(args) => data::invite(args),
        FeedbackVerb::Backup(args) => data::backup(args),
    }
}
