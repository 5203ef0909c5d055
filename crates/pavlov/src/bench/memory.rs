//! The most memory this process has had.

/// Peak resident memory in bytes, if the system tells.
#[cfg(unix)]
pub(super) fn peak_rss() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    // The unit of `ru_maxrss` is the system's.
    const UNIT: u64 = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    u64::try_from(usage.max_rss()).ok().filter(|rss| *rss > 0).map(|rss| rss * UNIT)
}

/// Peak resident memory in bytes, if the system tells.
#[cfg(not(unix))]
pub(super) fn peak_rss() -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_counts_and_stays_counted() {
        let before = peak_rss().unwrap();
        let block = vec![1_u8; 64 << 20];
        let with = peak_rss().unwrap();
        assert!(before > 1 << 20 && with >= before.max(64 << 20), "{before} {with} {}", block.len());
        drop(block);
        assert!(peak_rss().unwrap() >= with);
    }
}
