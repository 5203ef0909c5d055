//! `pavlov feedback serve`.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use pavlov_feedback::oidc::{self, Provider};
use pavlov_feedback::quality::Cache;
use pavlov_feedback::roles::Role;
use pavlov_feedback::web::{self, App};
use pavlov_feedback::{Store, api, webhook};
use serde_json::json;
use tokio::net::TcpListener;

use super::{DbArgs, wrong};
use crate::failure::bad_input;
use crate::{interrupt, screen, stdout};

/// `pavlov feedback serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    db: DbArgs,
    /// The address to listen on; port 0 is any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The address that people type, where a proxy stands before the server: `https://rate.example.org`
    #[arg(long, value_name = "URL", value_parser = url)]
    public_url: Option<String>,
    /// A proxy whose X-Forwarded-… headers are believed; may be given many times
    #[arg(long = "trusted-proxy", value_name = "IP")]
    trusted_proxies: Vec<IpAddr>,
    /// A host (or HOST:PORT) that webhooks may call; may be given many times
    #[arg(long = "webhook-host", value_name = "HOST")]
    webhook_hosts: Vec<String>,
    #[command(flatten)]
    oidc: OidcArgs,
    /// Requests a minute that one account may make of the API
    #[arg(long, value_name = "N", default_value_t = 6_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate_limit: u32,
    /// Print {"address", "owner_link"} on stdout once it listens, and nothing else there
    #[arg(long)]
    json: bool,
}

/// A sign-in provider.
#[derive(Debug, Args)]
struct OidcArgs {
    /// An OpenID Connect provider where people may sign in, by its name for itself: `https://id.example.org`
    #[arg(id = "oidc_issuer", long = "oidc-issuer", value_name = "URL")]
    #[arg(requires = "oidc_client_id", requires = "oidc_client_secret_file")]
    issuer: Option<String>,
    /// The name that the provider knows this server by
    #[arg(id = "oidc_client_id", long = "oidc-client-id", value_name = "ID", requires = "oidc_issuer")]
    client_id: Option<String>,
    /// A file that holds the secret that the provider shares with this server
    #[arg(id = "oidc_client_secret_file", long = "oidc-client-secret-file", value_name = "FILE")]
    #[arg(requires = "oidc_issuer")]
    client_secret_file: Option<PathBuf>,
    /// What people call the provider [default: its host]
    #[arg(id = "oidc_name", long = "oidc-name", value_name = "NAME", requires = "oidc_issuer")]
    name: Option<String>,
}

impl OidcArgs {
    /// The provider, if there is one, for a server that people reach at `address`.
    fn provider(&self, address: &str) -> Result<Option<Provider>> {
        let (Some(issuer), Some(client_id), Some(file)) =
            (&self.issuer, &self.client_id, &self.client_secret_file)
        else {
            return Ok(None);
        };
        let wrong_file =
            |what: &str| bad_input(format!("--oidc-client-secret-file: {}: {what}", file.display()));
        let secret = fs::read_to_string(file)
            .map_err(|error| wrong_file(&format!("{error}; name a file that can be read")))?;
        let secret = secret.trim();
        if secret.is_empty() || secret.contains(char::is_control) {
            return Err(wrong_file(
                "it does not hold one line; put the client's secret in it and nothing else",
            ));
        }
        let host = issuer.split_once("://").map_or(&**issuer, |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or(host);
        let settings = oidc::Settings {
            issuer: issuer.clone(),
            client_id: client_id.clone(),
            client_secret: secret.to_owned(),
            name: self.name.clone().unwrap_or_else(|| host.to_owned()),
            public_url: address.to_owned(),
            patience: oidc::PATIENCE,
        };
        Provider::new(settings).map(Some).map_err(wrong)
    }
}

/// Asks the provider about itself, so that what is wrong is said now; one that is down is asked again when somebody signs in.
async fn discover(provider: &Provider, store: &Store) -> Result<()> {
    let (asked, now) = (provider.clone(), store.clock().now());
    match tokio::task::spawn_blocking(move || asked.discover(now)).await.context("the provider")? {
        Ok(()) => {
            let (name, callback) = (provider.name(), provider.callback());
            screen::line(&format!("people may sign in with {name}, which must know {callback}"));
        }
        Err(pavlov_feedback::Error::Provider { name, what }) => screen::line(&format!(
            "warning: {name} cannot be reached ({what}); it is asked again when somebody signs in with it, passwords work"
        )),
        Err(other) => return Err(wrong(other)),
    }
    Ok(())
}

fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host =
        rest.map(|rest| rest.trim_end_matches('/')).filter(|host| !host.is_empty() && !host.contains('/'));
    host.map(|_| text.trim_end_matches('/').to_owned()).ok_or_else(|| "write https://HOST".into())
}

pub(crate) fn run(args: &ServeArgs) -> Result<()> {
    let store = args.db.open(true)?;
    let public = !args.listen.ip().is_loopback();
    if public && args.oidc.issuer.is_some() && args.public_url.is_none() {
        let what =
            "the provider sends browsers back to an address that it knows; give it with --public-url, too";
        return Err(bad_input(format!("--oidc-issuer: {what}")));
    }
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method is not general in its lifetime"
    )]
    let locked = store.read_now(|r| r.has_owner_who_can_log_in()).map_err(wrong)?;
    if public && !locked {
        return Err(bad_input(format!(
            "--listen: {} is open to others and no owner can sign in; start on 127.0.0.1 first and make one",
            args.listen
        )));
    }
    interrupt::listen("stopping: requests under way are answered first; Ctrl-C again stops at once")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let served = runtime.block_on(serve(args, &store));
    // A reader of records that waits for some is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn serve(args: &ServeArgs, store: &Store) -> Result<()> {
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| bad_input(format!("--listen: {}: {error}; choose another port", args.listen)))?;
    let bound = listener.local_addr().context("the address")?;
    let address = args.public_url.clone().unwrap_or_else(|| format!("http://{bound}"));
    let provider = args.oidc.provider(&address)?;
    if let Some(provider) = &provider {
        discover(provider, store).await?;
    }
    announce(args, store, &address).await?;

    let stopped = std::sync::Arc::new(AtomicBool::new(false));
    let hooks = {
        let (store, hosts, stopped) = (store.clone(), args.webhook_hosts.clone(), stopped.clone());
        std::thread::spawn(move || webhook::deliver(&store, &hosts, &stopped))
    };
    let config = web::Config {
        public_url: args.public_url.clone(),
        trusted_proxies: args.trusted_proxies.clone(),
        webhook_hosts: args.webhook_hosts.clone(),
        provider,
    };
    let api = api::Config { webhook_hosts: args.webhook_hosts.clone(), requests_a_minute: args.rate_limit };
    let quality = Cache::default();
    let app = App::new(store.clone(), config, quality.clone());
    let router = web::router(app, api::router(store.clone(), api, quality));
    let served = web::serve(listener, router, asked_to_stop()).await;
    stopped.store(true, Ordering::SeqCst);
    // A delivery under way ends by its own time limit.
    drop(hooks);
    served.context("the server")
}

/// Says where it is, and to whom it belongs.
async fn announce(args: &ServeArgs, store: &Store, address: &str) -> Result<()> {
    let make_link = |w: &mut pavlov_feedback::store::Write<'_>| {
        if w.has_owner()? { Ok(None) } else { w.invite(None, Role::Owner, None, 86_400_000).map(Some) }
    };
    let link = store.write(make_link).await.map_err(wrong)?.map(|token| format!("{address}/join/{token}"));
    screen::line(&format!("pavlov feedback · {} · {address}", args.db.db.display()));
    if let Some(link) = &link {
        screen::line("nobody owns this installation yet; this link makes its owner, once, within a day:");
        screen::line(&format!("  {link}"));
    }
    if args.json {
        stdout::json(&json!({ "address": address, "owner_link": link }))?;
    }
    Ok(())
}

async fn asked_to_stop() {
    while !interrupt::flag().load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
