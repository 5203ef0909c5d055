//! `pavlov feedback` as people run it: served, filled, killed, exported.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::lab::{Lab, Ran};

/// A running server.
struct Server {
    child: Child,
    host: String,
    owner_link: Option<String>,
}

impl Server {
    fn start(db: &Path) -> Self {
        Self::start_with(db, &[])
    }

    fn start_with(db: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pavlov"))
            .args(["feedback", "serve", "--listen", "127.0.0.1:0", "--json", "--db"])
            .arg(db)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let host = told["address"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
        Self { child, host, owner_link: told["owner_link"].as_str().map(str::to_owned) }
    }

    /// Sends a request and does not wait for its answer.
    fn begin(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let host = &self.host;
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}");
        let length = body.len();
        let request =
            format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut answer = String::new();
        self.begin(method, path, headers, body).read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }

    fn post(&self, token: &str, path: &str, body: &Value) -> Value {
        let headers = format!("authorization: Bearer {token}\r\n");
        let (status, text) = self.send("POST", &format!("/api/v1{path}"), &headers, &body.to_string());
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The owner, with a password, by the link that was printed; a token.
    fn owner(&self) -> String {
        let link = self.owner_link.as_ref().unwrap();
        let body = json!({"invitation": link.rsplit('/').next().unwrap(), "name": "Olga", "password": "correct horse"});
        self.post("", "/join", &body)["token"].as_str().unwrap().to_owned()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn feedback(lab: &Lab, db: &Path, args: &[&str]) -> Ran {
    let db = db.to_str().unwrap();
    let args: Vec<&str> = ["feedback"].iter().chain(args).copied().chain(["--db", db]).collect();
    lab.run(&args)
}

#[test]
fn killed_in_the_middle_of_an_answer_it_keeps_exactly_one() {
    let lab = Lab::new();
    let db = lab.path("feedback.db");
    let mut server = Server::start(&db);
    let token = server.owner();
    let settings = json!({"undo_window_s": 0, "shared_share": 0.0, "gold_share": 0.0, "repeat_share": 0.0});
    server.post(&token, "/projects", &json!({"name": "demo", "settings": settings}));
    let rows: Vec<Value> = (0..8)
        .map(|i| json!({"prompt": format!("q{i}"), "chosen": format!("a{i}"), "rejected": format!("b{i}")}))
        .collect();
    lab.rows("pairs.jsonl", &rows);
    let data = lab.path("pairs.jsonl");
    let import = ["import", "--project", "demo", "--json", "--data", data.to_str().unwrap()];
    let ran = feedback(&lab, &db, &import);
    assert!(ran.out.contains("\"added\":8"), "{ran:?}");
    let again = feedback(&lab, &db, &import);
    assert!(again.out.contains("\"added\":0,\"existed\":8"), "{again:?}");

    for round in 0..6_u64 {
        let task = server.post(&token, "/projects/demo/claim", &json!({}));
        let lease = task["task"]["lease"].as_str().unwrap();
        let path = format!("/projects/demo/leases/{lease}/submit");
        let body =
            json!({"reply": {"said": {"pairwise": {"pick": "left"}}}, "key": format!("round {round}")});
        let headers = format!("authorization: Bearer {token}\r\n");
        let stream = server.begin("POST", &format!("/api/v1{path}"), &headers, &body.to_string());
        // From before the request is read to after it is answered.
        std::thread::sleep(Duration::from_micros(500 * round * round));
        server.kill();
        drop(stream);
        server = Server::start(&db);
        assert!(server.owner_link.is_none(), "it has its owner");
        server.post(&token, &path, &body);
        let third = server.post(&token, &path, &body);
        assert_eq!(third["logged"]["repeated"], true);
    }
    let copy = lab.path("copy.db");
    let ran = feedback(&lab, &db, &["backup", "--out", copy.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let exported = feedback(&lab, &copy, &["export", "--project", "demo"]);
    let tasks: Vec<Value> = exported
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["task"].clone())
        .collect();
    let mut distinct = tasks.clone();
    distinct.sort_by_key(Value::to_string);
    distinct.dedup();
    assert_eq!((tasks.len(), distinct.len()), (6, 6), "{exported:?}");
    let stats = feedback(&lab, &db, &["stats", "--project", "demo", "--json"]);
    let stats: Value = serde_json::from_str(&stats.out).unwrap();
    assert_eq!((&stats["progress"]["answered"], &stats["progress"]["open"]), (&json!(6), &json!(2)));

    // Other sites' pages, other names of this machine, and changes by reading.
    let bearer = format!("authorization: Bearer {token}\r\n");
    let status =
        |method, path: &str, headers: &str| server.send(method, path, &format!("{bearer}{headers}"), "{}").0;
    assert_eq!(status("POST", "/api/v1/projects/demo/claim", "sec-fetch-site: cross-site\r\n"), 403);
    assert_eq!(status("POST", "/api/v1/projects/demo/claim", "origin: https://evil.example\r\n"), 403);
    assert_eq!(status("GET", "/api/v1/projects/demo/claim", ""), 405);
    assert_eq!(status("GET", "/api/v1/../../etc/passwd", ""), 404);
    assert_eq!(status("POST", "/api/v1/projects/demo/claim", ""), 200);
    let pid = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(server.child.wait().unwrap().success(), "Ctrl-C ends it in good order");
}

#[test]
fn answers_of_two_models_become_comparisons() {
    let lab = Lab::new();
    let db = lab.path("feedback.db");
    lab.copy_of_model("other");
    let server = Server::start(&db);
    server.owner();
    lab.rows(
        "prompts.jsonl",
        &[json!({"prompt": "Ana has 3 cards."}), json!({"prompt": "Ben has 2 cards."})],
    );
    let [a, b, data] =
        ["model", "other", "prompts.jsonl"].map(|name| lab.path(name).to_str().unwrap().to_owned());
    let import = [
        "import",
        "--project",
        "duel",
        "--create",
        "--json",
        "--data",
        &data,
        "--model",
        &a,
        "--model",
        &b,
        "--max-tokens",
        "8",
    ];
    let ran = feedback(&lab, &db, &import);
    let counts: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!(counts["added"], 2, "{ran:?}");
    // All answers to a prompt in one ranking, as many as can be put in order.
    let ranked = |num| feedback(&lab, &db, &[&import[..], &["--kind", "ranking", "--num", num]].concat());
    let counts: Value = serde_json::from_str(&ranked("3").out).unwrap();
    assert_eq!(counts["added"], 2, "{counts}");
    let refused = ranked("5");
    assert!(refused.code == Some(2) && refused.err.contains("10 answers are too many"), "{refused:?}");
    server.kill();
}

#[test]
fn what_is_wrong_is_one_line_with_the_mend() {
    let lab = Lab::new();
    let db = lab.path("feedback.db");
    let wrong = |args: &[&str], wanted: &str| {
        let ran = feedback(&lab, &db, args);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains(wanted) && ran.err.trim().lines().count() == 1, "{ran:?}");
    };
    wrong(&["stats", "--project", "x"], "feedback serve");
    wrong(&["serve", "--listen", "0.0.0.0:0"], "no owner can sign in");
    let secret = lab.path("secret.txt");
    let secret = secret.to_str().unwrap();
    let provider = |listen, issuer| {
        let to = ["serve", "--listen", listen, "--oidc-issuer", issuer, "--oidc-client-id", "pavlov"];
        [&to[..], &["--oidc-client-secret-file", secret]].concat()
    };
    let (here, company) = ("127.0.0.1:0", "https://id.example.org");
    wrong(&provider(here, company), "secret.txt: ");
    std::fs::write(secret, "\n").unwrap();
    wrong(&provider(here, company), "put the client's secret in it");
    std::fs::write(secret, "s3cret\n").unwrap();
    wrong(&provider(here, "http://id.example.org"), "--oidc-issuer: http://id.example.org is not https");
    wrong(&provider("0.0.0.0:0", company), "--public-url");
    lab.rows("p.jsonl", &[json!({"prompt": "q"})]);
    let data = lab.path("p.jsonl");
    let data = data.to_str().unwrap();
    wrong(&["import", "--project", "x", "--data", data], "--create");
    wrong(&["import", "--project", "x", "--create", "--data", data], "a pairwise task shows 2");
    wrong(
        &["import", "--project", "x", "--create", "--kind", "demonstration", "--data", data],
        "nobody owns",
    );
    wrong(&["invite", "--project", "x"], "no such project");
}

#[test]
fn a_provider_that_is_down_does_not_keep_the_server_from_starting() {
    let lab = Lab::new();
    let secret = lab.path("secret.txt");
    std::fs::write(&secret, "s3cret").unwrap();
    // A port on which nobody listens: it was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let issuer = format!("http://127.0.0.1:{port}");
    let more = ["--oidc-issuer", &issuer, "--oidc-client-id", "pavlov", "--oidc-name", "Company"];
    let more = [&more[..], &["--oidc-client-secret-file", secret.to_str().unwrap()]].concat();
    let server = Server::start_with(&lab.path("feedback.db"), &more);
    let (status, page) = server.send("GET", "/login", "", "");
    assert!(status == 200 && page.contains("Continue with Company"), "{status}: {page}");
    server.kill();
}
