//! What a load showed: the log against what was acknowledged, and the figures.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use pavlov_feedback::store::ProjectId;
use pavlov_feedback::{Clock, Store};
use pavlov_schema::feedback::RecordKind;
use serde_json::json;

use super::LoadArgs;
use super::rater::Seen;
use crate::stdout;

/// Answers that should be in the log once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    /// Acknowledged, and not there.
    lost: usize,
    /// There more than once: under one id, or of one rater to one task.
    twice: usize,
}

/// Reads the log.
pub(super) fn verify(database: &Path, project: ProjectId, seen: &[Seen]) -> Result<Faults> {
    let store = Store::open(database, Clock::system())?;
    let mut logged = BTreeMap::new();
    let mut by_rater = BTreeMap::new();
    let (mut cursor, mut more) = (0, true);
    while more {
        let page = store.sealed_now(project, cursor, 10_000)?;
        for record in page.records.iter().filter(|record| record.record == RecordKind::Judgment) {
            *logged.entry(record.id.clone()).or_insert(0_usize) += 1;
            *by_rater.entry((record.task.clone(), record.annotator.clone())).or_insert(0_usize) += 1;
        }
        (cursor, more) = (page.cursor, page.more);
    }
    let lost = seen.iter().flat_map(|seen| &seen.acknowledged).filter(|id| !logged.contains_key(*id));
    let twice = logged.values().chain(by_rater.values()).filter(|&&n| n > 1);
    Ok(Faults { lost: lost.count(), twice: twice.count() })
}

/// Prints the figures as a line of JSON; an error where answers were lost or doubled.
pub(super) fn print(
    args: &LoadArgs,
    seen: &[Seen],
    took: Duration,
    memory: Option<u64>,
    faults: Faults,
) -> Result<()> {
    let mut times: Vec<Duration> = seen.iter().flat_map(|seen| seen.times.iter().copied()).collect();
    times.sort_unstable();
    // A server that is killed makes people wait for as long as it is gone: that says nothing about its speed.
    let ms = |share: f64| {
        let place = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        let time = times.get(place).filter(|_| args.kills == 0);
        time.map(|time| (time.as_secs_f64() * 1e5).round() / 100.0)
    };
    let judgments = times.len();
    let Faults { lost, twice } = faults;
    stdout::json(&json!({
        "pavlov": "feedback",
        "raters": args.raters,
        "seconds": (took.as_secs_f64() * 10.0).round() / 10.0,
        "judgments": judgments,
        "judgments_per_s": (judgments as f64 / took.as_secs_f64()).round(),
        "p50_ms": ms(0.5),
        "p99_ms": ms(0.99),
        "max_ms": ms(1.0),
        "kills": args.kills,
        "sent_again": seen.iter().map(|seen| seen.again).sum::<usize>(),
        "refused": seen.iter().map(|seen| seen.refused).sum::<usize>(),
        "lost": lost,
        "twice": twice,
        "server_rss_mib": memory,
    }))?;
    ensure!(lost == 0 && twice == 0, "{lost} acknowledged answers are lost and {twice} are there twice");
    Ok(())
}
