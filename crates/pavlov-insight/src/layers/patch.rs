//! Where the difference shows: the trained model's residual stream put into the reference, cell by cell.
//!
//! All cells (layer, position) are estimated at once by attribution patching (Nanda 2023; Kramár et al.,
//! arXiv:2403.00745): (h_π − h_ref)·∂m/∂h_ref, from two forward passes and one backward. It is a first-order estimate with
//! known misses, so the largest cells and random ones are patched exactly.

use pavlov_engine::{Activations, Change, Intervention, Observed, Rows, StreamGradients};
use pavlov_schema::rng::{Rng, Stream};

use super::metric::{Contrast, Packed};
use super::models::{Models, Weights};
use super::report::{Cell, PatchedLayer, Patches, Segment};
use super::{Asked, share};
use crate::estimate::Unit;
use crate::{Estimate, Result};

/// A cell before it was patched: example, layer, row of its example, estimate.
#[derive(Clone, Copy)]
struct Candidate {
    example: usize,
    layer: usize,
    row: u32,
    estimated: f64,
}

/// Cells that are kept while all are looked at.
struct Chosen {
    top: Vec<Candidate>,
    random: Vec<Candidate>,
    most: usize,
    seen: usize,
    rng: Rng,
}

impl Chosen {
    /// Looks at a cell: the largest are kept, and a uniform sample of all (Vitter's algorithm R).
    fn look(&mut self, cell: Candidate) {
        self.seen += 1;
        if self.random.len() < self.most {
            self.random.push(cell);
        } else {
            let place = self.rng.below(self.seen);
            if place < self.most {
                self.random[place] = cell;
            }
        }
        self.top.push(cell);
        if self.top.len() >= 4 * self.most + 64 {
            self.prune();
        }
    }

    fn prune(&mut self) {
        self.top.sort_by(|a, b| b.estimated.abs().total_cmp(&a.estimated.abs()));
        self.top.truncate(self.most);
    }
}

/// Evaluations of patches.
pub(super) fn cost(layers: usize) -> usize {
    3 + 2 * (layers + 1) + 2
}

pub(super) fn measure(
    models: &Models,
    contrasts: &[Contrast],
    cells: usize,
    seed: u64,
    asked: &mut Asked<'_>,
) -> Result<Patches> {
    let layers = models.trained().0.config().num_layers;
    let rng = Rng::new(seed, Stream::Probe, 2, 0);
    let mut chosen = Chosen { top: Vec::new(), random: Vec::new(), most: cells, seen: 0, rng };
    let mut sums = Sums::new(layers + 1);
    for packed in Packed::all(contrasts) {
        one_batch(models, &packed, layers, &mut chosen, &mut sums, asked)?;
    }
    chosen.prune();
    let gain: Vec<f64> = sums.after.iter().zip(&sums.before).map(|(a, b)| a - b).collect();
    let mut rng = Rng::new(seed, Stream::Bootstrap, 2, 0);
    let by_layer = (0..=layers)
        .map(|layer| PatchedLayer {
            layer,
            estimated: share(&sums.estimated[layer], &gain, &mut rng),
            brought: share(&sums.brought[layer], &gain, &mut rng),
            lost: share(&sums.lost[layer], &gain, &mut rng),
        })
        .collect();
    let top = exact(models, contrasts, &chosen.top, asked)?;
    let random = exact(models, contrasts, &chosen.random, asked)?;
    let agreement = correlation(top.iter().chain(&random).map(|cell| (cell.estimated, cell.exact)));
    let gain = Estimate::mean(&gain, Unit::LogOdds, &mut rng);
    Ok(Patches { gain, layers: by_layer, top, random, agreement })
}

/// Per example and layer, nats.
struct Sums {
    before: Vec<f64>,
    after: Vec<f64>,
    estimated: Vec<Vec<f64>>,
    brought: Vec<Vec<f64>>,
    lost: Vec<Vec<f64>>,
}

impl Sums {
    fn new(layers: usize) -> Self {
        let empty = || vec![Vec::new(); layers];
        Self { before: vec![], after: vec![], estimated: empty(), brought: empty(), lost: empty() }
    }
}

/// Two forward passes and a backward, then every whole layer patched both ways.
fn one_batch(
    models: &Models,
    packed: &Packed,
    layers: usize,
    chosen: &mut Chosen,
    sums: &mut Sums,
    asked: &mut Asked<'_>,
) -> Result<()> {
    let (reference, trained) = (models.reference(), models.trained());
    let [mut old, mut new, mut scratch] = [true, true, true].map(Activations::new);
    let forward = |(decoder, params): Weights<'_>, made: &[Intervention], acts: &mut Activations| {
        let outputs = decoder.forward_with(params, &packed.batch, 1.0, made, acts)?;
        Ok::<_, crate::Error>(packed.log_odds(&outputs.logp))
    };
    asked.tick()?;
    let (before, first) = (forward(reference, &[], &mut old)?, sums.before.len());
    asked.tick()?;
    let after = forward(trained, &[], &mut new)?;
    asked.tick()?;
    let (decoder, params) = reference;
    let mut streams = StreamGradients::default();
    let seen = Observed { streams: Some(&mut streams), ..Observed::default() };
    let (gradient, mut nothing) = (packed.gradient(), decoder.no_gradients());
    decoder.backward_with(params, &packed.batch, 1.0, &gradient, &[], &mut old, &mut nothing, seen)?;
    let rows: Vec<u32> = (0..packed.batch.forest.len() as u32).collect();
    let width = decoder.config().hidden_size;
    for layer in 0..=layers {
        let h_ref = decoder.stream(&old, layer, &rows)?;
        let h_new = trained.0.stream(&new, layer, &rows)?;
        let slope = decoder.stream_gradient(&streams, layer, &rows)?;
        for (i, placed) in packed.placed.iter().enumerate() {
            let mut sum = 0.0;
            for row in placed.rows.clone() {
                let at = row as usize * width..(row as usize + 1) * width;
                let cells = h_new[at.clone()].iter().zip(&h_ref[at.clone()]).zip(&slope[at]);
                let (mut estimated, mut differs) = (0.0, false);
                for ((new, old), slope) in cells {
                    differs |= new.to_bits() != old.to_bits();
                    estimated += f64::from(new - old) * f64::from(*slope);
                }
                sum += estimated;
                if differs {
                    let (example, row) = (first + i, row - placed.rows.start);
                    chosen.look(Candidate { example, layer, row, estimated });
                }
            }
            sums.estimated[layer].push(sum);
        }
        let mut patched = |weights: Weights<'_>, values: Vec<f32>| {
            asked.tick()?;
            let made =
                Intervention { layer, rows: Rows::These(rows.clone()), change: Change::Replace(values) };
            forward(weights, &[made], &mut scratch)
        };
        let (brought, kept) = (patched(reference, h_new)?, patched(trained, h_ref)?);
        sums.brought[layer].extend(brought.iter().zip(&before).map(|(a, b)| a - b));
        sums.lost[layer].extend(after.iter().zip(&kept).map(|(a, b)| a - b));
    }
    sums.before.extend(before);
    sums.after.extend(after);
    Ok(())
}

/// Patches each cell in a copy of its example of its own.
fn exact(
    models: &Models,
    contrasts: &[Contrast],
    cells: &[Candidate],
    asked: &mut Asked<'_>,
) -> Result<Vec<Cell>> {
    let ((reference, before), (trained, after)) = (models.reference(), models.trained());
    let mut changes = Vec::with_capacity(cells.len());
    asked.tick()?;
    let mut left = cells;
    for packed in Packed::all(cells.iter().map(|cell| &contrasts[cell.example])) {
        let (here, rest) = left.split_at(packed.placed.len());
        left = rest;
        let mut acts = Activations::new(true);
        trained.forward(after, &packed.batch, 1.0, &mut acts)?;
        let patch = |(cell, placed): (&Candidate, &super::metric::Placed)| {
            let rows = vec![placed.rows.start + cell.row];
            let values = trained.stream(&acts, cell.layer, &rows)?;
            Ok(Intervention { layer: cell.layer, rows: Rows::These(rows), change: Change::Replace(values) })
        };
        let made = here.iter().zip(&packed.placed).map(patch).collect::<Result<Vec<_>>>()?;
        let plain = reference.forward(before, &packed.batch, 1.0, &mut acts)?;
        let plain = packed.log_odds(&plain.logp);
        let patched = reference.forward_with(before, &packed.batch, 1.0, &made, &mut acts)?;
        let patched = packed.log_odds(&patched.logp);
        changes.extend(patched.iter().zip(plain).map(|(patched, plain)| patched - plain));
    }
    let tokenizer = &models.model().files.tokenizer;
    let cell = |(cell, exact): (&Candidate, f64)| {
        let Contrast { prompt, behaviour, alternative } = &contrasts[cell.example];
        let row = cell.row as usize;
        let (segment, place, tokens) = if row < prompt.len() {
            (Segment::Prompt, row, prompt)
        } else if row - prompt.len() < behaviour.len() {
            (Segment::Behaviour, row - prompt.len(), behaviour)
        } else {
            (Segment::Alternative, row - prompt.len() - behaviour.len(), alternative)
        };
        let before = if segment == Segment::Prompt { 0 } else { prompt.len() };
        let token = tokenizer.decode(&tokens[place..=place], false)?;
        let Candidate { example, layer, estimated, .. } = *cell;
        Ok(Cell { example, layer, position: before + place, segment, token, estimated, exact })
    };
    cells.iter().zip(changes).map(cell).collect()
}

/// Pearson's; none of fewer than two points or of points that do not vary.
fn correlation(points: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let points: Vec<(f64, f64)> = points.collect();
    let n = points.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (mx, my) = (mean(&|p| p.0), mean(&|p| p.1));
    let cov = mean(&|p| (p.0 - mx) * (p.1 - my));
    let (vx, vy) = (mean(&|p| (p.0 - mx).powi(2)), mean(&|p| (p.1 - my).powi(2)));
    Some(cov / (vx * vy).sqrt()).filter(|r| r.is_finite())
}
