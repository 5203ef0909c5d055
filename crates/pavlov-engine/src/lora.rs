//! Low-rank adapters (LoRA; Hu et al., arXiv:2106.09685): a linear layer W of a frozen decoder becomes
//! y = W·x + b + scale·B·A·x, and A and B alone are trained.
//!
//! A and B are parameters like the others, after those of the decoder. The decoder without its adapter is a view of the
//! same parameters ([`Decoder::without_adapter`]): the base needs no second copy.

use crate::backend::{Backend, LinearGradient, MatrixGradient, Weight};
use crate::config::{DecoderConfig, ParameterKind, ParameterSpec};
use crate::decoder::Decoder;
use crate::parameters::Parameters;
use crate::{Error, Result};
use pavlov_schema::rng::Rng;

const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// One low-rank update: A \[rank, in\], and for each module a B \[out, rank\].
#[derive(Clone, Debug, PartialEq)]
pub struct LoraTarget {
    /// Names of linear layers of the blocks, such as `model.layers.0.self_attn.q_proj`. Several share one A: the parts of
    /// a projection that a checkpoint holds fused.
    pub modules: Vec<String>,
    /// Rows of A.
    pub rank: usize,
    /// Factor of the update: α/rank, or α/√rank if it is rank-stabilised (Kalajdzievski, arXiv:2312.03732).
    pub scale: f32,
}

/// What is trained in place of the whole decoder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lora {
    /// Low-rank updates.
    pub targets: Vec<LoraTarget>,
    /// Parameters that are trained whole beside them, by name, such as `score.weight`.
    pub whole: Vec<String>,
}

impl LoraTarget {
    /// Name of the parameter A of updates whose first module is this.
    pub fn a(first: &str) -> String {
        format!("{first}{A}")
    }

    /// Name of the parameter B of a module.
    pub fn b(module: &str) -> String {
        format!("{module}{B}")
    }
}

impl Lora {
    /// The parameters of a decoder with this adapter: its own in their order, most of them frozen, then each target's A
    /// and Bs.
    pub(crate) fn parameters(&self, config: &DecoderConfig) -> Result<Vec<ParameterSpec>> {
        let mut specs = config.parameters();
        for spec in &mut specs {
            spec.trainable = self.whole.contains(&spec.name);
        }
        if let Some(name) = self.whole.iter().find(|name| specs.iter().all(|spec| spec.name != **name)) {
            return Err(Error::UnknownParameter(name.clone()));
        }
        let linears: Vec<ParameterSpec> = specs.iter().filter(|spec| is_linear(spec)).cloned().collect();
        let mut add = |name: String, rows: usize, cols: usize| {
            if specs.iter().any(|spec| spec.name == name) {
                return Err(Error::Config(format!("two low-rank updates have a parameter {name}")));
            }
            specs.push(ParameterSpec { name, rows, cols, kind: ParameterKind::Matrix, trainable: true });
            Ok(())
        };
        for target in &self.targets {
            let linear = |module: &String| {
                let name = format!("{module}.weight");
                let found = linears.iter().find(|spec| spec.name == name);
                found.ok_or_else(|| Error::UnknownParameter(format!("{name} (a target of the adapter)")))
            };
            let layers = target.modules.iter().map(linear).collect::<Result<Vec<_>>>()?;
            let Some(first) = layers.first() else {
                return Err(Error::Config("a low-rank update names no linear layer".into()));
            };
            if layers.iter().any(|layer| layer.cols != first.cols) {
                let problem = "have inputs of different widths and cannot share one A";
                return Err(Error::Config(format!("{} {problem}", target.modules.join(" and "))));
            }
            if target.rank == 0 || target.rank > 1 << 16 || !target.scale.is_finite() {
                return Err(Error::Config(format!(
                    "the update of {} has rank {} and scale {}; a rank from 1 to 65536 and a finite scale are needed",
                    first.name, target.rank, target.scale
                )));
            }
            add(LoraTarget::a(&target.modules[0]), target.rank, first.cols)?;
            for (module, layer) in target.modules.iter().zip(&layers) {
                add(LoraTarget::b(module), layer.rows, target.rank)?;
            }
        }
        Ok(specs)
    }

    /// The update of a linear layer, if it has one.
    pub(crate) fn of(&self, module: &str) -> Option<&LoraTarget> {
        self.targets.iter().find(|target| target.modules.iter().any(|name| name == module))
    }
}

fn is_linear(spec: &ParameterSpec) -> bool {
    spec.kind == ParameterKind::Matrix && spec.name.starts_with("model.layers.")
}

/// Initial values as PEFT has them, if the parameter belongs to an adapter: A uniform within ±1/√in (Kaiming with
/// a = √5), B zero, so that the adapter changes nothing at first.
pub(crate) fn initial(spec: &ParameterSpec, rng: &mut Rng) -> Option<Vec<f32>> {
    if spec.name.ends_with(A) {
        let bound = 1.0 / (spec.cols as f32).sqrt();
        return Some((0..spec.len()).map(|_| bound * (2.0 * rng.uniform() - 1.0)).collect());
    }
    spec.name.ends_with(B).then(|| vec![0.0; spec.len()])
}

impl<B: Backend> Decoder<B> {
    /// Adds the updates of the adapter to the weights: [`Decoder::without_adapter`] then computes what this decoder did
    /// before. The adapter's own parameters stay as they are.
    pub fn merge(&self, params: &mut Parameters<B>) -> Result<()> {
        self.add_updates(params, 1.0)
    }

    /// Takes back what [`Decoder::merge`] added, within rounding.
    pub fn unmerge(&self, params: &mut Parameters<B>) -> Result<()> {
        self.add_updates(params, -1.0)
    }

    /// Whether its adapter changes nothing: every B is zero, as in a new one.
    pub fn is_silent(&self, params: &Parameters<B>) -> Result<bool> {
        for module in self.adapter().iter().flat_map(|lora| &lora.targets).flat_map(|target| &target.modules)
        {
            if params.get(&LoraTarget::b(module))?.iter().any(|x| *x != 0.0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn add_updates(&self, params: &mut Parameters<B>, sign: f32) -> Result<()> {
        let backend = &**self.backend();
        let (mut left, mut right) = (backend.zeros(0), backend.zeros(0));
        for target in self.adapter().iter().flat_map(|lora| &lora.targets) {
            backend.upload(&mut right, &params.get(&LoraTarget::a(&target.modules[0]))?);
            for module in &target.modules {
                // W += (scale·Bᵀ)ᵀ·A, a gradient's product.
                let b = params.get(&LoraTarget::b(module))?;
                let transposed: Vec<f32> = (0..target.rank)
                    .flat_map(|i| b.iter().skip(i).step_by(target.rank))
                    .map(|x| sign * target.scale * x)
                    .collect();
                backend.upload(&mut left, &transposed);
                params.change(&format!("{module}.weight"), |w, rows, cols| {
                    let exact = Weight { master: &backend.zeros(0), compute: None, rows, cols };
                    let mut update = [LinearGradient {
                        dy: &left,
                        weight: exact,
                        dweight: Some(MatrixGradient { data: w, accumulate: true }),
                    }];
                    backend.linear_backward(&right, target.rank, &mut update, None);
                })?;
            }
        }
        Ok(())
    }
}
