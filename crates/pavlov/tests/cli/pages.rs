//! `pavlov report` and `pavlov watch`: what they show, whom they answer, and that a browser shows it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::lab::{Lab, demonstrations};

/// Text that a page must never take for its own.
const HOSTILE: &str = "</span><script>document.title='taken'</script>";

/// A finished run of `grpo` with reports of other questions beside it, one of them hostile.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.rows("rows.jsonl", &demonstrations(16));
    lab.file(
        "grpo.toml",
        "model = \"model\"\ndata = \"rows.jsonl\"\noutput_dir = \"run\"\nlearning_rate = 1e-3\nmax_steps = 3\nthreads = 1\n\
         per_device_train_batch_size = 8\nnum_generations = 4\nmax_completion_length = 6\nlogging_steps = 1\n\
         rewards = [{ rule = \"exact\", column = \"answer\" }]\n",
    );
    lab.run(&["grpo", "grpo.toml"]).ok();
    fs::create_dir_all(lab.path("run/insight")).unwrap();
    let estimate =
        |value: f64| json!({"value": value, "low": value - 0.1, "high": value + 0.1, "unit": "bits", "n": 9});
    let credit = json!({
        "pooled": {"verdicts": {"concentrated": 1}},
        "answers": [{
            "prompt": HOSTILE, "reward": 1.0, "tokens": ["a", HOSTILE, "c"], "sentences": ["One token did it."],
            "values": {"spans": [{"start": 0, "end": 1}, {"start": 1, "end": 3}], "bits": [estimate(0.0), estimate(2.0)]},
            "agreement": [{"between": ["b", "c"], "rho": {"value": 0.9, "low": 0.7, "high": 1.0, "noise_floor": 0.5}}],
        }],
    });
    lab.file("run/insight/credit.json", &credit.to_string());
    let trace = json!({"examples": [{
        "place": 1, "score": 0.5, "prompt": "word".repeat(200), "answer": "No.", "labels": {"source": "planted"},
        "sentence": "pushes for the behaviour",
    }]});
    lab.file("run/insight/trace.json", &trace.to_string());
    lab
}

/// A browser, if there is one; it says so if there is none.
fn browser() -> Option<&'static str> {
    let browser = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|found| found.status.success()));
    if browser.is_none() {
        eprintln!("NOT TESTED: no chromium and no google-chrome here, so no browser has seen the pages");
    }
    browser
}

/// What is on a page once its scripts have run.
fn seen(browser: &str, lab: &Lab, address: &str) -> String {
    let seen = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000", "--dump-dom"])
        .arg("--window-size=720,1000")
        .arg(format!("--user-data-dir={}", lab.path("browser").display()))
        .arg(address)
        .output()
        .unwrap();
    String::from_utf8_lossy(&seen.stdout).into_owned()
}

#[test]
fn a_printed_page_is_no_wider_than_the_paper() {
    let Some(browser) = browser() else { return };
    let lab = lab();
    lab.run(&["report", "run"]).ok();
    // The rules for paper on a screen as wide as A4 between its margins, and a script that measures.
    let page = fs::read_to_string(lab.path("run/report.html")).unwrap();
    assert!(page.contains("@media print {"));
    let measure = "<script>document.title = [...document.querySelectorAll('main, .wide')].map(e => \
                   e.scrollWidth - e.clientWidth).join(' ') + ' at ' + innerWidth</script></body>";
    let paper = page.replace("@media print {", "@media screen {").replace("</body>", measure);
    lab.file("paper.html", &paper);
    let page = seen(browser, &lab, &format!("file://{}", lab.path("paper.html").display()));
    assert!(page.contains("<title>0 0 at 720</title>"), "{}", page.get(..600).unwrap_or(&page));
}

#[test]
fn a_report_is_one_file_that_says_what_is_not_measured() {
    let lab = lab();
    let ran = lab.run(&["report", "run"]).ok();
    assert!(ran.err.contains("run/report.html"), "{ran:?}");
    let page = fs::read_to_string(lab.path("run/report.html")).unwrap();
    for what in [
        "<svg",
        "pavlov ledger run",
        "pavlov layers run",
        "pavlov scan run",
        "✓ validated on this run",
        "One token did it.",
        "class=\"p5\" title=\"+1.00\"",
    ] {
        assert!(page.contains(what), "{what} is missing");
    }
    for what in ["<script", "http:", "https:", "src=", "@import", "url("] {
        // SVG names its own language by an address that nobody asks.
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(what), "{what} is there");
    }
    assert!(page.contains("&lt;script&gt;"), "hostile text is shown as text");
    let shown = lab.run(&["report", "run", "--json"]).ok().json().remove(0);
    assert!(
        !shown["answers"].as_array().unwrap().is_empty() && shown["ledger"]["command"] == "pavlov ledger run"
    );
    lab.run(&["report", "model"]).fails(2, &["model", "is no run"]);
}

/// A watch under way; it ends with its value.
struct Watch {
    child: Child,
    host: String,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn watch(lab: &Lab, runs: &[&str]) -> Watch {
    let args = [&["watch", "--port", "0"][..], runs].concat();
    let mut child = lab.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let host =
        line.trim().strip_prefix("http://").unwrap_or_else(|| panic!("no address: {line:?}")).to_owned();
    Watch { child, host }
}

impl Watch {
    /// An answer, with its head.
    fn get(&self, path: &str, host: &str) -> String {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn json(&self, path: &str) -> Value {
        let answer = self.get(path, &self.host);
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap())
            .unwrap_or_else(|e| panic!("{e}: {answer}"))
    }
}

#[test]
fn a_watched_run_is_shown_as_it_is_now_and_only_here() {
    let lab = lab();
    lab.run(&["grpo", "grpo.toml", "--set", "output_dir=other", "--set", "seed=7"]).ok();
    let watch = watch(&lab, &["run", "other"]);
    let page = watch.get("/", &watch.host);
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("Runs compared"), "{page}");
    assert!(
        page.contains("content-security-policy: default-src 'none'") && !page.contains("<script>"),
        "{page}"
    );
    assert!(!page.contains("style=\""), "the policy forbids it");
    assert!(watch.get("/?run=1", &watch.host).contains("<h1>other</h1>"));
    assert!(watch.get("/?run=2", &watch.host).starts_with("HTTP/1.1 404"));
    assert!(watch.get("/", "evil.example:80").starts_with("HTTP/1.1 403"), "a renamed page elsewhere");
    assert!(watch.get("/watch.js", &watch.host).contains("text/javascript"));

    assert_eq!(watch.json("/api/runs")[0]["latest"]["step"], 3);
    let run = watch.json("/api/runs/0");
    assert_eq!((run["metrics"].as_array().unwrap().len(), run["answers"].is_array()), (3, true));
    assert!(watch.get("/", &watch.host).contains("data-finished>finished<"));
    std::thread::sleep(std::time::Duration::from_millis(50));
    // A line that is being written is waited for, a whole one is shown.
    let mut metrics = fs::OpenOptions::new().append(true).open(lab.path("run/metrics.jsonl")).unwrap();
    metrics.write_all(b"{\"step\":4,\"reward\":0.5").unwrap();
    assert_eq!(watch.json("/api/runs")[0]["latest"]["step"], 3);
    metrics.write_all(b"}\n").unwrap();
    assert_eq!(watch.json("/api/runs")[0]["latest"]["step"], 4);
    let page = watch.get("/", &watch.host);
    assert!(!page.contains("data-finished") && page.contains(">live<"), "a line after the model: it goes on");
}

#[test]
fn a_browser_shows_the_page_and_refreshes_it() {
    let Some(browser) = browser() else { return };
    let lab = lab();
    // Clocks of file systems tick every few milliseconds; the line has to be later than the model.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut metrics = fs::OpenOptions::new().append(true).open(lab.path("run/metrics.jsonl")).unwrap();
    metrics.write_all(b"{\"step\":4,\"reward\":0.5}\n").unwrap();
    let watch = watch(&lab, &["run"]);
    let page = seen(browser, &lab, &format!("http://{}/", watch.host));
    assert!(page.contains("live, last line "), "the script ran and was answered: {page}");
    assert!(page.contains("<h1>run</h1>") && page.contains("One token did it."), "{page}");
    assert!(!page.contains("<title>taken</title>"), "hostile text did not run");
}
