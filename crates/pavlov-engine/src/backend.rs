//! What a device must offer: arrays of floats and the fused operations of a decoder, forward and backward.
//!
//! Activations are row-major \[rows, width\]; integers (token ids, positions, attention plans) stay with the caller and
//! are small. A matrix parameter lies as the device likes: it is written and read through `upload_matrix` and
//! `download_matrix`, and only the device's own products look inside.

use crate::config::{Activation, NormKind};
use crate::plan::AttentionPlan;
use crate::profile::Profile;

pub use crate::cpu::{AdamWStep, Score};

/// A matrix parameter as an operand: `master` in f32 or, if products run in bf16, `compute` instead. Of a frozen matrix
/// under bf16 there is only the copy, and `master` is empty.
pub struct Weight<'a, B: Backend> {
    /// Its values; empty where `compute` is given.
    pub master: &'a B::Buffer,
    /// Its values as bf16.
    pub compute: Option<&'a B::Half>,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
}

impl<B: Backend> Clone for Weight<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Weight<'_, B> {}

/// A linear layer: y \[m, out\] from the x that it reads.
pub struct Linear<'a, B: Backend> {
    /// Its output.
    pub y: &'a mut B::Buffer,
    /// W.
    pub weight: Weight<'a, B>,
    /// Added to each row; not with `accumulate`.
    pub bias: Option<&'a B::Buffer>,
    /// Whether y is added to, not overwritten.
    pub accumulate: bool,
}

/// A linear layer backwards.
pub struct LinearGradient<'a, B: Backend> {
    /// The derivative of its output.
    pub dy: &'a B::Buffer,
    /// W.
    pub weight: Weight<'a, B>,
    /// Where the derivative of W goes, if it is wanted.
    pub dweight: Option<MatrixGradient<'a, B>>,
}

/// The gradient of a matrix: added to, or written over what counts as zeros.
pub struct MatrixGradient<'a, B: Backend> {
    /// Its memory.
    pub data: &'a mut B::Buffer,
    /// Whether to add.
    pub accumulate: bool,
}

/// A norm's parameters.
pub struct NormWeight<'a, B: Backend> {
    /// Root mean square or mean and variance.
    pub kind: NormKind,
    /// Width of a normalised row.
    pub width: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Scale.
    pub weight: &'a B::Buffer,
    /// Shift.
    pub bias: Option<&'a B::Buffer>,
}

/// Sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Sliding window in tokens.
    pub window: Option<usize>,
}

/// What an optimizer updates.
pub enum Updated<'a, B: Backend> {
    /// Values in f32.
    Values(&'a mut B::Buffer),
    /// A matrix of so many inputs, as bf16 with its exact values.
    Half(&'a mut B::Half, usize),
}

/// How an embedding table is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableStorage {
    /// Row by row.
    Rows,
    /// As a matrix parameter, because the language head is tied to it.
    Matrix,
}

/// Activations that attention's backward pass reads again.
pub struct AttentionSaved<'a, B: Backend> {
    /// Queries \[rows, heads·d\].
    pub q: &'a B::Buffer,
    /// Keys \[rows, kv_heads·d\].
    pub k: &'a B::Buffer,
    /// Keys as `store_keys` arranged them.
    pub key_store: &'a B::Buffer,
    /// Values as `store_keys` arranged them.
    pub value_store: &'a B::Buffer,
    /// Output \[rows, heads·d\].
    pub out: &'a B::Buffer,
    /// Log divisors \[rows, heads\].
    pub lse: &'a B::Buffer,
}

/// A device.
#[expect(missing_docs, reason = "one-line operations; each is documented by the group it stands in")]
pub trait Backend: Send + Sync + 'static {
    /// An array of f32.
    type Buffer: Send + Sync;
    /// A matrix as bf16.
    type Half: Send + Sync;

    /// Where operations say how long they took.
    fn profile(&self) -> &Profile;

    // Memory. `resize` keeps larger memory and leaves the contents unspecified.
    fn zeros(&self, len: usize) -> Self::Buffer;
    fn resize(&self, buffer: &mut Self::Buffer, len: usize);
    fn upload(&self, buffer: &mut Self::Buffer, data: &[f32]);
    fn download(&self, to: &mut Vec<f32>, buffer: &Self::Buffer);
    fn fill_zero(&self, buffer: &mut Self::Buffer);
    fn copy(&self, to: &mut Self::Buffer, from: &Self::Buffer);
    fn matrix_len(&self, rows: usize, cols: usize) -> usize;
    fn upload_matrix(&self, buffer: &mut Self::Buffer, rows: usize, cols: usize, data: &[f32]);
    fn download_matrix(&self, buffer: &Self::Buffer, rows: usize, cols: usize) -> Vec<f32>;
    /// Rounds a matrix of `cols` inputs to bf16, and at the first time decides whether its exact values are kept.
    fn narrow(&self, half: &mut Option<Self::Half>, buffer: &Self::Buffer, cols: usize, exact: bool);
    /// Rounds an array to bf16, in its own order: activations that wait for the backward pass.
    fn pack(&self, half: &mut Option<Self::Half>, x: &Self::Buffer);
    /// The values of an array that was packed.
    fn unpack(&self, x: &mut Self::Buffer, half: &Self::Half);
    /// A digest of the bytes that products read.
    fn digest(&self, buffer: &Self::Buffer, compute: Option<&Self::Half>) -> u64;
    /// The values of a matrix that was rounded to bf16: exact if they were kept.
    fn widen(&self, buffer: &mut Self::Buffer, half: &Self::Half, rows: usize, cols: usize);
    /// A digest of the bytes that products should read: of the exact values, rounded anew.
    fn digest_rounded(&self, half: &Self::Half, cols: usize) -> u64;

    // Linear layers, all that read the same x \[m, in\] at once: y \[m, out\] = x·Wᵀ, and dx (+)= Σ dy·W with
    // dW (+)= dyᵀ·x. Without a wanted dW, x is not read.
    fn linear(&self, x: &Self::Buffer, m: usize, layers: &mut [Linear<'_, Self>])
    where
        Self: Sized;
    fn linear_backward(
        &self,
        x: &Self::Buffer,
        m: usize,
        layers: &mut [LinearGradient<'_, Self>],
        dx: Option<(&mut Self::Buffer, bool)>,
    ) where
        Self: Sized;
    /// sums += Σ over rows.
    fn column_sums(&self, sums: &mut Self::Buffer, x: &Self::Buffer);

    // Norms: `stats` holds (mean, 1/deviation) a row.
    fn norm(
        &self,
        y: &mut Self::Buffer,
        stats: &mut Self::Buffer,
        x: &Self::Buffer,
        norm: &NormWeight<'_, Self>,
    ) where
        Self: Sized;
    fn norm_backward(
        &self,
        dx: &mut Self::Buffer,
        dy: &Self::Buffer,
        x: &Self::Buffer,
        stats: &Self::Buffer,
        norm: &NormWeight<'_, Self>,
        accumulate: bool,
    ) where
        Self: Sized;
    fn norm_backward_parameters(
        &self,
        dweight: &mut Self::Buffer,
        dbias: Option<&mut Self::Buffer>,
        dy: &Self::Buffer,
        x: &Self::Buffer,
        stats: &Self::Buffer,
    );

    // Positions, feed-forward, residual stream.
    fn rotary(
        &self,
        x: &mut Self::Buffer,
        width: usize,
        head_dim: usize,
        positions: &[u32],
        table: &Self::Buffer,
        inverse: bool,
    );
    fn activate(
        &self,
        out: &mut Self::Buffer,
        kind: Activation,
        gate: Option<&Self::Buffer>,
        up: &Self::Buffer,
    );
    fn activate_backward(
        &self,
        dout: &Self::Buffer,
        kind: Activation,
        gate: Option<&mut Self::Buffer>,
        up: &mut Self::Buffer,
    );
    fn add(&self, x: &mut Self::Buffer, y: &Self::Buffer);
    fn scale(&self, x: &mut Self::Buffer, factor: f32);

    // Embedding tables and chosen rows.
    fn embed(
        &self,
        x: &mut Self::Buffer,
        table: &Self::Buffer,
        storage: TableStorage,
        ids: &[u32],
        width: usize,
        accumulate: bool,
    );
    /// As `embed`, from a table that is held as bf16.
    fn embed_half(
        &self,
        x: &mut Self::Buffer,
        table: &Self::Half,
        ids: &[u32],
        width: usize,
        accumulate: bool,
    );
    fn embed_backward(
        &self,
        dtable: &mut Self::Buffer,
        storage: TableStorage,
        ids: &[u32],
        dx: &Self::Buffer,
        width: usize,
    );

    /// x\[rows\] = values, row by row.
    fn put_rows(&self, x: &mut Self::Buffer, rows: &[u32], values: &Self::Buffer, width: usize);

    // Attention: `store_keys` arranges keys (or values) by slot for products over channels, `store_values` copies values
    // of so many channels a head to a cache. The gradients of the backward pass are those of q, k and v.
    fn store_keys(&self, store: &mut Self::Buffer, width: usize, x: &Self::Buffer, plan: &AttentionPlan);
    fn store_values(
        &self,
        store: &mut Self::Buffer,
        widths: (usize, usize),
        x: &Self::Buffer,
        plan: &AttentionPlan,
    );
    fn attention(
        &self,
        out: &mut Self::Buffer,
        lse: &mut Self::Buffer,
        q: &Self::Buffer,
        key_store: &Self::Buffer,
        values: &Self::Buffer,
        shape: AttentionShape,
        plan: &AttentionPlan,
    );
    fn attention_backward(
        &self,
        gradients: [&mut Self::Buffer; 3],
        dout: &Self::Buffer,
        saved: &AttentionSaved<'_, Self>,
        shape: AttentionShape,
        plan: &AttentionPlan,
    ) where
        Self: Sized;

    // The language head over rows x \[targets, hidden\].
    fn score(
        &self,
        scores: &mut [Score],
        x: &Self::Buffer,
        w: Weight<'_, Self>,
        targets: &[u32],
        inverse_temperature: f32,
    ) where
        Self: Sized;
    /// Without a `dw` the head is frozen, and its gradient is not computed.
    fn score_backward(
        &self,
        dx: &mut Self::Buffer,
        dw: Option<MatrixGradient<'_, Self>>,
        scores: &[Score],
        x: &Self::Buffer,
        w: Weight<'_, Self>,
        targets: &[u32],
        gradients: [&[f32]; 2],
        inverse_temperature: f32,
    ) where
        Self: Sized;

    // Optimizer.
    fn square_sum(&self, x: &Self::Buffer) -> f64;
    /// Σ g²/(√v/`root_correction` + eps): the square in the metric that Adam steps in.
    fn adam_square_sum(&self, g: &Self::Buffer, v: &Self::Buffer, root_correction: f32, eps: f32) -> f64;
    fn adamw(
        &self,
        step: AdamWStep,
        w: Updated<'_, Self>,
        g: &Self::Buffer,
        m: &mut Self::Buffer,
        v: &mut Self::Buffer,
    ) where
        Self: Sized;
}
