//! The linear layers of a block, with their low-rank updates if they have them: y = W·x + b + B·(scale·A·x).

use crate::backend::{Backend, Linear, LinearGradient};
use crate::decoder::Decoder;
use crate::observe::Observed;
use crate::parameters::{LINEARS, LinearIds, LoraIds, Parameters};

impl<B: Backend> Decoder<B> {
    /// y = W·x + b for each of the layers that read x, and the low-rank updates, whose B reads `low`.
    pub(crate) fn linear(
        &self,
        params: &Parameters<B>,
        x: &B::Buffer,
        layers: &mut [(LinearIds, &mut B::Buffer)],
        low: &mut [B::Buffer; LINEARS],
        rows: usize,
    ) {
        let backend = &**self.backend();
        let updates: Vec<LoraIds> = layers.iter().filter_map(|(ids, _)| ids.lora).collect();
        for lora in &updates {
            backend.resize(&mut low[lora.place], rows * params.weight(lora.a).rows);
        }
        let mut group: Vec<Linear<'_, B>> = layers
            .iter_mut()
            .map(|(ids, y)| Linear {
                y: &mut **y,
                weight: params.weight(ids.weight),
                bias: ids.bias.map(|bias| params.buffer(bias)),
                accumulate: false,
            })
            .collect();
        let lowered = low.iter_mut().enumerate().filter_map(|(place, y)| {
            let lora = updates.iter().find(|lora| lora.place == place)?;
            Some(Linear { y, weight: params.weight(lora.a), bias: None, accumulate: false })
        });
        group.extend(lowered);
        backend.linear(x, rows, &mut group);
        for (ids, y) in layers {
            if let Some(lora) = ids.lora {
                backend.scale(&mut low[lora.place], lora.scale);
                let weight = params.weight(lora.b);
                let update = Linear { y: &mut **y, weight, bias: None, accumulate: true };
                backend.linear(&low[lora.place], rows, &mut [update]);
            }
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
        let (backend, weight, low) = (&**self.backend(), params.weight(lora.a), &mut low[lora.place]);
        backend.resize(low, rows * weight.rows);
        backend.linear(x, rows, &mut [Linear { y: low, weight, bias: None, accumulate: false }]);
        backend.scale(low, lora.scale);
    }

    /// The gradients of the trainable parameters of layers that read x, given the derivatives of their outputs, and
    /// dx = the derivative through all of them if that is wanted; `observed` is shown what comes by each.
    pub(crate) fn linear_backward(
        &self,
        params: &Parameters<B>,
        grads: &mut Parameters<B>,
        x: &B::Buffer,
        layers: &[(LinearIds, &B::Buffer)],
        mut dx: Option<&mut B::Buffer>,
        (low, dlow): (&[B::Buffer; LINEARS], &mut B::Buffer),
        rows: usize,
        observed: &mut Observed<'_, B>,
    ) {
        let backend = &**self.backend();
        for (ids, dy) in layers {
            observed.see(backend, ids.weight, rows, x, dy);
            if let Some(dbias) = ids.bias.and_then(|bias| grads.trained_mut(bias)) {
                backend.column_sums(dbias, dy);
            }
        }
        let weights: Vec<usize> = layers.iter().map(|(ids, _)| ids.weight).collect();
        let mut group: Vec<LinearGradient<'_, B>> = layers
            .iter()
            .zip(grads.matrix_gradients(&weights))
            .map(|((ids, dy), dweight)| LinearGradient {
                dy: *dy,
                weight: params.weight(ids.weight),
                dweight,
            })
            .collect();
        backend.linear_backward(x, rows, &mut group, dx.as_deref_mut().map(|dx| (dx, false)));
        // One after another: the parts of a projection that a checkpoint holds fused share one A, and its gradient.
        for (lora, dy) in layers.iter().filter_map(|(ids, dy)| Some((ids.lora?, *dy))) {
            let (a, b) = (params.weight(lora.a), params.weight(lora.b));
            backend.resize(dlow, rows * a.rows);
            let update = LinearGradient { dy, weight: b, dweight: grads.matrix_gradient(lora.b) };
            backend.linear_backward(&low[lora.place], rows, &mut [update], Some((dlow, false)));
            backend.scale(dlow, lora.scale);
            observed.see(backend, lora.b, rows, &low[lora.place], dy);
            observed.see(backend, lora.a, rows, x, dlow);
            let lowered = LinearGradient { dy: dlow, weight: a, dweight: grads.matrix_gradient(lora.a) };
            backend.linear_backward(x, rows, &mut [lowered], dx.as_deref_mut().map(|dx| (dx, true)));
        }
    }
}
