//! Webhooks: sealed records are posted to an address that the owner allowed, signed, until it says that they arrived.
//!
//! The body is a [`crate::store::Sealed`] page. Its headers:
//!
//! - `pavlov-timestamp`: seconds since 1970 UTC;
//! - `pavlov-signature`: `v1=` and the lowercase hexadecimal HMAC-SHA256, under the webhook's secret, of the timestamp, a dot
//!   and the body;
//! - `pavlov-delivery`: the delivery's number; a repeated attempt has the same.
//!
//! A receiver checks the signature, refuses old timestamps, and answers 2xx. Anything else, a redirect too, is a failure: the
//! delivery is tried again after 5 s, 30 s, 3 min, 15 min, 1 h, 6 h and 24 h, and then lies among the dead letters, where a
//! manager can send it once more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::Uri;
use serde_json::json;
use ureq::Agent;

use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::secret;
use crate::store::{Delivery, Store, Webhook};

/// Seconds to the next attempt after each failed one.
const DELAYS: [i64; 7] = [5, 30, 180, 900, 3_600, 21_600, 86_400];

/// Records in one delivery at most.
const MOST_RECORDS: u32 = 100;
/// Deliveries tried in one round at most: a slow receiver holds up others for no longer than that.
const MOST_DELIVERIES: u32 = 10;
/// The longest that a receiver may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the store is looked at: sealing is a matter of time, nobody announces it.
const LOOK: Duration = Duration::from_millis(500);

/// Announces what is sealed until `stop` is set. What fails is kept in the store and tried again, also after a restart.
pub fn deliver(store: &Store, allowed: &[String], stop: &AtomicBool) {
    let config = Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        // An allowed host must not send us on to one that is not.
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("pavlov/", env!("CARGO_PKG_VERSION")))
        .build();
    let agent = Agent::new_with_config(config);
    while !stop.load(Ordering::SeqCst) {
        // A database that fails is said by whatever else uses it; the next round tries again.
        let _ = round(store, &agent, allowed);
        std::thread::sleep(LOOK);
    }
}

/// Puts what is newly sealed into deliveries, and tries those that are due.
fn round(store: &Store, agent: &Agent, allowed: &[String]) -> Result<()> {
    let webhooks = store.read_now(|r| r.webhooks(None))?;
    for webhook in &webhooks {
        let page = store.sealed_now(webhook.project, webhook.cursor, MOST_RECORDS)?;
        if !page.records.is_empty() {
            let body =
                json!({ "records": page.records, "cursor": page.cursor, "more": page.more }).to_string();
            let (id, cursor) = (webhook.id, page.cursor);
            store.write_now(move |w| w.enqueue_delivery(id, &body, cursor))?;
        }
    }
    for delivery in store.read_now(|r| r.due_deliveries(MOST_DELIVERIES))? {
        let Some(webhook) = webhooks.iter().find(|webhook| webhook.id == delivery.webhook) else { continue };
        let sent = attempt(store, agent, allowed, webhook, &delivery);
        let (id, attempts) = (delivery.id, delivery.attempts);
        store.write_now(move |w| match sent {
            Ok(()) => w.delivered(id),
            Err(why) => w.delivery_failed(id, &why, next_attempt(attempts + 1, w.now())),
        })?;
    }
    Ok(())
}

/// Posts one delivery; the error says why it did not arrive.
fn attempt(
    store: &Store,
    agent: &Agent,
    allowed: &[String],
    webhook: &Webhook,
    delivery: &Delivery,
) -> Result<(), String> {
    // The owner may have taken the host back since.
    check_url(&webhook.url, allowed).map_err(|error| error.to_string())?;
    let seconds = store.clock().now() / 1000;
    let response = agent
        .post(&webhook.url)
        .header("content-type", "application/json")
        .header("pavlov-timestamp", seconds.to_string())
        .header("pavlov-signature", signature(&webhook.secret, seconds, delivery.body.as_bytes()))
        .header("pavlov-delivery", delivery.id.to_string())
        .send(delivery.body.as_bytes())
        .map_err(|error| format!("not reached: {error}"))?;
    let status = response.status();
    if status.is_success() { Ok(()) } else { Err(format!("answered {status}")) }
}

/// The value of `pavlov-signature`.
pub fn signature(secret: &str, timestamp: i64, body: &[u8]) -> String {
    let message = [timestamp.to_string().as_bytes(), b".", body].concat();
    format!("v1={}", secret::hex(&secret::sign(secret.as_bytes(), &message)))
}

/// Whether a signature is right and no more than `tolerance_s` seconds from `now_s`; takes as long for every wrong one.
pub fn verify(secret: &str, timestamp: i64, body: &[u8], given: &str, now_s: i64, tolerance_s: i64) -> bool {
    let right = secret::equal(signature(secret, timestamp, body).as_bytes(), given.as_bytes());
    right && now_s.abs_diff(timestamp) <= tolerance_s.unsigned_abs()
}

/// When the attempt after `failed` failed ones is due; none: it is given up.
pub fn next_attempt(failed: u32, now: Millis) -> Option<Millis> {
    let delay = DELAYS.get(failed.checked_sub(1)? as usize)?;
    Some(now + delay * 1000)
}

/// Refuses an address that is not plain http or https to a host that the owner allowed: the server must not be made to call
/// what only it can reach.
pub fn check_url(url: &str, allowed: &[String]) -> Result<()> {
    let parsed: Uri =
        url.parse().map_err(|_| Error::invalid("`url` is no address; write https://HOST/PATH"))?;
    if !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Err(Error::invalid("`url` is neither http nor https; write https://HOST/PATH"));
    }
    let authority = parsed.authority().map(|authority| authority.as_str().to_lowercase()).unwrap_or_default();
    if authority.contains('@') {
        return Err(Error::invalid(
            "`url` has a user name in it; leave it out, the signature shows who sends",
        ));
    }
    if allowed.iter().any(|host| host.to_lowercase() == authority) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "`url` is at {authority}, which the owner has not allowed; start the server with --webhook-host {authority}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_cover_the_time_and_the_body() {
        // Checked with: printf '1700000000.{}' | openssl dgst -sha256 -hmac key
        let right = "v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae";
        assert_eq!(signature("key", 1_700_000_000, b"{}"), right);
        let holds = |timestamp, body: &[u8], given, now| verify("key", timestamp, body, given, now, 300);
        assert!(holds(1_700_000_000, b"{}", right, 1_700_000_300));
        assert!(!holds(1_700_000_000, b"{}", right, 1_700_000_301));
        assert!(!holds(1_700_000_001, b"{}", right, 1_700_000_001));
        assert!(!holds(1_700_000_000, b"{ }", right, 1_700_000_000));
        assert!(!holds(1_700_000_000, b"{}", "", 1_700_000_000));
    }

    #[test]
    fn attempts_end() {
        let times: Vec<_> = (0..10).map(|failed| next_attempt(failed, 7)).collect();
        assert_eq!((times[0], times[1], times[7], times[8]), (None, Some(5_007), Some(86_400_007), None));
    }

    #[test]
    fn only_allowed_hosts_are_called() {
        let allowed = ["hooks.example.org".to_owned(), "127.0.0.1:9000".to_owned()];
        let check = |url| check_url(url, &allowed).map_err(|error| error.to_string());
        assert_eq!(check("https://hooks.example.org/a?b=c"), Ok(()));
        assert_eq!(check("http://127.0.0.1:9000/"), Ok(()));
        assert_eq!(check("http://Hooks.Example.org/"), Ok(()));
        for (url, wanted) in [
            ("http://127.0.0.1:9001/", "--webhook-host 127.0.0.1:9001"),
            ("http://hooks.example.org.evil.test/", "not allowed"),
            ("http://hooks.example.org@evil.test/", "user name"),
            ("http://hooks.example.org:81/", "not allowed"),
            ("file:///etc/passwd", "no address"),
            ("ftp://hooks.example.org/", "neither http nor https"),
            ("/relative", "neither http nor https"),
            ("http://", "no address"),
        ] {
            let error = check(url).unwrap_err();
            assert!(error.contains(wanted), "{url}: {error}");
        }
    }
}
