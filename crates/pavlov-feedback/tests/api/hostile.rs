//! What an attacker sends.

use axum::body::Body;
use axum::http::Request;
use pavlov_feedback::api::Config;
use pavlov_feedback::settings::Settings;
use serde_json::json;

use super::setup::{Place, plain};

#[test]
fn tokens_come_in_one_header_and_nowhere_else() {
    let place = Place::new(plain());
    let token = place.token("rater").unwrap();
    place.get(&token, "/me").ok();
    let send = |uri: &str, headers: &[(&str, String)]| {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        place.send(request.body(Body::empty()).unwrap()).status
    };
    let bearer = |token: &str| vec![("authorization", format!("Bearer {token}"))];
    assert_eq!(send("/me", &bearer(&token)), 200);
    assert_eq!(send("/me", &[("authorization", format!("bEARER  {token} "))]), 200);
    assert_eq!(send(&format!("/me?token={token}&access_token={token}"), &[]), 401);
    assert_eq!(send("/me", &[("authorization", format!("Basic {token}"))]), 401);
    assert_eq!(send("/me", &[("authorization", token.clone())]), 401);
    assert_eq!(send("/me", &[("cookie", format!("pavlov={token}"))]), 401);
    assert_eq!(send("/me", &[bearer(&token), bearer(&token)].concat()), 401, "two are none");
    for wrong in
        ["", "x", &token[1..], &format!("{token}x"), "' OR 1=1 --", &"A".repeat(43), &"A".repeat(9000)]
    {
        assert_eq!(send("/me", &bearer(wrong)), 401, "{wrong}");
    }
}

#[test]
fn sql_in_names_is_a_name() {
    let place = Place::new(plain());
    let owner = place.token("owner").unwrap();
    place.pairs(1);
    for name in [
        "' OR '1'='1",
        "worlds'; DROP TABLE tasks; --",
        "\" OR 1=1 --",
        "worlds\u{0}",
        "%00",
        "../worlds",
        "worlds/..",
        "*",
        "%",
    ] {
        let name = name.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
        for path in [
            format!("/projects/{name}"),
            format!("/projects/worlds/tasks/{name}"),
            format!("/projects/worlds/tasks?before={name}"),
        ] {
            let answer = place.get(&owner, &path);
            assert!([404, 400].contains(&answer.status), "{path}: {}", answer.text);
        }
        let login = json!({"name": name, "password": name});
        assert_eq!(place.call(None, "POST", "/login", Some(&login)).status, 401);
    }
    assert_eq!(place.get(&owner, "/projects/worlds/progress").ok()["open"], 1);
}

#[test]
fn bodies_are_bounded_and_announced() {
    let place = Place::new(plain());
    let owner = place.token("owner").unwrap();
    let send = |path: &str, kind: &str, body: String| {
        let request = Request::post(path)
            .header("authorization", format!("Bearer {owner}"))
            .header("content-type", kind);
        place.send(request.body(Body::from(body)).unwrap())
    };
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(3 << 20));
    assert_eq!(send("/projects", "application/json", large).status, 413);
    assert_eq!(send("/projects", "text/plain", "{}".into()).status, 415);
    assert_eq!(send("/projects", "application/json", "{".into()).status, 400);
    assert_eq!(send("/projects", "application/json", "{}".into()).status, 422);
    let deep = "[".repeat(100_000);
    assert_eq!(send("/projects", "application/json", deep).status, 422);
    let unknown = send("/projects", "application/json", "{\"name\":\"x\",\"owner\":true}".into());
    assert!(unknown.status == 422 && unknown.error().contains("unknown field `owner`"), "{}", unknown.text);
    let file =
        send("/projects/worlds/import?name=x.csv&kind=demonstration", "text/csv", "prompt\nq\n".into()).ok();
    assert_eq!(file["tasks"].as_array().unwrap().len(), 1);
    let wrong = send("/projects/worlds/import?name=x.jsonl", "application/x-ndjson", "{\"a\":1}\n".into());
    assert!(wrong.error().starts_with("x.jsonl:1: has no column `prompt`"), "{}", wrong.text);
}

#[test]
fn limits_follow_the_account_and_not_an_address() {
    let config = Config { requests_a_minute: 5, ..Config::default() };
    let place = Place::with(plain(), config);
    let (rater, manager) = (place.token("rater").unwrap(), place.token("manager").unwrap());
    let get = |token: &str, i: usize| {
        let request = Request::get("/me")
            .header("authorization", format!("Bearer {token}"))
            .header("x-forwarded-for", format!("10.0.0.{i}"))
            .header("forwarded", format!("for=10.0.1.{i}"))
            .header("cf-connecting-ip", format!("10.0.2.{i}"));
        place.send(request.body(Body::empty()).unwrap()).status
    };
    let statuses: Vec<u16> = (0..7).map(|i| get(&rater, i)).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    assert_eq!(get(&manager, 9), 200, "others have their own");
    let second = place.token("rater").unwrap();
    assert_eq!(get(&second, 9), 429, "another token of the account is no way round");
    place.pass(60);
    assert_eq!(get(&rater, 9), 200);
}

#[test]
fn guessing_at_a_name_is_stopped_from_wherever() {
    let place = Place::new(plain());
    let guess = |i: usize| {
        let body = json!({"name": if i.is_multiple_of(2) { "Owner" } else { " owner " }, "password": format!("guess number {i}")});
        let request = Request::post("/login")
            .header("content-type", "application/json")
            .header("x-forwarded-for", format!("10.0.0.{i}"));
        place.send(request.body(Body::from(body.to_string())).unwrap()).status
    };
    let statuses: Vec<u16> = (0..12).map(guess).collect();
    assert_eq!(statuses[..10], [401; 10]);
    assert_eq!(statuses[10..], [429; 2]);
}

#[test]
fn too_many_open_tasks_are_refused_until_some_are_answered() {
    let place = Place::new(Settings { max_open_tasks: 2, ..plain() });
    place.pairs(2);
    let service = place.token("service").unwrap();
    let task = json!({"tasks": [{"prompt": "q", "responses": [{"text": "a"}, {"text": "b"}]}]});
    let full = place.post(&service, "/projects/worlds/tasks", &task);
    assert!(full.status == 429 && full.error().contains("max_open_tasks"), "{}", full.text);
}

#[test]
fn addresses_and_methods_that_are_not_there() {
    let place = Place::new(plain());
    let owner = place.token("owner").unwrap();
    assert_eq!(place.get(&owner, "/nothing").status, 404);
    assert_eq!(place.call(Some(&owner), "DELETE", "/me", None).status, 405);
    assert_eq!(place.call(None, "TRACE", "/me", None).status, 405);
    assert_eq!(place.get(&owner, "/projects/worlds/records?after=-1").status, 400);
    assert_eq!(place.get(&owner, "/projects/worlds/records?after=18446744073709551615").status, 200);
    assert_eq!(place.get(&owner, "/projects/worlds/records?offset=1").status, 400);
    assert_eq!(place.get(&owner, "/projects/%FF/records").status, 400);
    assert_eq!(place.get(&owner, "/projects/worlds/export/pickle").status, 404);
    let hook =
        place.post(&owner, "/projects/worlds/webhooks", &json!({"url": "http://169.254.169.254/latest"}));
    assert!(hook.status == 422 && hook.error().contains("--webhook-host"), "{}", hook.text);
}
