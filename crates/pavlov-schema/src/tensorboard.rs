//! TensorBoard event files with scalars: `Event` protobufs (tensorflow/core/util/event.proto) in TFRecord framing.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Appends scalars to one event file.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Creates `events.out.tfevents.SECONDS.pavlov` in a folder, numbered if that exists: an earlier run's events stay.
    pub fn create(folder: &Path, unix_seconds: u64) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let mut number = 0;
        let (path, file) = loop {
            let path = folder.join(format!("events.out.tfevents.{unix_seconds:010}.pavlov.{number}"));
            match File::create_new(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(Error::io(&path, "create")(error)),
            }
        };
        let mut writer = Self { path, file };
        let mut event = wall_time(unix_seconds as f64);
        bytes_field(&mut event, 3, b"brain.Event:2");
        writer.append(&event)?;
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one value of the curve `tag`; `wall_time` is in seconds since 1970.
    pub fn scalar(&mut self, step: u64, tag: &str, value: f32, wall_time: f64) -> Result<()> {
        let mut summary_value = Vec::with_capacity(tag.len() + 8);
        bytes_field(&mut summary_value, 1, tag.as_bytes());
        summary_value.push(2 << 3 | FIXED_32);
        summary_value.extend_from_slice(&value.to_le_bytes());
        let mut summary = Vec::with_capacity(summary_value.len() + 4);
        bytes_field(&mut summary, 1, &summary_value);
        let mut event = self::wall_time(wall_time);
        event.push(2 << 3 | VARINT);
        varint(&mut event, step);
        bytes_field(&mut event, 5, &summary);
        self.append(&event)
    }

    /// One write per record, so that a reader never waits for a buffer.
    fn append(&mut self, event: &[u8]) -> Result<()> {
        self.file.write_all(&record(event)).map_err(Error::io(&self.path, "append to"))
    }
}

const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const LENGTH: u8 = 2;
const FIXED_32: u8 = 5;

/// An event that has only its time (field 1, double).
fn wall_time(seconds: f64) -> Vec<u8> {
    let mut event = vec![1 << 3 | FIXED_64];
    event.extend_from_slice(&seconds.to_le_bytes());
    event
}

fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | LENGTH);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// TFRecord framing: length, its checksum, the bytes, their checksum, all little-endian.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length).to_le_bytes(), bytes, &masked_crc(bytes).to_le_bytes()].concat()
}

/// A CRC of data that holds CRCs is rotated and shifted, as TFRecord asks.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: records are about a hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_has_the_known_answers() {
        // RFC 3720, appendix B.4, and the usual check value.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn writes_the_bytes_that_tensorboard_reads() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), 1_700_000_000).unwrap();
        writer.scalar(300, "loss", 1.5, 1_700_000_001.0).unwrap();
        let bytes = std::fs::read(writer.path()).unwrap();
        // The framing every TensorFlow event file starts with: 24 bytes of `Event{wall_time, file_version}`.
        assert_eq!(bytes[..12], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
        assert_eq!(&bytes[21..36], b"\x1a\x0dbrain.Event:2");
        let event = [
            &[9][..],
            &1_700_000_001_f64.to_le_bytes(),
            &[16, 0xac, 2, 42, 13, 10, 11, 10, 4],
            b"loss",
            &[21, 0, 0, 0xc0, 0x3f],
        ]
        .concat();
        assert_eq!(bytes[40..], record(&event));
        assert_eq!(bytes.len(), 40 + 16 + event.len());
        let second = EventWriter::create(folder.path(), 1_700_000_000).unwrap();
        assert_ne!(second.path(), writer.path());
    }
}
