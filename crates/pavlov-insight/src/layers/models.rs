//! Two sets of weights of one architecture, and everything between them: gates on what training changed, part by part.

use std::path::Path;

use pavlov_engine::{Decoder, LoraTarget, ParameterSpec, Parameters};
use pavlov_lm::LanguageModel;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A part of a decoder that a gate lets through as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A block, by its number from 0.
    Block(usize),
    /// The embedding, the final norm and the head.
    Ends,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Block(layer) => write!(f, "block {layer}"),
            Self::Ends => f.write_str("embedding and head"),
        }
    }
}

/// A frozen decoder has an adapter too, without updates.
fn has_adapter(model: &LanguageModel) -> bool {
    model.decoder.adapter().is_some_and(|lora| !lora.targets.is_empty())
}

fn part_of(spec: &ParameterSpec) -> Part {
    spec.layer().map_or(Part::Ends, Part::Block)
}

/// A decoder and weights that it can compute with.
pub type Weights<'a> = (&'a Decoder, &'a Parameters);

/// A reference, a trained model, and the models between them.
pub struct Models {
    /// Configuration and tokenizer of both.
    trained: LanguageModel,
    between: Between,
    parts: Vec<(Part, f64)>,
}

enum Between {
    /// Another set of weights, and room for mixtures of the two.
    Whole { reference: Box<Parameters>, mixed: Box<Parameters> },
    /// The trained model without its adapter, and with some of it.
    Adapter { base: Box<Decoder>, gated: Box<Decoder> },
}

impl Models {
    /// What training changed between two models of the same shape and tokenizer; without a reference, the adapter of the
    /// trained one. `names` says in errors where they are from.
    pub fn new(reference: Option<LanguageModel>, trained: LanguageModel, names: [&Path; 2]) -> Result<Self> {
        let [before, after] = names.map(|path| path.display().to_string());
        let refuse = |problem: String| Err(Error::Question(problem));
        if !trained.decoder.config().language_head {
            return refuse(format!("{after}: writes no text; give a language model"));
        }
        let config = trained.decoder.config().clone();
        let between = match reference {
            None if has_adapter(&trained) => {
                let base = Box::new(trained.decoder.without_adapter());
                let gated = Box::new(trained.decoder.with_gates(&vec![1.0; config.num_layers])?);
                Between::Adapter { base, gated }
            }
            None => return refuse(format!("{after}: has no adapter; give a reference beside it")),
            Some(reference) if has_adapter(&reference) || has_adapter(&trained) => {
                let what = "one of them is an adapter, whose gates are on the whole of it";
                return refuse(format!("{before} and {after}: {what}; merge both with pavlov merge"));
            }
            Some(reference) => {
                if reference.decoder.config() != trained.decoder.config() {
                    let what = "differ in their configurations, so their weights have no difference";
                    return refuse(format!("{before} and {after} {what}"));
                }
                if reference.files.tokenizer.vocabulary() != trained.files.tokenizer.vocabulary() {
                    return refuse(format!("{before} and {after} have different tokenizers"));
                }
                let mut mixed = Parameters::zeros(&trained.decoder, trained.params.dtype());
                mixed.copy_from(&trained.params);
                Between::Whole { reference: Box::new(reference.params), mixed: Box::new(mixed) }
            }
        };
        let mut models = Self { trained, between, parts: Vec::new() };
        models.parts = models.changes()?;
        if models.parts.is_empty() {
            return refuse(format!("{before} and {after} have the same weights: nothing was learned"));
        }
        Ok(models)
    }

    /// The parts that training changed, each with the norm of its change over the norm of what was there.
    pub fn parts(&self) -> &[(Part, f64)] {
        &self.parts
    }

    /// The trained model, whose tokenizer and configuration both have.
    pub fn model(&self) -> &LanguageModel {
        &self.trained
    }

    /// Before training.
    pub fn reference(&self) -> Weights<'_> {
        match &self.between {
            Between::Whole { reference, .. } => (&self.trained.decoder, reference),
            Between::Adapter { base, .. } => (base, &self.trained.params),
        }
    }

    /// After training.
    pub fn trained(&self) -> Weights<'_> {
        (&self.trained.decoder, &self.trained.params)
    }

    /// Between the two, as [`Models::gate`] left it.
    pub fn mixed(&self) -> Weights<'_> {
        match &self.between {
            Between::Whole { mixed, .. } => (&self.trained.decoder, mixed),
            Between::Adapter { gated, .. } => (gated, &self.trained.params),
        }
    }

    /// Lets only these of [`Models::parts`] through: θ_ref + Σ a_p·Δ_p with a_p 0 or 1.
    pub fn gate(&mut self, open: &[bool]) -> Result<()> {
        let gate = |part: Part| {
            let found = self.parts.iter().position(|(other, _)| *other == part);
            found.map(|i| if open[i] { 1.0 } else { 0.0 })
        };
        match &mut self.between {
            Between::Whole { reference, mixed } => {
                mixed.blend(reference, &self.trained.params, |spec| gate(part_of(spec)))?;
            }
            Between::Adapter { gated, .. } => {
                let layers = self.trained.decoder.config().num_layers;
                let gates: Vec<f32> =
                    (0..layers).map(|layer| gate(Part::Block(layer)).unwrap_or(1.0)).collect();
                **gated = self.trained.decoder.with_gates(&gates)?;
            }
        }
        Ok(())
    }

    fn changes(&self) -> Result<Vec<(Part, f64)>> {
        let layers = self.trained.decoder.config().num_layers;
        let all = (0..layers).map(Part::Block).chain([Part::Ends]);
        let mut sums: Vec<(Part, f64, f64)> = all.map(|part| (part, 0.0, 0.0)).collect();
        let params = &self.trained.params;
        let square = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        let reference = match &self.between {
            Between::Whole { reference, .. } => reference,
            Between::Adapter { base, .. } => {
                return self.adapter_changes(base, sums);
            }
        };
        for spec in params.specs() {
            let (before, after) = (reference.get(&spec.name)?, params.get(&spec.name)?);
            let change: Vec<f32> = before.iter().zip(&after).map(|(a, b)| b - a).collect();
            let place = spec.layer().unwrap_or(layers);
            sums[place].1 += square(&change);
            sums[place].2 += square(&before);
        }
        Ok(relative(&sums))
    }

    /// ‖scale·B·A‖² from the small products BᵀB and A·Aᵀ.
    fn adapter_changes(&self, base: &Decoder, mut sums: Vec<(Part, f64, f64)>) -> Result<Vec<(Part, f64)>> {
        let params = &self.trained.params;
        for spec in base.parameters() {
            let Some(layer) = spec.layer() else { continue };
            sums[layer].2 += params.get(&spec.name)?.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        }
        for target in self.trained.decoder.adapter().iter().flat_map(|lora| &lora.targets) {
            let a = params.get(&LoraTarget::a(&target.modules[0]))?;
            let rows: Vec<&[f32]> = a.chunks_exact(a.len() / target.rank).collect();
            for module in &target.modules {
                let b = params.get(&LoraTarget::b(module))?;
                let column = |i: usize| b.iter().skip(i).step_by(target.rank).copied();
                let mut sum = 0.0;
                for i in 0..target.rank {
                    for j in 0..target.rank {
                        let inner: f64 =
                            rows[i].iter().zip(rows[j]).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                        let outer: f64 =
                            column(i).zip(column(j)).map(|(x, y)| f64::from(x) * f64::from(y)).sum();
                        sum += inner * outer;
                    }
                }
                let layer = self
                    .trained
                    .decoder
                    .parameters()
                    .iter()
                    .find(|spec| spec.name.strip_suffix(".weight").is_some_and(|name| name == module));
                let Some(layer) = layer.and_then(ParameterSpec::layer) else { continue };
                sums[layer].1 += f64::from(target.scale).powi(2) * sum;
            }
        }
        // An update that is zero has a gate all the same, but nothing behind it.
        Ok(relative(&sums))
    }
}

fn relative(sums: &[(Part, f64, f64)]) -> Vec<(Part, f64)> {
    sums.iter().filter(|(_, change, _)| *change > 0.0).map(|(p, c, w)| (*p, (c / w).sqrt())).collect()
}
