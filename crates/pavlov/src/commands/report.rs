//! `pavlov report`: a run as one page.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pavlov_insight::report;

use crate::{screen, stdout};

/// `pavlov report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Folder of a run
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The page to write [default: RUN/report.html]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print what the page shows on stdout as JSON, and write no page
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ReportArgs) -> Result<()> {
    if args.json {
        return stdout::json(&report::read(&args.run)?);
    }
    let page = report::write(&args.run, args.out.as_deref())?;
    screen::line(&format!("written: {}; it needs no network: open, print or send it", page.display()));
    Ok(())
}
