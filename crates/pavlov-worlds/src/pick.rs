//! Draws from lists.

use pavlov_schema::rng::Rng;

/// One item, uniformly.
///
/// # Panics
/// If `items` is empty.
pub(crate) fn one<T: Copy>(rng: &mut Rng, items: &[T]) -> T {
    items[rng.below(items.len())]
}

/// `n` different items in random order, all of them if there are fewer.
pub(crate) fn several<T: Copy>(rng: &mut Rng, items: &[T], n: usize) -> Vec<T> {
    let mut items = items.to_vec();
    rng.shuffle(&mut items);
    items.truncate(n);
    items
}

/// A number from `low` to `high`, both included.
pub(crate) fn between(rng: &mut Rng, low: usize, high: usize) -> usize {
    low + rng.below(high - low + 1)
}

/// True with the given probability.
pub(crate) fn chance(rng: &mut Rng, probability: f64) -> bool {
    rng.uniform_f64() < probability
}
