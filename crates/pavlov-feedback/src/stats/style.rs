//! How an answer looks, whatever it says: what raters may like without meaning to.

use pulldown_cmark::{Event, Parser, Tag};
use serde::{Deserialize, Serialize};

use super::strength::Vote;

/// A term of style. The four that public arenas control for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// Characters.
    Length,
    /// Headings.
    Headers,
    /// Items of lists.
    Lists,
    /// Stretches in bold.
    Bold,
}

impl Style {
    /// Every term, in the order of [`Counts`] and [`Vote::style`].
    pub const ALL: [Self; 4] = [Self::Length, Self::Headers, Self::Lists, Self::Bold];
}

/// How much of each term an answer has, in the order of [`Style::ALL`].
pub type Counts = [u32; Style::ALL.len()];

/// Texts longer than this (bytes) are shown as they were written, so that their mark-up is none.
const LONGEST_MARKDOWN: usize = 200_000;

/// Counts a text's characters, and what a page makes of its mark-up: headings, items of lists, stretches in bold.
pub fn counts(text: &str) -> Counts {
    let mut found = [u32::try_from(text.chars().count()).unwrap_or(u32::MAX), 0, 0, 0];
    if text.len() <= LONGEST_MARKDOWN {
        for event in Parser::new(text) {
            match event {
                Event::Start(Tag::Heading { .. }) => found[1] += 1,
                Event::Start(Tag::Item) => found[2] += 1,
                Event::Start(Tag::Strong) => found[3] += 1,
                _ => {}
            }
        }
    }
    found
}

/// (a − b) / (a + b) of each term, from −1 to 1; 0 where neither answer has any of it. As a share of both, so that one list more counts
/// alike in answers of any length: differences of counts would be the few longest answers' alone.
pub fn difference(a: Counts, b: Counts) -> [f32; Style::ALL.len()] {
    std::array::from_fn(|k| {
        let (a, b) = (f64::from(a[k]), f64::from(b[k]));
        if a + b > 0.0 { ((a - b) / (a + b)) as f32 } else { 0.0 }
    })
}

/// Divides each term by the root of its mean square over the votes, so that effects are of a standard deviation and can be compared
/// among each other. Nothing is subtracted: the order on the screen is arbitrary, and a mean would be a second order term.
pub fn standardize(votes: &mut [Vote]) {
    for k in 0..Style::ALL.len() {
        let square = votes.iter().map(|vote| f64::from(vote.style[k]).powi(2)).sum::<f64>();
        let scale = (square / votes.len().max(1) as f64).sqrt();
        if scale > 0.0 {
            for vote in votes.iter_mut() {
                vote.style[k] = (f64::from(vote.style[k]) / scale) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let text = "# One\n\n- **two** and __three__\n- four * five\n\n1. six\n\n```\n# seven\n```";
        assert_eq!(counts(text), [69, 1, 3, 2]);
        assert_eq!(counts("no mark-up: #1, 2 * 3 ** 4"), [26, 0, 0, 0]);
        let found = difference([30, 0, 3, 0], [10, 0, 1, 2]);
        assert!(found.iter().zip([0.5, 0.0, 0.5, -1.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    }
}
