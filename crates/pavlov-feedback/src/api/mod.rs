//! The JSON API under `/api/v1`: all that pages do, for programs with a bearer token.
//!
//! Each route is declared once, in the table of its file, with what it needs ([`Who`]): the router checks that before the
//! handler runs, and the OpenAPI document ([`document`]) and the test of roles are made of the same table.

mod account;
mod caller;
mod failure;
mod members;
mod projects;
mod rating;
mod records;
mod route;
mod scope;
mod tasks;
mod view;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use tokio::sync::Semaphore;
use utoipa::openapi::OpenApi;

pub use route::Who;
pub use scope::Scope;

use crate::limit::{Limit, Limits};
use crate::manage::Actor;
use crate::quality::Cache;
use crate::store::Store;
use failure::Failure;
use route::Routes;

/// What an owner decides about the API on the command line.
#[derive(Clone, Debug)]
pub struct Config {
    /// Hosts (`HOST` or `HOST:PORT`) that webhooks may call.
    pub webhook_hosts: Vec<String>,
    /// Requests a minute of one account, or of one service token.
    pub requests_a_minute: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { webhook_hosts: Vec::new(), requests_a_minute: 6_000 }
    }
}

/// What handlers work with. Clones share it.
#[derive(Clone, Debug)]
struct Api {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    config: Config,
    limits: Limits,
    /// Passwords checked at once: each takes 19 MiB and a core.
    passwords: Semaphore,
    quality: Cache,
}

impl Inner {
    fn new(store: Store, config: Config, quality: Cache) -> Self {
        let limits = Limits::default();
        Self { store, config, limits, passwords: Semaphore::new(2), quality }
    }
}

impl Api {
    fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Figures of projects, kept until there are new answers.
    fn quality(&self) -> &Cache {
        &self.inner.quality
    }

    /// Counts something that may happen only so often.
    fn count(&self, name: &str, limit: Limit) -> Result<(), Failure> {
        if self.inner.limits.count(name, limit, self.store().clock().now()) {
            return Ok(());
        }
        Err(Failure::too_many(limit))
    }
}

impl caller::Inside {
    /// Who changes the project here.
    fn actor(&self) -> Actor {
        let account = self.caller.account.as_ref().map(|account| account.id);
        Actor { name: self.caller.name(), account, project: self.project.id }
    }
}

/// Everything under `/api/v1`, without that prefix.
pub fn router(store: Store, config: Config, quality: Cache) -> Router {
    let api = Api { inner: Arc::new(Inner::new(store, config, quality)) };
    let (router, document) = routes(&api).finish();
    let text = pretty(&document);
    let served = axum::routing::get(|| async { ([("content-type", "application/json")], text) });
    router
        .route("/openapi.json", served)
        .fallback(|| async {
            Failure::not_found("there is no such address; /api/v1/openapi.json lists them")
        })
        .method_not_allowed_fallback(|| async { Failure::wrong_method() })
        .with_state(api)
}

/// The OpenAPI document, as it is served and kept in `docs/openapi.json`.
pub fn document(store: Store) -> String {
    let inner = Inner::new(store, Config::default(), Cache::default());
    pretty(&routes(&Api { inner: Arc::new(inner) }).finish().1)
}

fn pretty(document: &OpenApi) -> String {
    // A document of strings and lists always has a JSON form.
    document.to_pretty_json().map(|text| text + "\n").unwrap_or_default()
}

fn routes(api: &Api) -> Routes {
    let mut routes = Routes::new(api.clone());
    account::add(&mut routes);
    projects::add(&mut routes);
    members::add(&mut routes);
    tasks::add(&mut routes);
    rating::add(&mut routes);
    records::add(&mut routes);
    webhooks::add(&mut routes);
    routes
}
