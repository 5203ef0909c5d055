//! Reading and writing data sets: JSON lines, a JSON array, or Parquet, told apart by their first bytes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files;
use crate::parquet_file;
use crate::rollout::Prompt;
use crate::row::{Row, prompt_and_columns};
use crate::text::kind;

/// A line longer than this is refused, so that a file without line ends cannot take all memory.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// A JSON array is read whole; a larger one is asked for as JSON lines.
const MAX_ARRAY_BYTES: u64 = 1 << 30;

/// Reads every row of a file, in order. Blank lines are skipped; anything else that is no row is an error.
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    each(path, &mut |_, object| {
        rows.push(Row::from_object(object)?);
        Ok(())
    })?;
    Ok(rows)
}

/// Reads a file as prompts: every column beside `prompt` goes to `columns`, also those that would make it another kind
/// of row (`completion`, `label`, …). `id` names the prompt; without it the row's number, from 0, does.
pub fn read_prompts(path: &Path) -> Result<Vec<Prompt>> {
    let mut prompts = Vec::new();
    each(path, &mut |_, object| {
        let (prompt, columns) = prompt_and_columns(object)?;
        let id = match columns.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => prompts.len().to_string(),
        };
        prompts.push(Prompt { id, prompt, columns });
        Ok(())
    })?;
    Ok(prompts)
}

/// Writes rows as JSON lines, whole or not at all.
pub fn write(path: &Path, rows: &[Row]) -> Result<()> {
    let mut bytes = Vec::new();
    for row in rows {
        // Writing a map of JSON values into memory cannot fail.
        let _ = serde_json::to_writer(&mut bytes, &row.to_object());
        bytes.push(b'\n');
    }
    files::write_atomic(path, |file| file.write_all(&bytes))
}

/// What is done with a row's number (from 1; of a line in JSON lines) and its columns; an error is a what and a mend.
pub type OnRow<'a> = &'a mut dyn FnMut(usize, Map<String, Value>) -> std::result::Result<(), String>;

/// Calls `on_row` for every row as it is read, so that a file larger than memory can be gone through.
pub fn each(path: &Path, on_row: OnRow<'_>) -> Result<()> {
    if path.is_dir() {
        return Err(Error::file(path, "is a folder; name a .jsonl, .json or .parquet file in it"));
    }
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    if reader.fill_buf().map_err(Error::io(path, "read"))?.starts_with(b"PAR1") {
        drop(reader);
        return counted(path, on_row, |on_row| each_record(path, on_row));
    }
    each_in(path, reader, on_row)
}

/// Calls `on_row` for every row of a Parquet file. Numbers that JSON lacks (NaN, infinity) become null.
fn each_record(path: &Path, on_row: OnRow<'_>) -> Result<()> {
    parquet_file::read(path, |row, number| {
        let Value::Object(object) = row.to_json_value() else {
            return Err("is no record; write columns".into());
        };
        on_row(number, object)
    })
}

/// Calls `on_row` for every row of JSON lines or a JSON array that came by another way than a file; `name` is for errors.
pub fn each_in(name: &Path, mut reader: impl BufRead, on_row: OnRow<'_>) -> Result<()> {
    let start = reader.fill_buf().map_err(Error::io(name, "read"))?;
    match start {
        [b'P', b'A', b'R', b'1', ..] => {
            return Err(Error::file(name, "is Parquet, which is read from files only; import it as a file"));
        }
        [0x1f, 0x8b, ..] => return Err(Error::file(name, "is packed with gzip; unpack it first (gunzip)")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            return Err(Error::file(name, "is packed with zstd; unpack it first (unzstd)"));
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Err(Error::file(name, "is UTF-16; save it as UTF-8")),
        _ => {}
    }
    if start.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    let array = first_byte(&mut reader).map_err(Error::io(name, "read"))? == Some(b'[');
    counted(name, on_row, |on_row| {
        if array { each_element(name, reader, on_row) } else { each_line(name, reader, on_row) }
    })
}

/// A file without rows is an error.
fn counted(name: &Path, on_row: OnRow<'_>, each: impl FnOnce(OnRow<'_>) -> Result<()>) -> Result<()> {
    let mut rows = 0;
    each(&mut |number, object| {
        rows += 1;
        on_row(number, object)
    })?;
    if rows == 0 { Err(Error::file(name, "has no rows; give it at least one")) } else { Ok(()) }
}

/// The first byte that is not white space, as far as the buffer shows: nothing is consumed, so that lines keep their
/// numbers.
fn first_byte(reader: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    Ok(reader.fill_buf()?.iter().copied().find(|byte| !byte.is_ascii_whitespace()))
}

fn each_line(path: &Path, mut reader: impl BufRead, on_row: OnRow<'_>) -> Result<()> {
    let mut bytes = Vec::new();
    let mut line = 0;
    loop {
        line += 1;
        bytes.clear();
        let read = (&mut reader).take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut bytes);
        if read.map_err(Error::io(path, "read"))? == 0 {
            return Ok(());
        }
        let wrong = |what: String| Error::Line { file: path.to_owned(), line, what };
        if bytes.len() as u64 > MAX_LINE_BYTES {
            return Err(wrong(format!("is longer than {} MiB; split it", MAX_LINE_BYTES >> 20)));
        }
        let text = std::str::from_utf8(&bytes).map_err(|e| {
            wrong(format!("byte {} is not UTF-8; save the file as UTF-8", e.valid_up_to() + 1))
        })?;
        if text.trim().is_empty() {
            continue;
        }
        let object = serde_json::from_str(text)
            .map_err(|e| wrong(not_json(&e)))
            .and_then(|v| object(v).map_err(wrong))?;
        on_row(line, object).map_err(wrong)?;
    }
}

fn each_element(path: &Path, reader: impl Read, on_row: OnRow<'_>) -> Result<()> {
    let mut bytes = Vec::new();
    reader.take(MAX_ARRAY_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    if bytes.len() as u64 > MAX_ARRAY_BYTES {
        return Err(Error::file(path, "is a JSON array above 1 GiB; write one object a line (.jsonl)"));
    }
    let values: Vec<Value> = serde_json::from_slice(&bytes).map_err(|e| Error::Line {
        file: path.to_owned(),
        line: e.line(),
        what: not_json(&e),
    })?;
    for (i, value) in values.into_iter().enumerate() {
        object(value).and_then(|object| on_row(i + 1, object)).map_err(|what| Error::Row {
            file: path.to_owned(),
            row: i + 1,
            what,
        })?;
    }
    Ok(())
}

fn object(value: Value) -> std::result::Result<Map<String, Value>, String> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(format!("is {}, not an object; write {{\"column\": value, …}}", kind(&other))),
    }
}

/// serde_json's message with the column; the line is ours to name.
fn not_json(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    format!("is not JSON: {message} (column {}); write one JSON object", error.column())
}
