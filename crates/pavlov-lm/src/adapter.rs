//! Low-rank adapters in PEFT's files: adapter_config.json and adapter_model.safetensors.
//!
//! Only what the engine computes is read; what else PEFT knows (DoRA, dropout, patterns of ranks, …) is an error that
//! names the key. What is written loads in PEFT unchanged.

use std::path::{Path, PathBuf};

use pavlov_engine::{Lora, LoraTarget, ParameterSpec};
use serde_json::{Value, json};

use crate::files;
use crate::hf_config::{Family, HfConfig};
use crate::keys::Keys;
use crate::layout::{StoredTensor, prefix, stored_tensors};
use crate::{Error, Result};

/// The file that makes a folder an adapter's.
pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";
/// What PEFT puts before a model's own names.
const PEFT_PREFIX: &str = "base_model.model.";
pub(crate) const SCORE: &str = "score.weight";
/// The key for every linear layer of the blocks.
const ALL_LINEAR: &str = "all-linear";

/// Keys that have to be absent, null, false or empty, for want of what they ask for.
const UNSUPPORTED: [&str; 22] = [
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "corda_config",
    "exclude_modules",
    "kasa_config",
    "layer_replication",
    "layers_pattern",
    "layers_to_transform",
    "lora_bias",
    "lora_ga_config",
    "megatron_config",
    "monteclora_config",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
    "eva_config",
    "loftq_config",
];

/// Which linear layers of the blocks get a low-rank update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Every one.
    AllLinear,
    /// Those whose names are one of these or end with a dot and one of these, such as `q_proj`.
    Named(Vec<String>),
}

/// What adapter_config.json says of a LoRA adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// `base_model_name_or_path`: the folder of the model that the adapter belongs to.
    pub base: String,
    /// `r`, the rank.
    pub rank: usize,
    /// `lora_alpha`: the update is multiplied with α/r.
    pub alpha: f64,
    /// `use_rslora`: α/√r instead (Kalajdzievski, arXiv:2312.03732).
    pub rank_stabilised: bool,
    /// `target_modules`.
    pub targets: Targets,
    /// `lora_dropout` as it was read: it changes no output, but such an adapter cannot be trained on here. Written as 0.
    pub dropout: f64,
}

/// The kind of model that a file says its adapter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// `CAUSAL_LM`, or not said.
    Language,
    /// `SEQ_CLS`: the scalar head is trained whole, as PEFT does.
    Score,
}

impl Targets {
    /// `"all-linear"`, or names.
    pub fn from_names(names: &[String]) -> Self {
        match names {
            [name] if name == ALL_LINEAR => Self::AllLinear,
            names => Self::Named(names.to_vec()),
        }
    }

    fn has(&self, module: &str) -> bool {
        match self {
            Self::AllLinear => true,
            Self::Named(names) => names.iter().any(|name| ends_with(module, name)),
        }
    }
}

/// PEFT's rule: the whole name, or its end from a dot on.
fn ends_with(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl AdapterConfig {
    /// Whether a folder is an adapter's.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(ADAPTER_CONFIG).exists()
    }

    /// Reads adapter_config.json of a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        Ok(Self::read_with_task(folder)?.0)
    }

    pub(crate) fn read_with_task(folder: &Path) -> Result<(Self, Task)> {
        let file = folder.join(ADAPTER_CONFIG);
        if !file.exists() {
            return Err(Error::file(&file, "there is no such file; give the folder of a PEFT adapter"));
        }
        let json = files::read_json(&file)?;
        let keys = Keys::new(&file, &json);
        if !keys.text("peft_type")?.eq_ignore_ascii_case("lora") {
            return Err(keys.wrong("peft_type", "only LORA is supported; train a LoRA adapter"));
        }
        for key in UNSUPPORTED {
            if keys.get(key).is_some_and(|value| !is_nothing(value)) {
                return Err(keys.wrong(key, "it is not supported; train the adapter without it"));
            }
        }
        if keys.text_or("bias", "none")? != "none" {
            return Err(keys.wrong("bias", "only none is supported; train the adapter without biases"));
        }
        // Other beginnings change the base's weights.
        if let Some(Value::String(how)) = keys.get("init_lora_weights")
            && !["gaussian", "orthogonal"].contains(&how.as_str())
        {
            let what = "the adapter belongs to changed weights; convert it to LoRA with peft first";
            return Err(keys.wrong("init_lora_weights", what));
        }
        let targets = match keys.get("target_modules") {
            Some(Value::String(name)) if name == ALL_LINEAR => Targets::AllLinear,
            Some(Value::Array(names)) if !names.is_empty() && names.iter().all(Value::is_string) => {
                Targets::Named(names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            Some(Value::String(_)) => {
                return Err(keys.wrong("target_modules", "a pattern is not supported; list the names"));
            }
            _ => return Err(keys.wrong("target_modules", "it must be a list of names; list them")),
        };
        let task = match keys.text_or("task_type", "CAUSAL_LM")? {
            "CAUSAL_LM" => Task::Language,
            "SEQ_CLS" => Task::Score,
            _ => return Err(keys.wrong("task_type", "only CAUSAL_LM and SEQ_CLS are supported")),
        };
        let saved = keys.get("modules_to_save").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        // PEFT writes both of its names for the head of a classifier.
        let known = |name: &Value| task == Task::Score && (name == "score" || name == "classifier");
        if let Some(name) = saved.iter().find(|name| !known(name)) {
            let what = format!("{name} is trained whole, which only the score head can be; train without it");
            return Err(keys.wrong("modules_to_save", &what));
        }
        let config = Self {
            base: keys.text_or("base_model_name_or_path", "")?.to_owned(),
            rank: keys.size("r")?,
            alpha: keys.positive("lora_alpha")?,
            rank_stabilised: keys.flag_or("use_rslora", false)?,
            targets,
            dropout: keys.number_or("lora_dropout", 0.0)?,
        };
        Ok((config, task))
    }

    /// The folder of the base that the adapter in `folder` names.
    pub fn base_folder(&self, folder: &Path) -> Result<PathBuf> {
        let base = PathBuf::from(&self.base);
        if base.is_dir() {
            return Ok(base);
        }
        let what = format!(
            "key base_model_name_or_path: there is no folder {}; give the base model's, and this as its adapter",
            self.base
        );
        Err(Error::file(&folder.join(ADAPTER_CONFIG), what))
    }

    /// Writes adapter_config.json for an adapter of a model.
    pub(crate) fn write(&self, folder: &Path, model: &HfConfig) -> Result<()> {
        let scores = model.decoder.scalar_outputs > 0;
        let targets: Vec<String> = match &self.targets {
            Targets::Named(names) => names.clone(),
            Targets::AllLinear => {
                let mut names: Vec<String> = linears(model)
                    .iter()
                    .map(|(module, _)| module.rsplit('.').next().unwrap_or(module).to_owned())
                    .collect();
                names.sort_unstable();
                names.dedup();
                names
            }
        };
        let json = json!({
            "alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": self.base, "bias": "none",
            "exclude_modules": null, "fan_in_fan_out": model.family == Family::Gpt2, "inference_mode": true,
            "init_lora_weights": true, "layer_replication": null, "layers_pattern": null,
            "layers_to_transform": null, "lora_alpha": whole(self.alpha), "lora_bias": false,
            "lora_dropout": 0.0, "modules_to_save": scores.then_some(["classifier", "score"]),
            "peft_type": "LORA", "r": self.rank, "rank_pattern": {}, "revision": null,
            "target_modules": targets, "target_parameters": null,
            "task_type": if scores { "SEQ_CLS" } else { "CAUSAL_LM" }, "trainable_token_indices": null,
            "use_dora": false, "use_rslora": self.rank_stabilised,
        });
        let Value::Object(json) = json else { unreachable!("the literal above is an object") };
        files::write_json(&folder.join(ADAPTER_CONFIG), &json)
    }

    /// The adapter as the engine computes it: every target is a linear layer of the blocks, the parts of a fused
    /// projection share an A, and a scalar head is trained whole.
    pub(crate) fn lora(&self, model: &HfConfig) -> Result<Lora> {
        let linears = linears(model);
        if let Targets::Named(names) = &self.targets {
            let absent = |name: &&String| !linears.iter().any(|(module, _)| ends_with(module, name));
            if let Some(name) = names.iter().find(absent) {
                let mut known: Vec<&str> =
                    linears.iter().filter_map(|(module, _)| module.rsplit('.').next()).collect();
                known.sort_unstable();
                known.dedup();
                return Err(Error::Model(format!(
                    "target module {name}: no linear layer of the model's blocks has this name; they are {}",
                    known.join(", ")
                )));
            }
        }
        let rank = self.rank as f64;
        let scale = self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank };
        let target = |(_, parts): &(String, Vec<ParameterSpec>)| LoraTarget {
            modules: parts.iter().map(|part| part.name.trim_end_matches(".weight").to_owned()).collect(),
            rank: self.rank,
            scale: scale as f32,
        };
        let targets = linears.iter().filter(|(module, _)| self.targets.has(module)).map(target).collect();
        let head = (model.decoder.scalar_outputs > 0).then(|| SCORE.to_owned());
        Ok(Lora { targets, whole: head.into_iter().collect() })
    }

    /// Every tensor of adapter_model.safetensors; `parameters` are those of the decoder with the adapter.
    pub(crate) fn tensors(&self, model: &HfConfig, parameters: &[ParameterSpec]) -> Vec<StoredTensor> {
        let find = |name: &str| parameters.iter().find(|spec| spec.name == name).cloned();
        let store = |name: String, parts: Vec<ParameterSpec>| StoredTensor {
            name: format!("{PEFT_PREFIX}{name}"),
            shape: vec![parts.iter().map(|part| part.rows).sum(), parts.first().map_or(0, |part| part.cols)],
            transposed: false,
            parameters: parts,
        };
        let mut tensors = Vec::new();
        for (module, parts) in linears(model).iter().filter(|(module, _)| self.targets.has(module)) {
            let names = || parts.iter().map(|part| part.name.trim_end_matches(".weight"));
            let a = names().take(1).filter_map(|name| find(&LoraTarget::a(name))).collect();
            let b = names().filter_map(|name| find(&LoraTarget::b(name))).collect();
            tensors.push(store(format!("{module}.lora_A.weight"), a));
            tensors.push(store(format!("{module}.lora_B.weight"), b));
        }
        tensors.extend(find(SCORE).map(|score| store(SCORE.to_owned(), vec![score])));
        tensors
    }
}

/// The name of the score head in PEFT's file.
pub(crate) fn score_tensor() -> String {
    format!("{PEFT_PREFIX}{SCORE}")
}

/// The linear layers of the blocks by the checkpoint's names, without `.weight`, with their parts.
fn linears(model: &HfConfig) -> Vec<(String, Vec<ParameterSpec>)> {
    let blocks = match model.family {
        Family::Gpt2 => format!("{}h.", prefix(model.family)),
        _ => format!("{}layers.", prefix(model.family)),
    };
    let linear = |tensor: &StoredTensor| tensor.shape.len() == 2 && tensor.name.starts_with(&blocks);
    stored_tensors(&model.decoder, model.family)
        .into_iter()
        .filter(linear)
        .map(|tensor| (tensor.name.trim_end_matches(".weight").to_owned(), tensor.parameters))
        .collect()
}

/// Whether a key's value asks for nothing.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::String(_) => false,
    }
}

/// A number as JSON, without a fraction where it has none.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 { Value::from(number as i64) } else { number.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_a_dot() {
        assert!(ends_with("model.layers.0.mlp.up_proj", "up_proj"));
        assert!(ends_with("model.layers.0.mlp.up_proj", "mlp.up_proj"));
        assert!(ends_with("model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"));
        assert!(!ends_with("model.layers.0.mlp.up_proj", "p_proj"));
    }
}
