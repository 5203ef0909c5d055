//! A batch is a forest of token segments: no padding, and answers share the segment of their prompt.

use crate::{Error, Result};

/// Names a segment of a [`Forest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub(crate) u32);

/// A run of consecutive tokens. It attends causally to itself and wholly to its ancestors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Row of its first token in the packed batch.
    pub start: usize,
    /// Number of tokens.
    pub len: usize,
    /// The segment it continues, if any; always an earlier one.
    pub parent: Option<SegmentId>,
    /// Position of its first token in its sequence.
    pub position: usize,
}

/// Segments of tokens packed one after another: rows of every activation.
#[derive(Clone, Debug, Default)]
pub struct Forest {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    segments: Vec<Segment>,
}

impl Forest {
    /// An empty forest.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets every segment and keeps the memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.segments.clear();
    }

    /// Adds a segment that continues `parent`, or starts a sequence.
    ///
    /// # Panics
    /// If `tokens` is empty or `parent` is of another forest.
    pub fn push(&mut self, parent: Option<SegmentId>, tokens: &[u32]) -> SegmentId {
        assert!(!tokens.is_empty(), "a segment needs at least one token");
        let position = parent.map_or(0, |id| {
            let parent = self.segments[id.0 as usize];
            parent.position + parent.len
        });
        self.segments.push(Segment { start: self.tokens.len(), len: tokens.len(), parent, position });
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((position..position + tokens.len()).map(|p| p as u32));
        SegmentId(self.segments.len() as u32 - 1)
    }

    /// Row of the `i`-th token of a segment.
    ///
    /// # Panics
    /// If the segment has no such token.
    pub fn row(&self, segment: SegmentId, i: usize) -> usize {
        let segment = self.segments[segment.0 as usize];
        assert!(i < segment.len, "token {i} of a segment of {}", segment.len);
        segment.start + i
    }

    /// A segment.
    pub fn segment(&self, id: SegmentId) -> Segment {
        self.segments[id.0 as usize]
    }

    /// All segments in the order they were added.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Tokens of all segments, one a row.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Position of each row in its sequence.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no segment.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// One scored prediction: the log-probability that the distribution at `row` gives to `token`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Row whose output predicts; the last row of a parent predicts the first token of each of its children.
    pub row: u32,
    /// The token that came next.
    pub token: u32,
}

/// What a forward pass computes: a forest, the predictions to score and the rows whose scalar heads are read.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The tokens.
    pub forest: Forest,
    /// Scored predictions, in the order of [`crate::Outputs::logp`].
    pub targets: Vec<Target>,
    /// Rows read by the scalar heads, in the order of [`crate::Outputs::scalars`].
    pub reads: Vec<u32>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.forest.clear();
        self.targets.clear();
        self.reads.clear();
    }

    /// Scores every token of a segment whose predecessor is in the batch: all but the first token of a root.
    /// Returns the range of the new targets.
    pub fn score_segment(&mut self, id: SegmentId) -> std::ops::Range<usize> {
        self.score_tokens(id, 0)
    }

    /// Scores the tokens of a segment from its `from`-th on (the first token of a root has no predecessor and is
    /// skipped). Returns the range of the new targets.
    pub fn score_tokens(&mut self, id: SegmentId, from: usize) -> std::ops::Range<usize> {
        let first = self.targets.len();
        let segment = self.forest.segment(id);
        for i in from..segment.len {
            let row = match (i, segment.parent) {
                (0, None) => continue,
                (0, Some(parent)) => {
                    let parent = self.forest.segment(parent);
                    parent.start + parent.len - 1
                }
                _ => segment.start + i - 1,
            };
            self.targets.push(Target { row: row as u32, token: self.forest.tokens[segment.start + i] });
        }
        first..self.targets.len()
    }

    /// Checks every index against the vocabulary, the context length and the forest.
    pub(crate) fn validate(&self, vocab_size: usize, max_positions: usize) -> Result<()> {
        let rows = self.forest.len();
        if rows == 0 {
            return Err(Error::Batch("the batch is empty".into()));
        }
        if let Some((row, token)) =
            self.forest.tokens.iter().enumerate().find(|(_, token)| **token as usize >= vocab_size)
        {
            return Err(Error::Batch(format!(
                "row {row}: token {token} is outside the vocabulary of {vocab_size}"
            )));
        }
        if let Some(segment) = self.forest.segments.iter().find(|s| s.position + s.len > max_positions) {
            return Err(Error::Batch(format!(
                "a sequence of {} tokens is longer than the context of {max_positions}",
                segment.position + segment.len
            )));
        }
        for (i, target) in self.targets.iter().enumerate() {
            if target.row as usize >= rows || target.token as usize >= vocab_size {
                return Err(Error::Batch(format!(
                    "target {i} (row {}, token {}) is outside {rows} rows or {vocab_size} tokens",
                    target.row, target.token
                )));
            }
        }
        match self.reads.iter().find(|row| **row as usize >= rows) {
            Some(row) => Err(Error::Batch(format!("scalar read of row {row} is outside {rows} rows"))),
            None => Ok(()),
        }
    }
}
