//! `pavlov bench feedback`: simulated raters answer over HTTP, as fast as they are asked to, while the server may be killed.
//!
//! The server is this program in a process of its own. Each rater holds one connection and answers when its turn comes; the time
//! of an answer is counted from that turn, so that a server that stands still cannot hide it by being asked less. With
//! `--kills` the server is killed again and again (SIGKILL) and started anew; a rater sends what was not acknowledged once
//! more under the same key. In the end the log is read: every acknowledged answer must be in it, and none twice.

mod rater;
mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use pavlov_feedback::settings::Settings;
use pavlov_feedback::store::{NewProject, ProjectId};
use pavlov_feedback::{Clock, Store};
use pavlov_schema::feedback::{NewResponse, NewTask, RecordKind};
use serde_json::json;

use crate::{screen, stdout};
use rater::{Rater, Report};
use server::Server;

/// The load of `pavlov bench feedback`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// feedback: simulated raters
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    raters: u32,
    /// feedback: answers a second of all raters together
    #[arg(long, value_name = "N", default_value_t = 1_100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// feedback: seconds of load
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// feedback: times the server is killed meanwhile
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    kills: u32,
    /// The server's side
    #[arg(long, hide = true, value_name = "DB")]
    serve: Option<std::path::PathBuf>,
    /// Where it listens
    #[arg(long, hide = true, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    address: String,
}

/// Runs the load and reports it; or, started by the former, serves.
pub(super) fn run(args: &LoadArgs) -> Result<()> {
    if let Some(database) = &args.serve {
        return server::serve(database, &args.address);
    }
    let folder = tempfile::tempdir().context("cannot make a folder for the database")?;
    let database = folder.path().join("feedback.db");
    let (project, raters) = prepare(&database, args)?;
    let server = Server::start(&database)?;
    screen::line(&format!(
        "{} raters, {} answers a second for {} s, {} kills",
        args.raters, args.rate, args.seconds, args.kills
    ));
    let (reports, server, kills) = load(args, raters, server)?;
    let memory = server.memory_mib();
    server.kill()?;
    let lost = verify(&database, project, &reports)?;
    report(args, &reports, kills, memory, lost)
}

/// A database with a project, its tasks, and raters with their tokens.
fn prepare(database: &Path, args: &LoadArgs) -> Result<(ProjectId, Vec<String>)> {
    let store = Store::open(database, Clock::system())?;
    let settings = Settings {
        shared_share: 0.0,
        gold_share: 0.0,
        repeat_share: 0.0,
        undo_window_s: 0,
        max_open_tasks: 10_000_000,
        ..Settings::default()
    };
    let new = NewProject { name: "bench".into(), settings, guidelines: "Which is better?".into() };
    let raters = args.raters;
    let (project, tokens) = store.write_now(move |w| {
        let owner = w.create_account("owner", None, true)?.id;
        let project = w.create_project(&new, owner)?.id;
        let mut tokens = Vec::new();
        for i in 0..raters {
            let account = w.create_account(&format!("rater {i}"), None, false)?.id;
            w.set_member(project, account, pavlov_feedback::roles::Role::Rater)?;
            tokens.push(w.create_token("bench", Some(account), None, None, None)?);
        }
        Ok((project, tokens))
    })?;
    // Half as many again as will be answered, and one for each hand.
    let wanted = args.rate as usize * args.seconds as usize * 3 / 2 + raters as usize;
    for start in (0..wanted).step_by(5_000) {
        let tasks: Vec<NewTask> = (start..(start + 5_000).min(wanted)).map(task).collect();
        store.write_now(move |w| w.add_tasks(project, &tasks))?;
    }
    Ok((project, tokens))
}

fn task(i: usize) -> NewTask {
    let answer = |text: String, policy: &str| NewResponse {
        policy: Some(policy.into()),
        ..NewResponse::new(text.as_str())
    };
    let prompt =
        format!("World {i}: Ana put the key in the tin. Ben carried the tin to the shed. Where is the key?");
    let a = answer(format!("The key is in the tin, and the tin is in shed {i}."), "run/10");
    let b = answer(format!("The key is where Ana put it, says witness {i}."), "run/20");
    NewTask::new(prompt.as_str().into(), vec![a, b])
}

/// Everybody answers until the time is over, and the server is killed now and then.
fn load(args: &LoadArgs, tokens: Vec<String>, mut server: Server) -> Result<(Vec<Report>, Server, u32)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let length = Duration::from_secs(u64::from(args.seconds));
    let turn = Duration::from_secs_f64(f64::from(args.raters) / f64::from(args.rate));
    let address = Arc::new(server.address);
    let start = Instant::now() + Duration::from_millis(300);
    let raters = tokens.into_iter().enumerate().map(|(i, token)| {
        let first = start + turn.mul_f64(i as f64 / f64::from(args.raters));
        Rater { number: i, token, address: Arc::clone(&address), first, turn, end: start + length }
    });
    let raters: Vec<Rater> = raters.collect();
    let driver = std::thread::spawn(move || {
        runtime.block_on(async {
            let all: Vec<_> = raters.into_iter().map(|rater| tokio::spawn(rater.work())).collect();
            let mut reports = Vec::new();
            for one in all {
                reports.push(one.await.context("a rater stopped")??);
            }
            Ok::<_, anyhow::Error>(reports)
        })
    });
    let mut kills = 0;
    while kills < args.kills && !driver.is_finished() {
        std::thread::sleep(length.div_f64(f64::from(args.kills) + 1.0));
        server = server.restart()?;
        kills += 1;
    }
    let reports = driver.join().map_err(|_| anyhow::anyhow!("the raters stopped"))??;
    Ok((reports, server, kills))
}

/// Answers that were acknowledged and are not in the log, and answers that are in it twice.
fn verify(database: &Path, project: ProjectId, reports: &[Report]) -> Result<[usize; 2]> {
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
    let lost = reports.iter().flat_map(|report| &report.acknowledged).filter(|id| !logged.contains_key(*id));
    let twice = logged.values().chain(by_rater.values()).filter(|&&n| n > 1);
    Ok([lost.count(), twice.count()])
}

fn report(
    args: &LoadArgs,
    reports: &[Report],
    kills: u32,
    memory: Option<u64>,
    [lost, twice]: [usize; 2],
) -> Result<()> {
    let mut times: Vec<Duration> = reports.iter().flat_map(|report| report.times.iter().copied()).collect();
    times.sort_unstable();
    let ms = |share: f64| {
        let place = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times.get(place).map(|time| (time.as_secs_f64() * 1e5).round() / 100.0)
    };
    let judgments: usize = reports.iter().map(|report| report.acknowledged.len()).sum();
    let refused: usize = reports.iter().map(|report| report.refused).sum();
    let again: usize = reports.iter().map(|report| report.again).sum();
    stdout::json(&json!({
        "pavlov": "feedback",
        "raters": args.raters,
        "seconds": args.seconds,
        "judgments": judgments,
        "judgments_per_s": (judgments as f64 / f64::from(args.seconds)).round(),
        "p50_ms": ms(0.5),
        "p99_ms": ms(0.99),
        "max_ms": ms(1.0),
        "kills": kills,
        "sent_again": again,
        "refused": refused,
        "lost": lost,
        "twice": twice,
        "server_rss_mib": memory,
    }))?;
    ensure!(lost == 0 && twice == 0, "{lost} acknowledged answers are lost and {twice} are there twice");
    Ok(())
}
