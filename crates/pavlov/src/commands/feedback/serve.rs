//! `pavlov feedback serve`.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
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
    /// Requests a minute that one account may make of the API
    #[arg(long, value_name = "N", default_value_t = 6_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate_limit: u32,
    /// Print {"address", "owner_link"} on stdout once it listens, and nothing else there
    #[arg(long)]
    json: bool,
}

fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host =
        rest.map(|rest| rest.trim_end_matches('/')).filter(|host| !host.is_empty() && !host.contains('/'));
    host.map(|_| text.trim_end_matches('/').to_owned()).ok_or_else(|| "write https://HOST".into())
}

pub(crate) fn run(args: &ServeArgs) -> Result<()> {
    let store = args.db.open(true)?;
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method is not general in its lifetime"
    )]
    let locked = store.read_now(|r| r.has_owner_with_password()).map_err(wrong)?;
    if !args.listen.ip().is_loopback() && !locked {
        return Err(bad_input(format!(
            "--listen: {} is open to others and no owner has a password; start on 127.0.0.1 first and make one",
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
