//! The run directory: everything a run leaves behind.
//!
//! ```text
//! config.toml                    as resolved
//! manifest.json                  version, command, seed, data digests, processor
//! metrics.jsonl                  one JSON object a line, with `step`
//! lessons.jsonl                  what each lesson was worth before its update
//! rollouts/step-000010.parquet   what the policy wrote and which tokens were credited
//! checkpoints/step-000100/       whole or absent
//! events.out.tfevents.*          TensorBoard
//! ```

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::files::{self, sync_directory, sync_tree};
use crate::lessons::{LESSONS, LessonLine};

/// What to do with a run directory that has something in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// An error, unless the earlier run stopped before its first result.
    Refuse,
    /// Remove the earlier run. A folder that holds other files is never emptied.
    Overwrite,
    /// Continue the earlier run, which must be there.
    Resume,
}

/// Where a run came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Pavlov's version.
    pub version: String,
    /// The command line.
    pub command: Vec<String>,
    /// The seed of every random number.
    pub seed: u64,
    /// The files of data that were read.
    pub data: Vec<DataFile>,
    /// The processor's name and the kernels chosen for it.
    pub processor: String,
    /// The number format of matrices.
    pub dtype: String,
    /// Threads that computed.
    pub threads: usize,
    /// When the run started, in RFC 3339: also the date that chat templates write, in the whole run.
    pub started_at: String,
}

/// A file of data, named so that a later run can tell whether it is the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    /// Where it was.
    pub path: PathBuf,
    /// The XXH3-64 digest of its bytes, 16 hexadecimal digits.
    pub digest: String,
    /// Rows read.
    pub rows: usize,
}

/// A whole checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Updates made before it was saved.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
}

/// A run directory, open for writing. One process at a time.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    metrics: File,
    lessons: File,
}

const TEMPORARY: &str = ".tmp-";
const REPLACED: &str = ".old-";

impl DataFile {
    /// Digests a file that `rows` rows were read from.
    pub fn of(path: &Path, rows: usize) -> Result<Self> {
        Ok(Self { path: path.to_owned(), digest: files::digest(path)?, rows })
    }
}

impl Manifest {
    /// Reads `manifest.json` of a run directory.
    pub fn read(run: &Path) -> Result<Self> {
        let path = run.join("manifest.json");
        let text = fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
        serde_json::from_str(&text).map_err(|e| Error::Line {
            file: path,
            line: e.line(),
            what: e.to_string(),
        })
    }
}

impl RunDir {
    /// Creates a run directory, or opens an earlier one as `existing` says.
    pub fn create(path: &Path, existing: Existing) -> Result<Self> {
        let found = look(path)?;
        match (existing, found) {
            (Existing::Refuse, Found::Run) => {
                return Err(Error::file(
                    path,
                    "holds another run; name another folder, or resume or overwrite it",
                ));
            }
            (Existing::Refuse | Existing::Overwrite, Found::Other) => {
                return Err(Error::file(path, "holds other files and no run; name another folder"));
            }
            (Existing::Resume, Found::Nothing | Found::Other) => {
                return Err(Error::file(path, "holds no run to resume; name its folder"));
            }
            (Existing::Refuse | Existing::Overwrite, Found::Blank | Found::Run) => clear(path)?,
            (Existing::Refuse | Existing::Overwrite, Found::Nothing)
            | (Existing::Resume, Found::Blank | Found::Run) => {}
        }
        for folder in ["checkpoints", "rollouts"] {
            let folder = path.join(folder);
            fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
        }
        recover(&path.join("checkpoints"))?;
        let open = |name: &str| {
            let file = path.join(name);
            File::options().create(true).append(true).open(&file).map_err(Error::io(&file, "open"))
        };
        Ok(Self { path: path.to_owned(), metrics: open("metrics.jsonl")?, lessons: open(LESSONS)? })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `config.toml`, the configuration as resolved.
    pub fn write_config(&self, toml: &str) -> Result<()> {
        files::write_atomic(&self.path.join("config.toml"), |file| file.write_all(toml.as_bytes()))
    }

    /// Writes `manifest.json`.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        files::write_atomic(&self.path.join("manifest.json"), |file| {
            serde_json::to_writer_pretty(&mut *file, manifest)?;
            file.write_all(b"\n")
        })
    }

    /// Appends one line `{"step": …, …}` to `metrics.jsonl`. After an error the file is as before.
    pub fn append_metrics(&mut self, step: u64, metrics: &Map<String, Value>) -> Result<()> {
        let mut line = Map::from_iter([("step".to_owned(), json!(step))]);
        line.extend(metrics.iter().filter(|(key, _)| *key != "step").map(|(k, v)| (k.clone(), v.clone())));
        append_line(&self.path.join("metrics.jsonl"), &mut self.metrics, &Value::Object(line).to_string())
    }

    /// Appends the lessons of one update to `lessons.jsonl`. After an error the file is as before.
    pub fn append_lessons(&mut self, lessons: &LessonLine) -> Result<()> {
        let path = self.path.join(LESSONS);
        let text = serde_json::to_string(lessons).map_err(|e| Error::file(&path, e.to_string()))?;
        append_line(&path, &mut self.lessons, &text)
    }

    /// Forgets what came after `step`, before a run resumes from it: later lines of `metrics.jsonl` and `lessons.jsonl`,
    /// a last line that was cut short, and later rollouts.
    pub fn rewind(&mut self, step: u64) -> Result<()> {
        self.metrics = truncate(&self.path.join("metrics.jsonl"), step)?;
        self.lessons = truncate(&self.path.join(LESSONS), step)?;
        let folder = self.path.join("rollouts");
        for (later, path) in numbered(&folder, ".parquet")? {
            if later > step {
                fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
            }
        }
        Ok(())
    }

    /// The file of the rollouts of a step.
    pub fn rollouts_path(&self, step: u64) -> PathBuf {
        self.path.join("rollouts").join(format!("step-{step:06}.parquet"))
    }

    /// Saves a checkpoint: `write` fills an empty folder, which gets its name once every file in it is on the disk. If
    /// anything fails, the temporary is removed and earlier checkpoints, also one of the same step, stay whole.
    pub fn save_checkpoint(
        &self,
        step: u64,
        write: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Checkpoint> {
        let folder = self.path.join("checkpoints");
        let name = format!("step-{step:06}");
        let path = folder.join(&name);
        let (temporary, replaced) =
            (folder.join(format!("{TEMPORARY}{name}")), folder.join(format!("{REPLACED}{name}")));
        let saved = (|| {
            remove_all(&temporary)?;
            fs::create_dir(&temporary)?;
            write(&temporary)?;
            sync_tree(&temporary)?;
            if path.is_dir() {
                fs::rename(&path, &replaced)?;
            }
            fs::rename(&temporary, &path)?;
            sync_directory(&folder)?;
            remove_all(&replaced)
        })();
        saved.map_err(|source| {
            let _ = recover(&folder);
            Error::Io { file: path.clone(), doing: "save the checkpoint", source }
        })?;
        Ok(Checkpoint { step, path })
    }

    /// Whole checkpoints, oldest first.
    pub fn checkpoints(&self) -> Result<Vec<Checkpoint>> {
        let checkpoints = numbered(&self.path.join("checkpoints"), "")?;
        Ok(checkpoints.into_iter().map(|(step, path)| Checkpoint { step, path }).collect())
    }

    /// The newest whole checkpoint.
    pub fn latest_checkpoint(&self) -> Result<Option<Checkpoint>> {
        Ok(self.checkpoints()?.pop())
    }

    /// Removes all but the `keep` newest checkpoints; the newest always stays.
    pub fn prune(&self, keep: usize) -> Result<()> {
        let mut checkpoints = self.checkpoints()?;
        checkpoints.truncate(checkpoints.len().saturating_sub(keep.max(1)));
        for Checkpoint { step, path } in checkpoints {
            // Renamed first: half a checkpoint must never have a checkpoint's name.
            let temporary = path.with_file_name(format!("{TEMPORARY}step-{step:06}"));
            let removed = fs::rename(&path, &temporary).and_then(|()| remove_all(&temporary));
            removed.map_err(Error::io(&path, "remove"))?;
        }
        Ok(())
    }
}

/// Appends a line. After an error the file is as before.
fn append_line(path: &Path, file: &mut File, text: &str) -> Result<()> {
    let appended = (|| {
        let before = file.metadata()?.len();
        file.write_all(format!("{text}\n").as_bytes()).inspect_err(|_| {
            // Half a line would stop every reader; if even this fails, resuming removes it.
            let _ = file.set_len(before);
        })
    })();
    appended.map_err(Error::io(path, "append to"))
}

/// Keeps the lines up to and with `step`, and opens the file for more.
fn truncate(path: &Path, step: u64) -> Result<File> {
    let mut reader = BufReader::new(File::open(path).map_err(Error::io(path, "open"))?);
    let (mut line, mut number, mut kept) = (Vec::new(), 0, Vec::new());
    loop {
        line.clear();
        number += 1;
        if reader.read_until(b'\n', &mut line).map_err(Error::io(path, "read"))? == 0
            || !line.ends_with(b"\n")
        {
            break;
        }
        let at = serde_json::from_slice::<Value>(&line).ok().and_then(|line| line.get("step")?.as_u64());
        let Some(at) = at else {
            let what = "is no JSON object with `step`; remove the line".into();
            return Err(Error::Line { file: path.to_owned(), line: number, what });
        };
        if at <= step {
            kept.extend_from_slice(&line);
        }
    }
    files::write_atomic(path, |file| file.write_all(&kept))?;
    // A handle from before writes to the replaced file.
    File::options().append(true).open(path).map_err(Error::io(path, "open"))
}

/// What is in a folder that a run is to use.
enum Found {
    Nothing,
    /// A run that stopped before its first result.
    Blank,
    Run,
    Other,
}

fn look(path: &Path) -> Result<Found> {
    let is_empty = |path: &Path| match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Error::io(path, "open as a folder")(error)),
    };
    let (checkpoints, rollouts, metrics) =
        (path.join("checkpoints"), path.join("rollouts"), path.join("metrics.jsonl"));
    if is_empty(path)? {
        return Ok(Found::Nothing);
    }
    if !(checkpoints.is_dir() && rollouts.is_dir() && metrics.is_file()) {
        return Ok(Found::Other);
    }
    let no_metrics = fs::metadata(&metrics).map_err(Error::io(&metrics, "open"))?.len() == 0;
    let blank = no_metrics && is_empty(&checkpoints)? && is_empty(&rollouts)?;
    Ok(if blank { Found::Blank } else { Found::Run })
}

/// The entries `step-N` and the suffix of a folder, by N.
fn numbered(folder: &Path, suffix: &str) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "list"))? {
        let path = entry.map_err(Error::io(folder, "list"))?.path();
        let step = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix("step-")?.strip_suffix(suffix)?.parse().ok());
        found.extend(step.map(|step| (step, path)));
    }
    found.sort_unstable();
    Ok(found)
}

/// Undoes what a save that was cut short left behind: temporaries go, and a checkpoint that was moved aside for a newer
/// one of its step comes back unless the newer one is there.
fn recover(checkpoints: &Path) -> Result<()> {
    for entry in fs::read_dir(checkpoints).map_err(Error::io(checkpoints, "list"))? {
        let path = entry.map_err(Error::io(checkpoints, "list"))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let mended = match name.strip_prefix(REPLACED).map(|name| checkpoints.join(name)) {
            Some(original) if !original.exists() => fs::rename(&path, original),
            Some(_) => remove_all(&path),
            None if name.starts_with(TEMPORARY) => remove_all(&path),
            None => Ok(()),
        };
        mended.map_err(Error::io(&path, "clean up"))?;
    }
    Ok(())
}

/// Removes what a run wrote, and nothing else.
fn clear(path: &Path) -> Result<()> {
    for name in [
        "checkpoints",
        "rollouts",
        "metrics.jsonl",
        LESSONS,
        "insight",
        "manifest.json",
        "report.html",
        "config.toml",
    ] {
        let path = path.join(name);
        remove_all(&path).map_err(Error::io(&path, "remove"))?;
    }
    let Ok(entries) = fs::read_dir(path) else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(Error::io(path, "list"))?.path();
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("events.out.tfevents.") {
            remove_all(&entry).map_err(Error::io(&entry, "remove"))?;
        }
    }
    Ok(())
}

/// Removes a file or a folder with all in it; absent is fine.
fn remove_all(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
