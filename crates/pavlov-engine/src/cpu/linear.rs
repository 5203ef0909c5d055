//! Matrix products with weights in panels: y = x·Wᵀ and its two derivatives, for all linear layers that read the same
//! input at once.
//!
//! With bf16 weights both operands are rounded to bf16 and sums are f32: by pairs on AVX512-BF16 ([`super::dot`]), else
//! widened again and multiplied in f32 ([`super::tile`]).

use super::buffer::Buffer;
use super::half::{narrow, widen, widen_pair};
use super::panels::{
    Panels, gather_pairs, pair_columns, pair_rows, pair_stride, panels_len, transpose_paired,
    transpose_panel, transpose_widened,
};
use super::pool::{Pool, SharedMut};
use super::product::{Element, Output, Product, Source, Term, run};
use super::tile::{Isa, Lhs, PANEL, Start};

/// Elements per task of a copy.
const COPY: usize = 1 << 14;

/// Memory of packed operands, kept between calls.
#[derive(Default)]
pub(crate) struct Packing {
    rounded: Buffer,
    pairs: Buffer<u32>,
}

/// The processor's means for a product.
pub(crate) struct Engine<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) isa: Isa,
    pub(crate) packing: &'a mut Packing,
}

/// A linear layer of several that read the same input: y (+)= x·Wᵀ (+ bias).
pub(crate) struct Layer<'a> {
    pub(crate) y: &'a mut [f32],
    pub(crate) weight: Panels<'a>,
    pub(crate) out: usize,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) accumulate: bool,
}

/// The derivative of such a layer's output; dW (+)= dyᵀ·x in panels if it is wanted, added if so told.
pub(crate) struct LayerGradient<'a> {
    pub(crate) dy: &'a [f32],
    pub(crate) weight: Panels<'a>,
    pub(crate) out: usize,
    pub(crate) dweight: Option<(&'a mut [f32], bool)>,
}

impl Engine<'_> {
    /// y (+)= x·Wᵀ (+ bias) for each layer: x \[m, input\], W \[out, input\], y \[m, out\].
    pub(crate) fn forward(&mut self, x: &[f32], [m, input]: [usize; 2], layers: &mut [Layer<'_>]) {
        let Some(bf16) = precision(layers.iter().map(|l| l.weight)) else { return };
        for layer in &*layers {
            check(x.len() == m * input && layer.y.len() == m * layer.out, "forward", m, layer.out, input);
        }
        if bf16 && self.isa.multiplies_bf16() {
            let (width, row) = (input.div_ceil(2), pair_stride(input));
            self.packing.pairs.resize(m * row);
            pair_rows(self.pool, true, x, input, &mut self.packing.pairs);
            let a = Lhs { pointer: self.packing.pairs.as_ptr(), row, col: 1 };
            let products = layers.iter_mut().map(|layer| {
                let Panels::Bf16(pairs) = layer.weight else { unreachable!("all are bf16") };
                layer.product(m, vec![Term { a, b: Source::Stored(pairs), depth: width }])
            });
            return run(self.pool, self.isa, &products.collect::<Vec<_>>());
        }
        let x = if bf16 { self.rounded(&[x]) } else { x };
        let a = Lhs { pointer: x.as_ptr(), row: input, col: 1 };
        let widened: Vec<_> = layers.iter().map(|l| widened_panels(l.weight, input)).collect();
        let products = layers.iter_mut().zip(&widened).map(|(layer, widened)| {
            let b = match layer.weight {
                Panels::F32(data) => Source::Stored(data),
                Panels::Bf16(_) => Source::Packed(widened),
            };
            layer.product(m, vec![Term { a, b, depth: input }])
        });
        run(self.pool, self.isa, &products.collect::<Vec<_>>());
    }

    /// dx (+)= Σ dy·W and dW (+)= dyᵀ·x of all layers that read x \[m, input\], as far as they are wanted.
    pub(crate) fn backward(
        &mut self,
        x: &[f32],
        [m, input]: [usize; 2],
        layers: &mut [LayerGradient<'_>],
        dx: Option<(&mut [f32], bool)>,
    ) {
        let Some(bf16) = precision(layers.iter().map(|l| l.weight)) else { return };
        for layer in &*layers {
            let sized = layer.dy.len() == m * layer.out
                && dx.as_ref().is_none_or(|(dx, _)| dx.len() == m * input)
                && layer
                    .dweight
                    .as_ref()
                    .is_none_or(|(dw, _)| dw.len() >= panels_len(layer.out, input) && x.len() == m * input);
            check(sized, "backward", m, layer.out, input);
        }
        let shape = [m, input];
        if bf16 && self.isa.multiplies_bf16() {
            self.backward_paired(x, shape, layers, dx);
        } else if bf16 {
            // The products of the rounded operands, in f32.
            let (pool, isa) = (self.pool, self.isa);
            let operands: Vec<&[f32]> = std::iter::once(x).chain(layers.iter().map(|l| l.dy)).collect();
            let lengths: Vec<usize> = operands.iter().map(|o| o.len()).collect();
            let mut rest = self.rounded(&operands);
            let mut rounded =
                lengths.into_iter().map(|len| rest.split_off(..len).expect("the sum of the lengths"));
            let x = rounded.next().expect("the first operand");
            let mut layers: Vec<LayerGradient<'_>> = layers
                .iter_mut()
                .zip(rounded)
                .map(|(l, dy)| LayerGradient {
                    dy,
                    weight: l.weight,
                    out: l.out,
                    dweight: l.dweight.as_mut().map(|(dw, accumulate)| (&mut **dw, *accumulate)),
                })
                .collect();
            backward_f32(pool, isa, x, shape, &mut layers, dx);
        } else {
            backward_f32(self.pool, self.isa, x, shape, layers, dx);
        }
    }

    fn backward_paired(
        &mut self,
        x: &[f32],
        [m, input]: [usize; 2],
        layers: &mut [LayerGradient<'_>],
        dx: Option<(&mut [f32], bool)>,
    ) {
        let by_weight = layers.iter().any(|layer| layer.dweight.is_some());
        // x by pairs of its rows, then each dy by pairs of neighbours.
        let mut len = if by_weight { m.div_ceil(2) * input } else { 0 };
        let starts: Vec<usize> = layers
            .iter()
            .map(|layer| {
                let start = len.next_multiple_of(PANEL / 2);
                len = start + if dx.is_some() { m * pair_stride(layer.out) } else { 0 };
                start
            })
            .collect();
        self.packing.pairs.resize(len);
        let pairs = &mut self.packing.pairs;
        if by_weight {
            pair_columns(self.pool, true, x, input, &mut pairs[..m.div_ceil(2) * input]);
        }
        if dx.is_some() {
            for (layer, start) in layers.iter().zip(&starts) {
                pair_rows(
                    self.pool,
                    true,
                    layer.dy,
                    layer.out,
                    &mut pairs[*start..][..m * pair_stride(layer.out)],
                );
            }
        }
        let pairs = &*pairs;
        let transposed: Vec<_> = layers
            .iter()
            .map(|layer| {
                let weight = layer.weight;
                move |panel: usize, q0: usize, to: &mut [u32]| {
                    let Panels::Bf16(pairs) = weight else { unreachable!("all are bf16") };
                    transpose_paired(true, pairs, input, panel, q0, to);
                }
            })
            .collect();
        let gathered: Vec<_> = layers
            .iter()
            .map(|layer| {
                let (dy, out) = (layer.dy, layer.out);
                move |panel: usize, q0: usize, to: &mut [u32]| gather_pairs(true, dy, (m, out), panel, q0, to)
            })
            .collect();
        let mut products: Vec<Product<'_, u32>> = Vec::new();
        let through = layers.iter().zip(&starts).zip(&transposed).map(|((layer, start), b)| {
            let depth = layer.out.div_ceil(2);
            let a = Lhs { pointer: pairs[*start..].as_ptr(), row: pair_stride(layer.out), col: 1 };
            Term { a, b: Source::Packed(b), depth }
        });
        products.extend(dx.map(|dx| input_product(dx, m, input, through.collect())));
        let a = Lhs { pointer: pairs.as_ptr(), row: 1, col: input };
        for (layer, b) in layers.iter_mut().zip(&gathered) {
            let term = Term { a, b: Source::Packed(b), depth: m.div_ceil(2) };
            products.extend(layer.product(input, term));
        }
        run(self.pool, self.isa, &products);
    }

    /// The operands one after another, each number rounded to bf16.
    fn rounded(&mut self, operands: &[&[f32]]) -> &[f32] {
        self.packing.rounded.resize(operands.iter().map(|o| o.len()).sum());
        let mut rest = &mut self.packing.rounded[..];
        for operand in operands {
            let (to, after) = rest.split_at_mut(operand.len());
            self.pool.chunks(to, COPY, |i, to| {
                to.iter_mut().zip(&operand[i * COPY..]).for_each(|(to, x)| *to = widen(narrow(*x)));
            });
            rest = after;
        }
        &self.packing.rounded
    }
}

/// As [`Engine::backward`], in f32 (with bf16 weights widened).
fn backward_f32(
    pool: &Pool,
    isa: Isa,
    x: &[f32],
    [m, input]: [usize; 2],
    layers: &mut [LayerGradient<'_>],
    dx: Option<(&mut [f32], bool)>,
) {
    let transposed: Vec<_> = layers
        .iter()
        .map(|layer| {
            let weight = layer.weight;
            move |panel: usize, k0: usize, to: &mut [f32]| match weight {
                Panels::F32(data) => transpose_panel(data, input, panel, k0, to),
                Panels::Bf16(pairs) => transpose_widened(pairs, input, panel, k0, to),
            }
        })
        .collect();
    let gathered: Vec<_> = layers
        .iter()
        .map(|layer| {
            let (dy, out) = (layer.dy, layer.out);
            move |panel: usize, k0: usize, to: &mut [f32]| {
                let first = panel * PANEL;
                let cols = PANEL.min(out - first);
                for (t, row) in to.chunks_exact_mut(PANEL).enumerate() {
                    row[..cols].copy_from_slice(&dy[(k0 + t) * out + first..][..cols]);
                    row[cols..].fill(0.0);
                }
            }
        })
        .collect();
    let mut products: Vec<Product<'_, f32>> = Vec::new();
    let through = layers.iter().zip(&transposed).map(|(layer, b)| {
        let a = Lhs { pointer: layer.dy.as_ptr(), row: layer.out, col: 1 };
        Term { a, b: Source::Packed(b), depth: layer.out }
    });
    products.extend(dx.map(|dx| input_product(dx, m, input, through.collect())));
    let a = Lhs { pointer: x.as_ptr(), row: 1, col: input };
    for (layer, b) in layers.iter_mut().zip(&gathered) {
        products.extend(layer.product(input, Term { a, b: Source::Packed(b), depth: m }));
    }
    run(pool, isa, &products);
}

impl Layer<'_> {
    fn product<'a, T: Element>(&'a mut self, m: usize, terms: Vec<Term<'a, T>>) -> Product<'a, T> {
        let start = match (self.bias, self.accumulate) {
            (None, false) => Start::Zero,
            (None, true) => Start::Accumulate,
            (Some(bias), false) => {
                assert!(bias.len() >= self.out, "a bias of {} for {} outputs", bias.len(), self.out);
                Start::Bias(bias.as_ptr())
            }
            (Some(_), true) => panic!("a product either adds a bias or accumulates"),
        };
        let c = Output { data: SharedMut::new(self.y), row_stride: self.out, panel_stride: PANEL };
        Product { c, m, n: self.out, terms, start }
    }
}

impl LayerGradient<'_> {
    /// dW (+)= dyᵀ·x as a product whose rows are the inputs, if it is wanted. The padding columns of a ragged panel are
    /// computed too: their operand is zero, so they stay zero.
    fn product<'a, T: Element>(&'a mut self, input: usize, term: Term<'a, T>) -> Option<Product<'a, T>> {
        let (dw, accumulate) = self.dweight.as_mut()?;
        let c = Output { data: SharedMut::new(dw), row_stride: PANEL, panel_stride: input * PANEL };
        let n = self.out.next_multiple_of(PANEL);
        let start = if *accumulate { Start::Accumulate } else { Start::Zero };
        Some(Product { c, m: input, n, terms: vec![term], start })
    }
}

/// dx (+)= the sum of the terms through each layer.
fn input_product<'a, T: Element>(
    (dx, accumulate): (&'a mut [f32], bool),
    m: usize,
    input: usize,
    terms: Vec<Term<'a, T>>,
) -> Product<'a, T> {
    let c = Output { data: SharedMut::new(dx), row_stride: input, panel_stride: PANEL };
    let start = if accumulate { Start::Accumulate } else { Start::Zero };
    Product { c, m, n: input, terms, start }
}

/// Fills a panel of a bf16 weight in f32.
fn widened_panels(weight: Panels<'_>, input: usize) -> impl Fn(usize, usize, &mut [f32]) + Sync {
    move |panel, k0, to| {
        let Panels::Bf16(pairs) = weight else { unreachable!("an f32 weight is stored as it is read") };
        let from = &pairs[(panel * input.div_ceil(2) + k0 / 2) * PANEL..];
        for (two, from) in to.chunks_mut(2 * PANEL).zip(from.chunks_exact(PANEL)) {
            two.iter_mut().enumerate().for_each(|(i, x)| *x = widen_pair(from[i % PANEL])[i / PANEL]);
        }
    }
}

/// Whether the weights are bf16; nothing of no weights.
fn precision<'a>(mut weights: impl Iterator<Item = Panels<'a>>) -> Option<bool> {
    let first = weights.next()?.is_bf16();
    assert!(weights.all(|weight| weight.is_bf16() == first), "layers of one input in two precisions");
    Some(first)
}

fn check(right: bool, what: &str, m: usize, out: usize, input: usize) {
    assert!(right, "{what}: operands do not have {m} rows of {out} outputs and {input} inputs");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::half::split;
    use crate::cpu::panels::{from_panels, pairs_len, panel_index, split_panels, to_panels};
    use pavlov_schema::rng::{Rng, Stream};

    fn random(rng: &mut Rng, n: usize) -> Vec<f32> {
        (0..n).map(|_| rng.normal()).collect()
    }

    fn assert_close(actual: &[f32], expected: &[f64], what: &str) {
        assert_eq!(actual.len(), expected.len());
        for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
            assert!((f64::from(*a) - e).abs() <= 1e-4 * (1.0 + e.abs()), "{what}[{i}] = {a}, expected {e}");
        }
    }

    fn forward(
        engine: &mut Engine<'_>,
        y: &mut [f32],
        x: &[f32],
        weight: Panels<'_>,
        [m, out, input]: [usize; 3],
        bias: Option<&[f32]>,
    ) {
        engine.forward(x, [m, input], &mut [Layer { y, weight, out, bias, accumulate: false }]);
    }

    fn backward(
        engine: &mut Engine<'_>,
        dx: (&mut [f32], bool),
        dweight: Option<(&mut [f32], bool)>,
        dy: &[f32],
        x: &[f32],
        weight: Panels<'_>,
        [m, out, input]: [usize; 3],
    ) {
        engine.backward(x, [m, input], &mut [LayerGradient { dy, weight, out, dweight }], Some(dx));
    }

    /// Layers that read one input give together, bit for bit, what each gives alone, one after another.
    #[test]
    fn layers_together_are_layers_alone() {
        let mut rng = Rng::new(8, Stream::Init, 0, 0);
        let pool = Pool::new(3);
        for ([m, input], isa) in
            [[3, 70], [90, 131]].into_iter().flat_map(|s| Isa::available().into_iter().map(move |i| (s, i)))
        {
            let x = random(&mut rng, m * input);
            let outs = [65, 7, 200];
            let dys = outs.map(|out| random(&mut rng, m * out));
            let panels = outs.map(|out| {
                let mut panels = vec![0.0; panels_len(out, input)];
                to_panels(&random(&mut rng, out * input), out, input, &mut panels);
                panels
            });
            let halves = panels.each_ref().map(|panels| {
                let mut pairs = vec![0; pairs_len(panels.len(), input)];
                split_panels(&pool, panels, input, &mut pairs, None);
                pairs
            });
            let mut packing = Packing::default();
            let mut engine = Engine { pool: &pool, isa, packing: &mut packing };
            for bf16 in [false, true] {
                let weight = |i: usize| if bf16 { Panels::Bf16(&halves[i]) } else { Panels::F32(&panels[i]) };
                let nan = || outs.map(|out| vec![f32::NAN; m * out]);
                let ones = || panels.each_ref().map(|p| vec![1.0; p.len()]);
                let (mut together, mut alone) = (nan(), nan());
                let mut layers: Vec<Layer<'_>> = together
                    .iter_mut()
                    .enumerate()
                    .map(|(i, y)| Layer { y, weight: weight(i), out: outs[i], bias: None, accumulate: false })
                    .collect();
                engine.forward(&x, [m, input], &mut layers);
                for (i, y) in alone.iter_mut().enumerate() {
                    forward(&mut engine, y, &x, weight(i), [m, outs[i], input], None);
                }
                assert!(together == alone && !alone[2][0].is_nan(), "{isa:?} bf16 {bf16}: forward");
                let (mut dws, mut dws_alone) = (ones(), ones());
                let (mut dx, mut dx_alone) = (vec![f32::NAN; m * input], vec![f32::NAN; m * input]);
                let mut layers: Vec<LayerGradient<'_>> = dws
                    .iter_mut()
                    .enumerate()
                    .map(|(i, dw)| LayerGradient {
                        dy: &dys[i],
                        weight: weight(i),
                        out: outs[i],
                        dweight: Some((dw, true)),
                    })
                    .collect();
                engine.backward(&x, [m, input], &mut layers, Some((&mut dx, false)));
                for (i, dw) in dws_alone.iter_mut().enumerate() {
                    let dx = (&mut dx_alone[..], i > 0);
                    backward(&mut engine, dx, Some((dw, true)), &dys[i], &x, weight(i), [m, outs[i], input]);
                }
                assert!(dx == dx_alone && dws == dws_alone, "{isa:?} bf16 {bf16}: backward");
            }
        }
    }

    /// All three products against plain f64 sums, on ragged shapes, every instruction set, poisoned outputs.
    #[test]
    fn products_match_plain_sums() {
        let mut rng = Rng::new(2, Stream::Init, 0, 0);
        let pool = Pool::new(2);
        for isa in Isa::available() {
            for [m, out, input] in
                [[1, 1, 1], [3, 33, 5], [14, 32, 32], [29, 70, 95], [401, 97, 400], [5, 513, 64]]
            {
                let (x, w, dy) =
                    (random(&mut rng, m * input), random(&mut rng, out * input), random(&mut rng, m * out));
                let bias = random(&mut rng, out.next_multiple_of(PANEL));
                let mut panels = vec![f32::NAN; panels_len(out, input)];
                to_panels(&w, out, input, &mut panels);
                assert_eq!(from_panels(&panels, out, input), w);
                let mut packing = Packing::default();
                let mut engine = Engine { pool: &pool, isa, packing: &mut packing };
                let sum = |n: usize, f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>();
                let g = |v: &[f32], i: usize| f64::from(v[i]);

                let mut y = vec![f32::NAN; m * out];
                forward(&mut engine, &mut y, &x, Panels::F32(&panels), [m, out, input], Some(&bias));
                let expected: Vec<f64> = (0..m * out)
                    .map(|i| {
                        let (r, c) = (i / out, i % out);
                        g(&bias, c) + sum(input, &|k| g(&x, r * input + k) * g(&w, c * input + k))
                    })
                    .collect();
                assert_close(&y, &expected, "y");

                let mut dx = vec![f32::NAN; m * input];
                let weight = Panels::F32(&panels);
                let mut dw = vec![f32::NAN; panels.len()];
                backward(&mut engine, (&mut dx, false), None, &dy, &x, weight, [m, out, input]);
                backward(
                    &mut engine,
                    (&mut dx, true),
                    Some((&mut dw, false)),
                    &dy,
                    &x,
                    weight,
                    [m, out, input],
                );
                let expected: Vec<f64> = (0..m * input)
                    .map(|i| {
                        let (r, c) = (i / input, i % input);
                        2.0 * sum(out, &|k| g(&dy, r * out + k) * g(&w, k * input + c))
                    })
                    .collect();
                assert_close(&dx, &expected, "dx");

                let expected: Vec<f64> = (0..out * input)
                    .map(|i| {
                        let (r, c) = (i / input, i % input);
                        sum(m, &|k| g(&dy, k * out + r) * g(&x, k * input + c))
                    })
                    .collect();
                assert_close(&from_panels(&dw, out, input), &expected, "dw");
                for row in out..out.next_multiple_of(PANEL) {
                    for c in 0..input {
                        assert_eq!(dw[panel_index(row, c, input)], 0.0, "padding of {out}x{input}");
                    }
                }
            }
        }
    }

    /// A row's result has the same bits alone and among others, on any thread count and instruction set.
    #[test]
    fn rows_do_not_depend_on_the_batch() {
        let mut rng = Rng::new(3, Stream::Init, 0, 0);
        let [m, out, input] = [45, 70, 500];
        let (x, w) = (random(&mut rng, m * input), random(&mut rng, out * input));
        let mut panels = vec![0.0; panels_len(out, input)];
        to_panels(&w, out, input, &mut panels);
        let mut pairs = vec![0; pairs_len(panels.len(), input)];
        split_panels(&Pool::new(1), &panels, input, &mut pairs, None);
        let mut all: Vec<Vec<f32>> = Vec::new();
        for (threads, isa) in
            [1, 3].into_iter().flat_map(|t| Isa::available().into_iter().map(move |i| (t, i)))
        {
            let pool = Pool::new(threads);
            let mut packing = Packing::default();
            let mut engine = Engine { pool: &pool, isa, packing: &mut packing };
            for weight in [Panels::F32(&panels), Panels::Bf16(&pairs)] {
                let mut y = vec![f32::NAN; m * out];
                forward(&mut engine, &mut y, &x, weight, [m, out, input], None);
                for (row, rows) in [(0, 1), (17, 2), (30, 4), (44, 1)] {
                    let mut alone = vec![f32::NAN; rows * out];
                    let some = &x[row * input..(row + rows) * input];
                    forward(&mut engine, &mut alone, some, weight, [rows, out, input], None);
                    assert_eq!(alone, y[row * out..(row + rows) * out]);
                }
                if !weight.is_bf16() {
                    all.push(y);
                }
            }
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    }

    /// The bf16 products are the f32 products of rounded operands: bit for bit where these are widened, within rounding
    /// where pairs are multiplied. Outputs are poisoned.
    #[test]
    fn bf16_rounds_the_operands_and_nothing_else() {
        let mut rng = Rng::new(4, Stream::Init, 0, 0);
        let pool = Pool::new(2);
        for [m, out, input] in
            [[1, 300, 63], [2, 70, 64], [4, 65, 130], [37, 65, 131], [513, 33, 2050], [5, 2100, 33]]
        {
            let (x, w, dy) =
                (random(&mut rng, m * input), random(&mut rng, out * input), random(&mut rng, m * out));
            let round = |v: &[f32]| v.iter().map(|x| widen(narrow(*x))).collect::<Vec<_>>();
            let mut panels = vec![0.0; panels_len(out, input)];
            to_panels(&w, out, input, &mut panels);
            let mut pairs = vec![0; pairs_len(panels.len(), input)];
            split_panels(&pool, &panels, input, &mut pairs, None);
            let rounded: Vec<f32> = panels.iter().map(|w| widen(split(*w).0 as u16)).collect();
            let (x16, dy16) = (round(&x), round(&dy));
            let shape = [m, out, input];
            for isa in Isa::available() {
                let mut packing = Packing::default();
                let mut engine = Engine { pool: &pool, isa, packing: &mut packing };
                let compare = |a: &[f32], b: &[f32], depth: usize| {
                    // Operands are about 1 in size, so a sum of n terms is about √n and rounds n times.
                    let bound = if isa.multiplies_bf16() { 1e-6 * depth as f32 } else { 0.0 };
                    for (i, (a, b)) in a.iter().zip(b).enumerate() {
                        assert!((a - b).abs() <= bound, "{isa:?} {shape:?} [{i}]: {a} for {b}");
                    }
                };
                let (half, full) = (Panels::Bf16(&pairs), Panels::F32(&rounded));
                let (mut a, mut b) = (vec![f32::NAN; m * out], vec![f32::NAN; m * out]);
                forward(&mut engine, &mut a, &x, half, shape, None);
                forward(&mut engine, &mut b, &x16, full, shape, None);
                compare(&a, &b, input);
                let (mut a, mut b) = (vec![f32::NAN; m * input], vec![f32::NAN; m * input]);
                let (mut c, mut d) = (vec![1.0; panels.len()], vec![1.0; panels.len()]);
                backward(&mut engine, (&mut a, false), Some((&mut c, true)), &dy, &x, half, shape);
                backward(&mut engine, (&mut b, false), Some((&mut d, true)), &dy16, &x16, full, shape);
                compare(&a, &b, out);
                compare(&c, &d, m);
            }
        }
    }
}
