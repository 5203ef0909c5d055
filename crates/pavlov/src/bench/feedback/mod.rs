//! `pavlov bench feedback`: simulated raters answer over HTTP, each when its turn comes, while the server may be killed.
//!
//! The server is this program in a process of its own, with everything that `pavlov feedback serve` has. Each rater holds one
//! connection and a task before the clock starts, as a person has it on the screen, and then answers every `raters / rate`
//! seconds. The time of an answer is counted from that turn, so that a server that stands still cannot hide it by being asked
//! less. With `--kills` the server is killed again and again (SIGKILL) while it answers, and started anew; a rater sends what
//! was not acknowledged once more under the same key. In the end the log is read: every acknowledged answer must be in it, and
//! none twice.

mod rater;
mod report;
mod server;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use pavlov_feedback::settings::Settings;
use pavlov_feedback::store::{NewProject, ProjectId};
use pavlov_feedback::{Clock, Store};
use pavlov_schema::feedback::{NewResponse, NewTask};
use pavlov_schema::rng::{Rng, Stream};

use crate::screen;
use rater::Seen;
use server::Server;

/// How long a server that was started may take until it answers again.
const REVIVAL: Duration = Duration::from_secs(20);
/// Seconds from one kill to the next, by which the tasks are counted.
const KILL_S: f64 = 1.0;

/// The load of `pavlov bench feedback`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// feedback: simulated raters
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_500))]
    raters: u32,
    /// feedback: answers a second of all raters together
    #[arg(long, value_name = "N", default_value_t = 1_050, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// feedback: seconds of load; with --kills it lasts until they are done
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_600))]
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

/// What the raters and whoever kills the server tell each other.
#[derive(Debug, Default)]
struct Signals {
    /// Answers that were acknowledged.
    acknowledged: AtomicU64,
    /// The load is over, whatever is still due.
    over: AtomicBool,
}

/// Runs the load and reports it; or, started by the former, serves.
pub(super) fn run(args: &LoadArgs) -> Result<()> {
    if let Some(database) = &args.serve {
        return server::serve(database, &args.address);
    }
    let folder = tempfile::tempdir().context("cannot make a folder for the database")?;
    let database = folder.path().join("feedback.db");
    let (project, tokens) = prepare(&database, args)?;
    let server = Server::start(&database)?;
    let until = match args.kills {
        0 => format!("{} s", args.seconds),
        kills => format!("{kills} kills"),
    };
    screen::line(&format!("{} raters, {} answers a second, {until}", args.raters, args.rate));
    let (seen, server, took) = load(args, tokens, server)?;
    let memory = server.memory_mib();
    drop(server);
    let faults = report::verify(&database, project, &seen)?;
    report::print(args, &seen, took, memory, faults)
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
    let seconds = f64::from(args.seconds).max(f64::from(args.kills) * KILL_S);
    // Half as many again as will be answered, and one for each hand.
    let wanted = (f64::from(args.rate) * seconds * 1.5) as usize + raters as usize;
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

/// Everybody answers until the time is over or the last kill is done: what they saw, the server, and how long it took.
fn load(args: &LoadArgs, tokens: Vec<String>, mut server: Server) -> Result<(Vec<Seen>, Server, Duration)> {
    let signals = Arc::new(Signals::default());
    let (address, shared) = (server.address, Arc::clone(&signals));
    let (raters, rate) = (args.raters, args.rate);
    let length = (args.kills == 0).then(|| Duration::from_secs(u64::from(args.seconds)));
    let driver = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let turn = Duration::from_secs_f64(f64::from(raters) / f64::from(rate));
        runtime.block_on(rater::answer(tokens, address, turn, length, shared))
    });
    let mut rng = Rng::new(0, Stream::Feedback, 0, 0);
    for kill in 1..=args.kills {
        let before = signals.acknowledged.load(Ordering::SeqCst);
        let begun = Instant::now();
        // Only a server that is answering is killed; `finished` with kills to go: a rater failed, or the tasks ran out.
        while signals.acknowledged.load(Ordering::SeqCst) == before && !driver.is_finished() {
            ensure!(begun.elapsed() < REVIVAL, "no answer within {REVIVAL:?} of start {kill}");
            sleep(Duration::from_millis(2));
        }
        sleep(Duration::from_secs_f64(0.3 * rng.uniform_f64()));
        server = server.restart()?;
        if kill % 10 == 0 || kill == args.kills {
            let n = signals.acknowledged.load(Ordering::SeqCst);
            screen::line(&format!("{kill} kills, {n} answers acknowledged"));
        }
    }
    signals.over.store(args.kills > 0, Ordering::SeqCst);
    let (seen, took) = driver.join().map_err(|_| anyhow::anyhow!("the raters stopped"))??;
    Ok((seen, server, took))
}
