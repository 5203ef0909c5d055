//! The pages: rendered on the server, usable without a script, strict about what may run.
//!
//! A request passes `guard` (who is asking from where), then a page. Pages ask [`crate::roles::may`] what the visitor may do,
//! and the store for everything else; [`render`] alone turns texts of models and people into HTML.

#[doc(hidden)]
pub mod attacks;
pub(crate) mod failure;
mod fields;
mod guard;
mod pages;
pub mod render;
mod server;
mod session;
mod sign_in;
mod statics;
mod view;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::sync::Semaphore;

use crate::limit::Limits;
use crate::oidc::Provider;
use crate::quality::Cache;
use crate::store::Store;
use sign_in::SignIns;

pub use server::{Patience, serve, serve_with};

/// How the server is reached.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The address people type where a proxy stands before the server, `https://rate.example.org`. With `https` cookies are
    /// sent over TLS alone.
    pub public_url: Option<String>,
    /// The proxies whose `X-Forwarded-Host` is believed; from anywhere else it is ignored. Who sends a request is never read
    /// from a header: limits are per account.
    pub trusted_proxies: Vec<IpAddr>,
    /// Hosts of webhooks, to be named on their page; others are never reached.
    pub webhook_hosts: Vec<String>,
    /// Where people may sign in, beside here by password.
    pub provider: Option<Provider>,
}

/// What pages work with. Clones share it.
#[derive(Clone, Debug)]
pub struct App {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    config: Config,
    /// Passwords checked at once: each takes 19 MiB and a core.
    passwords: Semaphore,
    /// Requests to the sign-in provider at once: each keeps a thread waiting.
    exchanges: Semaphore,
    sign_ins: SignIns,
    limits: Limits,
    quality: Cache,
}

impl App {
    /// Pages over a store; the API shares `quality`, so that figures are computed once.
    pub fn new(store: Store, config: Config, quality: Cache) -> App {
        let inner = Inner {
            store,
            config,
            passwords: Semaphore::new(2),
            exchanges: Semaphore::new(4),
            sign_ins: SignIns::default(),
            limits: Limits::default(),
            quality,
        };
        App { inner: Arc::new(inner) }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// What managers are shown of their answers, kept until there are new ones.
    fn quality(&self) -> &Cache {
        &self.inner.quality
    }

    /// How the server is reached.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// What people call the sign-in provider, if there is one.
    fn provider_name(&self) -> Option<&str> {
        self.inner.config.provider.as_ref().map(Provider::name)
    }

    /// Whether pages are reached over TLS alone.
    fn secure(&self) -> bool {
        self.inner.config.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
    }
}

/// Everything that is served. `api` is merged under `/api/v1`; the guard stands before both.
pub fn router(app: App, api: Router) -> Router {
    let pages = pages::router(app.clone()).merge(statics::router());
    pages.nest("/api/v1", api).layer(from_fn_with_state(app, guard::guard))
}
