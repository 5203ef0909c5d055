//! Vectors of lessons on disk, so that scores of data larger than memory can be taken, begun again and asked anew.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A file of equal records: a lesson's place (u64) and its vector (f32), little-endian. It is only ever added to; what was cut
/// short is cut off when it is opened again.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    width: usize,
    file: BufWriter<File>,
    records: u64,
    /// The place of the last whole record.
    last: Option<u64>,
}

impl Store {
    /// Opens the vectors that `key` names in a folder, or begins them. The key must name everything that they depend on.
    pub fn open(folder: &Path, key: &str, width: usize) -> Result<Self> {
        let path = folder.join(format!("{key}.vectors"));
        fs::create_dir_all(folder).map_err(|e| wrong(folder, &e))?;
        let file = File::options().create(true).append(true).read(true).open(&path);
        let file = file.map_err(|e| wrong(&path, &e))?;
        let size = record(width);
        let records = file.metadata().map_err(|e| wrong(&path, &e))?.len() / size;
        file.set_len(records * size).map_err(|e| wrong(&path, &e))?;
        let mut store = Self { path, width, file: BufWriter::new(file), records, last: None };
        let mut last = None;
        if records > 0 {
            store.read_from(records - 1, &mut |place, _| {
                last = Some(place as u64);
                Ok(())
            })?;
        }
        store.last = last;
        Ok(store)
    }

    /// Whether the vector of this lesson, and all before it, is there.
    pub fn has(&self, place: usize) -> bool {
        self.last.is_some_and(|last| place as u64 <= last)
    }

    /// Vectors that are there.
    pub fn len(&self) -> usize {
        self.records as usize
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Adds vectors of lessons in their order, and brings them to the disk.
    ///
    /// # Panics
    /// If a vector has another width, or a place does not come after the last.
    pub fn add<'a>(&mut self, vectors: impl Iterator<Item = (usize, &'a [f32])>) -> Result<()> {
        for (place, vector) in vectors {
            assert_eq!(vector.len(), self.width, "a vector of another width");
            assert!(!self.has(place), "lessons in another order");
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            let written = self.file.write_all(&(place as u64).to_le_bytes());
            written.and_then(|()| self.file.write_all(&bytes)).map_err(|e| wrong(&self.path, &e))?;
            self.records += 1;
            self.last = Some(place as u64);
        }
        self.file.flush().map_err(|e| wrong(&self.path, &e))
    }

    /// Calls `on_vector` with each lesson's place and vector, in order.
    pub fn each(&self, on_vector: &mut dyn FnMut(usize, &[f32]) -> Result<()>) -> Result<()> {
        self.read_from(0, on_vector)
    }

    fn read_from(&self, first: u64, on_vector: &mut dyn FnMut(usize, &[f32]) -> Result<()>) -> Result<()> {
        let io = |e: std::io::Error| wrong(&self.path, &e);
        let mut file = File::open(&self.path).map_err(io)?;
        let size = record(self.width);
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(first * size)).map_err(io)?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let (mut bytes, mut vector) = (vec![0; size as usize], vec![0.0; self.width]);
        for _ in first..self.records {
            reader.read_exact(&mut bytes).map_err(io)?;
            let (place, numbers) = bytes.split_at(8);
            let place = place.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            for (x, bytes) in vector.iter_mut().zip(numbers.chunks_exact(4)) {
                *x = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            on_vector(place as usize, &vector)?;
        }
        Ok(())
    }
}

/// Bytes of a record.
fn record(width: usize) -> u64 {
    8 + 4 * width as u64
}

fn wrong(file: &Path, error: &std::io::Error) -> Error {
    Error::Kept {
        file: file.to_owned(),
        what: format!("{error}; free some space, or remove it to begin again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(store: &Store) -> Vec<(usize, Vec<f32>)> {
        let mut found = Vec::new();
        store
            .each(&mut |place, vector| {
                found.push((place, vector.to_vec()));
                Ok(())
            })
            .unwrap();
        found
    }

    #[test]
    fn what_was_cut_short_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let vectors = [(0_usize, [1.0_f32, -2.5]), (3, [0.5, 7.0])];
        let mut store = Store::open(folder.path(), "a", 2).unwrap();
        assert!(store.is_empty() && !store.has(0));
        store.add(vectors.iter().map(|(p, v)| (*p, &v[..]))).unwrap();
        let bytes = fs::read(&store.path).unwrap();
        fs::write(&store.path, &bytes[..bytes.len() - 1]).unwrap();

        let mut store = Store::open(folder.path(), "a", 2).unwrap();
        assert!(store.len() == 1 && store.has(0) && !store.has(3));
        store.add([(3, &vectors[1].1[..])].into_iter()).unwrap();
        assert_eq!(fs::read(&store.path).unwrap(), bytes);
        let store = Store::open(folder.path(), "a", 2).unwrap();
        assert_eq!(read(&store), vectors.map(|(p, v)| (p, v.to_vec())));
        assert!(Store::open(folder.path(), "b", 2).unwrap().is_empty());
    }
}
