//! Writing safetensors as transformers names and shapes them.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use pavlov_engine::{DecoderConfig, ParameterSpec};
use pavlov_schema::files::write_atomic;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value, json};

use crate::files;
use crate::hf_config::Family;
use crate::layout::{StoredTensor, stored_tensors};
use crate::{Error, Result};

/// The number type of saved weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaveDtype {
    /// Every bit of the trained weights.
    #[default]
    F32,
    /// Half the size, 8 bits of precision, the range of f32.
    Bf16,
    /// Half the size, 11 bits of precision, numbers up to 65504.
    F16,
}

impl SaveDtype {
    /// Its name in config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    fn stored(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }

    fn size(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }
}

/// Files are at most this large in bytes, as transformers writes them, unless one tensor is larger.
pub const SHARD_BYTES: usize = 5_000_000_000;

/// Gives a parameter's numbers, [out, in].
pub type Get<'a> = &'a dyn Fn(&ParameterSpec) -> Result<Vec<f32>>;

/// Writes every parameter to model.safetensors, or to shards and an index where one file would pass `shard_bytes`.
///
/// Each file is written whole before it takes its name, so an earlier checkpoint there stays readable until then.
/// A number that is not finite, or not in the range of `dtype`, is an error.
pub fn save_parameters(
    folder: &Path,
    config: &DecoderConfig,
    family: Family,
    dtype: SaveDtype,
    shard_bytes: usize,
    get: Get,
) -> Result<()> {
    let bytes = |tensor: &StoredTensor| tensor.shape.iter().product::<usize>() * dtype.size();
    let mut shards: Vec<Vec<StoredTensor>> = vec![Vec::new()];
    let (mut filled, mut total) = (0, 0);
    for tensor in stored_tensors(config, family) {
        let size = bytes(&tensor);
        if filled > 0 && filled + size > shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += size;
        total += size;
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    let index = folder.join("model.safetensors.index.json");
    if let [single] = shards.as_slice() {
        write_file(&folder.join("model.safetensors"), single, dtype, get)?;
        // An index of an earlier save would win over the single file.
        return if index.exists() {
            std::fs::remove_file(&index).map_err(Error::io(&index, "remove"))
        } else {
            Ok(())
        };
    }
    let mut map = Map::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
        write_file(&folder.join(&name), shard, dtype, get)?;
        map.extend(shard.iter().map(|tensor| (tensor.name.clone(), Value::from(name.as_str()))));
    }
    let Value::Object(json) = json!({"metadata": {"total_size": total}, "weight_map": map}) else {
        unreachable!("the literal above is an object")
    };
    files::write_json(&index, &json)?;
    // transformers would read a single file of an earlier save before the index.
    let single = folder.join("model.safetensors");
    if single.exists() { std::fs::remove_file(&single).map_err(Error::io(&single, "remove")) } else { Ok(()) }
}

pub(crate) fn write_file(file: &Path, tensors: &[StoredTensor], dtype: SaveDtype, get: Get) -> Result<()> {
    let mut end = 0;
    let info = |tensor: &StoredTensor| {
        let start = end;
        end += tensor.shape.iter().product::<usize>() * dtype.size();
        let info =
            TensorInfo { dtype: dtype.stored(), shape: tensor.shape.clone(), data_offsets: (start, end) };
        (tensor.name.clone(), info)
    };
    let infos = tensors.iter().map(info).collect();
    // transformers refuses files that do not say which library's layout they have.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let header = Metadata::new(Some(format), infos)
        .map_err(|e| e.to_string())
        .and_then(|metadata| serde_json::to_vec(&metadata).map_err(|e| e.to_string()));
    let mut header = header.map_err(|e| Error::file(file, format!("cannot describe the tensors: {e}")))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    // An error of ours has to pass through a function that knows only those of the system.
    let mut refused = None;
    let written = write_atomic(file, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for tensor in tensors {
            match encode(file, tensor, dtype, get) {
                Ok(bytes) => out.write_all(&bytes)?,
                Err(error) => {
                    refused = Some(error);
                    return Err(std::io::Error::other("a tensor cannot be saved"));
                }
            }
        }
        Ok(())
    });
    match refused {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}

/// The bytes of a stored tensor.
fn encode(file: &Path, tensor: &StoredTensor, dtype: SaveDtype, get: Get) -> Result<Vec<u8>> {
    let numbers = join(tensor, get)?;
    let wrong =
        |what: &str| Error::Tensor { file: file.to_owned(), tensor: tensor.name.clone(), what: what.into() };
    if numbers.iter().any(|x| !x.is_finite()) {
        return Err(wrong(
            "it holds a number that is not finite, so it is not saved; go back to an earlier checkpoint",
        ));
    }
    Ok(match dtype {
        SaveDtype::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        SaveDtype::Bf16 => {
            let mut halves = vec![bf16::ZERO; numbers.len()];
            halves.convert_from_f32_slice(&numbers);
            halves.iter().flat_map(|x| x.to_le_bytes()).collect()
        }
        SaveDtype::F16 => {
            let mut halves = vec![f16::ZERO; numbers.len()];
            halves.convert_from_f32_slice(&numbers);
            if halves.iter().any(|x| !x.is_finite()) {
                return Err(wrong(
                    "it holds a number beyond 65504, the largest of float16; save as bfloat16",
                ));
            }
            halves.iter().flat_map(|x| x.to_le_bytes()).collect()
        }
    })
}

/// The numbers of a stored tensor in the file's order.
fn join(tensor: &StoredTensor, get: Get) -> Result<Vec<f32>> {
    if !tensor.transposed {
        let mut numbers = Vec::with_capacity(tensor.shape.iter().product());
        for spec in &tensor.parameters {
            numbers.extend(get(spec)?);
        }
        return Ok(numbers);
    }
    let width = tensor.shape[1];
    let mut numbers = vec![0.0; tensor.shape[0] * width];
    let mut first = 0;
    for spec in &tensor.parameters {
        for (out, row) in get(spec)?.chunks_exact(spec.cols).enumerate() {
            for (input, x) in row.iter().enumerate() {
                numbers[input * width + first + out] = *x;
            }
        }
        first += spec.rows;
    }
    Ok(numbers)
}
