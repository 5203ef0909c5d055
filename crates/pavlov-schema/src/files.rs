//! Files that are whole or absent, and digests.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3Default;

use crate::error::{Error, Result};

/// Writes a file under a temporary name beside it, syncs it and renames it: after an error, a full disk or a power cut
/// the old file is whole and no temporary stays (after a power cut, one may).
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let temporary = temporary(path)?;
    let written = (|| {
        let mut file = BufWriter::new(File::create(&temporary)?);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_directory(path.parent().unwrap_or(Path::new("")))
    })();
    written.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        Error::Io { file: path.to_owned(), doing: "write", source }
    })
}

fn temporary(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| Error::file(path, "names no file; give it a file name"))?;
    let mut temporary = std::ffi::OsString::from(".tmp-");
    temporary.push(name);
    Ok(path.with_file_name(temporary))
}

/// Makes the names in a folder survive a power cut. Only Unix lets a folder be opened for that.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Syncs every file and folder below and at `path`.
pub(crate) fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            // Windows syncs only files that are open for writing.
            File::options().read(true).append(true).open(entry.path())?.sync_all()?;
        }
    }
    sync_directory(path)
}

/// The XXH3-64 digest of a file's bytes, 16 hexadecimal digits.
pub fn digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut hasher = Xxh3Default::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(Error::io(path, "read"))? {
            0 => return Ok(format!("{:016x}", hasher.digest())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// The XXH3-64 digest of bytes in memory, 16 hexadecimal digits.
pub fn digest_of(bytes: &[u8]) -> String {
    let mut hasher = Xxh3Default::new();
    hasher.update(bytes);
    format!("{:016x}", hasher.digest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_atomic(&path, |file| file.write_all(b"old")).unwrap();
        let error = write_atomic(&path, |file| {
            file.write_all(b"new, but half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert!(error.to_string().contains("a.json: cannot write: "), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(
            write_atomic(&folder.path().join(".."), |_| Ok(()))
                .unwrap_err()
                .to_string()
                .contains("names no file")
        );
    }

    #[test]
    fn digests_are_xxh3() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        fs::write(&path, "").unwrap();
        assert_eq!(digest(&path).unwrap(), "2d06800538d394c2", "XXH3-64 of nothing, from xxHash's own test");
        fs::write(&path, "abc").unwrap();
        assert_eq!(digest(&path).unwrap(), "78af5f94892f3950");
        assert!(digest(&folder.path().join("none")).unwrap_err().to_string().contains("cannot open"));
    }
}
