//! Which prefixes to continue: the parts of the answer first, then halves of the parts whose credit stands out
//! (pivotal-token search, arXiv:2412.08905).
//!
//! A part in which credit of both signs cancels is not looked into; finer parts find it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::values::Node;
use crate::Result;

/// Standard errors from which on a difference is looked into.
const STANDS_OUT: f64 = 2.0;

/// Measures the boundaries of `parts`, then halves of what stands out, at most `most` prefixes in all (the parts always).
/// `measure` continues prefixes of so many tokens. Returns the nodes in ascending order; those of the parts are among
/// them.
pub fn search(
    parts: &[Range<usize>],
    most: usize,
    measure: &mut dyn FnMut(&[usize]) -> Result<Vec<Node>>,
) -> Result<Vec<Node>> {
    let mut boundaries: Vec<usize> = parts.iter().map(|part| part.start).collect();
    boundaries.extend(parts.last().map(|part| part.end));
    let mut nodes: BTreeMap<usize, Node> =
        measure(&boundaries)?.into_iter().map(|node| (node.at, node)).collect();
    while nodes.len() < most {
        let next = halves(&nodes, most - nodes.len());
        if next.is_empty() {
            break;
        }
        nodes.extend(measure(&next)?.into_iter().map(|node| (node.at, node)));
    }
    Ok(nodes.into_values().collect())
}

/// The middles of the stretches that stand out, the clearest first, at most `most` of them.
fn halves(nodes: &BTreeMap<usize, Node>, most: usize) -> Vec<usize> {
    let nodes: Vec<&Node> = nodes.values().collect();
    let mut found: Vec<(f64, usize)> = nodes
        .windows(2)
        .filter(|pair| pair[1].at - pair[0].at > 1)
        .map(|pair| (errors_apart(pair[0], pair[1]), usize::midpoint(pair[0].at, pair[1].at)))
        .filter(|(apart, _)| *apart > STANDS_OUT)
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.truncate(most);
    let mut middles: Vec<usize> = found.into_iter().map(|(_, middle)| middle).collect();
    middles.sort_unstable();
    middles
}

/// |difference of the means| in standard errors; infinite for different exact values.
fn errors_apart(a: &Node, b: &Node) -> f64 {
    let mean_and_error = |node: &Node| {
        let all: Vec<f64> = node.sets.iter().flatten().copied().collect();
        let n = all.len() as f64;
        let mean = all.iter().sum::<f64>() / n;
        let variance = all.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / n;
        (mean, if node.exact { 0.0 } else { variance / n })
    };
    let ((ma, va), (mb, vb)) = (mean_and_error(a), mean_and_error(b));
    let difference = (ma - mb).abs();
    if difference > 0.0 { difference / (va + vb).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value jumps at token 37 of 64: it is found with few prefixes, to the token.
    #[test]
    fn one_pivot_is_found_in_few_prefixes() {
        let mut asked = 0;
        let mut measure = |places: &[usize]| {
            asked += places.len();
            let node = |&at: &usize| {
                let p = if at > 37 { 1.0 } else { 0.25 };
                let set: Vec<f64> = (0..32).map(|i| f64::from(u8::from(f64::from(i) < 32.0 * p))).collect();
                Node { at, sets: [set.clone(), set], exact: at == 64 }
            };
            Ok(places.iter().map(node).collect())
        };
        let nodes = search(&[0..16, 16..32, 32..48, 48..64], 24, &mut measure).unwrap();
        assert!(nodes.iter().any(|node| node.at == 37) && nodes.iter().any(|node| node.at == 38));
        assert!(asked <= 10, "{asked} prefixes");
    }
}
