//! What scripts/golden/parity.py wrote: tensors and numbers that PyTorch computed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

/// Tensors by their names in the checkpoint.
pub(crate) type Tensors = BTreeMap<String, Vec<f32>>;

/// One case: a Hugging Face folder, and what PyTorch makes of it.
pub(crate) struct Fixture {
    pub(crate) folder: PathBuf,
    pub(crate) about: About,
    tensors: Tensors,
    tokens: Vec<Vec<u32>>,
}

/// fixture.json.
#[derive(Deserialize)]
pub(crate) struct About {
    pub(crate) kind: Kind,
    pub(crate) temperature: f32,
    pub(crate) loss: f64,
    pub(crate) weighted_loss: Option<f64>,
    pub(crate) bf16_loss: Option<f64>,
    pub(crate) optimizer: Option<Optimizer>,
    pub(crate) without_gradient: Vec<Hole>,
    float64_distance: BTreeMap<String, Noise>,
    /// How far PyTorch in f32 is from itself when it computes the steps in another order, in units of
    /// `float64_distance` (scripts/golden/equivalents.py).
    #[serde(default)]
    pub(crate) equivalents: BTreeMap<String, f64>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Causal,
    Reward,
}

/// AdamW's settings, and the losses and gradient norms of its steps.
#[derive(Deserialize)]
pub(crate) struct Optimizer {
    pub(crate) lr: f64,
    pub(crate) betas: [f64; 2],
    pub(crate) eps: f64,
    pub(crate) weight_decay: f64,
    pub(crate) max_grad_norm: f64,
    pub(crate) losses: Vec<f64>,
    pub(crate) grad_norms: Vec<f64>,
}

/// Elements of a tensor whose gradient is rounding alone.
#[derive(Deserialize)]
pub(crate) struct Hole {
    pub(crate) tensor: String,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// How far PyTorch in f32 is from PyTorch in f64.
#[derive(Deserialize)]
struct Noise {
    worst: f64,
}

impl Fixture {
    pub(crate) fn read(folder: &Path) -> Self {
        let json = std::fs::read(folder.join("fixture.json")).unwrap();
        let bytes = std::fs::read(folder.join("fixture.safetensors")).unwrap();
        let mut tokens = BTreeMap::new();
        let mut tensors = Tensors::new();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
            let words = view.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap()));
            match (name.strip_prefix("tokens."), view.dtype()) {
                (Some(i), Dtype::I32) => {
                    tokens.insert(i.to_owned(), words.collect());
                }
                (None, Dtype::F32) => {
                    tensors.insert(name.to_owned(), words.map(f32::from_bits).collect());
                }
                _ => panic!("{name} of type {:?}", view.dtype()),
            }
        }
        let about = serde_json::from_slice(&json).unwrap();
        Self { folder: folder.to_owned(), about, tensors, tokens: tokens.into_values().collect() }
    }

    /// Every case of the goldens, by name.
    pub(crate) fn all() -> Vec<(String, Self)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let mut cases: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("fixture.json").exists())
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), Self::read(&path)))
            .collect();
        cases.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(cases.len(), 20, "the goldens of scripts/golden/cases.py and adapters.py");
        cases
    }

    /// The folder of an adapter's base.
    pub(crate) fn base(&self) -> Option<PathBuf> {
        let adapter = pavlov_lm::AdapterConfig::read(&self.folder).ok()?;
        Some(self.folder.with_file_name(adapter.base))
    }

    pub(crate) fn sequences(&self) -> &[Vec<u32>] {
        &self.tokens
    }

    pub(crate) fn tensor(&self, name: &str) -> &[f32] {
        self.tensors.get(name).unwrap_or_else(|| panic!("the fixture has no {name}"))
    }

    /// The tensors `{group}.0`, `{group}.1`, …, one after another.
    pub(crate) fn joined(&self, group: &str) -> Vec<f32> {
        (0..self.tokens.len()).flat_map(|i| self.tensor(&format!("{group}.{i}")).to_vec()).collect()
    }

    /// The tensors named `{group}.NAME`, by NAME.
    pub(crate) fn group(&self, group: &str) -> Tensors {
        let named = |(name, t): (&String, &Vec<f32>)| {
            Some((name.strip_prefix(group)?.strip_prefix('.')?.to_owned(), t.clone()))
        };
        self.tensors.iter().filter_map(named).collect()
    }

    /// How far f32 is from f64 in PyTorch itself.
    pub(crate) fn noise(&self, group: &str) -> f64 {
        self.about.float64_distance[group].worst
    }
}
