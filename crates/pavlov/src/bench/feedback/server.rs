//! The server of the load: this program once more, which can be killed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use pavlov_feedback::quality::Cache;
use pavlov_feedback::web::{self, App};
use pavlov_feedback::{Clock, Store, api};

use crate::stdout;

/// A running server.
pub(super) struct Server {
    child: Child,
    database: PathBuf,
    pub(super) address: SocketAddr,
}

impl Server {
    /// Starts a server on a free port of this machine.
    pub(super) fn start(database: &Path) -> Result<Self> {
        Self::start_at(database, "127.0.0.1:0")
    }

    fn start_at(database: &Path, address: &str) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .args(["bench", "feedback", "--serve"])
            .arg(database)
            .args(["--address", address])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let out = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).context("the server said nothing")?;
        let address = line.trim().parse().with_context(|| format!("the server did not start: {line}"))?;
        Ok(Self { child, database: database.to_owned(), address })
    }

    /// Kills it and starts it again at the same address.
    pub(super) fn restart(self) -> Result<Self> {
        let (database, address) = (self.database.clone(), self.address.to_string());
        drop(self);
        Self::start_at(&database, &address)
    }

    /// Peak memory, where the system tells it.
    pub(super) fn memory_mib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok().map(|kib| kib >> 10)
    }
}

/// Killed in the middle of whatever it does.
impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server's side: serves a database until it is killed.
pub(super) fn serve(database: &Path, address: &str) -> Result<()> {
    let store = Store::open(database, Clock::system())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.context("cannot listen")?;
        stdout::text(&format!("{}\n", listener.local_addr()?))?;
        let api = api::Config { requests_a_minute: u32::MAX, ..api::Config::default() };
        let quality = Cache::default();
        let app = App::new(store.clone(), web::Config::default(), quality.clone());
        let router = web::router(app, api::router(store, api, quality));
        web::serve(listener, router, std::future::pending()).await.context("cannot serve")
    })
}
