//! What fits into memory: long work is refused before it begins, and not ended by the system when it is half done.

use anyhow::Result;

use crate::failure::bad_input;

/// Bytes of memory that can be had without swapping, where the system says so.
pub(crate) fn free() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Refuses what needs more bytes than are free; `what` needs them, and `mend` lowers the need.
pub(crate) fn check(what: &str, needed: u64, mend: &str) -> Result<()> {
    match free().filter(|free| *free < needed) {
        None => Ok(()),
        Some(free) => {
            let [needed, free] = [needed, free].map(|bytes| bytes as f64 / 1e9);
            Err(bad_input(format!("{what} needs about {needed:.1} GB and {free:.1} GB are free; {mend}")))
        }
    }
}
