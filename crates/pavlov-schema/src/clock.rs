//! The one place where the clock is read.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat};

/// Seconds since 1970 UTC. Nothing that is learned depends on it: it only dates files.
pub fn unix_seconds() -> f64 {
    // A clock set before 1970 is dated 1970.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// RFC 3339 in UTC, to the second: `2026-11-23T19:11:39Z`. Seconds outside years 0 to 9999 are dated 1970.
pub fn rfc3339(unix_seconds: f64) -> String {
    let moment = DateTime::from_timestamp(unix_seconds as i64, 0).unwrap_or_default();
    let year = chrono::Datelike::year(&moment);
    let moment = if (0..=9999).contains(&year) { moment } else { DateTime::default() };
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Seconds since 1970 UTC of a moment as RFC 3339 writes it; none of anything else.
pub fn from_rfc3339(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|moment| moment.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_rfc_3339() {
        assert_eq!(rfc3339(1_795_461_099.9), "2026-11-23T19:11:39Z");
        assert_eq!(rfc3339(f64::NAN), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(f64::INFINITY), "1970-01-01T00:00:00Z");
        assert!(from_rfc3339(&rfc3339(unix_seconds())).is_some() && unix_seconds() > 1.7e9);
        assert_eq!(from_rfc3339("2026-11-23T21:11:39.25+02:00"), Some(1_795_461_099));
        assert_eq!(from_rfc3339("yesterday"), None);
    }
}
