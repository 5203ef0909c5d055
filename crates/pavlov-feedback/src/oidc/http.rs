//! Requests to a provider: to addresses at which secrets may be sent, in bounded time, with bounded answers.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::{StatusCode, Uri};
use base64ct::{Base64, Encoding};
use ureq::Agent;
use ureq::http::Response;

use crate::error::{Error, Result};

/// The longest answer in bytes: the largest providers list tens of kilobytes of keys.
const LONGEST: u64 = 512 << 10;

/// A client that follows nobody anywhere: a provider that redirects would have our secret sent where nobody decided.
pub(super) fn agent(patience: Duration) -> Agent {
    let config = Agent::config_builder()
        .timeout_global(Some(patience))
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("pavlov/", env!("CARGO_PKG_VERSION")))
        .build();
    Agent::new_with_config(config)
}

/// Refuses an address that is not https, or, where `plain` permits that, http to this very machine; `key` names it.
pub(super) fn check_address(key: &str, address: &str, plain: bool) -> Result<()> {
    let parsed: Uri = address
        .parse()
        .map_err(|_| Error::invalid(format!("{key}: {address} is no address; write https://HOST")))?;
    let host = parsed.host().unwrap_or_default();
    let here = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let user = parsed.authority().is_some_and(|authority| authority.as_str().contains('@'));
    match parsed.scheme_str() {
        Some("https") if !user => Ok(()),
        Some("http") if !user && here && plain => Ok(()),
        _ => Err(Error::invalid(format!(
            "{key}: {address} is not https://HOST…; only a provider on this machine may be reached by http"
        ))),
    }
}

/// Fields as a query or form has them.
pub(super) fn form(fields: &[(&str, &str)]) -> Result<String> {
    serde_urlencoded::to_string(fields).map_err(|error| Error::Bug(error.to_string()))
}

/// The credentials of HTTP's basic scheme, as RFC 6749, 2.3.1 has them: each part written as in a form first.
pub(super) fn basic(name: &str, secret: &str) -> Result<String> {
    let part = |text: &str| form(&[("", text)]).map(|text| text.trim_start_matches('=').to_owned());
    Ok(format!("Basic {}", Base64::encode_string(format!("{}:{}", part(name)?, part(secret)?).as_bytes())))
}

/// What an address has; the error says why nothing came.
pub(super) fn get(agent: &Agent, address: &str) -> Result<(StatusCode, Vec<u8>), String> {
    let response = agent.get(address).header("accept", "application/json").call();
    whole(response, address)
}

/// Posts a form.
pub(super) fn post(
    agent: &Agent,
    address: &str,
    fields: &[(&str, &str)],
    credentials: Option<&str>,
) -> Result<(StatusCode, Vec<u8>), String> {
    let mut request = agent
        .post(address)
        .header("accept", "application/json")
        .header("content-type", "application/x-www-form-urlencoded");
    if let Some(credentials) = credentials {
        request = request.header("authorization", credentials);
    }
    let body = form(fields).map_err(|error| error.to_string())?;
    whole(request.send(body.as_bytes()), address)
}

fn whole(
    response: Result<Response<ureq::Body>, ureq::Error>,
    address: &str,
) -> Result<(StatusCode, Vec<u8>), String> {
    let mut response = response.map_err(|error| format!("{address}: {error}"))?;
    let body = response.body_mut().with_config().limit(LONGEST).read_to_vec();
    Ok((response.status(), body.map_err(|error| format!("{address}: {error}"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_sent_over_tls_or_to_this_machine() {
        for address in [
            "https://id.example.org",
            "https://id.example.org:8443/realms/a?b=c",
            "http://localhost:9000/",
            "http://127.0.0.1:9000",
            "http://[::1]:9000/token",
        ] {
            assert_eq!(check_address("key", address, true), Ok(()));
            // No provider elsewhere makes us call what only this machine can reach.
            assert_eq!(
                check_address("key", address, false).is_ok(),
                address.starts_with("https"),
                "{address}"
            );
        }
        for address in [
            "http://id.example.org",
            "http://localhost.evil.example/",
            "http://127.0.0.1.evil.example/",
            "http://127.0.0.1@evil.example/",
            "https://user:word@id.example.org/",
            "ftp://id.example.org",
            "id.example.org",
            "/token",
            "javascript:alert(1)",
            "",
            "a b",
        ] {
            let error = check_address("key", address, true).unwrap_err().to_string();
            assert!(error.starts_with("key: ") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn credentials_are_written_as_the_rfc_says() {
        // printf 'a%%3Ab:c+d%%25' | base64
        assert_eq!(basic("a:b", "c d%").unwrap(), "Basic YSUzQWI6YytkJTI1");
    }
}
