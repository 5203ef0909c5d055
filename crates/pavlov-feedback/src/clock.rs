//! Milliseconds that never go back, and never stand still.
//!
//! A record is sealed when its window is over by this clock, and leases end by it. People and time servers set the system's
//! clock: forward is followed, backward is not, and time then goes on from where it was.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Milliseconds since 1970 UTC.
pub type Millis = i64;

/// A clock that never goes back. Clones share their time.
#[derive(Clone, Debug)]
pub struct Clock {
    last: Arc<Mutex<(Millis, Instant)>>,
    /// For tests: a time set by hand, which may go back.
    set: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { last: Arc::new(Mutex::new((0, Instant::now()))), set: None }
    }

    /// A clock for tests: it follows `time` as the system's clock would be followed, but stands while `time` stands.
    pub fn set_by(time: Arc<AtomicI64>) -> Self {
        Self { set: Some(time), ..Self::system() }
    }

    /// The time, never earlier than any that was told before.
    pub fn now(&self) -> Millis {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, when) = *last;
        let moment = Instant::now();
        let now = if let Some(time) = &self.set {
            time.load(Ordering::SeqCst).max(told)
        } else {
            let wall = (pavlov_schema::clock::unix_seconds() * 1000.0) as Millis;
            wall.max(told + moment.duration_since(when).as_millis() as Millis)
        };
        // Whole milliseconds only, so that many short steps do not round away.
        if now > told {
            *last = (now, moment);
        }
        now
    }

    /// Never tells a time before this one: the latest that a database knows.
    pub fn not_before(&self, time: Millis) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if time > last.0 {
            *last = (time, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_back() {
        let time = Arc::new(AtomicI64::new(1_000));
        let clock = Clock::set_by(Arc::clone(&time));
        assert_eq!(clock.now(), 1_000);
        time.store(400, Ordering::SeqCst);
        assert_eq!(clock.clone().now(), 1_000);
        clock.not_before(2_000);
        assert_eq!(clock.now(), 2_000);
        time.store(2_500, Ordering::SeqCst);
        assert_eq!(clock.now(), 2_500);
    }

    #[test]
    fn goes_on_when_the_systems_clock_was_set_back() {
        let clock = Clock::system();
        assert!(clock.now() > 1_700_000_000_000);
        // As after an hour's step back: the database knows a later time than the system.
        let ahead = clock.now() + 3_600_000;
        clock.not_before(ahead);
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!((ahead + 4..ahead + 60_000).contains(&clock.now()));
    }
}
