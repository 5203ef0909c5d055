//! Simulated raters. What one says depends on the question and the two answers alone, whoever is asked, on whichever side an answer
//! stands: so that a run asked over HTTP can be compared with one that is not, byte by byte.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pavlov_feedback::roles::Role;
use pavlov_schema::files::digest_of;
use pavlov_worlds::{Candidate, Choice, Rater, RaterSettings, World};
use serde_json::{Value, json};

use crate::client::Client;
use crate::server::Server;

/// P(the first is better) as the simulated person says: 1, 0, or ½ for a tie.
pub(crate) fn verdict(world: &World, first: &str, second: &str) -> f64 {
    // Equal but for case and space is what nobody is asked about.
    let words = |text: &str| text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>();
    if words(first) == words(second) {
        return 0.5;
    }
    let turned = first > second;
    let (a, b) = if turned { (second, first) } else { (first, second) };
    let item =
        u64::from_str_radix(&digest_of(format!("{}\n{a}\n{b}", world.prompt()).as_bytes()), 16).unwrap();
    let settings = RaterSettings { temperature: 0.2, tie_width: 0.5, ..RaterSettings::default() };
    let rater = Rater::new(0, 0, settings).unwrap();
    match (rater.compare(item, Candidate::of(world, a), Candidate::of(world, b)), turned) {
        (Choice::A, false) | (Choice::B, true) => 1.0,
        (Choice::B, false) | (Choice::A, true) => 0.0,
        (Choice::Tie, _) => 0.5,
    }
}

/// What the person of a number says about a task, as the API has it.
pub(crate) type Person = Arc<dyn Fn(usize, &Value) -> Value + Send + Sync>;

/// Everybody compares as [`verdict`] does.
pub(crate) fn comparing(worlds: &[World]) -> Person {
    let worlds: BTreeMap<String, World> =
        worlds.iter().map(|world| (world.prompt(), world.clone())).collect();
    Arc::new(move |_, task| {
        let [left, right] = texts(task);
        picked(verdict(&worlds[task["prompt"].as_str().unwrap()], left, right))
    })
}

/// The texts of a comparison, from left to right.
pub(crate) fn texts(task: &Value) -> [&str; 2] {
    [0, 1].map(|i| task["responses"][i]["text"].as_str().unwrap())
}

/// A verdict of which P(the left is better) is this.
pub(crate) fn picked(p: f64) -> Value {
    let pick = if p > 0.5 {
        "left"
    } else if p < 0.5 {
        "right"
    } else {
        "tie"
    };
    json!({"pairwise": {"pick": pick}})
}

/// People at work, each a thread.
pub(crate) struct Raters {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Raters {
    pub(crate) fn start(server: &Server, people: usize, person: &Person) -> Self {
        let token = |i: usize| server.token(&format!("rater{i}"), Role::Rater);
        Self::at(&server.url(), &(0..people).map(token).collect::<Vec<_>>(), person)
    }

    /// One for each token.
    pub(crate) fn at(url: &str, tokens: &[String], person: &Person) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |(i, token): (usize, &String)| {
            let client = Client::new(url, token);
            let (stop, person) = (Arc::clone(&stop), Arc::clone(person));
            std::thread::spawn(move || work(&client, &|task| person(i, task), &stop))
        };
        let threads = tokens.iter().enumerate().map(start).collect();
        Self { stop, threads }
    }

    /// Answers that the server acknowledged.
    pub(crate) fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }
}

fn work(client: &Client, says: &dyn Fn(&Value) -> Value, stop: &AtomicBool) -> u64 {
    let mut acknowledged = 0;
    while !stop.load(Ordering::SeqCst) {
        let served = client.try_post("claim", &json!({}));
        let Some(task) =
            served.as_ref().and_then(|served| served.get("task")).filter(|task| task.is_object())
        else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let lease = task["lease"].as_str().unwrap();
        let body = json!({"reply": {"said": says(task)}, "key": lease, "active_ms": 3000});
        // A server that went away may have taken it or not: the same key again is the same answer.
        for _ in 0..200 {
            if client.try_post(&format!("leases/{lease}/submit"), &body).is_some() {
                acknowledged += 1;
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    acknowledged
}
