//! Reading safetensors: the header is checked against the file, and one tensor is read and converted at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use pavlov_engine::{DecoderConfig, ParameterSpec};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use crate::adapter::ADAPTER_CONFIG;
use crate::error::one_line;
use crate::files;
use crate::hf_config::Family;
use crate::layout::{StoredTensor, embedding, is_buffer, prefix, stored_tensors};
use crate::save::SaveDtype;
use crate::{Error, Result};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
pub(crate) const ADAPTER: &str = "adapter_model.safetensors";
/// The format's own limit of a header, in bytes.
const LARGEST_HEADER: u64 = 100_000_000;

/// The tensors of a folder's safetensors files. Nothing but the headers is in memory.
#[derive(Debug)]
pub struct Checkpoint {
    tensors: BTreeMap<String, Entry>,
    folder: PathBuf,
    /// The file that says which tensors there have to be.
    described_by: &'static str,
}

#[derive(Debug)]
struct Entry {
    file: PathBuf,
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
    bytes: usize,
}

impl Checkpoint {
    /// Opens model.safetensors, or the files that model.safetensors.index.json lists.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut checkpoint = Self::empty(folder, "config.json");
        let index = folder.join(INDEX);
        if index.exists() {
            checkpoint.open_shards(&index)?;
        } else if folder.join(SINGLE).exists() {
            checkpoint.open_file(&folder.join(SINGLE))?;
        } else {
            let mend = if folder.join("pytorch_model.bin").exists() {
                "save pytorch_model.bin as safetensors: from_pretrained(DIR).save_pretrained(DIR) in transformers"
            } else {
                "give the folder of a Hugging Face model with its weights"
            };
            return Err(Error::file(folder, format!("there is neither {SINGLE} nor {INDEX}; {mend}")));
        }
        Ok(checkpoint)
    }

    /// Opens adapter_model.safetensors, the tensors of a PEFT adapter.
    pub(crate) fn open_adapter(folder: &Path) -> Result<Self> {
        let mut checkpoint = Self::empty(folder, ADAPTER_CONFIG);
        if !folder.join(ADAPTER).exists() {
            let mend = if folder.join("adapter_model.bin").exists() {
                "save adapter_model.bin as safetensors: PeftModel.from_pretrained(…).save_pretrained(DIR) in peft"
            } else {
                "give the folder of a PEFT adapter with its weights"
            };
            return Err(Error::file(folder, format!("there is no {ADAPTER}; {mend}")));
        }
        checkpoint.open_file(&folder.join(ADAPTER))?;
        Ok(checkpoint)
    }

    fn empty(folder: &Path, described_by: &'static str) -> Self {
        Self { tensors: BTreeMap::new(), folder: folder.to_owned(), described_by }
    }

    /// First dimension of a tensor.
    pub(crate) fn rows(&self, name: &str) -> Result<usize> {
        Ok(self.entry(name)?.shape.first().copied().unwrap_or(0))
    }

    /// The number type of most of its numbers; f32 if that is none that can be saved.
    pub fn dtype(&self) -> SaveDtype {
        let bytes =
            |dtype| self.tensors.values().filter(|e| e.dtype == dtype).map(|e| e.bytes).sum::<usize>();
        let numbers = [
            (bytes(Dtype::F32) / 4, SaveDtype::F32),
            (bytes(Dtype::BF16) / 2, SaveDtype::Bf16),
            (bytes(Dtype::F16) / 2, SaveDtype::F16),
        ];
        // Of equals, the first: the widest.
        numbers.into_iter().rev().max_by_key(|(count, _)| *count).map_or(SaveDtype::F32, |(_, dtype)| dtype)
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    fn open_shards(&mut self, index: &Path) -> Result<()> {
        let json = files::read_json(index)?;
        let wrong = |what: String| Error::file(index, format!("{what}; fetch the file again"));
        let map = json.get("weight_map").and_then(Value::as_object);
        let map = map.ok_or_else(|| wrong("key weight_map is missing or no object".into()))?;
        let mut shards = BTreeSet::new();
        for (tensor, shard) in map {
            // A path would read files outside the folder.
            match shard.as_str() {
                Some(name) if !name.contains(['/', '\\']) && name.ends_with(".safetensors") => {
                    shards.insert(name)
                }
                _ => {
                    return Err(wrong(format!(
                        "key weight_map.{tensor} names no safetensors file of this folder"
                    )));
                }
            };
        }
        for shard in shards {
            let file = self.folder.join(shard);
            if !file.exists() {
                return Err(Error::file(&file, format!("{INDEX} names it but it is missing; fetch it")));
            }
            self.open_file(&file)?;
        }
        match map.keys().find(|tensor| !self.tensors.contains_key(*tensor)) {
            Some(tensor) => Err(wrong(format!("tensor {tensor} is in no file"))),
            None => Ok(()),
        }
    }

    fn open_file(&mut self, path: &Path) -> Result<()> {
        let broken = |what: String| Error::file(path, format!("{what}; the file is damaged, fetch it again"));
        let mut file = File::open(path).map_err(Error::io(path, "read"))?;
        let size = file.metadata().map_err(Error::io(path, "read"))?.len();
        if size < 8 {
            return Err(broken(format!("it has {size} bytes, a safetensors file has more")));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(Error::io(path, "read"))?;
        let length = u64::from_le_bytes(length);
        if length > LARGEST_HEADER || length > size - 8 {
            return Err(broken(format!("it has {size} bytes but asks for a header of {length}")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(Error::io(path, "read"))?;
        // Reading the metadata checks that the tensors lie side by side and that shapes and sizes agree.
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|e| broken(format!("its header is wrong ({})", one_line(e))))?;
        let promised = 8 + length + metadata.data_len() as u64;
        if promised != size {
            return Err(broken(format!("it has {size} bytes but its header promises {promised}")));
        }
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else { continue };
            let (start, end) = info.data_offsets;
            let entry = Entry {
                file: path.to_owned(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: 8 + length + start as u64,
                bytes: end - start,
            };
            if let Some(other) = self.tensors.insert(name.clone(), entry) {
                let what = format!("it is in {} too; keep one", other.file.display());
                return Err(Error::Tensor { file: path.to_owned(), tensor: name, what });
            }
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.tensors.get(name).ok_or_else(|| Error::Tensor {
            file: self.folder.clone(),
            tensor: name.to_owned(),
            what: format!(
                "it is missing; {} describes another model or a file is not whole",
                self.described_by
            ),
        })
    }

    /// The numbers of a tensor in f32, row-major. A number that is not finite is an error.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let entry = self.entry(name)?;
        let wrong = |what: String| Error::Tensor { file: entry.file.clone(), tensor: name.to_owned(), what };
        let io = |source| Error::Io { file: entry.file.clone(), doing: "read", source };
        let mut file = File::open(&entry.file).map_err(io)?;
        file.seek(SeekFrom::Start(entry.start)).map_err(io)?;
        let mut bytes = vec![0; entry.bytes];
        file.read_exact(&mut bytes).map_err(io)?;
        let numbers = match entry.dtype {
            Dtype::F32 => {
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            Dtype::BF16 => {
                widen(&bytes, |bits: &[bf16], out| bits.convert_to_f32_slice(out), bf16::from_bits)
            }
            Dtype::F16 => widen(&bytes, |bits: &[f16], out| bits.convert_to_f32_slice(out), f16::from_bits),
            other => {
                return Err(wrong(format!(
                    "its type {other:?} is not supported; save it as F32, BF16 or F16"
                )));
            }
        };
        let numbers: Vec<f32> = numbers;
        match numbers.iter().position(|x| !x.is_finite()) {
            Some(at) => {
                let what = format!(
                    "number {at} is {}; the checkpoint is of a run that diverged, take an earlier one",
                    numbers[at]
                );
                Err(wrong(what))
            }
            None => Ok(numbers),
        }
    }

    /// Reads every parameter of a decoder: `set` is given each one's specification and numbers, [out, in].
    ///
    /// A missing tensor, one of another shape and one that no parameter uses are errors; all are found before the
    /// first is read.
    pub fn read_parameters(
        &self,
        config: &DecoderConfig,
        family: Family,
        set: &mut dyn FnMut(&ParameterSpec, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let mut tensors = stored_tensors(config, family);
        // Models saved without their head have no prefix.
        if !self.tensors.contains_key(&format!("{}{}", prefix(family), embedding(family))) {
            for tensor in &mut tensors {
                if let Some(bare) = tensor.name.strip_prefix(prefix(family)) {
                    tensor.name = bare.to_owned();
                }
            }
        }
        let tied_head = |name: &str| {
            if name != "lm_head.weight" || !config.tie_embeddings || !config.language_head {
                return Ok(false);
            }
            // The embedding is the first parameter.
            if self.read(name)? == self.read(&tensors[0].name)? {
                return Ok(true);
            }
            let what = "it differs from the embedding though tie_word_embeddings is true; set it to false";
            Err(self.wrong(name, what.into()))
        };
        self.read_stored(&tensors, &tied_head, set)
    }

    /// Reads every one of `tensors`, as [`Checkpoint::read_parameters`] does; others are refused but those that `spare`
    /// accepts.
    pub(crate) fn read_stored(
        &self,
        tensors: &[StoredTensor],
        spare: &dyn Fn(&str) -> Result<bool>,
        set: &mut dyn FnMut(&ParameterSpec, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let describing = self.described_by;
        for tensor in tensors {
            let entry = self.entry(&tensor.name)?;
            if entry.shape != tensor.shape {
                let what = format!(
                    "its shape is {:?} but {describing} asks for {:?}; correct {describing}",
                    entry.shape, tensor.shape
                );
                return Err(self.wrong(&tensor.name, what));
            }
        }
        let used: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        for name in self.tensors.keys() {
            if !used.contains(name.as_str()) && !is_buffer(name) && !spare(name)? {
                let what =
                    format!("no parameter of this model uses it; {describing} describes another model");
                return Err(self.wrong(name, what));
            }
        }
        for tensor in tensors {
            let numbers = self.read(&tensor.name)?;
            for (spec, part) in split(tensor, numbers) {
                set(&spec, &part)?;
            }
        }
        Ok(())
    }

    /// The error that a tensor which is there is wrong.
    fn wrong(&self, tensor: &str, what: String) -> Error {
        match self.entry(tensor) {
            Ok(entry) => Error::Tensor { file: entry.file.clone(), tensor: tensor.to_owned(), what },
            Err(missing) => missing,
        }
    }
}

fn widen<T: Copy>(
    bytes: &[u8],
    convert: impl Fn(&[T], &mut [f32]),
    from_bits: impl Fn(u16) -> T,
) -> Vec<f32> {
    let halves: Vec<T> = bytes.chunks_exact(2).map(|b| from_bits(u16::from_le_bytes([b[0], b[1]]))).collect();
    let mut out = vec![0.0; halves.len()];
    convert(&halves, &mut out);
    out
}

/// The parameters in a stored tensor, [out, in].
fn split(tensor: &StoredTensor, numbers: Vec<f32>) -> Vec<(ParameterSpec, Vec<f32>)> {
    if let ([spec], false) = (tensor.parameters.as_slice(), tensor.transposed) {
        return vec![(spec.clone(), numbers)];
    }
    let mut first = 0;
    let mut parts = Vec::with_capacity(tensor.parameters.len());
    for spec in &tensor.parameters {
        let part = if tensor.transposed {
            let width = tensor.shape[1];
            let at = |out: usize, input: usize| numbers[input * width + first + out];
            (0..spec.rows)
                .flat_map(|out| (0..spec.cols).map(move |input| (out, input)))
                .map(|(o, i)| at(o, i))
                .collect()
        } else {
            numbers[first..first + spec.len()].to_vec()
        };
        first += if tensor.transposed { spec.rows } else { spec.len() };
        parts.push((spec.clone(), part));
    }
    parts
}
