//! Clients that dawdle: none of them keeps the server from others, or for longer than it has patience.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pavlov_feedback::web::Patience;
use serde_json::json;

use crate::place::{Place, plain};
use crate::setup::Served;

const SHORT: Duration = Duration::from_millis(400);

/// A server that is soon tired of waiting.
fn impatient(place: &Place) -> Served {
    place.serve(Patience {
        connections: 40,
        header: SHORT,
        body: SHORT,
        reading: SHORT,
        last: Duration::from_secs(3),
    })
}

fn connect(server: &Served) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// How long it takes until the server closes a connection.
fn until_closed(mut stream: TcpStream, begun: Instant) -> Duration {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return begun.elapsed(),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return begun.elapsed(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn whoever_does_not_say_what_they_want_is_let_go() {
    let place = Place::new(plain());
    let server = impatient(&place);
    let silent = connect(&server);
    let mut dripping = connect(&server);
    let begun = Instant::now();
    let drip = std::thread::spawn(move || {
        let reader = dripping.try_clone().unwrap();
        // A header without end, a byte at a time: each byte is a sign of life and none may count.
        dripping.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ").unwrap();
        while begun.elapsed() < Duration::from_secs(10) && dripping.write_all(b"y").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        until_closed(reader, begun)
    });
    for took in [until_closed(silent, begun), drip.join().unwrap()] {
        assert!(took >= SHORT / 2 && took < SHORT * 10, "{took:?}");
    }
}

#[test]
fn an_answer_that_nobody_reads_is_given_up() {
    let place = Place::new(plain());
    let token = place.token(place.owner);
    let server = impatient(&place);
    let mut stream = connect(&server);
    // Many large answers, of which none is read: the buffers between fill, and writing comes to a halt.
    let request = format!(
        "GET /api/v1/openapi.json HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < SHORT * 20 {
        match stream.write(request.as_bytes()) {
            Ok(_) => sent += 1,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let took = begun.elapsed();
    assert!(sent > 10, "the connection ended after {sent} requests");
    assert!(took < SHORT * 20, "still open after {took:?} and {sent} requests");
    assert_eq!(server.get(&token, "/api/v1/projects/worlds/progress").status, 200);
}

#[test]
fn dawdlers_leave_places_for_others() {
    let place = Place::new(plain());
    let token = place.token(place.owner);
    let server = impatient(&place);
    // More than there are places: idle ones, half a header, half a body.
    let many: Vec<TcpStream> = (0..120)
        .map(|i| {
            let mut stream = connect(&server);
            let head =
                "POST /api/v1/projects/worlds/claim HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n";
            let said = ["", head, &format!("{head}\r\n{{")][i % 3].to_owned();
            stream.write_all(said.as_bytes()).unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    let answer = server.get(&token, "/api/v1/projects/worlds/progress");
    assert_eq!(answer.status, 200);
    // 40 of 120 hold half a body and as many places; the others had to be waited for.
    assert!(begun.elapsed() < SHORT * 15, "{:?}", begun.elapsed());
    drop(many);
}

#[test]
fn a_body_that_is_too_large_is_refused_and_nothing_else_is() {
    let place = Place::new(plain());
    place.tasks(1);
    let rater = place.rater("ana");
    let token = place.token(rater);
    let server = impatient(&place);
    let lease = server.post(&token, "/api/v1/projects/worlds/claim", &json!({})).json();
    let lease = lease["task"]["lease"].as_str().unwrap();
    let path = format!("/api/v1/projects/worlds/leases/{lease}/submit");
    // Said to be large, and never sent.
    let mut stream = connect(&server);
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: 5000000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 400];
    let n = stream.read(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer[..n]);
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    let said = json!({ "reply": { "said": { "pairwise": { "pick": "left" } } }, "key": "k" });
    assert_eq!(server.post(&token, &path, &said).status, 200);
}

#[test]
fn a_saturated_server_stops_when_it_is_asked_to() {
    let place = Place::new(plain());
    let mut server = place.serve(Patience {
        connections: 8,
        header: Duration::from_secs(60),
        body: Duration::from_secs(60),
        reading: Duration::from_secs(60),
        last: Duration::from_secs(2),
    });
    let idle: Vec<TcpStream> = (0..20).map(|_| connect(&server)).collect();
    // Some that have been answered once and may come again.
    let mut known = connect(&server);
    std::thread::sleep(Duration::from_millis(100));
    known.write_all(b"GET /login HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let took = server.stop();
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop((idle, known));
}
