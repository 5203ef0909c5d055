//! Webhooks against a receiver that fails first.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pavlov_feedback::api::Config;
use pavlov_feedback::webhook;
use serde_json::{Value, json};

use super::setup::{Place, pick, plain};

/// Headers and body of a request.
type Request = (Vec<String>, String);

/// Answers each request with the next status, and gives back what came.
fn receiver(statuses: &'static [&'static str]) -> (String, thread::JoinHandle<Vec<Request>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = listener.local_addr().expect("an address").to_string();
    let handle = thread::spawn(move || {
        let mut got = Vec::new();
        for status in statuses {
            let (stream, _) = listener.accept().expect("a connection");
            let mut reader = BufReader::new(stream);
            let mut headers = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a header");
                if line.trim().is_empty() {
                    break;
                }
                headers.push(line.trim().to_lowercase());
            }
            let length = header(&headers, "content-length").parse().expect("a length");
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: 0\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\r\n"
            );
            reader.into_inner().write_all(answer.as_bytes()).expect("an answer");
            got.push((headers, String::from_utf8(body).expect("UTF-8")));
        }
        got
    });
    (host, handle)
}

fn header<'a>(headers: &'a [String], name: &str) -> &'a str {
    let found = headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in {headers:?}"))
}

#[test]
fn what_is_sealed_is_announced_until_it_arrives() {
    let (host, receiver) = receiver(&["500 Broken", "302 Elsewhere", "204 Thanks"]);
    let place = Place::with(plain(), Config { webhook_hosts: vec![host.clone()], ..Config::default() });
    let manager = place.token("manager").unwrap();
    let hook = place
        .post(&manager, "/projects/worlds/webhooks", &json!({"url": format!("http://{host}/hook")}))
        .ok();
    place.pairs(1);
    let rater = place.token("rater").unwrap();
    let task = place.post(&rater, "/projects/worlds/claim", &json!({})).ok();
    let lease = task["task"]["lease"].as_str().unwrap();
    place.post(&rater, &format!("/projects/worlds/leases/{lease}/submit"), &pick("left", "k")).ok();
    place.pass(61);

    let stop = Arc::new(AtomicBool::new(false));
    let sender = {
        let (store, hosts, stop) = (place.store.clone(), vec![host], Arc::clone(&stop));
        thread::spawn(move || webhook::deliver(&store, &hosts, &stop))
    };
    let deliveries = format!("/projects/worlds/webhooks/{}/deliveries", hook["code"].as_str().unwrap());
    let end = Instant::now() + Duration::from_secs(20);
    // The second attempt is due in 5 seconds, the third 30 later: time is ours to pass.
    for attempts in [1, 2] {
        while place.get(&manager, &deliveries).ok()["deliveries"][0]["attempts"] != attempts {
            assert!(Instant::now() < end, "attempt {attempts} did not come");
            thread::sleep(Duration::from_millis(20));
        }
        place.pass(31);
    }
    while place.get(&manager, &deliveries).ok()["deliveries"][0]["delivered_at"].is_null() {
        assert!(Instant::now() < end, "the last attempt did not come");
        thread::sleep(Duration::from_millis(20));
    }
    stop.store(true, Ordering::SeqCst);
    sender.join().unwrap();

    let got = receiver.join().unwrap();
    let numbers: Vec<_> = got.iter().map(|(headers, _)| header(headers, "pavlov-delivery")).collect();
    assert_eq!(numbers, [numbers[0]; 3], "one delivery, three attempts");
    for (headers, body) in &got {
        let time: i64 = header(headers, "pavlov-timestamp").parse().unwrap();
        let signature = header(headers, "pavlov-signature");
        let secret = hook["secret"].as_str().unwrap();
        assert!(webhook::verify(secret, time, body.as_bytes(), signature, time, 300));
        assert!(!webhook::verify("another", time, body.as_bytes(), signature, time, 300));
    }
    let body: Value = serde_json::from_str(&got[2].1).unwrap();
    assert_eq!(body["records"][0]["record"], "judgment");
}
