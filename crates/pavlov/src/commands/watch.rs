//! `pavlov watch`: the pages of runs while they go.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pavlov_insight::{report, watch};

use crate::{interrupt, screen, stdout};

/// `pavlov watch`.
#[derive(Debug, Args)]
#[command(
    after_help = "The pages are for this machine alone. From another one: ssh -L PORT:127.0.0.1:PORT HOST. The same as JSON: \
                        /api/runs and /api/runs/N."
)]
pub(crate) struct WatchArgs {
    /// Folders of runs; several are compared
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Port on 127.0.0.1; 0: any that is free
    #[arg(long, value_name = "N", default_value_t = 6060)]
    port: u16,
}

pub(crate) fn run(args: &WatchArgs) -> Result<()> {
    for run in &args.runs {
        // What is no run is said at once, not by an empty page.
        report::read(run)?;
    }
    interrupt::listen("closing")?;
    let mut told = Ok(());
    watch::serve(args.runs.clone(), args.port, interrupt::flag(), &mut |address| {
        told = stdout::text(&format!("http://{address}\n"));
        screen::line("Ctrl-C ends it; the runs do not notice");
    })?;
    told
}
