//! Stories that contradict themselves.
//!
//! They are stories of movement, ordering and family with the statements, lengths and questions of the consistent ones,
//! which in turn repeat what is already known: only whoever follows the relations can tell the two apart.

use pavlov_schema::rng::Rng;

use crate::config::Config;
use crate::world::Draft;
use crate::{family, movement, ordering};

/// A story of `n` statements that cannot all be true.
pub(crate) fn draft(rng: &mut Rng, config: &Config, n: usize) -> Draft {
    match rng.below(3) {
        0 => movement::draft(rng, config, n, true),
        1 => ordering::draft(rng, config, n, true),
        _ => family::contradiction(rng, config, n),
    }
}
