//! Keys and values of sampled sequences, by layer.

use crate::backend::Backend;
use crate::config::DecoderConfig;
use crate::plan::SLOT_ALIGN;

/// Keys and values of `slots` tokens in every layer. Regions are handed out by [`Regions`].
pub(crate) struct KvCache<B: Backend> {
    layers: Vec<(B::Buffer, B::Buffer)>,
}

impl<B: Backend> KvCache<B> {
    pub(crate) fn new() -> Self {
        Self { layers: Vec::new() }
    }

    /// Makes room for `slots` tokens, keeping larger memory. The contents are lost.
    pub(crate) fn fit(&mut self, backend: &B, config: &DecoderConfig, slots: usize) {
        self.layers.resize_with(config.num_layers, || (backend.zeros(0), backend.zeros(0)));
        for (keys, values) in &mut self.layers {
            backend.resize(keys, slots * config.kv_width());
            backend.resize(values, slots * config.kv_width());
        }
    }

    pub(crate) fn layer(&mut self, layer: usize) -> (&mut B::Buffer, &mut B::Buffer) {
        let (keys, values) = &mut self.layers[layer];
        (keys, values)
    }
}

/// A first-fit allocator of slot ranges, all multiples of 32.
#[derive(Debug)]
pub(crate) struct Regions {
    free: Vec<(usize, usize)>,
}

impl Regions {
    pub(crate) fn new(slots: usize) -> Self {
        Self { free: vec![(0, slots)] }
    }

    /// The start of a free range for `len` tokens, if there is one.
    pub(crate) fn take(&mut self, len: usize) -> Option<usize> {
        let len = len.next_multiple_of(SLOT_ALIGN);
        let at = self.free.iter().position(|(_, size)| *size >= len)?;
        let (start, size) = self.free[at];
        if size == len {
            self.free.remove(at);
        } else {
            self.free[at] = (start + len, size - len);
        }
        Some(start)
    }

    /// Returns a range taken for `len` tokens.
    pub(crate) fn give(&mut self, start: usize, len: usize) {
        let len = len.next_multiple_of(SLOT_ALIGN);
        let at = self.free.partition_point(|(s, _)| *s < start);
        self.free.insert(at, (start, len));
        if at + 1 < self.free.len() && start + len == self.free[at + 1].0 {
            self.free[at].1 += self.free.remove(at + 1).1;
        }
        if at > 0 && self.free[at - 1].0 + self.free[at - 1].1 == start {
            self.free[at - 1].1 += self.free.remove(at).1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Live regions never overlap, and all memory comes back.
        #[test]
        fn regions_are_disjoint_and_return(lens in prop::collection::vec((1_usize..200, any::<bool>()), 1..60)) {
            let mut regions = Regions::new(2048);
            let mut live: Vec<(usize, usize)> = Vec::new();
            for (len, drop_one) in lens {
                if drop_one && !live.is_empty() {
                    let (start, len) = live.remove(live.len() / 2);
                    regions.give(start, len);
                }
                if let Some(start) = regions.take(len) {
                    prop_assert!(start % SLOT_ALIGN == 0 && start + len <= 2048);
                    for (s, l) in &live {
                        prop_assert!(start + len <= *s || s + l <= start);
                    }
                    live.push((start, len));
                }
            }
            for (start, len) in live {
                regions.give(start, len);
            }
            prop_assert_eq!(regions.free, vec![(0, 2048)]);
        }
    }
}
