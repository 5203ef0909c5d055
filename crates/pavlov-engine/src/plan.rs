//! Who attends to whom: the packed segments of a forest, or the live sequences of a key-value cache, as spans of keys.

use crate::forest::Forest;

/// Keys start on multiples of this many slots, so that a block of keys is one aligned panel.
pub(crate) const SLOT_ALIGN: usize = 32;

/// A run of consecutive keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Slot of its first key in the key store; a multiple of 32.
    pub slot: usize,
    /// Row of its first value, if values lie row by row.
    pub row: usize,
    /// Number of keys.
    pub len: usize,
    /// Position of its first key in its sequence.
    pub position: usize,
}

/// Queries at consecutive rows that share their keys.
#[derive(Clone, Debug)]
pub struct Item {
    /// Row of the first query.
    pub query: usize,
    /// Number of queries.
    pub len: usize,
    /// Spans of the ancestors, oldest first, wholly visible: a range of [`AttentionPlan::spans`].
    pub context: std::ops::Range<usize>,
    /// The span that the queries themselves extend: query i sees its keys `0 ..= offset + i`.
    pub own: Span,
    /// How many keys of `own` came before the first query.
    pub offset: usize,
}

/// The attention pattern of one forward pass.
#[derive(Clone, Debug, Default)]
pub struct AttentionPlan {
    /// Groups of queries.
    pub items: Vec<Item>,
    /// Spans that items name.
    pub spans: Vec<Span>,
    /// Items of one tree after another: no key is shared between trees, so their gradients are independent.
    pub trees: Vec<Vec<usize>>,
    /// Slots that the key store needs.
    pub slots: usize,
    /// Whether keys and values are a sampler's cache: values then lie by slot, in blocks of 32 for each head, so that a
    /// head's are read in one stretch.
    pub cached: bool,
}

impl AttentionPlan {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.items.clear();
        self.spans.clear();
        self.trees.clear();
        self.slots = 0;
        self.cached = false;
    }

    /// The plan of a packed forest, whose values lie at the rows of its tokens.
    pub fn of_forest(&mut self, forest: &Forest) {
        self.clear();
        let mut tree_of: Vec<usize> = Vec::with_capacity(forest.segments().len());
        for (index, segment) in forest.segments().iter().enumerate() {
            let own =
                Span { slot: self.slots, row: segment.start, len: segment.len, position: segment.position };
            self.slots += segment.len.next_multiple_of(SLOT_ALIGN);
            let first = self.spans.len();
            let tree = match segment.parent {
                None => {
                    self.trees.push(Vec::new());
                    self.trees.len() - 1
                }
                Some(parent) => {
                    let parent = parent.0 as usize;
                    self.spans.extend_from_within(self.items[parent].context.clone());
                    self.spans.push(self.items[parent].own);
                    tree_of[parent]
                }
            };
            tree_of.push(tree);
            self.trees[tree].push(index);
            let context = first..self.spans.len();
            self.items.push(Item { query: segment.start, len: segment.len, context, own, offset: 0 });
        }
    }

    /// The spans of an item, its own last.
    pub fn spans_of(&self, item: &Item) -> impl Iterator<Item = Span> {
        self.spans[item.context.clone()].iter().copied().chain(std::iter::once(item.own))
    }
    /// Keys that each query sees, summed over queries, under a sliding window.
    pub fn pairs(&self, window: Option<usize>) -> u64 {
        let of_item = |item: &Item| -> u64 {
            let before =
                self.spans[item.context.clone()].iter().map(|span| span.len).sum::<usize>() + item.offset;
            let seen = |i: usize| (before + i + 1).min(window.unwrap_or(usize::MAX)) as u64;
            (0..item.len).map(seen).sum()
        };
        self.items.iter().map(of_item).sum()
    }
}
