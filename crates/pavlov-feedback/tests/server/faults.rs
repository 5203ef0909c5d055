//! A full disk and a clock that steps, as raters and programs meet them.

use std::sync::atomic::Ordering;

use pavlov_feedback::settings::Settings;
use pavlov_feedback::web::Patience;
use serde_json::{Value, json};

use crate::place::{Place, plain};
use crate::setup::{Answer, Served};

const DAY_MS: i64 = 86_400_000;

fn claim(server: &Served, token: &str) -> Answer {
    server.post(token, "/api/v1/projects/worlds/claim", &json!({}))
}

fn submit(server: &Served, token: &str, lease: &str, rationale: &str) -> Answer {
    let path = format!("/api/v1/projects/worlds/leases/{lease}/submit?next=true");
    let reply = json!({ "said": { "pairwise": { "pick": "left" } }, "rationale": rationale });
    server.post(token, &path, &json!({ "reply": reply, "key": lease }))
}

fn lease_of(answer: &Value) -> String {
    answer["task"]["lease"].as_str().unwrap().to_owned()
}

/// Ids of the records that training sees.
fn records(place: &Place, server: &Served) -> Vec<String> {
    let program = place.token(place.owner);
    let page = server.get(&program, "/api/v1/projects/worlds/records").json();
    page["records"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_full_disk_is_said_clearly_and_loses_nothing() {
    let place = Place::new(Settings { undo_window_s: 0, ..plain() });
    place.tasks(200);
    let token = place.token(place.rater("ana"));
    let ben = place.rater("ben");
    let (cookie, bens) = (place.cookie(place.owner), place.cookie(ben));
    let server = place.serve(Patience::default());
    let desk = server.get(&bens, "/p/worlds/rate");
    let mut lease = lease_of(&claim(&server, &token).json());
    place.store.limit_pages(Some(40)).unwrap();
    let mut acknowledged = Vec::new();
    let words = "why ".repeat(400);
    let refused = loop {
        let answer = submit(&server, &token, &lease, &words);
        if answer.status != 200 {
            break answer;
        }
        assert!(acknowledged.len() < 150, "the disk was never full");
        let answer = answer.json();
        acknowledged.push(answer["logged"]["id"].as_str().unwrap().to_owned());
        lease = lease_of(&answer["next"]);
    };
    assert!(!acknowledged.is_empty(), "{}", refused.text);
    assert_eq!(refused.status, 503, "{}", refused.text);
    let (full, mend) =
        (refused.text.contains("the disk is full"), refused.text.contains("make room and try again"));
    assert!(full && mend, "{}", refused.text);
    // Reading goes on, and what was refused may be sent again as it was.
    assert_eq!(server.get(&cookie, "/p/worlds").status, 200);
    assert_eq!(
        server.get(&token, "/api/v1/projects/worlds/session").json()["tally"]["answered"],
        acknowledged.len()
    );
    // A rater at the desk keeps their words, and the task that they hold.
    let hour = "words that took an hour ".repeat(200);
    let said = [("pick", "left"), ("rationale", &*hour)];
    let kept = server.send_form(&bens, &desk.text, "/p/worlds/answer", &said);
    assert_eq!(kept.status, 503, "{}", kept.text);
    assert!(kept.text.contains("Not taken: the database failed: the disk is full"), "{}", kept.text);
    assert!(kept.text.contains(&hour), "{}", kept.text);
    place.store.limit_pages(None).unwrap();
    let taken = server.send_form(&bens, &kept.text, "/p/worlds/answer", &said);
    assert_eq!(taken.status, 303, "{}", taken.text);
    let kept = submit(&server, &token, &lease, &words).json();
    assert_eq!(kept["logged"]["repeated"], false, "what was refused had not been kept");
    acknowledged.push(kept["logged"]["id"].as_str().unwrap().to_owned());
    let mut log = records(&place, &server);
    assert_eq!(log.len(), acknowledged.len() + 1, "and ben's, once");
    log.retain(|id| acknowledged.contains(id));
    assert_eq!(log, acknowledged);
}

#[test]
fn a_clock_that_is_set_back_changes_nothing() {
    let place = Place::new(Settings { undo_window_s: 60, ..plain() });
    place.tasks(3);
    let ana = place.rater("ana");
    let (token, cookie) = (place.token(ana), place.cookie(ana));
    let server = place.serve(Patience::default());
    let first = lease_of(&claim(&server, &token).json());
    let next = submit(&server, &token, &first, "").json();
    let held = lease_of(&next["next"]);
    let expires = next["next"]["task"]["expires_at"].as_i64().unwrap();
    place.time.fetch_sub(2 * DAY_MS, Ordering::SeqCst);
    assert_eq!(server.get(&cookie, "/p/worlds/rate").status, 200, "still signed in");
    let beat = format!("/api/v1/projects/worlds/leases/{held}/heartbeat");
    let alive = server.post(&token, &beat, &json!({})).json()["expires_at"].as_i64().unwrap();
    assert!(alive >= expires, "a sign of life shortened the lease from {expires} to {alive}");
    assert!(records(&place, &server).is_empty(), "nothing is sealed before its time");
    let later = submit(&server, &token, &held, "").json();
    let seals = |answer: &Value| answer["logged"]["seals_at"].as_i64().unwrap();
    assert!(seals(&later) >= seals(&next), "the log goes back in time");
    let undone = server.post(&token, "/api/v1/projects/worlds/undo", &json!({ "key": "undo" }));
    assert_eq!(undone.status, 200, "{}", undone.text);
    // When the clock is right again, and its window is over, the first answer is sealed.
    place.time.fetch_add(2 * DAY_MS + 61_000, Ordering::SeqCst);
    assert_eq!(records(&place, &server).len(), 1);
}

#[test]
fn a_clock_that_is_set_forward_ends_what_time_ends_and_loses_no_answer() {
    let place = Place::new(Settings { undo_window_s: 60, ..plain() });
    place.tasks(2);
    let (ana, ben) = (place.rater("ana"), place.rater("ben"));
    let (token, cookie, bens) = (place.token(ana), place.cookie(ana), place.token(ben));
    let server = place.serve(Patience::default());
    let said = submit(&server, &token, &lease_of(&claim(&server, &token).json()), "").json();
    let held = lease_of(&said["next"]);
    place.time.fetch_add(400 * DAY_MS, Ordering::SeqCst);
    assert_eq!(server.get(&cookie, "/p/worlds").status, 303, "the session ran out");
    let sealed = server.post(&token, "/api/v1/projects/worlds/undo", &json!({ "key": "undo" }));
    assert_eq!(sealed.status, 409, "{}", sealed.text);
    assert!(sealed.text.contains("sealed"), "{}", sealed.text);
    // The lease ran out: the task goes to the next one, and what the first one says of it counts all the same.
    let his = claim(&server, &bens).json();
    assert_eq!(his["task"]["task"], said["next"]["task"]["task"]);
    assert_eq!(submit(&server, &token, &held, "").status, 200);
    // Back where it was, nothing that was sealed is open again.
    place.time.fetch_sub(400 * DAY_MS, Ordering::SeqCst);
    let sealed = server.post(&token, "/api/v1/projects/worlds/undo", &json!({ "key": "again" }));
    let first = said["logged"]["id"].as_str().unwrap().to_owned();
    assert!(records(&place, &server).contains(&first), "{}", sealed.text);
}
