//! Simulated raters: one connection each, one answer a turn, each sent until it is acknowledged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, sleep_until};

use super::Signals;

/// How long a rater tries to reach a server that is gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries: five hundred raters that knock without a pause would keep the server from starting.
const PAUSE: Duration = Duration::from_millis(50);

/// Who answers.
pub(super) struct Rater {
    number: usize,
    token: String,
    address: SocketAddr,
    line: Option<TcpStream>,
    seen: Seen,
}

/// What a rater saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Ids of the records that were acknowledged.
    pub(super) acknowledged: Vec<String>,
    /// From the turn to the acknowledgement, of each.
    pub(super) times: Vec<Duration>,
    /// Requests that were sent once more because the connection broke.
    pub(super) again: usize,
    /// Requests that were answered with an error.
    pub(super) refused: usize,
}

/// Lets everybody take a task, then answer in turn for `length`, or until the signal. What they saw, and how long it took.
pub(super) async fn answer(
    tokens: Vec<String>,
    address: SocketAddr,
    turn: Duration,
    length: Option<Duration>,
    signals: Arc<Signals>,
) -> Result<(Vec<Seen>, Duration)> {
    let n = tokens.len();
    let taken = tokens.into_iter().enumerate().map(|(number, token)| {
        let mut rater = Rater { number, token, address, line: None, seen: Seen::default() };
        tokio::spawn(async move {
            let lease = rater.lease().await?;
            Ok::<_, anyhow::Error>((rater, lease))
        })
    });
    let mut ready = Vec::with_capacity(n);
    for one in taken.collect::<Vec<_>>() {
        ready.push(one.await.context("a rater stopped")??);
    }
    let start = Instant::now() + Duration::from_millis(100);
    let end = length.map(|length| start + length);
    let working = ready.into_iter().enumerate().map(|(i, (rater, lease))| {
        let first = start + turn.mul_f64(i as f64 / n as f64);
        tokio::spawn(rater.work(lease, first, turn, end, Arc::clone(&signals)))
    });
    let mut seen = Vec::with_capacity(n);
    for one in working.collect::<Vec<_>>() {
        seen.push(one.await.context("a rater stopped")??);
    }
    Ok((seen, start.elapsed()))
}

impl Rater {
    /// Answers once a turn.
    async fn work(
        mut self,
        mut lease: Option<String>,
        first: Instant,
        turn: Duration,
        end: Option<Instant>,
        signals: Arc<Signals>,
    ) -> Result<Seen> {
        let (mut due, mut said) = (first, 0);
        while let Some(held) = lease.take() {
            if end.is_some_and(|end| due >= end) {
                break;
            }
            sleep_until(due.into()).await;
            if signals.over.load(Ordering::SeqCst) {
                break;
            }
            // What this rater says depends on nothing but its number and turn.
            let pick = ["left", "right", "tie"][(self.number + said) % 3];
            let body = json!({
                "reply": {"said": {"pairwise": {"pick": pick}}},
                "key": format!("{}-{said}", self.number),
                "active_ms": 1_500,
            });
            let path = format!("/api/v1/projects/bench/leases/{held}/submit?next=true");
            let (status, answer) = self.post(&path, &body.to_string()).await?;
            let took = due.elapsed();
            said += 1;
            due += turn;
            if status != 200 {
                self.seen.refused += 1;
                lease = self.lease().await?;
                continue;
            }
            self.seen.times.push(took);
            self.seen.acknowledged.push(answer["logged"]["id"].as_str().context("no id")?.to_owned());
            signals.acknowledged.fetch_add(1, Ordering::SeqCst);
            lease = answer["next"]["task"]["lease"].as_str().map(str::to_owned);
        }
        Ok(self.seen)
    }

    async fn lease(&mut self) -> Result<Option<String>> {
        let (_, answer) = self.post("/api/v1/projects/bench/claim", "{}").await?;
        Ok(answer["task"]["lease"].as_str().map(str::to_owned))
    }

    /// Sends a request until it is answered.
    async fn post(&mut self, path: &str, body: &str) -> Result<(u16, Value)> {
        let begun = Instant::now();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        loop {
            match exchange(&mut self.line, self.address, request.as_bytes()).await {
                Ok(answer) => return Ok(answer),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => {
                    self.line = None;
                    self.seen.again += 1;
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// One request and its answer.
async fn exchange(line: &mut Option<TcpStream>, address: SocketAddr, request: &[u8]) -> Result<(u16, Value)> {
    if line.is_none() {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        *line = Some(stream);
    }
    let stream = line.as_mut().context("no connection")?;
    stream.write_all(request).await?;
    let mut answer = Vec::with_capacity(2_048);
    let (mut head, mut length) = (0, 0);
    while head == 0 || answer.len() < head + length {
        if stream.read_buf(&mut answer).await? == 0 {
            anyhow::bail!("the connection was closed");
        }
        if head == 0
            && let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n")
        {
            head = end + 4;
            length = content_length(std::str::from_utf8(&answer[..end])?)?;
        }
    }
    let status = std::str::from_utf8(answer.get(9..12).context("a short answer")?)?.parse()?;
    Ok((status, serde_json::from_slice(&answer[head..])?))
}

fn content_length(head: &str) -> Result<usize> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Ok(length.context("an answer without a length")?.1.trim().parse()?)
}
