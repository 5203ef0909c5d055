//! Simulated raters. What one says depends on the question and the two answers alone, whoever is asked, on whichever side an answer
//! stands: so that a run asked over HTTP can be compared with one that is not, byte by byte.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pavlov_schema::files::digest_of;
use pavlov_worlds::{Candidate, Choice, Rater, RaterSettings, World};
use serde_json::json;

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

/// People at work, each a thread.
pub(crate) struct Raters {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Raters {
    pub(crate) fn start(server: &Server, worlds: &[World], people: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let worlds: Arc<BTreeMap<String, World>> =
            Arc::new(worlds.iter().map(|world| (world.prompt(), world.clone())).collect());
        let threads = (0..people)
            .map(|i| {
                let (url, token) = (server.url(), server.rater_token(&format!("rater{i}")));
                let (stop, worlds) = (Arc::clone(&stop), Arc::clone(&worlds));
                std::thread::spawn(move || work(&url, &token, &worlds, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    /// Answers that the server acknowledged.
    pub(crate) fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }
}

fn work(url: &str, token: &str, worlds: &BTreeMap<String, World>, stop: &AtomicBool) -> u64 {
    let client = Client::new(url, token);
    let mut acknowledged = 0;
    while !stop.load(Ordering::SeqCst) {
        let served = client.try_post("claim", &json!({}));
        let Some(task) =
            served.as_ref().and_then(|served| served.get("task")).filter(|task| task.is_object())
        else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let text = |i: usize| task["responses"][i]["text"].as_str().unwrap();
        let p = verdict(&worlds[task["prompt"].as_str().unwrap()], text(0), text(1));
        let pick = if p > 0.5 {
            "left"
        } else if p < 0.5 {
            "right"
        } else {
            "tie"
        };
        let lease = task["lease"].as_str().unwrap();
        let body = json!({"reply": {"said": {"pairwise": {"pick": pick}}}, "key": lease, "active_ms": 3000});
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
