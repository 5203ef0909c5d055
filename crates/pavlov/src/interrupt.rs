//! Ctrl-C (and SIGTERM): the first asks the work in hand to stop in good order, the second ends the program at once.
//!
//! Files are written under temporary names and renamed when whole, so ending at once loses only what came after the
//! last checkpoint.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Listens for Ctrl-C. Without this call Ctrl-C ends the program at once, which suits what has nothing to save.
pub(crate) fn listen(first: &'static str) -> Result<()> {
    let handler = move || {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(crate::failure::INTERRUPTED));
        }
        crate::screen::line(first);
    };
    ctrlc::set_handler(handler).context("cannot listen for Ctrl-C")
}

/// What is set while a stop is asked for.
pub(crate) fn flag() -> &'static AtomicBool {
    &ASKED
}

/// Asks for a stop as Ctrl-C does.
pub(crate) fn ask() {
    ASKED.store(true, Ordering::SeqCst);
}

/// Takes back what was asked; returns whether it was.
pub(crate) fn take() -> bool {
    ASKED.swap(false, Ordering::SeqCst)
}
