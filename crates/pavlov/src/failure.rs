//! How the program ends when something is wrong: one line on stderr, and an exit code that says whose fault it was.

use std::fmt;
use std::io;
use std::process::ExitCode;

use anyhow::Error;

/// The run failed.
const FAILED: u8 = 1;
/// The input or the usage was bad.
const BAD_INPUT: u8 = 2;
/// Stopped by Ctrl-C, as shells number it (128 + SIGINT).
pub(crate) const INTERRUPTED: u8 = 130;

/// Bad input or usage that no library names: the key or flag, what is wrong, and the mend.
#[derive(Debug)]
pub(crate) struct BadInput(pub(crate) String);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// An [`Error`] of [`BadInput`].
pub(crate) fn bad_input(what: impl Into<String>) -> Error {
    Error::new(BadInput(what.into()))
}

/// The run was asked to stop, and did so in good order; the text says how to go on.
#[derive(Debug)]
pub(crate) struct Interrupted(pub(crate) String);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Interrupted {}

/// Whoever read our stdout has gone (`pavlov … | head`): nothing is wrong, and nobody listens.
#[derive(Debug)]
pub(crate) struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout was closed")
    }
}

impl std::error::Error for ReaderGone {}

/// Prints an error as one line and chooses the exit code.
pub(crate) fn report(error: &Error) -> ExitCode {
    if error.is::<ReaderGone>() {
        return ExitCode::SUCCESS;
    }
    if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
        crate::screen::line(&format!("stopped: {interrupted}"));
        return ExitCode::from(INTERRUPTED);
    }
    crate::screen::line(&format!("error: {}", one_line(error)));
    ExitCode::from(if is_bad_input(error) { BAD_INPUT } else { FAILED })
}

/// The chain of causes on one line. A cause that the message before it repeats is left out.
pub(crate) fn one_line(error: &Error) -> String {
    let mut message = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if message.contains(&cause) {
            continue;
        }
        if !message.is_empty() {
            message.push_str(": ");
        }
        message.push_str(&cause);
    }
    message.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

fn is_bad_input(error: &Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<BadInput>()
            || cause.downcast_ref::<pavlov_schema::Error>().is_some_and(of_schema)
            || cause.downcast_ref::<pavlov_lm::Error>().is_some_and(of_lm)
            || cause.downcast_ref::<pavlov_train::Error>().is_some_and(of_train)
            || cause.downcast_ref::<pavlov_insight::Error>().is_some_and(of_insight)
    })
}

fn of_schema(error: &pavlov_schema::Error) -> bool {
    use pavlov_schema::Error::{File, Io, Line, Row};
    match error {
        Line { .. } | Row { .. } | File { .. } => true,
        Io { source, .. } => names_the_wrong_file(source),
    }
}

fn of_engine(error: &pavlov_engine::Error) -> bool {
    use pavlov_engine::Error::{Batch, Config, NotFinite, Observation, Sampling, Shape, UnknownParameter};
    match error {
        Config(_) | Observation(_) | Sampling(_) => true,
        Batch(_) | NotFinite { .. } | Shape { .. } | UnknownParameter(_) => false,
    }
}

fn of_lm(error: &pavlov_lm::Error) -> bool {
    use pavlov_lm::Error::{Engine, File, Io, Model, Row, Schema, Template, Tensor, Tokenizer};
    match error {
        File { .. } | Tensor { .. } | Tokenizer(_) | Template(_) | Row { .. } | Model(_) => true,
        Io { source, .. } => names_the_wrong_file(source),
        Schema(error) => of_schema(error),
        Engine(error) => of_engine(error),
    }
}

fn of_train(error: &pavlov_train::Error) -> bool {
    use pavlov_train::Error::{
        Checkpoint, Engine, Feedback, Lm, NoReward, NotFinite, Preflight, Program, Reference,
        RewardNotFinite, Row, Schema, Setting, Unsaved,
    };
    match error {
        Setting { .. } | Row { .. } | Reference { .. } | Preflight { .. } | Checkpoint { .. } => true,
        NotFinite { .. }
        | Unsaved { .. }
        | RewardNotFinite { .. }
        | NoReward { .. }
        | Program { .. }
        | Feedback { .. } => false,
        Schema(error) => of_schema(error),
        Lm(error) => of_lm(error),
        Engine(error) => of_engine(error),
    }
}

fn of_insight(error: &pavlov_insight::Error) -> bool {
    use pavlov_insight::Error::{Engine, Kept, Model, Question, Schema, Stopped, Train};
    match error {
        Question(_) | Kept { .. } => true,
        Stopped => false,
        Engine(error) => of_engine(error),
        Model(error) => of_lm(error),
        Schema(error) => of_schema(error),
        Train(error) => of_train(error),
    }
}

/// A file that is not there or may not be used was named wrongly; a disk that is full or broken is no one's mistake.
fn names_the_wrong_file(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, IsADirectory, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | PermissionDenied | NotADirectory | IsADirectory | AlreadyExists)
}

/// A panic is a bug of ours: one line that says so and where, and more if a backtrace is asked for.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        if pavlov_schema::panics_are_caught() {
            return;
        }
        let message = info
            .payload()
            .downcast_ref::<&str>()
            .map(|message| (*message).to_owned())
            .or_else(|| info.payload().downcast_ref::<String>().cloned())
            .unwrap_or_default()
            .replace(['\n', '\r'], " ");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        crate::screen::line(&format!(
            "bug: {message} ({place}, version {}); please report it with the command line at {}/issues",
            env!("CARGO_PKG_VERSION"),
            env!("CARGO_PKG_REPOSITORY"),
        ));
        let backtrace = std::backtrace::Backtrace::capture();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            crate::screen::line(&backtrace.to_string());
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_chain_is_one_line_without_repetition() {
        let io = io::Error::new(io::ErrorKind::NotFound, "no such file\nor folder");
        let error = pavlov_schema::Error::Io { file: "a.toml".into(), doing: "open", source: io };
        let error = Err::<(), _>(error).context("configuration").unwrap_err();
        assert_eq!(one_line(&error), "configuration: a.toml: cannot open: no such file or folder");
        assert!(is_bad_input(&error));
    }

    #[test]
    fn a_full_disk_is_not_bad_input() {
        let io = io::Error::from(io::ErrorKind::StorageFull);
        let error = pavlov_schema::Error::Io { file: "run".into(), doing: "save the checkpoint", source: io };
        assert!(!is_bad_input(&Error::new(error)));
    }
}
