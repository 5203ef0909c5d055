//! A feedback application that can be stopped and started again at one address.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pavlov_feedback::api::{Config, router};
use pavlov_feedback::quality::Cache;
use pavlov_feedback::roles::Role;
use pavlov_feedback::settings::Settings;
use pavlov_feedback::store::{NewProject, ProjectId};
use pavlov_feedback::{Clock, Store};
use tokio::runtime::Runtime;

pub(crate) const PROJECT: &str = "worlds";

pub(crate) struct Server {
    database: PathBuf,
    address: SocketAddr,
    store: Option<Store>,
    runtime: Option<Runtime>,
    project: ProjectId,
}

/// A project without surprises.
pub(crate) fn settings() -> Settings {
    Settings {
        // Sealed at once: nobody takes anything back here.
        undo_window_s: 0,
        shared_share: 0.0,
        gold_share: 0.0,
        repeat_share: 0.0,
        hold_leaks: false,
        ..Settings::default()
    }
}

impl Server {
    pub(crate) fn start(database: &Path, settings: Settings) -> Self {
        let store = Store::open(database, Clock::system()).unwrap();
        let project = store
            .write_now(move |w| {
                let owner = w.create_account("owner", None, true)?.id;
                let new = NewProject { name: PROJECT.into(), settings, guidelines: String::new() };
                Ok(w.create_project(&new, owner)?.id)
            })
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server =
            Self { database: database.to_owned(), address, store: Some(store), runtime: None, project };
        server.listen();
        server
    }

    fn listen(&mut self) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = Config { requests_a_minute: u32::MAX, ..Config::default() };
        let app = axum::Router::new()
            .nest("/api/v1", router(self.store.clone().unwrap(), config, Cache::default()));
        // The address of before may still be in the hands of a dying connection.
        let listener = (0..100)
            .find_map(|_| {
                let bound = runtime.block_on(tokio::net::TcpListener::bind(self.address));
                bound.inspect_err(|_| std::thread::sleep(Duration::from_millis(20))).ok()
            })
            .unwrap();
        self.address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, app).await });
        self.runtime = Some(runtime);
    }

    /// Breaks off whatever is being answered, closes the database, and begins anew.
    pub(crate) fn restart(&mut self) {
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_millis(500));
        self.store = None;
        self.store = Some(Store::open(&self.database, Clock::system()).unwrap());
        self.listen();
    }

    /// Ends it; the address is free, and the database closed.
    pub(crate) fn stop(mut self) -> SocketAddr {
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_millis(500));
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn trainer_token(&self) -> String {
        let project = self.project;
        self.store
            .as_ref()
            .unwrap()
            .write_now(move |w| w.create_token("trainer", None, Some(project), None, None))
            .unwrap()
    }

    pub(crate) fn token(&self, name: &str, role: Role) -> String {
        let (project, name) = (self.project, name.to_owned());
        self.store
            .as_ref()
            .unwrap()
            .write_now(move |w| {
                let account = w.create_account(&name, None, false)?.id;
                w.set_member(project, account, role)?;
                w.create_token(&name, Some(account), Some(project), None, None)
            })
            .unwrap()
    }

    pub(crate) fn close_project(&self) {
        let project = self.project;
        self.store.as_ref().unwrap().write_now(move |w| w.set_closed(project, true)).unwrap();
    }

    pub(crate) fn answers(&self) -> u64 {
        let project = self.project;
        self.store.as_ref().unwrap().read_now(move |r| Ok(r.progress(project)?.answered)).unwrap()
    }
}
