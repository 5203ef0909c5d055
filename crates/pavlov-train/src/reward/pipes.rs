//! A child process spoken to in lines, with a thread per pipe so that no full pipe can stop the others.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest line a program may print, in bytes; a program that never ends its line must not fill the memory.
const MAX_LINE: u64 = 64 * 1024;
/// Lines that may wait to be read; beyond them the program waits.
const MAX_WAITING: usize = 256;
/// How much of the end of stderr is kept, in bytes.
const STDERR_TAIL: usize = 1024;
/// How long a program may take to end by itself once its stdin is closed.
const GRACE: Duration = Duration::from_secs(1);

/// What the program's stdout gave next.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    /// A line without its end, in UTF-8 or replaced where it is not.
    Text(String),
    /// More than [`MAX_LINE`] bytes without an end; their beginning.
    Endless(String),
    /// The program closed its stdout.
    Closed,
    /// Nothing came before the deadline.
    Late,
}

/// A running program. Dropping it closes its stdin, gives it a second to end, then kills and reaps it.
#[derive(Debug)]
pub(crate) struct Pipes {
    child: Child,
    /// `None` once closed.
    input: Option<Sender<Vec<u8>>>,
    output: Receiver<Line>,
    stderr: Arc<Mutex<Vec<u8>>>,
    stderr_done: Receiver<()>,
}

impl Pipes {
    /// Starts the program, its arguments given as they are: no shell reads them.
    pub(crate) fn start(program: &str, arguments: &[String]) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: killing it takes its children along, and Ctrl-C reaches only us, who then save.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        let missing = || std::io::Error::other("a pipe was not made");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr_pipe = child.stderr.take().ok_or_else(missing)?;

        let (input, to_write) = channel();
        let (to_read, output) = sync_channel(MAX_WAITING);
        let (done, stderr_done) = channel();
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let tail = Arc::clone(&stderr);
        // The threads end when their pipe or their channel closes. They are not joined: a process that the
        // program started and left behind may hold a pipe open for ever.
        std::thread::spawn(move || write_all(stdin, &to_write));
        std::thread::spawn(move || read_lines(stdout, &to_read));
        std::thread::spawn(move || {
            keep_tail(stderr_pipe, &tail);
            // Nobody may be waiting any more.
            let _ = done.send(());
        });
        Ok(Self { child, input: Some(input), output, stderr, stderr_done })
    }

    /// Hands bytes to the program without waiting until it reads them. A program that does not read shows as
    /// [`Line::Closed`] or [`Line::Late`].
    pub(crate) fn send(&self, bytes: Vec<u8>) {
        if let Some(input) = &self.input {
            // Fails only once the program closed its stdin, which its answers will tell better.
            let _ = input.send(bytes);
        }
    }

    /// The next line of stdout, waiting until the deadline at most.
    pub(crate) fn receive(&self, deadline: Instant) -> Line {
        match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => Line::Late,
            Err(RecvTimeoutError::Disconnected) => Line::Closed,
        }
    }

    /// Waits a moment for a program that closed its stdout to end by itself: how it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + GRACE;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
    }

    /// Kills the program and what it started, reaps it, and returns the end of its stderr.
    pub(crate) fn kill(&mut self) -> String {
        self.input = None;
        // A program that was reaped has given its id away: nothing may be sent to it.
        if matches!(self.child.try_wait(), Ok(None)) {
            #[cfg(unix)]
            let _ = rustix::process::kill_process_group(
                rustix::process::Pid::from_child(&self.child),
                rustix::process::Signal::KILL,
            );
            // Fails only if it has ended meanwhile.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // What it wrote last may still be on its way; a process left behind may keep the pipe open.
        let _ = self.stderr_done.recv_timeout(Duration::from_millis(200));
        let tail = self.stderr.lock().map(|tail| tail.clone()).unwrap_or_default();
        String::from_utf8_lossy(&tail).trim().to_owned()
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        self.input = None;
        if self.ended().is_none() {
            self.kill();
        }
    }
}

fn write_all(mut stdin: ChildStdin, bytes: &Receiver<Vec<u8>>) {
    for bytes in bytes {
        if stdin.write_all(&bytes).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

fn read_lines(stdout: impl Read, lines: &SyncSender<Line>) {
    let mut reader = BufReader::new(stdout);
    loop {
        let mut bytes = Vec::new();
        let line = match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => Line::Closed,
            Ok(_) => {
                let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
                let ended = bytes.ends_with(b"\n") || (bytes.len() as u64) < MAX_LINE;
                if ended { Line::Text(text) } else { Line::Endless(text) }
            }
        };
        let last = !matches!(line, Line::Text(_));
        if lines.send(line).is_err() || last {
            return;
        }
    }
}

fn keep_tail(mut stderr: impl Read, tail: &Mutex<Vec<u8>>) {
    let mut bytes = [0; 1024];
    while let Ok(n @ 1..) = stderr.read(&mut bytes) {
        let Ok(mut tail) = tail.lock() else { return };
        tail.extend_from_slice(&bytes[..n]);
        let extra = tail.len().saturating_sub(STDERR_TAIL);
        tail.drain(..extra);
    }
}
