//! A linear layer of a block, with its low-rank update if it has one: y = W·x + b + B·(scale·A·x).

use crate::backend::Backend;
use crate::decoder::Decoder;
use crate::parameters::{LINEARS, LinearIds, LoraIds, Parameters};

impl<B: Backend> Decoder<B> {
    /// y = W·x + b, and the low-rank update if there is one, whose B reads `low`.
    pub(crate) fn linear(
        &self,
        params: &Parameters<B>,
        ids: LinearIds,
        y: &mut B::Buffer,
        x: &B::Buffer,
        low: &mut [B::Buffer; LINEARS],
        rows: usize,
    ) {
        self.backend().linear(y, x, params.weight(ids.weight), ids.bias.map(|b| params.buffer(b)), rows);
        if let Some(lora) = ids.lora {
            self.lower(params, lora, low, x, rows);
            self.backend().linear_accumulate(y, &low[lora.place], params.weight(lora.b), rows);
        }
    }

    /// low = scale·A·x.
    pub(crate) fn lower(
        &self,
        params: &Parameters<B>,
        lora: LoraIds,
        low: &mut [B::Buffer; LINEARS],
        x: &B::Buffer,
        rows: usize,
    ) {
        let (a, low) = (params.weight(lora.a), &mut low[lora.place]);
        self.backend().resize(low, rows * a.rows);
        self.backend().linear(low, x, a, None, rows);
        self.backend().scale(low, lora.scale);
    }

    /// The gradients of a linear layer's trainable parameters, and dx (+)= through it if that is wanted.
    pub(crate) fn linear_backward(
        &self,
        params: &Parameters<B>,
        ids: LinearIds,
        grads: &mut Parameters<B>,
        x: &B::Buffer,
        dy: &B::Buffer,
        mut dx: Option<(&mut B::Buffer, bool)>,
        (low, dlow): (&[B::Buffer; LINEARS], &mut B::Buffer),
        rows: usize,
    ) {
        let (backend, weight) = (&**self.backend(), params.weight(ids.weight));
        if let Some(dweight) = grads.trained_mut(ids.weight) {
            backend.linear_backward_weight(dweight, dy, x, weight, rows);
        }
        if let Some(dbias) = ids.bias.and_then(|bias| grads.trained_mut(bias)) {
            backend.column_sums(dbias, dy);
        }
        if let Some((dx, accumulate)) = &mut dx {
            backend.linear_backward_input(dx, dy, weight, rows, *accumulate);
        }
        if let Some(lora) = ids.lora {
            let (a, b) = (params.weight(lora.a), params.weight(lora.b));
            if let Some(db) = grads.trained_mut(lora.b) {
                backend.linear_backward_weight(db, dy, &low[lora.place], b, rows);
            }
            backend.resize(dlow, rows * a.rows);
            backend.linear_backward_input(dlow, dy, b, rows, false);
            backend.scale(dlow, lora.scale);
            if let Some(da) = grads.trained_mut(lora.a) {
                backend.linear_backward_weight(da, dlow, x, a, rows);
            }
            if let Some((dx, _)) = dx {
                backend.linear_backward_input(dx, dlow, a, rows, true);
            }
        }
    }
}
