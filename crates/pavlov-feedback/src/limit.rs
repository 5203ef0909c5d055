//! Limits per account: never per address, which anybody may invent behind a proxy and many share.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::Millis;

/// Windows of some length in which something may happen some times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) times: u32,
    pub(crate) window_ms: Millis,
}

/// Wrong passwords of one name.
pub(crate) const PASSWORDS: Limit = Limit { times: 10, window_ms: 15 * 60_000 };
/// Changes by one account: far above what hands can do, below what a loop does.
pub(crate) const CHANGES: Limit = Limit { times: 600, window_ms: 60_000 };

/// Codes of a sign-in provider that are traded in, by everybody together: each is a request of ours to it.
pub(crate) const CODES: Limit = Limit { times: 120, window_ms: 60_000 };

/// Names that are remembered at most; beyond, the oldest windows are forgotten.
const MOST: usize = 10_000;

/// How often what happened to whom.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    seen: Mutex<HashMap<String, (Millis, u32)>>,
}

impl Limits {
    /// Counts one more of `name`; whether it is within the limit.
    pub(crate) fn count(&self, name: &str, limit: Limit, now: Millis) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MOST && !seen.contains_key(name) {
            seen.retain(|_, (start, _)| *start + limit.window_ms > now);
            if seen.len() >= MOST {
                seen.clear();
            }
        }
        let (start, n) = seen.entry(name.to_owned()).or_insert((now, 0));
        if *start + limit.window_ms <= now {
            (*start, *n) = (now, 0);
        }
        *n += 1;
        *n <= limit.times
    }

    /// Forgets what happened to `name`.
    pub(crate) fn forget(&self, name: &str) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_fill_and_pass() {
        let (limits, limit) = (Limits::default(), Limit { times: 2, window_ms: 10 });
        assert!(limits.count("a", limit, 0) && limits.count("a", limit, 1) && !limits.count("a", limit, 2));
        assert!(limits.count("b", limit, 2), "others have their own");
        assert!(limits.count("a", limit, 10), "a new window");
        limits.forget("a");
        assert!(limits.count("a", limit, 11) && limits.count("a", limit, 11));
        (0..30_000).for_each(|i| assert!(limits.count(&i.to_string(), limit, 12)));
        assert!(limits.seen.lock().unwrap().len() <= MOST);
    }
}
