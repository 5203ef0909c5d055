//! Sign-ins under way: kept here while a browser is at the provider, each for one return of that one browser.
//!
//! They are in memory: a server that starts anew has none, and whoever comes back then begins once more.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::clock::Millis;
use crate::oidc::Attempt;
use crate::secret;
use crate::store::AccountId;

/// How long somebody may take at the provider.
const LASTS_MS: Millis = 10 * 60_000;
/// Sign-ins that are kept at most; beyond, the oldest are forgotten.
const MOST: usize = 10_000;

/// What somebody signs in for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To go on to a page of ours.
    Enter {
        /// Its path.
        next: String,
    },
    /// To use an invitation.
    Join {
        /// The secret of its link.
        invitation: String,
        /// The name of the account, where one is made.
        name: String,
    },
    /// To sign in to this account like that from now on.
    Connect {
        /// Whose session it is.
        account: AccountId,
    },
}

#[derive(Debug)]
struct SignIn {
    browser: [u8; 32],
    ends_at: Millis,
    purpose: Purpose,
    attempt: Attempt,
}

/// All that are under way, the oldest first.
#[derive(Debug, Default)]
pub(super) struct SignIns {
    waiting: Mutex<VecDeque<SignIn>>,
}

impl SignIns {
    /// Keeps one for a browser.
    pub(super) fn keep(&self, browser: [u8; 32], purpose: Purpose, attempt: Attempt, now: Millis) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.front().is_some_and(|oldest| oldest.ends_at <= now) || waiting.len() >= MOST {
            waiting.pop_front();
        }
        waiting.push_back(SignIn { browser, ends_at: now + LASTS_MS, purpose, attempt });
    }

    /// Takes the one of a state away, if it is this browser's: nobody can use up another's.
    pub(super) fn take(&self, browser: [u8; 32], state: &str, now: Millis) -> Option<(Purpose, Attempt)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting.iter().position(|one| {
            let ours = secret::equal(one.attempt.state.as_bytes(), state.as_bytes());
            ours && secret::equal(&one.browser, &browser) && now < one.ends_at
        });
        found.and_then(|found| waiting.remove(found)).map(|one| (one.purpose, one.attempt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_return_of_one_browser_in_time() {
        let sign_ins = SignIns::default();
        let purpose = |next: usize| Purpose::Enter { next: next.to_string() };
        sign_ins.keep([1; 32], purpose(0), Attempt::of_state("a"), 0);
        assert!(sign_ins.take([2; 32], "a", 1).is_none(), "another browser");
        assert!(sign_ins.take([1; 32], "b", 1).is_none(), "another state");
        assert!(sign_ins.take([1; 32], "a", LASTS_MS).is_none(), "too late");
        assert_eq!(sign_ins.take([1; 32], "a", LASTS_MS - 1).unwrap().0, purpose(0));
        assert!(sign_ins.take([1; 32], "a", 1).is_none(), "once");
        for i in 0..=MOST {
            sign_ins.keep([1; 32], purpose(i), Attempt::of_state(&i.to_string()), 2);
        }
        assert!(sign_ins.take([1; 32], "0", 3).is_none(), "the oldest is forgotten");
        assert_eq!(sign_ins.take([1; 32], "1", 3).unwrap().0, purpose(1));
        sign_ins.keep([1; 32], purpose(0), Attempt::of_state("a"), 2 + LASTS_MS);
        assert_eq!(sign_ins.waiting.lock().unwrap().len(), 1, "what is over is forgotten");
    }
}
