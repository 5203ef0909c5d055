//! What can be wrong with a configuration of worlds or raters.

/// An error of this crate: one line that names the setting, what is wrong, and the mend.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    /// A setting lies outside the values the generator or the rater can use.
    #[error("{key} = {value} is out of range: choose {allowed}")]
    OutOfRange {
        /// The setting's name.
        key: &'static str,
        /// The value it had.
        value: String,
        /// The values it may have.
        allowed: String,
    },
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Fails with [`Error::OutOfRange`] unless `valid`.
pub(crate) fn require(
    valid: bool,
    key: &'static str,
    value: &impl ToString,
    allowed: &(impl ToString + ?Sized),
) -> Result<()> {
    if valid {
        return Ok(());
    }
    Err(Error::OutOfRange { key, value: value.to_string(), allowed: allowed.to_string() })
}
