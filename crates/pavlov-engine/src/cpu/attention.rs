//! Causal attention over spans of keys with an online softmax, and its derivative by recomputation
//! (Dao, arXiv:2307.08691): memory is linear in the number of tokens.
//!
//! Keys are visited in blocks of 128 counted from the start of each span, so a query meets the same numbers in the same
//! order whether its span is a training segment or a growing cache: sampler and trainer agree bit for bit.
#![expect(
    unsafe_code,
    reason = "hands strided sub-matrices to the product kernel and disjoint rows to tasks"
)]

use super::math::{LANES, add_lanes, exp, max, sum2};
use super::pool::{Pool, SharedMut};
use super::tile::{Isa, Lhs, Out, PANEL, Rhs, Start, tile};
use crate::plan::{AttentionPlan, Item, Span};
use multiversion::multiversion;
use std::cell::RefCell;

/// Keys per visit.
const KEYS: usize = 128;
/// Stacked query rows per task: the queries of one group of heads share their keys.
const STACK: usize = 56;

/// Sizes of one attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) window: Option<usize>,
}

impl Shape {
    fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    fn query_width(self) -> usize {
        self.heads * self.head_dim
    }

    fn kv_width(self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Queries per task.
    fn queries(self) -> usize {
        (STACK / self.group()).max(1)
    }

    fn scale(self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

/// Copies rows of x \[rows, width\] into key panels: channel c of slot s goes to `[s / 32][c][s % 32]`.
pub(crate) fn store_panels(pool: &Pool, panels: &mut [f32], width: usize, x: &[f32], plan: &AttentionPlan) {
    let panels = SharedMut::new(panels);
    let copy = |i: usize| {
        let item = &plan.items[i];
        for t in 0..item.len {
            let slot = item.own.slot + item.offset + t;
            let row = &x[(item.query + t) * width..][..width];
            // SAFETY: slots of distinct items are distinct, and a task writes only lane `slot % 32` of its panel rows.
            let base = panels.pointer_at(slot / PANEL * PANEL * width + slot % PANEL);
            assert!((slot / PANEL + 1) * PANEL * width <= panels.len, "slot {slot} outside the key store");
            for (c, value) in row.iter().enumerate() {
                // SAFETY: as above; inside the panel by the assertion.
                unsafe { *base.add(c * PANEL) = *value };
            }
        }
    };
    each_item(pool, plan, &copy);
}

/// Copies rows of x to the values of a cache: channel c of head h of slot s goes to `[s / 32][h][s % 32][c]`.
pub(crate) fn store_values(
    pool: &Pool,
    values: &mut [f32],
    (width, head_dim): (usize, usize),
    x: &[f32],
    plan: &AttentionPlan,
) {
    let values = SharedMut::new(values);
    let copy = |i: usize| {
        let item = &plan.items[i];
        for t in 0..item.len {
            let slot = item.own.slot + item.offset + t;
            let heads = x[(item.query + t) * width..][..width].chunks_exact(head_dim);
            for (head, from) in heads.enumerate() {
                let start = slot / PANEL * PANEL * width + (head * PANEL + slot % PANEL) * head_dim;
                // SAFETY: slots of distinct items are distinct.
                unsafe { values.slice(start, head_dim) }.copy_from_slice(from);
            }
        }
    };
    each_item(pool, plan, &copy);
}

/// Runs a copy of each item, on the calling thread if they are few rows.
fn each_item(pool: &Pool, plan: &AttentionPlan, copy: &(dyn Fn(usize) + Sync)) {
    let rows: usize = plan.items.iter().map(|item| item.len).sum();
    if rows < 64 { (0..plan.items.len()).for_each(copy) } else { pool.run(plan.items.len(), copy) }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Working memory of one task, kept between tasks.
#[derive(Default)]
struct Scratch {
    q: Vec<f32>,
    out: Vec<f32>,
    dout: Vec<f32>,
    dq: Vec<f32>,
    scores: Vec<f32>,
    dscores: Vec<f32>,
    maximum: Vec<f32>,
    total: Vec<f32>,
    delta: Vec<f32>,
}

fn reset(buffer: &mut Vec<f32>, len: usize, value: f32) {
    buffer.clear();
    buffer.resize(len, value);
}

/// One task's queries: `count` of an item from its `first`-th on, stacked by (query, head of the group).
#[derive(Clone, Copy)]
struct Stack<'a> {
    item: &'a Item,
    first: usize,
    count: usize,
    kv_head: usize,
    shape: Shape,
}

impl Stack<'_> {
    fn rows(&self) -> usize {
        self.count * self.shape.group()
    }

    /// Position of a stacked row's query in its sequence.
    fn position(&self, row: usize) -> usize {
        self.item.own.position + self.item.offset + self.first + row / self.shape.group()
    }

    /// Start of the contiguous heads of this stack's `query`-th query in a \[rows, heads·d\] array, and their length.
    fn heads_of(&self, query: usize) -> (usize, usize) {
        let len = self.shape.group() * self.shape.head_dim;
        ((self.item.query + self.first + query) * self.shape.query_width() + self.kv_head * len, len)
    }

    fn gather(&self, from: &[f32], to: &mut Vec<f32>, factor: f32) {
        to.clear();
        for query in 0..self.count {
            let (start, len) = self.heads_of(query);
            to.extend(from[start..start + len].iter().map(|x| x * factor));
        }
    }

    /// Keys of `span` that some query of the stack may see, as `start .. end` on whole blocks' starts.
    fn visible(&self, span: &Span, own: bool) -> (usize, usize) {
        let last = self.item.offset + self.first + self.count;
        let end = if own { span.len.min(last) } else { span.len };
        let oldest = self.shape.window.map_or(0, |w| (self.position(0) + 1).saturating_sub(w));
        let start = oldest.saturating_sub(span.position).min(end) / KEYS * KEYS;
        (start, end)
    }

    /// Keys of the block `at .. at + n` of `span` that stacked row `row` sees, as a range within the block.
    fn seen(&self, row: usize, span: &Span, at: usize, n: usize) -> std::ops::Range<usize> {
        let position = self.position(row);
        let first_position = span.position + at;
        let end = (position + 1).saturating_sub(first_position).min(n);
        let start = self.shape.window.map_or(0, |w| (position + 1).saturating_sub(w + first_position));
        start.min(end)..end
    }
}

/// Calls `visit(span, at, n)` for each block of keys that the stack may see, in order.
fn each_block(plan: &AttentionPlan, stack: &Stack<'_>, mut visit: impl FnMut(&Span, usize, usize)) {
    let context = stack.item.context.len();
    for (index, mut span) in plan.spans_of(stack.item).enumerate() {
        let own = index == context;
        if own {
            span.len = stack.item.offset + stack.item.len;
        }
        let (start, end) = stack.visible(&span, own);
        for at in (start..end).step_by(KEYS) {
            visit(&span, at, KEYS.min(end - at));
        }
    }
}

/// (item, query block, kv head) of every task.
fn tasks(plan: &AttentionPlan, shape: Shape) -> (Vec<(u32, u32)>, usize) {
    let queries = shape.queries();
    let blocks = plan
        .items
        .iter()
        .enumerate()
        .flat_map(|(i, item)| (0..item.len.div_ceil(queries)).map(move |b| (i as u32, (b * queries) as u32)))
        .collect::<Vec<_>>();
    let count = blocks.len() * shape.kv_heads;
    (blocks, count)
}

/// The product kernel over all rows and 32-column panels of a stacked operand.
///
/// # Safety
/// As [`tile`], for every tile of the \[rows, cols\] output.
unsafe fn product(
    isa: Isa,
    [rows, cols, depth]: [usize; 3],
    a: Lhs<f32>,
    b: impl Fn(usize) -> Rhs,
    c: Out,
    start: Start,
) {
    let height = isa.rows();
    for panel in 0..cols.div_ceil(PANEL) {
        let width = PANEL.min(cols - panel * PANEL);
        for row in (0..rows).step_by(height) {
            // SAFETY: the caller's promise; offsets stay inside its shapes.
            unsafe {
                let a = Lhs { pointer: a.pointer.add(row * a.row), ..a };
                let c = Out { pointer: c.pointer.add(row * c.stride + panel * PANEL), ..c };
                tile(isa, height.min(rows - row), width, depth, a, b(panel), c, start);
            }
        }
    }
}

/// Keys (or values) in panels, of one kv head.
fn panel_of(panels: &[f32], stack: &Stack<'_>, span: &Span, at: usize, panel: usize) -> Rhs {
    let (width, d) = (stack.shape.kv_width(), stack.shape.head_dim);
    let first = (span.slot + at) / PANEL + panel;
    Rhs {
        pointer: panels[(first * width + stack.kv_head * d) * PANEL..][..d * PANEL].as_ptr(),
        stride: PANEL,
    }
}

/// Rows `at .. at + n` of keys or values of one kv head, as the right operand of a product over keys.
fn rows_of(values: &[f32], stack: &Stack<'_>, span: &Span, at: usize, n: usize, panel: usize) -> Rhs {
    let (width, d) = (stack.shape.kv_width(), stack.shape.head_dim);
    let start = (span.row + at) * width + stack.kv_head * d;
    assert!(start + (n - 1) * width + d <= values.len(), "value rows outside the store");
    Rhs { pointer: values[start + panel * PANEL..].as_ptr(), stride: width }
}

/// The 32 cached values from a block's `at`-th key on, of one kv head, as the right operand of a product over keys.
fn block_of(values: &[f32], stack: &Stack<'_>, span: &Span, at: usize, panel: usize) -> Rhs {
    let (width, d) = (stack.shape.kv_width(), stack.shape.head_dim);
    let start = (span.slot + at) / PANEL * PANEL * width + stack.kv_head * PANEL * d;
    Rhs { pointer: values[start..][..PANEL * d][panel * PANEL..].as_ptr(), stride: d }
}

/// out \[rows, heads·d\] = attention of q over the stores; `lse` \[rows, heads\] gets the log of each softmax's divisor.
pub(crate) fn forward(
    pool: &Pool,
    isa: Isa,
    shape: Shape,
    plan: &AttentionPlan,
    out: &mut [f32],
    lse: &mut [f32],
    q: &[f32],
    key_panels: &[f32],
    values: &[f32],
) {
    let (blocks, count) = tasks(plan, shape);
    let (out, lse) = (SharedMut::new(out), SharedMut::new(lse));
    let (d, group) = (shape.head_dim, shape.group());
    pool.run(count, &|task| {
        let (item, first) = blocks[task / shape.kv_heads];
        let item = &plan.items[item as usize];
        let first = first as usize;
        let count = shape.queries().min(item.len - first);
        let stack = Stack { item, first, count, kv_head: task % shape.kv_heads, shape };
        SCRATCH.with_borrow_mut(|s| {
            let rows = stack.rows();
            stack.gather(q, &mut s.q, shape.scale());
            reset(&mut s.out, rows * d, 0.0);
            reset(&mut s.maximum, rows, f32::NEG_INFINITY);
            reset(&mut s.total, rows, 0.0);
            s.scores.resize(rows * KEYS, 0.0);
            each_block(plan, &stack, |span, at, n| {
                let a = Lhs { pointer: s.q.as_ptr(), row: d, col: 1 };
                let c = Out { pointer: s.scores.as_mut_ptr(), stride: KEYS };
                // SAFETY: the scratch has rows·d queries and rows·128 scores; panels are bound-checked.
                unsafe {
                    product(
                        isa,
                        [rows, n, d],
                        a,
                        |p| panel_of(key_panels, &stack, span, at, p),
                        c,
                        Start::Zero,
                    );
                }
                for row in 0..rows {
                    let scores = &mut s.scores[row * KEYS..][..n];
                    let out = &mut s.out[row * d..][..d];
                    online_softmax(
                        scores,
                        stack.seen(row, span, at, n),
                        &mut s.maximum[row],
                        &mut s.total[row],
                        out,
                    );
                }
                let a = Lhs { pointer: s.scores.as_ptr(), row: KEYS, col: 1 };
                let c = Out { pointer: s.out.as_mut_ptr(), stride: d };
                // SAFETY: as above; value rows are bound-checked.
                unsafe {
                    if plan.cached {
                        for first in (0..n).step_by(PANEL) {
                            let a = Lhs { pointer: a.pointer.add(first), ..a };
                            let values = |p| block_of(values, &stack, span, at + first, p);
                            product(isa, [rows, d, PANEL.min(n - first)], a, values, c, Start::Accumulate);
                        }
                    } else {
                        let values = |p| rows_of(values, &stack, span, at, n, p);
                        product(isa, [rows, d, n], a, values, c, Start::Accumulate);
                    }
                }
            });
            for query in 0..count {
                let (start, len) = stack.heads_of(query);
                // SAFETY: distinct tasks own distinct (query, kv head) pairs.
                let to = unsafe { out.slice(start, len) };
                // SAFETY: as above.
                let lse = unsafe {
                    lse.slice((item.query + first + query) * shape.heads + stack.kv_head * group, group)
                };
                for (h, (to, lse)) in to.chunks_exact_mut(d).zip(lse).enumerate() {
                    let row = query * group + h;
                    let inverse = 1.0 / s.total[row];
                    to.iter_mut().zip(&s.out[row * d..]).for_each(|(t, o)| *t = o * inverse);
                    *lse = s.maximum[row] + s.total[row].ln();
                }
            }
        });
    });
}

/// Turns a row of scores into weights relative to the running maximum, rescaling what was summed before.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn online_softmax(
    scores: &mut [f32],
    seen: std::ops::Range<usize>,
    maximum: &mut f32,
    total: &mut f32,
    out: &mut [f32],
) {
    scores[..seen.start].fill(0.0);
    scores[seen.end..].fill(0.0);
    let seen = &mut scores[seen];
    if seen.is_empty() {
        return;
    }
    let new = max(seen).max(*maximum);
    if new > *maximum {
        let rescale = exp(*maximum - new);
        *total *= rescale;
        out.iter_mut().for_each(|o| *o *= rescale);
        *maximum = new;
    }
    // The keys of a block are summed by their place in the block, so a hidden key, whose weight is 0, changes nothing.
    seen.iter_mut().for_each(|x| *x = exp(*x - new));
    *total += blocked_sum(scores);
}

/// Sum of up to 128 weights, where absent ones count as zeros at the end.
#[inline(always)]
fn blocked_sum(weights: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let chunks = weights.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += chunk[i];
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    add_lanes(lanes)
}

/// Operands of the backward pass, as the forward pass had them.
#[derive(Clone, Copy)]
pub(crate) struct Saved<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) key_panels: &'a [f32],
    pub(crate) value_panels: &'a [f32],
    pub(crate) out: &'a [f32],
    pub(crate) lse: &'a [f32],
}

/// dq, dk and dv from dout. One task owns a tree and a kv head, so every sum has one order.
pub(crate) fn backward(
    pool: &Pool,
    isa: Isa,
    shape: Shape,
    plan: &AttentionPlan,
    saved: Saved<'_>,
    dout: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    dk.fill(0.0);
    dv.fill(0.0);
    let (dq, dk, dv) = (SharedMut::new(dq), SharedMut::new(dk), SharedMut::new(dv));
    pool.run(plan.trees.len() * shape.kv_heads, &|task| {
        let kv_head = task % shape.kv_heads;
        for item in &plan.trees[task / shape.kv_heads] {
            let item = &plan.items[*item];
            for first in (0..item.len).step_by(shape.queries()) {
                let count = shape.queries().min(item.len - first);
                let stack = Stack { item, first, count, kv_head, shape };
                SCRATCH.with_borrow_mut(|s| backward_stack(isa, plan, &stack, saved, dout, s, [dq, dk, dv]));
            }
        }
    });
}

fn backward_stack(
    isa: Isa,
    plan: &AttentionPlan,
    stack: &Stack<'_>,
    saved: Saved<'_>,
    dout: &[f32],
    s: &mut Scratch,
    [dq, dk, dv]: [SharedMut<'_, f32>; 3],
) {
    let shape = stack.shape;
    let (d, group, rows, width) = (shape.head_dim, shape.group(), stack.rows(), shape.kv_width());
    stack.gather(saved.q, &mut s.q, shape.scale());
    stack.gather(dout, &mut s.dout, 1.0);
    stack.gather(saved.out, &mut s.out, 1.0);
    reset(&mut s.dq, rows * d, 0.0);
    s.scores.resize(rows * KEYS, 0.0);
    s.dscores.resize(rows * KEYS, 0.0);
    s.delta.clear();
    s.delta.extend(s.dout.chunks_exact(d).zip(s.out.chunks_exact(d)).map(|(a, b)| sum2(a, b, |x, y| x * y)));
    each_block(plan, stack, |span, at, n| {
        let q = Lhs { pointer: s.q.as_ptr(), row: d, col: 1 };
        let dout = Lhs { pointer: s.dout.as_ptr(), row: d, col: 1 };
        let scores = Out { pointer: s.scores.as_mut_ptr(), stride: KEYS };
        let dscores = Out { pointer: s.dscores.as_mut_ptr(), stride: KEYS };
        // SAFETY: scratch sizes as set above; panels are bound-checked.
        unsafe {
            product(
                isa,
                [rows, n, d],
                q,
                |p| panel_of(saved.key_panels, stack, span, at, p),
                scores,
                Start::Zero,
            );
            let values = |p| panel_of(saved.value_panels, stack, span, at, p);
            product(isa, [rows, n, d], dout, values, dscores, Start::Zero);
        }
        for row in 0..rows {
            let head = (stack.item.query + stack.first + row / group) * shape.heads
                + stack.kv_head * group
                + row % group;
            softmax_backward(
                &mut s.scores[row * KEYS..][..n],
                &mut s.dscores[row * KEYS..][..n],
                stack.seen(row, span, at, n),
                saved.lse[head],
                s.delta[row],
            );
        }
        let weights = Lhs { pointer: s.scores.as_ptr(), row: 1, col: KEYS };
        let dweights = Lhs { pointer: s.dscores.as_ptr(), row: 1, col: KEYS };
        let target = (span.row + at) * width + stack.kv_head * d;
        assert!(target + (n - 1) * width + d <= dk.len, "key rows outside the gradient");
        // SAFETY: this task alone writes the rows of its tree in the columns of its kv head.
        unsafe {
            let dv = Out { pointer: dv.pointer_at(target), stride: width };
            let dk = Out { pointer: dk.pointer_at(target), stride: width };
            product(isa, [n, d, rows], weights, |p| stacked(&s.dout, d, p), dv, Start::Accumulate);
            product(isa, [n, d, rows], dweights, |p| stacked(&s.q, d, p), dk, Start::Accumulate);
            let a = Lhs { pointer: s.dscores.as_ptr(), row: KEYS, col: 1 };
            let c = Out { pointer: s.dq.as_mut_ptr(), stride: d };
            product(isa, [rows, d, n], a, |p| rows_of(saved.k, stack, span, at, n, p), c, Start::Accumulate);
        }
    });
    for query in 0..stack.count {
        let (start, len) = stack.heads_of(query);
        // SAFETY: this task alone writes the queries of its tree in the heads of its group.
        let to = unsafe { dq.slice(start, len) };
        to.iter_mut().zip(&s.dq[query * len..]).for_each(|(t, x)| *t = x * shape.scale());
    }
}

fn stacked(x: &[f32], d: usize, panel: usize) -> Rhs {
    Rhs { pointer: x[panel * PANEL..].as_ptr(), stride: d }
}

/// In place: scores become weights P, their derivatives become P·(dP - delta); hidden keys become 0.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn softmax_backward(
    scores: &mut [f32],
    dscores: &mut [f32],
    seen: std::ops::Range<usize>,
    lse: f32,
    delta: f32,
) {
    scores[..seen.start].fill(0.0);
    scores[seen.end..].fill(0.0);
    dscores[..seen.start].fill(0.0);
    dscores[seen.end..].fill(0.0);
    for (p, dp) in scores[seen.clone()].iter_mut().zip(&mut dscores[seen]) {
        *p = exp(*p - lse);
        *dp = *p * (*dp - delta);
    }
}
