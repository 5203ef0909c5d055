//! Tests of what is read from and written to files.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod datasets;
mod rollouts;
mod round_trips;
mod runs;

/// A file in a temporary folder that lives as long as the folder.
fn file(bytes: impl AsRef<[u8]>) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}
