//! Machine output: whole lines on stdout, and nothing else there.

use std::io::{self, Write};

use anyhow::{Context, Error, Result};
use serde::Serialize;

use crate::failure::ReaderGone;

/// Writes one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value).context("stdout")?;
    line.push(b'\n');
    bytes(&line)
}

/// Writes text as it is, at once.
pub(crate) fn text(text: &str) -> Result<()> {
    bytes(text.as_bytes())
}

fn bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Error::new(ReaderGone),
        _ => Error::new(error).context("cannot write to stdout"),
    })
}
