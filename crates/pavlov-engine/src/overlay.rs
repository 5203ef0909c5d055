//! What the last block's attention looked at: an observation of a forward pass.

use crate::activations::Activations;
use crate::backend::Backend;
use crate::decoder::Decoder;
use crate::forest::Batch;
use crate::{Error, Result};

/// How far the sum of recomputed attention may be from the one that the pass divided by, in nats.
const TOLERANCE: f32 = 0.05;

impl<B: Backend> Decoder<B> {
    /// The attention weights of the last block at some rows, a mean over its heads: for each row one weight for every token
    /// of its sequence up to itself, summing to 1. `acts` must be those of a forward pass over `batch`.
    ///
    /// Errors: the pass was over something else, so that the weights do not belong to it.
    pub fn last_attention(
        &self,
        batch: &Batch,
        acts: &Activations<B>,
        rows: &[u32],
    ) -> Result<Vec<Vec<f32>>> {
        let config = self.config();
        let layer = config.num_layers - 1;
        let block = acts.blocks.get(if acts.recompute { 0 } else { layer });
        let not_seen =
            || Error::Batch("attention was asked for of a pass that these activations did not see".into());
        let block = block.ok_or_else(not_seen)?;
        let mut lse = Vec::new();
        let backend = self.backend();
        backend.download(&mut lse, &block.lse);
        let [q, k] = block.queries_and_keys(backend, config, lse.len() / config.num_heads, acts.halved);
        let (heads, d) = (config.num_heads, config.head_dim);
        let (query_width, kv_width) = (config.query_width(), config.kv_width());
        let total = batch.forest.len();
        if q.len() < total * query_width || lse.len() < total * heads {
            return Err(not_seen());
        }
        let scale = 1.0 / (d as f32).sqrt();
        let mut weights = Vec::new();
        rows.iter()
            .map(|&row| {
                let path = path(batch, row as usize).ok_or_else(not_seen)?;
                let from = config.windows[layer].map_or(0, |window| path.len().saturating_sub(window));
                let mut mean = vec![0.0; path.len()];
                for head in 0..heads {
                    let query = &q[row as usize * query_width + head * d..][..d];
                    let kv = head / (heads / config.num_kv_heads) * d;
                    let logit = |&at: &usize| dot(query, &k[at * kv_width + kv..][..d]) * scale;
                    weights.clear();
                    weights.extend(path[from..].iter().map(logit));
                    let most = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    weights.iter_mut().for_each(|z| *z = (*z - most).exp());
                    let sum: f32 = weights.iter().sum();
                    let seen = lse[row as usize * heads + head];
                    let off = (most + sum.ln() - seen).abs();
                    if off.is_nan() || off > TOLERANCE * seen.abs().max(1.0) {
                        return Err(not_seen());
                    }
                    let share = 1.0 / (sum * heads as f32);
                    for (mean, weight) in mean[from..].iter_mut().zip(&weights) {
                        *mean += weight * share;
                    }
                }
                Ok(mean)
            })
            .collect()
    }
}

/// Σ xᵢ·yᵢ in eight chains, which one would keep from being computed side by side.
fn dot(x: &[f32], y: &[f32]) -> f32 {
    const CHAINS: usize = 8;
    let mut sums = [0.0; CHAINS];
    let (xs, ys) = (x.chunks_exact(CHAINS), y.chunks_exact(CHAINS));
    let rest: f32 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in xs.zip(ys) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// The rows of a sequence from its first token to `row`.
fn path(batch: &Batch, row: usize) -> Option<Vec<usize>> {
    let segments = batch.forest.segments();
    let mut segment = *segments.iter().find(|s| (s.start..s.start + s.len).contains(&row))?;
    let mut rows: Vec<usize> = (segment.start..=row).rev().collect();
    while let Some(parent) = segment.parent {
        segment = batch.forest.segment(parent);
        rows.extend((segment.start..segment.start + segment.len).rev());
    }
    rows.reverse();
    Some(rows)
}
