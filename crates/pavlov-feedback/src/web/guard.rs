//! What every request passes: a host that is ours, no writes from other sites, a bounded body, headers that keep pages strict.
//!
//! Cross-site requests are told by the algorithm of Go 1.25's `http.CrossOriginProtection`: a safe method passes; else
//! `Sec-Fetch-Site` decides where a browser sends it (`same-origin` or `none`), else `Origin` must name the host; a request with
//! neither is no browser's. Forms carry a token beside it (`session.rs`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{App, Config, failure::Failure};

/// A request that takes longer, with its body, is given up.
const LONGEST: Duration = Duration::from_secs(60);

const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Links with secrets in them are never told to others; `no-referrer` would blank the Origin of our own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// Lets a request through, or says why not.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let host = host(app.config(), peer, request.headers(), request.uri().host());
    let mut response = match check(app.config(), request.method(), request.headers(), host) {
        Err(failure) => failure.into_response(),
        Ok(()) => match tokio::time::timeout(LONGEST, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Failure::new(StatusCode::REQUEST_TIMEOUT, "the request took too long; send it again")
                .into_response(),
        },
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if app.secure() {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    response
}

fn check(config: &Config, method: &Method, headers: &HeaderMap, host: &str) -> Result<(), Failure> {
    if !host_is_ours(config, host) {
        let what = "this server does not go by that name; reach it as localhost, by its IP address, or start it with --public-url";
        return Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, what));
    }
    if safe(method) || same_origin(config, headers, host) {
        return Ok(());
    }
    Err(Failure::new(
        StatusCode::FORBIDDEN,
        "the request came from another site; open the page here and try again",
    ))
}

fn safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// Whether a request that changes something comes from our own pages, or from no browser.
fn same_origin(config: &Config, headers: &HeaderMap, host: &str) -> bool {
    let origin = text(headers, &header::ORIGIN);
    // The address behind which a proxy hides us.
    if origin.is_some() && origin == config.public_url.as_deref().map(|url| url.trim_end_matches('/')) {
        return true;
    }
    match text(headers, &HeaderName::from_static("sec-fetch-site")) {
        Some(site) => site == "same-origin" || site == "none",
        None => match origin {
            Some(origin) => {
                origin.split_once("://").is_some_and(|(_, origin)| origin.eq_ignore_ascii_case(host))
            }
            None => true,
        },
    }
}

/// Whether a name is ours: an address, this machine, or the public one. Any other would let a site that points its own name at
/// this machine read our pages.
fn host_is_ours(config: &Config, host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let public = config
        .public_url
        .as_deref()
        .and_then(|url| url.split_once("://"))
        .map(|(_, rest)| rest.trim_end_matches('/'));
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok()
        || public.is_some_and(|public| public.eq_ignore_ascii_case(host) || public.eq_ignore_ascii_case(name))
}

/// The host that a request asks for: what a trusted proxy says it was asked for, else what the request says itself.
fn host<'a>(
    config: &Config,
    peer: Option<IpAddr>,
    headers: &'a HeaderMap,
    authority: Option<&'a str>,
) -> &'a str {
    let forwarded = text(headers, &HeaderName::from_static("x-forwarded-host"));
    let trusted = peer.is_some_and(|peer| config.trusted_proxies.contains(&peer));
    forwarded.filter(|_| trusted).or(text(headers, &header::HOST)).or(authority).unwrap_or_default()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(header).collect()
    }

    #[test]
    fn writes_from_other_sites_are_refused() {
        let proxied = Config { public_url: Some("https://rate.example.org".into()), ..Config::default() };
        let plain = Config::default();
        for (config, pairs, passes) in [
            (&plain, vec![("sec-fetch-site", "same-origin")], true),
            (&plain, vec![("sec-fetch-site", "none")], true),
            (&plain, vec![("sec-fetch-site", "cross-site")], false),
            (&plain, vec![("sec-fetch-site", "same-site")], false),
            // A header that a page can set does not outweigh the one it cannot.
            (&plain, vec![("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:8080")], false),
            (&plain, vec![("origin", "http://127.0.0.1:8080")], true),
            (&plain, vec![("origin", "http://127.0.0.1:8081")], false),
            (&plain, vec![("origin", "null")], false),
            (&plain, vec![("origin", "https://evil.example")], false),
            (&plain, vec![], true),
            // A TLS proxy that rewrites the host.
            (&proxied, vec![("origin", "https://rate.example.org")], true),
            (&proxied, vec![("origin", "http://rate.example.org")], false),
            (&proxied, vec![("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")], false),
        ] {
            let all = pairs.clone();
            let found = check(config, &Method::POST, &headers(&all), "127.0.0.1:8080");
            assert_eq!(found.is_ok(), passes, "{pairs:?}");
            assert!(
                check(config, &Method::GET, &headers(&all), "127.0.0.1:8080").is_ok(),
                "reading passes: {pairs:?}"
            );
        }
    }

    #[test]
    fn names_that_are_not_ours_are_refused() {
        let config = Config { public_url: Some("https://rate.example.org".into()), ..Config::default() };
        for host in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:1",
            "[::1]:80",
            "192.168.1.4:80",
            "rate.example.org",
            "RATE.example.org:443",
        ] {
            assert!(host_is_ours(&config, host), "{host}");
        }
        for host in [
            "evil.example",
            "",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "rate.example.org.evil.example",
            "a b",
        ] {
            assert!(!host_is_ours(&config, host), "{host}");
        }
    }

    #[test]
    fn a_forwarded_host_counts_only_from_a_trusted_proxy() {
        let config = Config { trusted_proxies: vec!["10.0.0.1".parse().unwrap()], ..Config::default() };
        let sent = headers(&[("host", "app:8080"), ("x-forwarded-host", "rate.example.org")]);
        let asked = |peer: &str| host(&config, Some(peer.parse().unwrap()), &sent, None);
        assert_eq!(asked("10.0.0.1"), "rate.example.org");
        assert_eq!(asked("9.9.9.9"), "app:8080", "anybody can write the header");
        assert_eq!(host(&config, None, &sent, None), "app:8080");
    }
}
