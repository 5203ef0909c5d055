//! Changes of the residual stream in the middle of a forward pass: what steering, patching and ablation are made of.
//!
//! The stream is named as transformers names `hidden_states`: layer 0 is the embedding, layer ℓ what comes out of ℓ
//! blocks, layer `num_layers` what the final norm reads. A change at layer ℓ is what block ℓ and all after it see, and
//! what [`Decoder::stream`] then reads.

use crate::backend::{Backend, TableStorage};
use crate::config::DecoderConfig;
use crate::decoder::Decoder;
use crate::{Error, Result};

/// One change, at one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Intervention {
    /// The stream after so many blocks, 0 to `num_layers`.
    pub layer: usize,
    /// The rows that are changed.
    pub rows: Rows,
    /// What is done to each.
    pub change: Change,
}

/// Which rows of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All: steering.
    All,
    /// Those at this position of their sequence or later; 0 is the first token.
    From(usize),
    /// These rows of a batch, each named once. A sampler has no such rows and refuses them.
    These(Vec<u32>),
}

/// What is done to a row x of the stream. Vectors are \[hidden_size\], one for all rows, or \[rows, hidden_size\], one
/// for each of [`Rows::These`].
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// x + v.
    Add(Vec<f32>),
    /// v.
    Replace(Vec<f32>),
    /// x − v·(v·x)/(v·v).
    ProjectOut(Vec<f32>),
}

impl Change {
    fn vectors(&self) -> &[f32] {
        match self {
            Self::Add(v) | Self::Replace(v) | Self::ProjectOut(v) => v,
        }
    }

    /// The change of one row.
    fn apply(&self, x: &mut [f32], v: &[f32]) {
        match self {
            Self::Add(_) => x.iter_mut().zip(v).for_each(|(x, v)| *x += v),
            Self::Replace(_) => x.copy_from_slice(v),
            Self::ProjectOut(_) => project_out(x, v),
        }
    }

    /// From the derivative of a changed row to that of the row before; the derivative of a shift is the former.
    fn apply_backward(&self, dx: &mut [f32], v: &[f32]) {
        match self {
            Self::Add(_) => {}
            Self::Replace(_) => dx.fill(0.0),
            // A projection is its own transpose.
            Self::ProjectOut(_) => project_out(dx, v),
        }
    }
}

fn project_out(x: &mut [f32], v: &[f32]) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let share = (dot(x, v) / dot(v, v)) as f32;
    x.iter_mut().zip(v).for_each(|(x, v)| *x -= share * v);
}

impl Intervention {
    /// Its name in an error.
    fn named(&self, index: usize) -> String {
        let change = match self.change {
            Change::Add(_) => "add",
            Change::Replace(_) => "replace",
            Change::ProjectOut(_) => "project out",
        };
        format!("intervention {index} ({change} at layer {})", self.layer)
    }

    /// Refuses what no pass of this decoder could do.
    pub(crate) fn check(&self, index: usize, config: &DecoderConfig) -> Result<()> {
        let refuse = |problem: String| Err(Error::Observation(format!("{} {problem}", self.named(index))));
        if self.layer > config.num_layers {
            return refuse(format!("is outside the layers 0 to {}", config.num_layers));
        }
        let (vectors, width) = (self.change.vectors(), config.hidden_size);
        let many = match &self.rows {
            Rows::These(rows) => rows.len(),
            Rows::All | Rows::From(_) => 1,
        };
        if vectors.len() != width && vectors.len() != many * width {
            return refuse(format!("has {} numbers, not {width} or {many} × {width}", vectors.len()));
        }
        if vectors.iter().any(|x| !x.is_finite()) {
            return refuse("has a number that is not finite".into());
        }
        let zero = |v: &[f32]| v.iter().all(|x| *x == 0.0);
        if matches!(self.change, Change::ProjectOut(_)) && vectors.chunks_exact(width).any(zero) {
            return refuse("has a direction of length zero".into());
        }
        if let Rows::These(rows) = &self.rows {
            let mut sorted = rows.clone();
            sorted.sort_unstable();
            if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
                return refuse("names a row twice".into());
            }
        }
        Ok(())
    }

    /// The rows of a pass at these positions that it changes.
    fn rows(&self, positions: &[u32]) -> Vec<u32> {
        match &self.rows {
            Rows::All => (0..positions.len() as u32).collect(),
            Rows::From(first) => (0..positions.len() as u32)
                .filter(|row| positions[*row as usize] as usize >= *first)
                .collect(),
            Rows::These(rows) => rows.clone(),
        }
    }
}

/// Interventions with the rows of one pass that each changes.
pub(crate) struct Placed<'a> {
    interventions: &'a [Intervention],
    rows: Vec<Vec<u32>>,
}

impl<'a> Placed<'a> {
    /// Those of a batch; each must change something.
    pub(crate) fn in_batch(
        interventions: &'a [Intervention],
        config: &DecoderConfig,
        positions: &[u32],
    ) -> Result<Self> {
        for (i, intervention) in interventions.iter().enumerate() {
            intervention.check(i, config)?;
            if let Rows::These(rows) = &intervention.rows
                && let Some(row) = rows.iter().find(|row| **row as usize >= positions.len())
            {
                let (name, all) = (intervention.named(i), positions.len());
                return Err(Error::Observation(format!(
                    "{name}: row {row} is outside the batch's {all} rows"
                )));
            }
        }
        let placed = Self::at(interventions, positions);
        let mut fired = vec![false; interventions.len()];
        placed.note(&mut fired);
        all_fired(interventions, &fired)?;
        Ok(placed)
    }

    /// Those of any pass; some may change nothing in it.
    pub(crate) fn at(interventions: &'a [Intervention], positions: &[u32]) -> Self {
        Self { interventions, rows: interventions.iter().map(|i| i.rows(positions)).collect() }
    }

    /// Notes which interventions change a row.
    pub(crate) fn note(&self, fired: &mut [bool]) {
        fired.iter_mut().zip(&self.rows).for_each(|(fired, rows)| *fired |= !rows.is_empty());
    }

    /// Changes the stream of a layer.
    pub(crate) fn apply<B: Backend>(&self, backend: &B, width: usize, layer: usize, x: &mut B::Buffer) {
        for (intervention, rows) in self.of(layer) {
            change_rows(backend, width, rows, x, intervention, Change::apply);
        }
    }

    /// From the derivative of the changed stream to that of the stream before.
    pub(crate) fn apply_backward<B: Backend>(
        &self,
        backend: &B,
        width: usize,
        layer: usize,
        dx: &mut B::Buffer,
    ) {
        for (intervention, rows) in self.of(layer).rev() {
            if !matches!(intervention.change, Change::Add(_)) {
                change_rows(backend, width, rows, dx, intervention, Change::apply_backward);
            }
        }
    }

    fn of(&self, layer: usize) -> impl DoubleEndedIterator<Item = (&'a Intervention, &[u32])> {
        let all = self.interventions.iter().zip(&self.rows);
        all.filter(move |(i, rows)| i.layer == layer && !rows.is_empty()).map(|(i, rows)| (i, &rows[..]))
    }
}

/// Refuses interventions that changed nothing.
pub(crate) fn all_fired(interventions: &[Intervention], fired: &[bool]) -> Result<()> {
    match fired.iter().position(|fired| !fired) {
        None => Ok(()),
        Some(i) => {
            let name = interventions[i].named(i);
            Err(Error::Observation(format!("{name} did not fire: it matches no row; give rows that exist")))
        }
    }
}

/// Takes rows to the host, changes each with its vector, and puts them back.
fn change_rows<B: Backend>(
    backend: &B,
    width: usize,
    rows: &[u32],
    x: &mut B::Buffer,
    intervention: &Intervention,
    change: impl Fn(&Change, &mut [f32], &[f32]),
) {
    let mut chosen = backend.zeros(rows.len() * width);
    backend.embed(&mut chosen, x, TableStorage::Rows, rows, width, false);
    let mut values = Vec::new();
    backend.download(&mut values, &chosen);
    let vectors = intervention.change.vectors();
    let each = if vectors.len() == width { 0 } else { width };
    for (i, value) in values.chunks_exact_mut(width).enumerate() {
        change(&intervention.change, value, &vectors[i * each..][..width]);
    }
    backend.upload(&mut chosen, &values);
    backend.put_rows(x, rows, &chosen, width);
}

impl<B: Backend> Decoder<B> {
    /// Refuses interventions that a sampler could not make.
    pub(crate) fn check_sampled(&self, interventions: &[Intervention]) -> Result<()> {
        for (i, intervention) in interventions.iter().enumerate() {
            intervention.check(i, self.config())?;
            if matches!(intervention.rows, Rows::These(_)) {
                let problem = "names rows of a batch, which a sampler does not have; give positions";
                return Err(Error::Observation(format!("{} {problem}", intervention.named(i))));
            }
        }
        Ok(())
    }
}
