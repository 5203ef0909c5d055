//! Exports, which are read from the log while they are sent.

use std::io::{Read, Write};
use std::net::TcpStream;

use pavlov_feedback::reply::Pick;
use pavlov_feedback::settings::Settings;
use pavlov_feedback::store::{Served as Next, Submission};
use pavlov_feedback::web::Patience;
use serde_json::Value;

use crate::place::{Place, picks, plain};

/// More than two pages of the log.
const ANSWERS: usize = 2_345;

#[test]
fn a_log_of_several_pages_is_sent_whole_and_ends_with_what_was_left_out() {
    let place = Place::new(Settings { undo_window_s: 0, ..plain() });
    place.tasks(ANSWERS);
    let (project, rater) = (place.project, place.rater("ana"));
    let answered = place.store.write_now(move |w| {
        for n in 0..ANSWERS {
            let Next::Task(lease) = w.claim(project, rater)? else { return Ok(n) };
            let pick = if n % 5 == 0 { Pick::Tie } else { Pick::Left };
            let (lease, key) = (lease.code, format!("k{n}"));
            w.submit(rater, Submission { lease, key, reply: picks(pick), active_ms: 9 })?;
        }
        Ok(ANSWERS)
    });
    assert_eq!(answered.unwrap(), ANSWERS);
    let server = place.serve(Patience::default());
    let token = place.token(place.owner);
    let log = server.get(&token, "/api/v1/projects/worlds/export/log").text;
    let seqs: Vec<u64> = log.lines().map(|line| seq(&serde_json::from_str(line).unwrap())).collect();
    let mut wanted = Vec::new();
    for after in [0, 1_000, 2_000] {
        let page = server.get(&token, &format!("/api/v1/projects/worlds/records?after={after}")).json();
        wanted.extend(page["records"].as_array().unwrap().iter().map(seq));
    }
    assert_eq!((seqs.len(), seqs), (ANSWERS, wanted));

    let mut stream = TcpStream::connect(server.address).unwrap();
    let request = format!(
        "GET /api/v1/projects/worlds/export/dpo HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\nte: trailers\r\n\
         connection: close\r\n\r\n",
        server.address
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let ties = ANSWERS.div_ceil(5);
    assert!(answer.ends_with(&format!("0\r\npavlov-left-out: {{\"ties\":{ties}}}\r\n\r\n")), "{answer:.300}");
    assert_eq!(answer.matches("\"chosen\"").count(), ANSWERS - ties);
}

fn seq(record: &Value) -> u64 {
    record["seq"].as_u64().unwrap()
}
