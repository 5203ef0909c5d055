//! Whole rows of logits, for measurements of the whole distribution. Training and scoring never make them.

use crate::activations::{Activations, HeadActivations};
use crate::backend::{Backend, Linear};
use crate::decoder::Decoder;
use crate::forest::{Batch, Forest};
use crate::parameters::Parameters;
use crate::{Error, Result};

impl<B: Backend> Decoder<B> {
    /// The logits after some rows of a forest, \[rows, vocabulary\], each row the distribution of what follows it.
    pub fn logits(
        &self,
        params: &Parameters<B>,
        forest: &Forest,
        rows: &[u32],
        acts: &mut Activations<B>,
    ) -> Result<Vec<f32>> {
        let Some(head_id) = self.ids.head else {
            return Err(Error::Batch("this decoder has no language head".into()));
        };
        if let Some(row) = rows.iter().find(|row| **row as usize >= forest.len()) {
            return Err(Error::Batch(format!("row {row} is outside {} rows", forest.len())));
        }
        let batch = Batch { forest: forest.clone(), ..Batch::new() };
        self.forward(params, &batch, 1.0, acts)?;
        let (backend, layers) = (self.backend(), self.config().num_layers);
        let Activations { streams, targets, .. } = acts;
        let head = HeadActivations::of(targets, backend);
        head.rows.clear();
        head.rows.extend_from_slice(rows);
        self.gather(params, &streams[layers], head);
        backend.resize(&mut head.outputs, rows.len() * self.config().vocab_size);
        let layer =
            Linear { y: &mut head.outputs, weight: params.weight(head_id), bias: None, accumulate: false };
        backend.linear(&head.normed, rows.len(), &mut [layer]);
        let mut logits = Vec::new();
        backend.download(&mut logits, &head.outputs);
        match logits.iter().position(|z| !z.is_finite()) {
            Some(at) => Err(Error::NotFinite { what: "a logit".into(), at: format!(" at {at}") }),
            None => Ok(logits),
        }
    }
}
