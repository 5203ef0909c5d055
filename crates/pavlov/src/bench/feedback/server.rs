//! The server of the load: this program once more, which can be killed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use axum::Router;
use pavlov_feedback::api::{self, Config};
use pavlov_feedback::{Clock, Store};

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

    /// Kills it in the middle of whatever it does.
    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill().context("cannot kill the server")?;
        self.child.wait().context("cannot wait for the server")?;
        Ok(())
    }

    /// Kills it and starts it again at the same address.
    pub(super) fn restart(self) -> Result<Self> {
        let (database, address) = (self.database.clone(), self.address.to_string());
        self.kill()?;
        Self::start_at(&database, &address)
    }

    /// Peak memory, where the system tells it.
    pub(super) fn memory_mib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok().map(|kib| kib >> 10)
    }
}

/// The server's side: serves the API of a database until it is killed.
pub(super) fn serve(database: &Path, address: &str) -> Result<()> {
    let store = Store::open(database, Clock::system())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.context("cannot listen")?;
        let config = Config { requests_a_minute: u32::MAX, ..Config::default() };
        let router = Router::new().nest("/api/v1", api::router(store, config));
        stdout::text(&format!("{}\n", listener.local_addr()?))?;
        axum::serve(listener, router).await.context("cannot serve")
    })
}
