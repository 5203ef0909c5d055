//! A database as large as a year of work, and how long its pages and its API take over HTTP.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pavlov_feedback::Store;
use pavlov_feedback::reply::Pick;
use pavlov_feedback::roles::Role;
use pavlov_feedback::settings::Settings;
use pavlov_feedback::store::{AccountId, ProjectId, Served as Claimed, Submission, Write};
use pavlov_feedback::web::Patience;
use serde_json::json;

use crate::place::{Place, add_tasks, create, picks, plain};
use crate::setup::{Answer, Served};

/// Tasks that one who is ahead has left.
const LEFT: usize = 100;
/// Answers of one rater in one change.
const TURN: usize = 500;

/// Claims and answers `n` times in one change; how often there was something.
fn answers(
    w: &mut Write<'_>,
    project: ProjectId,
    rater: AccountId,
    n: usize,
) -> pavlov_feedback::Result<usize> {
    for i in 0..n {
        let Claimed::Task(lease) = w.claim(project, rater)? else { return Ok(i) };
        let pick = [Pick::Left, Pick::Right, Pick::Left, Pick::Tie][i % 4];
        let key = lease.code.clone();
        w.submit(rater, Submission { lease: lease.code, key, reply: picks(pick), active_ms: 4_000 })?;
    }
    Ok(n)
}

/// Lets raters answer in turn until `target` answers are there or nothing is left; how many there are.
fn answer_by_turns(store: &Store, project: ProjectId, raters: &[AccountId], target: usize) -> usize {
    let (mut said, mut idle) = (0, 0);
    for &rater in raters.iter().cycle() {
        let n = store.write_now(move |w| answers(w, project, rater, TURN)).unwrap();
        (said, idle) = (said + n, if n == 0 { idle + 1 } else { 0 });
        if said >= target || idle == raters.len() {
            break;
        }
    }
    said
}

/// Of some tries the longest and the median.
fn tries(n: usize, mut question: impl FnMut() -> Answer) -> [Duration; 2] {
    let one = |_| {
        let answer = question();
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.took
    };
    let mut times: Vec<Duration> = (0..n).map(one).collect();
    times.sort_unstable();
    [times[n - 1], times[n / 2]]
}

/// Prints the figures of many questions; those that were too slow.
struct Sheet {
    limit: Duration,
    slow: Vec<String>,
}

impl Sheet {
    fn ask(&mut self, name: &str, n: usize, question: impl FnMut() -> Answer) {
        let [longest, median] = tries(n, question).map(|time| time.as_secs_f64() * 1e3);
        println!("{name:<44} {median:>8.1} ms {longest:>8.1} ms at most");
        if longest > self.limit.as_secs_f64() * 1e3 {
            self.slow.push(format!("{name}: {longest:.0} ms"));
        }
    }
}

/// Every page and every question of programs that might count rows.
fn everything_is_quick(place: &Place, server: &Served, rater: AccountId, sheet: &mut Sheet) {
    let (program, hand) = (place.token(place.owner), place.token(rater));
    let (owner, rater) = (place.cookie(place.owner), place.cookie(rater));
    // First of all, while nothing is known yet.
    sheet.ask("page of quality, not computed yet", 1, || server.get(&owner, "/p/worlds/quality"));
    for (who, page) in [
        (&owner, "/"),
        (&owner, "/p/worlds"),
        (&owner, "/p/worlds/tasks"),
        (&owner, "/p/worlds/tasks?state=done"),
        (&owner, "/p/worlds/review"),
        (&owner, "/p/worlds/members"),
        (&owner, "/p/worlds/exclusions"),
        (&owner, "/p/worlds/audit"),
        (&owner, "/p/worlds/settings"),
        (&rater, "/p/worlds"),
        (&rater, "/p/worlds/rate"),
        (&rater, "/p/worlds/answers"),
    ] {
        let whose = if *who == owner { "owner" } else { "rater" };
        sheet.ask(&format!("page {page} of the {whose}"), 20, || server.get(who, page));
    }
    for path in [
        "progress",
        "tasks?state=done&limit=100",
        "members",
        "audit",
        "records?limit=100",
        "records?limit=1000",
    ] {
        let whole = format!("/api/v1/projects/worlds/{path}");
        sheet.ask(&format!("API {path}"), 20, || server.get(&program, &whole));
    }
    for path in ["answers", "session"] {
        let whole = format!("/api/v1/projects/worlds/{path}");
        sheet.ask(&format!("API {path}"), 20, || server.get(&hand, &whole));
    }
    claims_are_quick(server, &hand, "worlds", "claim", sheet);
}

/// Claims, and answers with the next task.
fn claims_are_quick(server: &Served, token: &str, project: &str, name: &str, sheet: &mut Sheet) {
    let claim = format!("/api/v1/projects/{project}/claim");
    sheet.ask(&format!("API {name}"), 5, || server.post(token, &claim, &json!({})));
    let mut lease = lease_of(&server.post(token, &claim, &json!({})).json()["task"]);
    sheet.ask(&format!("API {name}: submit with the next"), 50, || {
        let held = lease.as_ref().unwrap();
        let path = format!("/api/v1/projects/{project}/leases/{held}/submit?next=true");
        let body = json!({ "reply": { "said": { "pairwise": { "pick": "left" } } }, "key": held });
        let answer = server.post(token, &path, &body);
        lease = lease_of(&answer.json()["next"]["task"]);
        answer
    });
}

fn lease_of(task: &serde_json::Value) -> Option<String> {
    task["lease"].as_str().map(str::to_owned)
}

/// A rater who is ahead of all others: nearly every task that still has a place was answered by this one.
fn one_who_is_ahead(place: &Place, server: &Served, sheet: &mut Sheet) {
    let (store, rater) = (&place.store, account(&place.store, "ahead"));
    let token = place.token(rater);
    claims_are_quick(server, &token, "ahead", "claim of one who is ahead", sheet);
    let project = store.read_now(|r| r.project_called("ahead")).unwrap().id;
    store.write_now(move |w| answers(w, project, rater, LEFT)).unwrap();
    let claim = || server.post(&token, "/api/v1/projects/ahead/claim", &json!({}));
    assert!(claim().json()["task"].is_null(), "everything was answered");
    sheet.ask("API claim of one who has answered all", 20, claim);
    let cookie = place.cookie(rater);
    sheet.ask("page /p/ahead/rate of one who answered all", 20, || server.get(&cookie, "/p/ahead/rate"));
}

fn account(store: &Store, name: &str) -> AccountId {
    let name = name.to_owned();
    store.read_now(move |r| r.account_named(&name)).unwrap().unwrap().id
}

/// Two projects: one that fifty people are at, and one where one of two people is ahead of the other.
fn fill(place: &Place, tasks: usize, target: usize) {
    let raters: Vec<AccountId> = (0..50).map(|i| place.rater(&format!("rater {i}"))).collect();
    let start = Instant::now();
    add_tasks(&place.store, place.project, tasks);
    let said = answer_by_turns(&place.store, place.project, &raters, target);
    assert!(said >= target, "{said}");
    println!("{:.0} answers a second, many in one change", said as f64 / start.elapsed().as_secs_f64());
    fill_ahead(place, tasks);
}

fn fill_ahead(place: &Place, tasks: usize) {
    let project = create(&place.store, "ahead", settings(2), place.owner);
    add_tasks(&place.store, project, tasks);
    let rater = place.rater("ahead");
    place.store.write_now(move |w| w.set_member(project, rater, Role::Rater)).unwrap();
    for start in (0..tasks - LEFT).step_by(TURN) {
        let n = TURN.min(tasks - LEFT - start);
        assert_eq!(place.store.write_now(move |w| answers(w, project, rater, n)).unwrap(), n);
    }
    // Everything is sealed, so that training sees it.
    place.time.fetch_add(3_600_000, Ordering::SeqCst);
}

fn settings(overlap: u32) -> Settings {
    Settings { overlap, max_overlap: overlap, max_open_tasks: 1_000_000, ..plain() }
}

fn measure(place: &Place, limit: u64) {
    let size = std::fs::metadata(place.store.path()).unwrap().len() as f64 / 1e6;
    let progress = |name: &'static str| {
        let read = place.store.read_now(move |r| r.progress(r.project_called(name)?.id)).unwrap();
        (read.open + read.done, read.answered)
    };
    println!("{size:.0} MB; tasks and answers: {:?} and {:?}", progress("worlds"), progress("ahead"));
    let server = place.serve(Patience::default());
    let mut sheet = Sheet { limit: Duration::from_millis(limit), slow: Vec::new() };
    everything_is_quick(place, &server, account(&place.store, "rater 0"), &mut sheet);
    one_who_is_ahead(place, &server, &mut sheet);
    assert!(sheet.slow.is_empty(), "longer than {limit} ms: {:?}", sheet.slow);
}

#[test]
fn a_small_year() {
    let place = Place::new(settings(10));
    fill(&place, 600, 4_000);
    measure(&place, 1_000);
}

/// The large database takes minutes to make, so it is kept beside what is built, and measured as often as one likes.
fn large() -> Place {
    let (tasks, target) = (102_000, 1_000_000);
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("year-{tasks}-{target}.db"));
    if !kept.exists() {
        let place = Place::new(settings(10));
        fill(&place, tasks, target);
        place.store.backup(&kept).unwrap();
    }
    Place::copy(&kept)
}

#[test]
#[ignore = "minutes: two projects of 102,000 tasks, 1,100,000 judgments"]
fn a_large_year() {
    measure(&large(), 100);
}

/// Six policies whose answers all look different: nothing that statistics could put together.
fn diverse(place: &Place) {
    let db = rusqlite::Connection::open(place.store.path()).unwrap();
    let sql = "UPDATE tasks SET policy_a = 'run/' || (id % 6), policy_b = 'run/' || ((id + 1 + id / 6 % 5) % 6),
               length_a = 50 + id * 7919 % 1951, length_b = 50 + id * 104729 % 1949, headers_a = id % 3, headers_b = id / 3 % 3,
               lists_a = id / 9 % 8, lists_b = id / 72 % 8, bold_a = id / 5 % 7, bold_b = id / 35 % 7";
    db.execute(sql, []).unwrap();
}

/// The most memory the process has had, where the system says so.
fn most_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
    let megabytes = kilobytes.and_then(|n| n.parse::<f64>().ok()).map(|n| n / 1e3);
    megabytes.map_or_else(|| "unknown".into(), |n| format!("{n:.0} MB"))
}

#[test]
#[ignore = "minutes: statistics of 1,000,000 judgments"]
fn the_figures_of_a_large_year() {
    let place = large();
    diverse(&place);
    let owner = place.cookie(place.owner);
    let server = place.serve(Patience::default());
    println!("{} before", most_memory());
    let begun = Instant::now();
    while server.get(&owner, "/p/worlds/quality").text.contains("are being computed") {
        std::thread::sleep(Duration::from_millis(100));
        assert!(begun.elapsed() < Duration::from_secs(3_600));
    }
    println!("figures after {:.1} s, {} at most", begun.elapsed().as_secs_f64(), most_memory());
    let mut sheet = Sheet { limit: Duration::from_millis(100), slow: Vec::new() };
    sheet.ask("page of quality", 20, || server.get(&owner, "/p/worlds/quality"));
    let token = place.token(place.owner);
    let mut figures = serde_json::Value::Null;
    sheet.ask("API quality", 20, || {
        let answer = server.get(&token, "/api/v1/projects/worlds/quality");
        figures = answer.json();
        answer
    });
    assert_eq!(
        (figures["policies"].as_array().unwrap().len(), figures["style"].as_array().unwrap().len()),
        (6, 4)
    );
    assert!(figures["crowd_bt_steps"].is_u64());
    assert!(sheet.slow.is_empty(), "{:?}", sheet.slow);
}
