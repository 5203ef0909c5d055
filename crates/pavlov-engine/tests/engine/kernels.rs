//! Every kernel beside products and head against plain sums in f64: random and ragged shapes, every instruction set that
//! this processor has, outputs poisoned before each run. (Products and head have such tests beside their code.)

use pavlov_engine::backend::{AttentionSaved, AttentionShape, Backend, NormWeight, TableStorage, Updated};
use pavlov_engine::plan::AttentionPlan;
use pavlov_engine::{Activation, Buffer, Cpu, Forest, Isa, NormKind};
use pavlov_schema::rng::{Rng, Stream};

/// A processor and a source of numbers.
struct Bench {
    cpu: Cpu,
    rng: Rng,
}

fn benches() -> impl Iterator<Item = Bench> {
    Isa::available()
        .into_iter()
        .map(|isa| Bench { cpu: Cpu::with_isa(3, isa), rng: Rng::new(17, Stream::Init, 0, 0) })
}

impl Bench {
    fn random(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.rng.normal()).collect()
    }

    fn upload(&self, data: &[f32]) -> Buffer {
        let mut buffer = self.cpu.zeros(0);
        self.cpu.upload(&mut buffer, data);
        buffer
    }

    fn poisoned(&self, n: usize) -> Buffer {
        self.upload(&vec![f32::NAN; n])
    }

    #[track_caller]
    fn expect(&self, found: &Buffer, expected: &[f64], bound: f64, what: &str) {
        let mut data = Vec::new();
        self.cpu.download(&mut data, found);
        assert_eq!(data.len(), expected.len(), "{what}");
        for (i, (f, e)) in data.iter().zip(expected).enumerate() {
            let near = (f64::from(*f) - e).abs() <= bound * (1.0 + e.abs());
            assert!(near, "{:?} {what}[{i}] = {f}, expected {e}", self.cpu.isa());
        }
    }
}

fn wide(data: &[f32]) -> Vec<f64> {
    data.iter().map(|x| f64::from(*x)).collect()
}

#[test]
fn norms_and_their_derivatives() {
    for mut b in benches() {
        for (rows, width, kind) in [
            (1, 1, NormKind::Rms),
            (5, 33, NormKind::Rms),
            (19, 200, NormKind::Layer),
            (3, 7, NormKind::Layer),
        ] {
            let (x, dy, w, bias) =
                (b.random(rows * width), b.random(rows * width), b.random(width), b.random(width));
            let layer = kind == NormKind::Layer;
            let (wb, bb) = (b.upload(&w), b.upload(&bias));
            let norm = NormWeight::<Cpu> { kind, width, eps: 1e-5, weight: &wb, bias: layer.then_some(&bb) };
            let (mut y, mut stats) = (b.poisoned(rows * width), b.poisoned(2 * rows));
            let (xb, dyb) = (b.upload(&x), b.upload(&dy));
            b.cpu.norm(&mut y, &mut stats, &xb, &norm);
            let before = b.random(rows * width);
            let (mut dx, mut added) = (b.poisoned(rows * width), b.upload(&before));
            b.cpu.norm_backward(&mut dx, &dyb, &xb, &stats, &norm, false);
            b.cpu.norm_backward(&mut added, &dyb, &xb, &stats, &norm, true);
            let (mut dw, mut dbias) = (b.upload(&w), b.upload(&bias));
            b.cpu.norm_backward_parameters(&mut dw, layer.then_some(&mut dbias), &dyb, &xb, &stats);
            let (mut ey, mut edx, mut edw, mut edb) = (vec![], vec![], wide(&w), wide(&bias));
            for (x, dy) in wide(&x).chunks(width).zip(wide(&dy).chunks(width)) {
                let n = width as f64;
                let mean = if layer { x.iter().sum::<f64>() / n } else { 0.0 };
                let r = 1.0 / (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n + 1e-5).sqrt();
                let hat: Vec<f64> = x.iter().map(|x| (x - mean) * r).collect();
                let g: Vec<f64> = dy.iter().zip(&w).map(|(d, w)| d * f64::from(*w)).collect();
                let along = g.iter().zip(&hat).map(|(g, h)| g * h).sum::<f64>() / n;
                let level = if layer { g.iter().sum::<f64>() / n } else { 0.0 };
                for i in 0..width {
                    ey.push(hat[i] * f64::from(w[i]) + if layer { f64::from(bias[i]) } else { 0.0 });
                    edx.push(r * (g[i] - level - hat[i] * along));
                    edw[i] += dy[i] * hat[i];
                    edb[i] += if layer { dy[i] } else { 0.0 };
                }
            }
            b.expect(&y, &ey, 1e-5, "norm");
            b.expect(&dx, &edx, 2e-4, "dx");
            let sum: Vec<f64> = edx.iter().zip(&before).map(|(d, x)| d + f64::from(*x)).collect();
            b.expect(&added, &sum, 2e-4, "dx added");
            b.expect(&dw, &edw, 1e-4, "dweight");
            b.expect(&dbias, &edb, 1e-4, "dbias");
        }
    }
}

#[test]
fn rotations_turn_pairs_by_their_angle_and_back() {
    for mut b in benches() {
        for (rows, heads, d) in [(1, 1, 2), (37, 3, 10), (5, 2, 64)] {
            let positions: Vec<u32> = (0..rows).map(|i| (7 * i % 11) as u32).collect();
            let angles: Vec<f64> = (0..11 * d / 2).map(|i| 0.37 * i as f64).collect();
            let table: Vec<f32> = angles
                .chunks(d / 2)
                .flat_map(|a| a.iter().map(|a| a.cos()).chain(a.iter().map(|a| a.sin())).collect::<Vec<_>>())
                .map(|x| x as f32)
                .collect();
            let x = b.random(rows * heads * d);
            let (mut turned, table) = (b.upload(&x), b.upload(&table));
            b.cpu.rotary(&mut turned, heads * d, d, &positions, &table, false);
            let mut expected = wide(&x);
            for (row, position) in expected.chunks_mut(heads * d).zip(&positions) {
                for head in row.chunks_mut(d) {
                    for i in 0..d / 2 {
                        let (a, c, angle) =
                            (head[i], head[i + d / 2], angles[*position as usize * d / 2 + i]);
                        head[i] = a * angle.cos() - c * angle.sin();
                        head[i + d / 2] = c * angle.cos() + a * angle.sin();
                    }
                }
            }
            b.expect(&turned, &expected, 1e-6, "rotary");
            b.cpu.rotary(&mut turned, heads * d, d, &positions, &table, true);
            b.expect(&turned, &wide(&x), 1e-6, "rotated back");
        }
    }
}

#[test]
fn activations_and_their_derivatives() {
    let value = |kind, x: f64| match kind {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }
    };
    for mut b in benches() {
        for (n, kind) in [(1, Activation::Silu), (70, Activation::GeluTanh), (20_001, Activation::Silu)] {
            let (gate, up, dout) = (b.random(n), b.random(n), b.random(n));
            let slope = |x: f64| (value(kind, x + 1e-5) - value(kind, x - 1e-5)) / 2e-5;
            for gated in [false, true] {
                let (mut g, mut u, d, mut out) =
                    (b.upload(&gate), b.upload(&up), b.upload(&dout), b.poisoned(n));
                b.cpu.activate(&mut out, kind, gated.then_some(&g), &u);
                let inputs = || wide(&gate).into_iter().zip(wide(&up)).zip(wide(&dout));
                let of = |(g, u): (f64, f64)| if gated { value(kind, g) * u } else { value(kind, u) };
                b.expect(&out, &inputs().map(|(x, _)| of(x)).collect::<Vec<_>>(), 1e-6, "activation");
                b.cpu.activate_backward(&d, kind, gated.then_some(&mut g), &mut u);
                let du =
                    |((g, u), d): ((f64, f64), f64)| if gated { d * value(kind, g) } else { d * slope(u) };
                b.expect(&u, &inputs().map(du).collect::<Vec<_>>(), 1e-5, "dup");
                if gated {
                    let dg = |((g, u), d): ((f64, f64), f64)| d * u * slope(g);
                    b.expect(&g, &inputs().map(dg).collect::<Vec<_>>(), 1e-5, "dgate");
                }
            }
        }
    }
}

/// Rows that a row of a forest attends to, itself last.
fn seen(forest: &Forest, window: Option<usize>) -> Vec<Vec<usize>> {
    let segments = forest.segments();
    let mut all = Vec::new();
    for segment in segments {
        let mut context = Vec::new();
        let mut parent = segment.parent;
        while let Some(id) = parent {
            let above = forest.segment(id);
            context.splice(0..0, above.start..above.start + above.len);
            parent = above.parent;
        }
        for i in 0..segment.len {
            let mut rows = context.clone();
            rows.extend(segment.start..=segment.start + i);
            let from = window.map_or(0, |w| rows.len().saturating_sub(w));
            all.push(rows.split_off(from));
        }
    }
    all
}

#[test]
fn attention_over_forests_and_its_derivative() {
    let forest = |lens: &[(Option<usize>, usize)]| {
        let (mut forest, mut ids) = (Forest::new(), Vec::new());
        for (parent, len) in lens {
            let id = forest.push(parent.map(|p| ids[p]), &vec![0; *len]);
            ids.push(id);
        }
        forest
    };
    let trees = forest(&[(None, 133), (Some(0), 5), (Some(0), 40), (None, 1), (Some(2), 3)]);
    let cases = [
        (forest(&[(None, 1)]), AttentionShape { heads: 1, kv_heads: 1, head_dim: 2, window: None }),
        (
            forest(&[(None, 150), (None, 9)]),
            AttentionShape { heads: 6, kv_heads: 2, head_dim: 10, window: None },
        ),
        (trees.clone(), AttentionShape { heads: 4, kv_heads: 4, head_dim: 33, window: Some(37) }),
        (trees, AttentionShape { heads: 3, kv_heads: 1, head_dim: 64, window: None }),
    ];
    for mut b in benches() {
        for (forest, shape) in &cases {
            attention_case(&mut b, forest, *shape);
        }
    }
}

fn attention_case(b: &mut Bench, forest: &Forest, shape: AttentionShape) {
    let (n, d) = (forest.len(), shape.head_dim);
    let (qw, kw, group) = (shape.heads * d, shape.kv_heads * d, shape.heads / shape.kv_heads);
    let mut plan = AttentionPlan::default();
    plan.of_forest(forest);
    let (q, k, v, dout) = (b.random(n * qw), b.random(n * kw), b.random(n * kw), b.random(n * qw));
    let [qb, kb, vb, db] = [&q, &k, &v, &dout].map(|x| b.upload(x));
    // Slots that no key fills are read by whole panels and masked: zeros, as a new store has, not NaN.
    let (mut keys, mut values) = (b.cpu.zeros(plan.slots * kw), b.cpu.zeros(plan.slots * kw));
    b.cpu.store_keys(&mut keys, kw, &kb, &plan);
    b.cpu.store_keys(&mut values, kw, &vb, &plan);
    let (mut out, mut lse) = (b.poisoned(n * qw), b.poisoned(n * shape.heads));
    b.cpu.attention(&mut out, &mut lse, &qb, &keys, &vb, shape, &plan);
    let (mut dq, mut dk, mut dv) = (b.poisoned(n * qw), b.poisoned(n * kw), b.poisoned(n * kw));
    let saved =
        AttentionSaved { q: &qb, k: &kb, key_store: &keys, value_store: &values, out: &out, lse: &lse };
    b.cpu.attention_backward([&mut dq, &mut dk, &mut dv], &db, &saved, shape, &plan);

    let (q, k, v, dout) = (wide(&q), wide(&k), wide(&v), wide(&dout));
    let (mut eo, mut el) = (vec![0.0; n * qw], vec![0.0; n * shape.heads]);
    let (mut eq, mut ek, mut ev) = (vec![0.0; n * qw], vec![0.0; n * kw], vec![0.0; n * kw]);
    let scale = 1.0 / (d as f64).sqrt();
    for (row, seen) in seen(forest, shape.window).iter().enumerate() {
        for head in 0..shape.heads {
            let (at, kv) = (row * qw + head * d, head / group * d);
            let dot = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(a, c)| a * c).sum() };
            let key = |r: usize| r * kw + kv..r * kw + kv + d;
            let scores: Vec<f64> = seen.iter().map(|r| scale * dot(&q[at..at + d], &k[key(*r)])).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
            el[row * shape.heads + head] = largest + total.ln();
            let p: Vec<f64> = scores.iter().map(|s| (s - largest).exp() / total).collect();
            for (p, r) in p.iter().zip(seen) {
                for c in 0..d {
                    eo[at + c] += p * v[key(*r)][c];
                    ev[key(*r)][c] += p * dout[at + c];
                }
            }
            let delta = dot(&dout[at..at + d], &eo[at..at + d]);
            for (p, r) in p.iter().zip(seen) {
                let ds = p * (dot(&dout[at..at + d], &v[key(*r)]) - delta) * scale;
                for c in 0..d {
                    eq[at + c] += ds * k[key(*r)][c];
                    ek[key(*r)][c] += ds * q[at + c];
                }
            }
        }
    }
    let what = format!("{shape:?}");
    b.expect(&out, &eo, 1e-5, &format!("out of {what}"));
    b.expect(&lse, &el, 1e-5, &format!("lse of {what}"));
    b.expect(&dq, &eq, 5e-5, &format!("dq of {what}"));
    b.expect(&dk, &ek, 5e-5, &format!("dk of {what}"));
    b.expect(&dv, &ev, 5e-5, &format!("dv of {what}"));
}

#[test]
fn rows_of_tables_sums_and_updates() {
    for mut b in benches() {
        let (entries, width) = (9, 131);
        let ids: Vec<u32> = (0..40).map(|i| (5 * i % 9) as u32).collect();
        let (table, dx) = (b.random(entries * width), b.random(ids.len() * width));
        let (t, d, mut x) = (b.upload(&table), b.upload(&dx), b.poisoned(ids.len() * width));
        b.cpu.embed(&mut x, &t, TableStorage::Rows, &ids, width, false);
        let rows: Vec<f64> =
            ids.iter().flat_map(|id| wide(&table[*id as usize * width..][..width])).collect();
        b.expect(&x, &rows, 0.0, "embed");
        let mut dtable = b.upload(&table);
        b.cpu.embed_backward(&mut dtable, TableStorage::Rows, &ids, &d, width);
        let mut expected = wide(&table);
        for (id, dx) in ids.iter().zip(dx.chunks(width)) {
            expected[*id as usize * width..][..width]
                .iter_mut()
                .zip(dx)
                .for_each(|(e, x)| *e += f64::from(*x));
        }
        b.expect(&dtable, &expected, 1e-5, "embed backward");

        let mut sums = b.upload(&table[..width]);
        b.cpu.column_sums(&mut sums, &d);
        let column = |c: usize| {
            f64::from(table[c]) + dx.iter().skip(c).step_by(width).map(|x| f64::from(*x)).sum::<f64>()
        };
        b.expect(&sums, &(0..width).map(column).collect::<Vec<_>>(), 1e-5, "column sums");
        let squares: f64 = wide(&dx).iter().map(|x| x * x).sum();
        assert!((b.cpu.square_sum(&d) / squares - 1.0).abs() < 1e-6);

        let step = pavlov_engine::backend::AdamWStep {
            decay: 0.99,
            step_size: 0.02,
            root_correction2: 0.5,
            rise1: 0.1,
            beta2: 0.95,
            rise2: 0.05,
            eps: 1e-8,
            grad_scale: 0.3,
        };
        let n = 9001;
        let (w, g, m) = (b.random(n), b.random(n), b.random(n));
        let v: Vec<f32> = b.random(n).iter().map(|x| x * x).collect();
        let (mut wb, gb, mut mb, mut vb) = (b.upload(&w), b.upload(&g), b.upload(&m), b.upload(&v));
        b.cpu.adamw(step, Updated::Values(&mut wb), &gb, &mut mb, &mut vb);
        let after = |i: usize| {
            let g = 0.3 * f64::from(g[i]);
            let (m, v) = (0.9 * f64::from(m[i]) + 0.1 * g, 0.95 * f64::from(v[i]) + 0.05 * g * g);
            0.99 * f64::from(w[i]) - 0.02 * m / (v.sqrt() / 0.5 + 1e-8)
        };
        b.expect(&wb, &(0..n).map(after).collect::<Vec<_>>(), 1e-5, "adamw");
    }
}

#[test]
fn packed_arrays_come_back_rounded() {
    for mut b in benches() {
        for len in [0, 1, 2, 31, 64, 1001, 40_003] {
            let x = b.random(len);
            let (buffer, mut half) = (b.upload(&x), None);
            b.cpu.pack(&mut half, &b.poisoned(len + 3));
            b.cpu.pack(&mut half, &buffer);
            let mut back = b.poisoned(len);
            b.cpu.unpack(&mut back, half.as_ref().unwrap());
            // A significand of eight bits rounds by at most 2^-8 of the number.
            b.expect(&back, &wide(&x), 0.5f64.powi(8), "packed");
            let mut again = None;
            b.cpu.pack(&mut again, &back);
            let mut same = b.poisoned(len);
            b.cpu.unpack(&mut same, again.as_ref().unwrap());
            let mut values = Vec::new();
            b.cpu.download(&mut values, &back);
            b.expect(&same, &wide(&values), 0.0, "rounded twice");
        }
    }
}
