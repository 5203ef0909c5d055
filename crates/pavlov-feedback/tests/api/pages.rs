//! Who may open which page and send which form: a page without a line here fails, and so does a line without a page.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use pavlov_feedback::quality::Cache;
use pavlov_feedback::settings::Settings;
use pavlov_feedback::web::{self, App};
use pavlov_feedback::{api, secret};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::setup::{Place, pick, plain};

const CALLERS: [&str; 6] = ["owner", "manager", "reviewer", "rater", "outsider", "nobody"];

/// The routes as they are written.
const SOURCE: &str = include_str!("../../src/web/pages/mod.rs");

/// Who may, one letter each of [`CALLERS`]; `-` may not.
const TABLE: &[(&str, &str, &str)] = &[
    ("GET", "/login", "omrvxn"),
    ("POST", "/login", "omrvxn"),
    ("POST", "/logout", "omrvxn"),
    ("GET", "/join/{secret}", "omrvxn"),
    ("POST", "/join/{secret}", "omrvxn"),
    ("POST", "/login/provider", "omrvxn"),
    ("GET", "/login/provider/callback", "omrvxn"),
    ("POST", "/join/{secret}/provider", "omrvxn"),
    ("GET", "/", "omrvx-"),
    ("GET", "/account", "omrvx-"),
    ("POST", "/account/password", "omrvx-"),
    ("POST", "/account/connect", "omrvx-"),
    ("POST", "/account/disconnect", "omrvx-"),
    ("POST", "/projects", "o-----"),
    ("GET", "/p/{project}", "omrv--"),
    ("GET", "/p/{project}/rate", "omrv--"),
    ("POST", "/p/{project}/answer", "omrv--"),
    ("POST", "/p/{project}/skip", "omrv--"),
    ("POST", "/p/{project}/undo", "omrv--"),
    ("POST", "/p/{project}/draft", "omrv--"),
    ("POST", "/p/{project}/heartbeat", "omrv--"),
    ("GET", "/p/{project}/answers", "omrv--"),
    ("GET", "/p/{project}/answers/{task}", "omrv--"),
    ("POST", "/p/{project}/answers/{task}", "omrv--"),
    ("POST", "/p/{project}/retract", "omrv--"),
    ("GET", "/p/{project}/settings", "om----"),
    ("POST", "/p/{project}/settings", "om----"),
    ("POST", "/p/{project}/close", "om----"),
    ("POST", "/p/{project}/open", "om----"),
    ("GET", "/p/{project}/tasks", "omr---"),
    ("POST", "/p/{project}/tasks/import", "om----"),
    ("POST", "/p/{project}/tasks/withdraw", "om----"),
    ("POST", "/p/{project}/tasks/release", "om----"),
    ("GET", "/p/{project}/tasks/{task}", "omr---"),
    ("GET", "/p/{project}/review", "omr---"),
    ("GET", "/p/{project}/review/{task}", "omr---"),
    ("POST", "/p/{project}/review/{task}", "omr---"),
    ("GET", "/p/{project}/members", "omr---"),
    ("POST", "/p/{project}/members/{member}", "om----"),
    ("POST", "/p/{project}/invitations", "om----"),
    ("POST", "/p/{project}/invitations/{code}/revoke", "om----"),
    ("GET", "/p/{project}/quality", "omr---"),
    ("GET", "/p/{project}/exclusions", "om----"),
    ("POST", "/p/{project}/exclusions", "om----"),
    ("POST", "/p/{project}/exclusions/{code}/lift", "om----"),
    ("GET", "/p/{project}/audit", "om----"),
    ("GET", "/p/{project}/access", "om----"),
    ("POST", "/p/{project}/tokens", "om----"),
    ("POST", "/p/{project}/tokens/{code}/revoke", "om----"),
    ("POST", "/p/{project}/webhooks", "om----"),
    ("POST", "/p/{project}/webhooks/{code}/remove", "om----"),
    ("POST", "/p/{project}/webhooks/{code}/retry", "om----"),
];

/// Methods and paths of the source.
fn routes() -> Vec<(String, String)> {
    let (top, inner) = SOURCE.split_once("fn in_project()").expect("pages of a project");
    let mut routes = Vec::new();
    for (prefix, text) in [("", top), ("/p/{project}", inner)] {
        for line in text.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
            let (path, handlers) = line.split_once('"').expect("a path");
            // The `/` of nested routes is the address that they are nested at.
            let path = if prefix.is_empty() { path } else { path.trim_end_matches('/') };
            for (method, word) in [("GET", "get("), ("POST", "post(")] {
                if handlers.contains(word) {
                    routes.push((method.to_owned(), format!("{prefix}{path}")));
                }
            }
        }
    }
    routes.sort();
    routes
}

fn router(place: &Place, config: web::Config) -> Router {
    let quality = Cache::default();
    let api = api::router(place.store.clone(), api::Config::default(), quality.clone());
    web::router(App::new(place.store.clone(), config, quality), api)
}

/// The cookie of one of [`CALLERS`]; somebody's who is not signed in for nobody.
fn cookie(place: &Place, caller: &str) -> String {
    let found =
        ["owner", "manager", "reviewer", "rater", "outsider"].iter().position(|known| *known == caller);
    let account = found.map(|found| place.accounts[found]);
    match account {
        Some(account) => place.store.write_now(move |w| w.start_session(account)).expect("a session"),
        None => "n".repeat(43),
    }
}

fn form_token(cookie: &str) -> String {
    secret::hex(&secret::sign(cookie.as_bytes(), b"pavlov form"))
}

/// Sends a request; its status, where it leads, and its text.
fn send(router: &Router, request: Request<Body>) -> (u16, String, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let response = router.clone().oneshot(request).await.expect("the router never fails");
        let status = response.status().as_u16();
        let location =
            response.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let location = location.to_owned();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (status, location, String::from_utf8_lossy(&bytes).into_owned())
    })
}

fn request(method: &str, path: &str, cookie: &str, headers: &[(&str, &str)], token: &str) -> Request<Body> {
    let script = path.ends_with("/draft") || path.ends_with("/heartbeat");
    let kind = if script { "application/json" } else { "application/x-www-form-urlencoded" };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1:8080")
        .header("cookie", format!("pavlov={cookie}"))
        .header("x-form-token", token)
        .header("content-type", kind);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if script {
        r#"{"lease": "none", "revision": 1, "body": "x"}"#.to_owned()
    } else {
        format!("form_token={token}")
    };
    request.body(if method == "GET" { Body::empty() } else { Body::from(body) }).expect("a request")
}

fn named(path: &str) -> String {
    let path = path.replace("{project}", "worlds");
    path.split('/')
        .map(|part| if part.starts_with('{') { "none" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[test]
fn every_page_has_a_line_and_every_line_a_page() {
    let mut lines: Vec<_> =
        TABLE.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    lines.sort();
    assert_eq!(routes(), lines);
}

#[test]
fn everybody_may_open_what_the_table_says_and_nothing_else() {
    let place = Place::new(plain());
    let router = router(&place, web::Config::default());
    for (method, path, may) in TABLE {
        for (caller, letter) in CALLERS.iter().zip(may.chars()) {
            let cookie = cookie(&place, caller);
            let (status, location, text) =
                send(&router, request(method, &named(path), &cookie, &[], &form_token(&cookie)));
            let refused = match status {
                401 => !path.starts_with("/login"),
                403 => true,
                404 => text.to_lowercase().contains("no such project"),
                303 => location.starts_with("/login?next"),
                _ => false,
            };
            assert_eq!(refused, letter == '-', "{caller} {method} {path}: {status} {location} {text}");
            assert!(status < 500, "{method} {path}: {text}");
            assert!(!text.contains("no such page"), "{method} {path} leads nowhere");
        }
    }
}

#[test]
fn a_form_of_another_site_or_without_its_token_changes_nothing() {
    let place = Place::new(plain());
    let router = router(&place, web::Config::default());
    for (method, path, _) in TABLE.iter().filter(|(method, path, _)| *method == "POST" && *path != "/logout")
    {
        let cookie = cookie(&place, "owner");
        let token = form_token(&cookie);
        let other = form_token("of somebody else");
        let status = |headers: &[(&str, &str)], token: &str| {
            send(&router, request(method, &named(path), &cookie, headers, token)).0
        };
        assert_eq!(status(&[("sec-fetch-site", "cross-site")], &token), 403, "{path}");
        assert_eq!(status(&[("origin", "https://evil.example")], &token), 403, "{path}");
        assert_eq!(status(&[("origin", "null")], &token), 403, "{path}");
        for wrong in ["", other.as_str(), &token[1..]] {
            assert_eq!(status(&[("origin", "http://127.0.0.1:8080")], wrong), 403, "{path}");
        }
        // Reading where a form is sent to changes nothing.
        if !TABLE.iter().any(|(get, known, _)| *get == "GET" && known == path) {
            let read = send(&router, request("GET", &named(path), &cookie, &[], &token)).0;
            assert!([404, 405].contains(&read), "GET {path}: {read}");
        }
    }
}

#[test]
fn behind_a_proxy_that_speaks_tls_our_own_forms_pass_and_others_do_not() {
    let place = Place::new(plain());
    let config = web::Config {
        public_url: Some("https://rate.example.org".into()),
        trusted_proxies: vec!["127.0.0.1".parse().expect("an address")],
        ..web::Config::default()
    };
    let router = router(&place, config);
    let cookie = cookie(&place, "owner");
    let send_form = |origin: &str, site: &str| {
        let body = format!("form_token={}&name=behind", form_token(&cookie));
        let request = Request::post("/projects")
            .header("host", "rate.example.org")
            .header("origin", origin)
            .header("sec-fetch-site", site)
            .header("cookie", format!("__Host-pavlov={cookie}"))
            .header("content-type", "application/x-www-form-urlencoded");
        send(&router, request.body(Body::from(body)).expect("a request")).0
    };
    assert_eq!(send_form("https://evil.example", "cross-site"), 403);
    assert_eq!(send_form("https://rate.example.org", "same-origin"), 303);
}

#[test]
fn a_login_starts_a_new_session() {
    let place = Place::new(plain());
    let hash = secret::hash_password("correct horse").expect("a hash");
    let owner = place.accounts[0];
    place.store.write_now(move |w| w.set_password(owner, &hash, None)).expect("a password");
    let router = router(&place, web::Config::default());
    // What an attacker has put into the browser beforehand.
    let planted = "p".repeat(43);
    let body = format!("form_token={}&name=owner&password=correct+horse", form_token(&planted));
    let login = Request::post("/login")
        .header("host", "127.0.0.1:8080")
        .header("cookie", format!("pavlov={planted}"))
        .header("content-type", "application/x-www-form-urlencoded");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let response = runtime
        .block_on(router.clone().oneshot(login.body(Body::from(body)).expect("a request")))
        .expect("an answer");
    assert_eq!(response.status().as_u16(), 303);
    let set = response.headers()["set-cookie"].to_str().expect("text").to_owned();
    let new =
        set.strip_prefix("pavlov=").and_then(|rest| rest.split(';').next()).expect("a cookie").to_owned();
    assert!(set.contains("HttpOnly") && set.contains("SameSite="), "{set}");
    assert_ne!(new, planted);
    let home = |cookie: &str| send(&router, request("GET", "/", cookie, &[], "")).0;
    assert_eq!((home(&new), home(&planted)), (200, 303), "the planted one is nobody's");
}

#[test]
fn figures_are_shown_with_plots_and_names_stay_text() {
    let place = Place::new(Settings { overlap: 2, ..plain() });
    let task = |i| {
        json!({"prompt": format!("q{i}"), "responses": [
            {"text": format!("first {i}"), "policy": "<b>one</b>"}, {"text": format!("second {i}"), "policy": "two"}]})
    };
    let tasks: Vec<Value> = (0..6).map(task).collect();
    let service = place.token("service").expect("a token");
    place.post(&service, "/projects/worlds/tasks", &json!({ "tasks": tasks })).ok();
    for name in ["ana", "ben"] {
        let rater = place.rater(name);
        for (i, side) in ["tie", "left", "right", "left", "right", "left"].into_iter().enumerate() {
            let held = place.post(&rater, "/projects/worlds/claim", &json!({})).ok();
            let lease = held["task"]["lease"].as_str().expect("a task");
            let path = format!("/projects/worlds/leases/{lease}/submit");
            place.post(&rater, &path, &pick(side, &i.to_string())).ok();
        }
    }
    let router = router(&place, web::Config::default());
    let owner = cookie(&place, "owner");
    let (status, _, page) = send(&router, request("GET", "/p/worlds/quality", &owner, &[], ""));
    assert_eq!(status, 200, "{page}");
    for shown in ["As of record 12", "<svg class=\"plot\"", "Agreement", "Each rater", "Position and style"] {
        assert!(page.contains(shown), "{shown} is not on {page}");
    }
    assert!(page.contains("&lt;b&gt;one") && !page.contains("<b>one"), "{page}");
    assert!(!page.contains("style=") && !page.contains("<script>"), "{page}");
    let manager = place.token("manager").expect("a token");
    let quality = place.get(&manager, "/projects/worlds/quality").ok();
    assert_eq!((&quality["answers"], &quality["seq"]), (&json!(12), &json!(12)));
    // What is excluded counts from the next look on, though no record came.
    let (project, by, rater) = (place.project, place.accounts[0], quality["raters"][0]["rater"].clone());
    let exclude = move |w: &mut pavlov_feedback::store::Write<'_>| {
        let of = w.members(project)?.into_iter().find(|member| json!(member.pseudonym) == rater);
        w.exclude(project, of.expect("a member").account, None, "asleep", by)
    };
    place.store.write_now(exclude).expect("an exclusion");
    let (_, _, page) = send(&router, request("GET", "/p/worlds/quality", &owner, &[], ""));
    assert!(page.contains("6 of 12 answers are excluded (50%)") && page.contains("asleep"), "{page}");
    let (_, _, page) = send(&router, request("GET", "/p/worlds/exclusions", &owner, &[], ""));
    assert!(page.contains("6 of 12 answers are excluded (50%)"), "{page}");
}

#[test]
fn raters_are_to_be_invited_while_there_are_none() {
    let place = Place::new(plain());
    place.pairs(1);
    let router = router(&place, web::Config::default());
    let owner = cookie(&place, "owner");
    let offered = || {
        let (status, _, page) = send(&router, request("GET", "/p/worlds", &owner, &[], ""));
        assert!(status == 200 && page.contains("<h2>Next</h2>"), "{page}");
        page.contains("Invite raters")
    };
    assert!(!offered(), "there is a rater");
    let (project, rater) = (place.project, place.accounts[3]);
    place.store.write_now(move |w| w.remove_member(project, rater)).expect("a rater who leaves");
    assert!(offered(), "there is a manager and a reviewer, and no rater");
}
