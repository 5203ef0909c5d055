//! `rollouts/step-000010.parquet`: TRL's completion table (`step`, `prompt`, `completion`, one column per reward part,
//! `advantage`) and what TRL does not keep: tokens, log-probabilities and per-token credit.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use crate::error::{Error, Result};
use crate::rollout::{Credited, Finish, Rollout, Scored};
use crate::{files, parquet_file};

/// The columns that are no reward part.
const FIXED: [&str; 16] = [
    "step",
    "prompt_id",
    "prompt_index",
    "choice",
    "prompt",
    "prompt_tokens",
    "completion",
    "reward",
    "advantage",
    "finish",
    "tokens",
    "token_credit",
    "logprobs",
    "method",
    "seed",
    "policy_version",
];

/// A column's values, one per rollout.
enum Values<'a> {
    Int(Vec<i64>),
    Double(Vec<f64>),
    /// A reward part that some rollouts lack.
    Part(Vec<Option<f64>>),
    Text(Vec<&'a str>),
    Tokens(Vec<&'a [u32]>),
    Floats(Vec<&'a [f32]>),
}

/// Writes the rollouts of one step, whole or not at all. The parts of all rollouts become one column each, in order of
/// first appearance; the file is readable by any Parquet reader.
pub fn write(path: &Path, step: u64, rollouts: &[Credited]) -> Result<()> {
    for (i, credited) in rollouts.iter().enumerate() {
        check(credited).map_err(|what| Error::Row { file: path.to_owned(), row: i + 1, what })?;
    }
    let columns = columns(step, rollouts);
    files::write_atomic(path, |file| write_columns(file, &columns).map_err(io::Error::other))
}

/// Reads rollouts and their steps, in the order of the file.
pub fn read(path: &Path) -> Result<Vec<(u64, Credited)>> {
    let mut rollouts = Vec::new();
    parquet_file::read(path, |row, _| {
        let credited = credited(&row)?;
        check(&credited)?;
        rollouts.push((int(&row, "step")?, credited));
        Ok(())
    })?;
    Ok(rollouts)
}

/// One weight and one log-probability per token; no part named like a column, none twice.
fn check(credited: &Credited) -> std::result::Result<(), String> {
    let rollout = &credited.scored.rollout;
    let (tokens, weights, logps) =
        (rollout.tokens.len(), credited.weights.len(), rollout.behaviour_logp.len());
    if weights != tokens || logps != tokens {
        return Err(format!(
            "{tokens} tokens, {weights} credits and {logps} log-probabilities; there must be one of each a token"
        ));
    }
    let mut names = BTreeSet::from(FIXED);
    match credited.scored.parts.iter().find(|(name, _)| !names.insert(name)) {
        Some((name, _)) => Err(format!("the reward `{name}` has the name of another column; rename it")),
        None => Ok(()),
    }
}

fn columns(step: u64, rollouts: &[Credited]) -> Vec<(&str, Values<'_>)> {
    fn each<'a, T>(rollouts: &'a [Credited], get: impl Fn(&'a Credited) -> T) -> Vec<T> {
        rollouts.iter().map(get).collect()
    }
    fn of<'a, T>(rollouts: &'a [Credited], get: impl Fn(&'a Rollout) -> T) -> Vec<T> {
        each(rollouts, |credited| get(&credited.scored.rollout))
    }
    let mut columns = vec![
        ("step", Values::Int(vec![step as i64; rollouts.len()])),
        ("prompt_id", Values::Text(of(rollouts, |r| r.prompt_id.as_str()))),
        ("prompt_index", Values::Int(of(rollouts, |r| r.prompt_index as i64))),
        ("choice", Values::Int(of(rollouts, |r| r.choice as i64))),
        ("prompt", Values::Text(of(rollouts, |r| r.prompt_text.as_str()))),
        ("completion", Values::Text(of(rollouts, |r| r.completion.as_str()))),
    ];
    let mut parts: Vec<&str> = Vec::new();
    for (name, _) in rollouts.iter().flat_map(|r| &r.scored.parts) {
        if !parts.contains(&name.as_str()) {
            parts.push(name);
        }
    }
    for part in parts {
        let points =
            |r: &Credited| r.scored.parts.iter().find(|(name, _)| name == part).map(|&(_, points)| points);
        columns.push((part, Values::Part(each(rollouts, points))));
    }
    columns.extend([
        ("reward", Values::Double(each(rollouts, |r| r.scored.reward))),
        ("advantage", Values::Double(each(rollouts, |r| r.advantage))),
        ("finish", Values::Text(of(rollouts, |r| finish_name(r.finish)))),
        ("prompt_tokens", Values::Tokens(of(rollouts, |r| r.prompt_tokens.as_slice()))),
        ("tokens", Values::Tokens(of(rollouts, |r| r.tokens.as_slice()))),
        ("token_credit", Values::Floats(each(rollouts, |r| r.weights.as_slice()))),
        ("logprobs", Values::Floats(of(rollouts, |r| r.behaviour_logp.as_slice()))),
        ("method", Values::Text(each(rollouts, |r| r.method.as_str()))),
        // The bits of a u64: the column says that they are unsigned.
        ("seed", Values::Int(of(rollouts, |r| r.seed as i64))),
        ("policy_version", Values::Int(of(rollouts, |r| r.policy_version as i64))),
    ]);
    columns
}

fn write_columns(file: &mut (impl Write + Send), columns: &[(&str, Values<'_>)]) -> ParquetResult<()> {
    let fields = columns
        .iter()
        .map(|(name, values)| field(name, values).map(Arc::new))
        .collect::<ParquetResult<_>>()?;
    let schema = Type::group_type_builder("rollouts").with_fields(fields).build()?;
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for (_, values) in columns {
        match values {
            Values::Int(values) => write_column::<Int64Type>(&mut group, values, None)?,
            Values::Double(values) => write_column::<DoubleType>(&mut group, values, None)?,
            Values::Part(values) => {
                let present: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
                let values: Vec<f64> = values.iter().copied().flatten().collect();
                write_column::<DoubleType>(&mut group, &values, Some((&present, None)))?;
            }
            Values::Text(values) => {
                let values: Vec<ByteArray> = values.iter().map(|&text| ByteArray::from(text)).collect();
                write_column::<ByteArrayType>(&mut group, &values, None)?;
            }
            Values::Tokens(lists) => write_lists::<Int32Type, u32>(&mut group, lists, |&token| token as i32)?,
            Values::Floats(lists) => write_lists::<FloatType, f32>(&mut group, lists, |&float| float)?,
        }
    }
    group.close()?;
    writer.close()?;
    Ok(())
}

/// The schema of a column.
fn field(name: &str, values: &Values<'_>) -> ParquetResult<Type> {
    let primitive = |name, physical, converted, repetition| {
        Type::primitive_type_builder(name, physical)
            .with_converted_type(converted)
            .with_repetition(repetition)
            .build()
    };
    let list = |physical, converted| {
        let element = primitive("element", physical, converted, Repetition::REQUIRED)?;
        let repeated = Type::group_type_builder("list")
            .with_repetition(Repetition::REPEATED)
            .with_fields(vec![Arc::new(element)])
            .build()?;
        Type::group_type_builder(name)
            .with_converted_type(ConvertedType::LIST)
            .with_repetition(Repetition::REQUIRED)
            .with_fields(vec![Arc::new(repeated)])
            .build()
    };
    match values {
        Values::Int(_) => primitive(name, Physical::INT64, ConvertedType::UINT_64, Repetition::REQUIRED),
        Values::Double(_) => primitive(name, Physical::DOUBLE, ConvertedType::NONE, Repetition::REQUIRED),
        Values::Part(_) => primitive(name, Physical::DOUBLE, ConvertedType::NONE, Repetition::OPTIONAL),
        Values::Text(_) => primitive(name, Physical::BYTE_ARRAY, ConvertedType::UTF8, Repetition::REQUIRED),
        Values::Tokens(_) => list(Physical::INT32, ConvertedType::UINT_32),
        Values::Floats(_) => list(Physical::FLOAT, ConvertedType::NONE),
    }
}

/// Definition and repetition levels (Dremel's): which values are there, and which continue a list.
type Levels<'a> = Option<(&'a [i16], Option<&'a [i16]>)>;

fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    values: &[T::T],
    levels: Levels<'_>,
) -> ParquetResult<()> {
    // The schema was made from the same columns, so that there is always a next one.
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    let (definition, repetition) = levels.unzip();
    column.typed::<T>().write_batch(values, definition, repetition.flatten())?;
    column.close()
}

fn write_lists<T: DataType, U>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    lists: &[&[U]],
    convert: impl Fn(&U) -> T::T,
) -> ParquetResult<()> {
    let (mut values, mut definition, mut repetition) = (Vec::new(), Vec::new(), Vec::new());
    for list in lists {
        values.extend(list.iter().map(&convert));
        // An empty list is one level pair without a value.
        definition.extend(std::iter::repeat_n(i16::from(!list.is_empty()), list.len().max(1)));
        repetition.push(0);
        repetition.extend(std::iter::repeat_n(1, list.len().saturating_sub(1)));
    }
    write_column::<T>(group, &values, Some((&definition, Some(&repetition))))
}

fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Eos => "eos",
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

/// Reads one row.
fn credited(row: &Row) -> std::result::Result<Credited, String> {
    let finish = text(row, "finish")?;
    let finish = [Finish::Eos, Finish::Stop, Finish::Length]
        .into_iter()
        .find(|&known| finish_name(known) == finish)
        .ok_or_else(|| format!("`finish` is \"{finish}\"; it is one of eos, stop, length"))?;
    let rollout = Rollout {
        prompt_id: text(row, "prompt_id")?,
        prompt_index: int(row, "prompt_index")? as usize,
        choice: int(row, "choice")? as usize,
        prompt_text: text(row, "prompt")?,
        prompt_tokens: list(row, "prompt_tokens", token)?,
        completion: text(row, "completion")?,
        tokens: list(row, "tokens", token)?,
        behaviour_logp: list(row, "logprobs", float)?,
        finish,
        seed: int(row, "seed")?,
        policy_version: int(row, "policy_version")?,
    };
    let mut parts = Vec::new();
    for (name, field) in row.get_column_iter().filter(|(name, _)| !FIXED.contains(&name.as_str())) {
        match field {
            Field::Double(points) => parts.push((name.clone(), *points)),
            Field::Null => {}
            _ => return Err(format!("the column `{name}` holds no reward points; remove it")),
        }
    }
    Ok(Credited {
        scored: Scored { rollout, reward: double(row, "reward")?, parts },
        advantage: double(row, "advantage")?,
        weights: list(row, "token_credit", float)?,
        method: text(row, "method")?,
    })
}

fn column<'a>(row: &'a Row, name: &str) -> std::result::Result<&'a Field, String> {
    let found = row.get_column_iter().find(|(column, _)| *column == name);
    found.map(|(_, field)| field).ok_or_else(|| format!("has no column `{name}`; it is no file of rollouts"))
}

fn wrong_type(name: &str) -> String {
    format!("the column `{name}` has another type; it is no file of rollouts of this version")
}

fn int(row: &Row, name: &str) -> std::result::Result<u64, String> {
    if let Field::ULong(value) = column(row, name)? { Ok(*value) } else { Err(wrong_type(name)) }
}

fn double(row: &Row, name: &str) -> std::result::Result<f64, String> {
    if let Field::Double(value) = column(row, name)? { Ok(*value) } else { Err(wrong_type(name)) }
}

fn text(row: &Row, name: &str) -> std::result::Result<String, String> {
    if let Field::Str(value) = column(row, name)? { Ok(value.clone()) } else { Err(wrong_type(name)) }
}

fn list<T>(row: &Row, name: &str, get: impl Fn(&Field) -> Option<T>) -> std::result::Result<Vec<T>, String> {
    let Field::ListInternal(list) = column(row, name)? else { return Err(wrong_type(name)) };
    list.elements().iter().map(|field| get(field).ok_or_else(|| wrong_type(name))).collect()
}

fn token(field: &Field) -> Option<u32> {
    if let Field::UInt(value) = field { Some(*value) } else { None }
}

fn float(field: &Field) -> Option<f32> {
    if let Field::Float(value) = field { Some(*value) } else { None }
}
