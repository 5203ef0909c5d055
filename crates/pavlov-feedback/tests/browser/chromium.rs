//! A real browser, driven over Chromium's DevTools protocol: as much of it as these tests need.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket, client};

/// Longer than any step takes, even on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running Chromium.
pub(crate) struct Browser {
    process: Child,
    address: String,
    _profile: TempDir,
    main: Connection,
}

/// A page with cookies of its own, as a person's on a computer of theirs.
pub(crate) struct Page {
    connection: Connection,
    context: String,
    target: String,
}

struct Connection {
    socket: WebSocket<TcpStream>,
    last: u64,
    events: VecDeque<Value>,
}

/// Where Chromium is, if it is.
pub(crate) fn installed() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    })
}

impl Browser {
    pub(crate) fn start(program: &str) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let mut process = Command::new(program)
            // Root has no sandbox to offer; what is shown is our own server's.
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args(["--disable-extensions", "--mute-audio", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().split_once("listening on ws://").map(|(_, rest)| rest.to_owned()))
            .expect("Chromium says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        let path = format!("ws://{address}");
        let address = address.split('/').next().unwrap().to_owned();
        Browser { process, main: Connection::open(&address, &path), address, _profile: profile }
    }

    /// A page of somebody new.
    pub(crate) fn person(&mut self) -> Page {
        let context = self.main.call("Target.createBrowserContext", json!({}))["browserContextId"]
            .as_str()
            .unwrap()
            .to_owned();
        self.tab(context)
    }

    /// Another tab of the same person.
    pub(crate) fn tab_of(&mut self, page: &Page) -> Page {
        self.tab(page.context.clone())
    }

    fn tab(&mut self, context: String) -> Page {
        let target = self
            .main
            .call("Target.createTarget", json!({ "url": "about:blank", "browserContextId": context }));
        let target = target["targetId"].as_str().unwrap().to_owned();
        let connection =
            Connection::open(&self.address, &format!("ws://{}/devtools/page/{target}", self.address));
        let mut page = Page { connection, context, target };
        for domain in ["Page", "Runtime", "Network", "Log"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page
    }

    /// Closes a tab as a crash does: no event of leaving reaches the page.
    pub(crate) fn crash(&mut self, page: Page) -> String {
        drop(page.connection);
        self.main.call("Target.closeTarget", json!({ "targetId": page.target }));
        page.context
    }

    pub(crate) fn tab_in(&mut self, context: String) -> Page {
        self.tab(context)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Connection {
    fn open(address: &str, url: &str) -> Connection {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = client(url, stream).unwrap();
        Connection { socket, last: 0, events: VecDeque::new() }
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.ask(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// What a command gave, or the error that the browser answered with.
    #[expect(clippy::needless_pass_by_value, reason = "parameters are literals, written where they are sent")]
    fn ask(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.last += 1;
        let id = self.last;
        let message = json!({ "id": id, "method": method, "params": params }).to_string();
        self.socket.send(Message::text(message)).unwrap();
        loop {
            let reply = self.read();
            if reply["id"] == id {
                return if reply["error"].is_null() {
                    Ok(reply["result"].clone())
                } else {
                    Err(reply["error"].clone())
                };
            }
            self.events.push_back(reply);
        }
    }

    fn read(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.read().expect("Chromium answers") {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }
}

impl Page {
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.connection.call(method, params)
    }

    /// The value of a JavaScript expression (awaited).
    #[track_caller]
    pub(crate) fn eval(&mut self, script: &str) -> Value {
        let params = json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{script}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Waits until a JavaScript expression is true. A page that is just being left answers with an error
    /// (`Inspected target navigated or closed`): that is not yet true either.
    #[track_caller]
    pub(crate) fn until(&mut self, script: &str) {
        let start = Instant::now();
        let guarded = format!("(() => {{ try {{ return !!({script}) }} catch {{ return false }} }})()");
        loop {
            let params = json!({ "expression": guarded, "returnByValue": true });
            let answer = self.connection.ask("Runtime.evaluate", params);
            if answer.is_ok_and(|answer| answer["result"]["value"] == true) {
                return;
            }
            if start.elapsed() > PATIENCE {
                let text = self.eval("location.href + '\\n' + document.body.innerText");
                panic!("never came: {script}\n{}", text.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// Opens an address and waits for it to be there, scripts and all.
    #[track_caller]
    pub(crate) fn open(&mut self, url: &str) {
        self.leaving(|page| {
            page.call("Page.navigate", json!({ "url": url }));
        });
    }

    /// Does what leads to another page, and waits for that page.
    #[track_caller]
    pub(crate) fn leaving(&mut self, act: impl FnOnce(&mut Page)) {
        self.eval("window.__old = true");
        act(self);
        self.until("!window.__old && document.readyState === 'complete'");
    }

    /// Presses a key as a keyboard does.
    pub(crate) fn key(&mut self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            "Tab" => (9, ""),
            "Backspace" => (8, ""),
            " " => (32, " "),
            "ArrowLeft" => (37, ""),
            "ArrowUp" => (38, ""),
            "ArrowRight" => (39, ""),
            "ArrowDown" => (40, ""),
            one => (i64::from(one.to_uppercase().as_bytes()[0]), one),
        };
        let kind = if text.is_empty() { "rawKeyDown" } else { "keyDown" };
        let down = json!({ "type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", down);
        self.call(
            "Input.dispatchKeyEvent",
            json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code }),
        );
    }

    /// Writes text where the focus is.
    pub(crate) fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Fills a field of the form.
    #[track_caller]
    pub(crate) fn fill(&mut self, selector: &str, text: &str) {
        let found = format!(
            "(() => {{ const e = document.querySelector({}); e.focus(); e.select?.(); return true }})()",
            json!(selector)
        );
        assert_eq!(self.eval(&found), true, "{selector}");
        self.write(text);
    }

    /// Clicks an element, as the script's own click does.
    #[track_caller]
    pub(crate) fn click(&mut self, selector: &str) {
        self.eval(&format!("document.querySelector({}).click()", json!(selector)));
    }

    #[track_caller]
    pub(crate) fn text(&mut self) -> String {
        self.eval("document.body.innerText").as_str().unwrap().to_owned()
    }

    /// The size and the colours of the screen.
    pub(crate) fn screen(&mut self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", feature);
    }

    /// A picture of the whole page as `png` or `webp`, at most `tall` high.
    pub(crate) fn picture(&mut self, tall: u32, format: &str) -> Vec<u8> {
        // A tab behind another is not drawn.
        self.call("Page.bringToFront", json!({}));
        let height =
            self.eval("document.documentElement.scrollHeight").as_f64().unwrap().min(f64::from(tall));
        let width = self.eval("innerWidth").as_f64().unwrap();
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let params = json!({ "format": format, "quality": 60, "clip": clip, "captureBeyondViewport": true });
        base64(self.call("Page.captureScreenshot", params)["data"].as_str().unwrap())
    }

    /// Everything that happened since the last look: dialogs, requests, messages of the console.
    pub(crate) fn events(&mut self) -> Vec<Value> {
        self.eval("1");
        self.connection.events.drain(..).collect()
    }
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |b: u8| match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.bytes().filter(|b| *b != b'=') {
        bits = bits << 6 | u32::from(digit(byte));
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}
