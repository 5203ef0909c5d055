//! A simulated rater: one connection, one answer a turn, each sent until it is acknowledged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, sleep_until};

/// How long a rater tries to reach a server that is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who answers, where, and when.
pub(super) struct Rater {
    pub(super) number: usize,
    pub(super) token: String,
    pub(super) address: Arc<SocketAddr>,
    /// When the first answer is due.
    pub(super) first: Instant,
    /// Time from one answer to the next.
    pub(super) turn: Duration,
    /// No answer is due after this.
    pub(super) end: Instant,
}

/// What a rater saw.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Ids of the records that were acknowledged.
    pub(super) acknowledged: Vec<String>,
    /// From the turn to the acknowledgement, of each.
    pub(super) times: Vec<Duration>,
    /// Requests that were sent once more because the connection broke.
    pub(super) again: usize,
    /// Requests that were answered with an error.
    pub(super) refused: usize,
}

impl Rater {
    /// Answers until the end.
    pub(super) async fn work(self) -> Result<Report> {
        let mut report = Report::default();
        let mut line = None;
        let mut due = self.first;
        let mut lease = self.lease(&mut line, &mut report).await?;
        let mut said = 0;
        while let Some(held) = lease.take() {
            sleep_until(due.into()).await;
            if due >= self.end {
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
            let (status, answer) = self.post(&mut line, &path, &body.to_string(), &mut report).await?;
            let took = due.elapsed();
            said += 1;
            due += self.turn;
            if status != 200 {
                report.refused += 1;
                lease = self.lease(&mut line, &mut report).await?;
                continue;
            }
            report.times.push(took);
            report.acknowledged.push(answer["logged"]["id"].as_str().context("no id")?.to_owned());
            lease = answer["next"]["task"]["lease"].as_str().map(str::to_owned);
        }
        Ok(report)
    }

    async fn lease(&self, line: &mut Option<TcpStream>, report: &mut Report) -> Result<Option<String>> {
        let (_, answer) = self.post(line, "/api/v1/projects/bench/claim", "{}", report).await?;
        Ok(answer["task"]["lease"].as_str().map(str::to_owned))
    }

    /// Sends a request until it is answered.
    async fn post(
        &self,
        line: &mut Option<TcpStream>,
        path: &str,
        body: &str,
        report: &mut Report,
    ) -> Result<(u16, Value)> {
        let begun = Instant::now();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        loop {
            match exchange(line, *self.address, request.as_bytes()).await {
                Ok(answer) => return Ok(answer),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => {
                    *line = None;
                    report.again += 1;
                    sleep(Duration::from_millis(10)).await;
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
