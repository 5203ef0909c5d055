//! The finished parts of a measurement that takes long, on disk until it is whole: interrupted, it goes on where it was.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pavlov_schema::files::digest_of;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{Error, Result};

/// Parts in the order in which they are measured, a line of JSON each in `RUN/insight/NAME.parts.jsonl`; the first line names
/// what they depend on.
#[derive(Debug)]
pub struct Parts {
    path: PathBuf,
    /// Lines that were there, not yet taken.
    kept: VecDeque<String>,
    /// Where the next part goes; none, where nothing is kept.
    file: Option<File>,
    /// Bytes of the head and of the parts that were taken.
    whole: u64,
}

/// What the parts of a measurement depend on: the same key, the same parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The key of models (by their weights' digests and number format), data and options, which must hold all that numbers
    /// depend on; and nothing else, such as a number of threads, or what was measured is not found again.
    pub fn of(depends_on: &impl Debug) -> Self {
        Self(digest_of(format!("{depends_on:?}").as_bytes()))
    }
}

impl Parts {
    /// Parts that are kept nowhere, of what is asked about no run.
    pub fn nowhere() -> Self {
        Self { path: PathBuf::new(), kept: VecDeque::new(), file: None, whole: 0 }
    }

    /// The parts that an interrupted measurement of the same things left, or a beginning. Parts of anything else are removed.
    pub fn open(run: &Path, name: &str, key: &Key) -> Result<Self> {
        let path = run.join("insight").join(format!("{name}.parts.jsonl"));
        let head = format!("{}\n", json!({ "depends_on": key.0 }));
        let wrong = |e: io::Error| wrong(&path, &e);
        fs::create_dir_all(path.parent().unwrap_or(run)).map_err(wrong)?;
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(wrong(e)),
        };
        let mut file = File::options().create(true).append(true).open(&path).map_err(wrong)?;
        let lines = text.strip_prefix(&head);
        if lines.is_none() {
            file.set_len(0).and_then(|()| file.write_all(head.as_bytes())).map_err(wrong)?;
        }
        // A last line without its end was cut short.
        let lines = lines.unwrap_or_default().split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let kept = lines.map(str::to_owned).collect();
        Ok(Self { path, kept, file: Some(file), whole: head.len() as u64 })
    }

    /// Parts that are there already.
    pub fn left(&self) -> usize {
        self.kept.len()
    }

    /// The next part: the one that was kept, or else what `make` measures, which is then kept.
    ///
    /// # Errors
    /// What `make` says; or that the part cannot be written.
    pub fn next<T>(&mut self, make: impl FnOnce() -> Result<T>) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
    {
        if let Some(line) = self.kept.pop_front() {
            if let Ok(part) = serde_json::from_str(&line) {
                self.whole += line.len() as u64;
                return Ok(part);
            }
            // Not a part as this version writes them: it and what follows are measured anew.
            self.kept.clear();
        }
        let part = make()?;
        if let Some(file) = &mut self.file {
            let wrong = |e: io::Error| wrong(&self.path, &e);
            let mut line = serde_json::to_vec(&part).map_err(|e| wrong(e.into()))?;
            line.push(b'\n');
            let written = file.set_len(self.whole).and_then(|()| file.write_all(&line));
            written.and_then(|()| file.sync_data()).map_err(wrong)?;
            self.whole += line.len() as u64;
        }
        Ok(part)
    }

    /// Removes what was kept, once the whole is.
    pub fn finish(self) -> Result<()> {
        match self.file {
            Some(_) => fs::remove_file(&self.path).map_err(|e| wrong(&self.path, &e)),
            None => Ok(()),
        }
    }
}

fn wrong(file: &Path, error: &io::Error) -> Error {
    Error::Kept { file: file.to_owned(), what: format!("{error}; make room, or remove it to begin again") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes parts up to one that stops, and says which were measured.
    fn measure(parts: &mut Parts, stop: usize) -> (Vec<f64>, Vec<usize>) {
        let mut measured = Vec::new();
        let found = (0..4).map_while(|i| {
            let part = parts.next(|| {
                measured.push(i);
                if i == stop { Err(Error::Stopped) } else { Ok(0.1 + i as f64 / 3.0) }
            });
            part.ok()
        });
        (found.collect(), measured)
    }

    #[test]
    fn what_was_measured_is_not_measured_again() {
        let folder = tempfile::tempdir().unwrap();
        let open = |key| Parts::open(folder.path(), "credit", &Key::of(&key)).unwrap();
        let whole = measure(&mut Parts::nowhere(), 9).0;
        assert_eq!(measure(&mut open("a"), 2), (whole[..2].to_vec(), vec![0, 1, 2]));
        let mut parts = open("a");
        assert_eq!(parts.left(), 2);
        assert_eq!(measure(&mut parts, 9), (whole.clone(), vec![2, 3]));
        parts.finish().unwrap();
        assert_eq!(fs::read_dir(folder.path().join("insight")).unwrap().count(), 0);
    }

    #[test]
    fn parts_of_something_else_or_cut_short_are_measured_anew() {
        let folder = tempfile::tempdir().unwrap();
        let open = |key| Parts::open(folder.path(), "credit", &Key::of(&key)).unwrap();
        let whole = measure(&mut open("a"), 9).0;
        let path = folder.path().join("insight/credit.parts.jsonl");
        let bytes = fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let mut parts = open("a");
            let left = parts.left();
            let (found, measured) = measure(&mut parts, 9);
            assert_eq!(found, whole, "cut at {cut}");
            assert_eq!(measured.len(), 4 - left, "cut at {cut}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "cut at {cut}");
        }
        fs::write(&path, String::from_utf8_lossy(&bytes).replacen("0.1", "{}", 1)).unwrap();
        assert_eq!(measure(&mut open("a"), 9).1.len(), 4);
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(open("b").left(), 0);
        assert_eq!(open("a").left(), 0, "what another question began is not mine");
    }
}
