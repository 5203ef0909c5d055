//! Who may do what, over every route: a route without a line here fails, and so does a line without a route.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::setup::{CALLERS, Place, plain};

/// Who may, one letter each of [`CALLERS`]; `-` may not.
const TABLE: &[(&str, &str, &str)] = &[
    // No token is needed.
    ("POST", "/login", "omrvsxn"),
    ("POST", "/join", "omrvsxn"),
    // One's own things.
    ("GET", "/me", "omrvsx-"),
    ("POST", "/logout", "omrvsx-"),
    ("POST", "/me/password", "omrv-x-"),
    ("POST", "/me/invitations", "omrv-x-"),
    ("GET", "/me/tokens", "omrv-x-"),
    ("POST", "/me/tokens", "omrv-x-"),
    ("DELETE", "/me/tokens/{token}", "omrv-x-"),
    // The installation.
    ("GET", "/accounts", "o------"),
    ("POST", "/accounts/{account}/close", "o------"),
    ("POST", "/owner-invitations", "o------"),
    ("GET", "/audit", "o------"),
    ("POST", "/projects", "o------"),
    // A project.
    ("GET", "/projects/{project}", "omrvs--"),
    ("PATCH", "/projects/{project}", "om-----"),
    ("GET", "/projects/{project}/audit", "om-----"),
    ("GET", "/projects/{project}/tokens", "om-----"),
    ("POST", "/projects/{project}/tokens", "om-----"),
    ("DELETE", "/projects/{project}/tokens/{token}", "om-----"),
    // People.
    ("GET", "/projects/{project}/members", "omr----"),
    ("PUT", "/projects/{project}/members/{account}", "om-----"),
    ("DELETE", "/projects/{project}/members/{account}", "om-----"),
    ("POST", "/projects/{project}/members/{account}/pause", "om-----"),
    ("GET", "/projects/{project}/invitations", "om-----"),
    ("POST", "/projects/{project}/invitations", "om-----"),
    ("DELETE", "/projects/{project}/invitations/{invitation}", "om-----"),
    ("GET", "/projects/{project}/exclusions", "omr-s--"),
    ("POST", "/projects/{project}/exclusions", "om-----"),
    ("DELETE", "/projects/{project}/exclusions/{exclusion}", "om-----"),
    // Tasks.
    ("POST", "/projects/{project}/tasks", "om--s--"),
    ("GET", "/projects/{project}/tasks", "om--s--"),
    ("POST", "/projects/{project}/import", "om--s--"),
    ("POST", "/projects/{project}/tasks/withdraw", "om--s--"),
    ("POST", "/projects/{project}/tasks/{task}/release-held", "om--s--"),
    ("POST", "/projects/{project}/tasks/{task}/promote", "om--s--"),
    ("GET", "/projects/{project}/disagreements", "omr----"),
    ("GET", "/projects/{project}/tasks/{task}", "omr----"),
    ("POST", "/projects/{project}/tasks/{task}/adjudicate", "omr----"),
    ("POST", "/projects/{project}/tasks/{task}/retract", "omr----"),
    // Rating.
    ("POST", "/projects/{project}/claim", "omrv---"),
    ("POST", "/projects/{project}/leases/{lease}/heartbeat", "omrv---"),
    ("POST", "/projects/{project}/leases/{lease}/release", "omrv---"),
    ("PUT", "/projects/{project}/leases/{lease}/draft", "omrv---"),
    ("POST", "/projects/{project}/leases/{lease}/submit", "omrv---"),
    ("POST", "/projects/{project}/leases/{lease}/skip", "omrv---"),
    ("POST", "/projects/{project}/undo", "omrv---"),
    ("GET", "/projects/{project}/answers", "omrv---"),
    ("POST", "/projects/{project}/answers/{task}/correct", "omrv---"),
    ("POST", "/projects/{project}/answers/{task}/retract", "omrv---"),
    ("GET", "/projects/{project}/answers/{task}/colleagues", "omrv---"),
    ("GET", "/projects/{project}/session", "omrv---"),
    // What comes of it.
    ("GET", "/projects/{project}/records", "om--s--"),
    ("GET", "/projects/{project}/export/{format}", "om--s--"),
    ("GET", "/projects/{project}/progress", "omr-s--"),
    ("GET", "/projects/{project}/quality", "omr-s--"),
    ("POST", "/projects/{project}/lessons", "om--s--"),
    // Webhooks.
    ("GET", "/projects/{project}/webhooks", "om-----"),
    ("POST", "/projects/{project}/webhooks", "om-----"),
    ("DELETE", "/projects/{project}/webhooks/{webhook}", "om-----"),
    ("GET", "/projects/{project}/webhooks/{webhook}/deliveries", "om-----"),
    ("POST", "/projects/{project}/webhooks/{webhook}/deliveries/{delivery}/retry", "om-----"),
];

/// Every route of the document, with a path that can be called.
pub(crate) fn routes(place: &Place) -> BTreeMap<(String, String), Value> {
    let document = place.call(None, "GET", "/openapi.json", None).ok();
    let mut routes = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if ["get", "post", "put", "patch", "delete"].contains(&method.as_str()) {
                let path = path.strip_prefix("/api/v1").unwrap().to_owned();
                routes.insert((method.to_uppercase(), path), operation.clone());
            }
        }
    }
    routes
}

#[test]
fn every_route_has_a_line_and_every_line_a_route() {
    let place = Place::new(plain());
    let routes: Vec<_> = routes(&place).into_keys().collect();
    let mut lines: Vec<_> =
        TABLE.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    lines.sort();
    assert_eq!(routes, lines);
}

#[test]
fn everybody_may_what_the_table_says_and_nothing_else() {
    let place = Place::new(plain());
    let named = |path: &str| {
        let path = path.replace("{project}", "worlds").replace("{delivery}", "1").replace("{format}", "log");
        path.split('/')
            .map(|part| if part.starts_with('{') { "none" } else { part })
            .collect::<Vec<_>>()
            .join("/")
    };
    for (method, path, may) in TABLE {
        for (caller, letter) in CALLERS.iter().zip(may.chars()) {
            // `/logout` makes a token useless: each call has its own.
            let token = place.token(caller);
            let body = (*method != "GET").then(|| json!({}));
            let answer = place.call(token.as_deref(), method, &named(path), body.as_ref());
            let refused = match answer.status {
                401 => *path != "/login",
                403 => true,
                // Who is not in a project does not learn that there is one.
                404 => answer.error() == "there is no such project",
                _ => false,
            };
            assert_eq!(refused, letter == '-', "{caller} {method} {path}: {} {}", answer.status, answer.text);
            assert!(answer.status < 500, "{method} {path}: {}", answer.text);
            if refused && *caller == "nobody" {
                assert_eq!(answer.status, 401, "{method} {path}");
            }
        }
    }
}

#[test]
fn a_scope_gives_a_part_of_what_its_holder_may() {
    let place = Place::new(plain());
    let owner = place.token("owner").unwrap();
    let limited = |scopes: Value| {
        let made = place.post(&owner, "/me/tokens", &json!({"name": "limited", "scopes": scopes})).ok();
        made["token"].as_str().unwrap().to_owned()
    };
    let reader = limited(json!(["read"]));
    place.get(&reader, "/projects/worlds").ok();
    let project = place.get(&reader, "/projects/worlds").ok();
    assert!(project["settings"].is_null(), "a reader's token does not show what managers decide");
    for (method, path) in [
        ("POST", "/projects/worlds/claim"),
        ("GET", "/projects/worlds/records"),
        ("GET", "/accounts"),
        ("PATCH", "/projects/worlds"),
    ] {
        let answer = place.call(Some(&reader), method, path, Some(&json!({})));
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.error().contains("scope"), "{}", answer.text);
    }
    // A token never makes one that may more than itself.
    let more = place.post(&reader, "/me/tokens", &json!({"name": "more", "scopes": ["administer"]}));
    assert_eq!(more.status, 403);
    let same = place.post(&reader, "/me/tokens", &json!({"name": "same"})).ok();
    assert_eq!(same["about"]["scopes"], json!(["read"]));
    // A service of one project is nobody in another.
    let other = place.post(&owner, "/projects", &json!({"name": "other"})).ok();
    assert_eq!(other["role"], "owner");
    let service = place.token("service").unwrap();
    assert_eq!(place.get(&service, "/projects/other/records").status, 404);
    let all = place.get(&service, "/me").ok();
    assert_eq!(all["projects"].as_array().unwrap().len(), 1);
}

#[test]
fn a_lease_of_another_project_is_nobodys_here() {
    let place = Place::new(plain());
    place.pairs(1);
    let owner = place.token("owner").unwrap();
    place.post(&owner, "/projects", &json!({"name": "other"})).ok();
    let held = place.post(&owner, "/projects/worlds/claim", &json!({})).ok();
    let lease = held["task"]["lease"].as_str().unwrap();
    let there = place.post(
        &owner,
        &format!("/projects/other/leases/{lease}/submit"),
        &super::setup::pick("left", "k"),
    );
    assert_eq!(there.status, 410, "{}", there.text);
    let rater = place.token("rater").unwrap();
    let theirs = place.post(
        &rater,
        &format!("/projects/worlds/leases/{lease}/submit"),
        &super::setup::pick("left", "k"),
    );
    assert_eq!(theirs.status, 410, "{}", theirs.text);
    place
        .post(&owner, &format!("/projects/worlds/leases/{lease}/submit"), &super::setup::pick("left", "k"))
        .ok();
}
