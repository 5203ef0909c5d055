//! Cutting an answer into parts, and laying numbers about characters onto tokens.

use std::ops::Range;

use pavlov_lm::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Most parts of an answer: pairs of them are fitted, and each is a prefix to continue.
pub const MOST_SEGMENTS: usize = 12;

/// What a part of an answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Sentences; neighbours are joined while there are more than [`MOST_SEGMENTS`].
    Sentence,
    /// Spans of equally many tokens, one token each where the answer is short.
    Span,
    /// Sentences where there are at least four, else spans.
    #[default]
    Adaptive,
}

/// A person's mark on an answer: characters `start..end` are good (`sign` = 1) or bad (−1).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Which of the judged answers, from 0.
    #[serde(default)]
    pub response: usize,
    /// The first character, counted in Unicode scalar values.
    pub start: usize,
    /// The one after the last.
    pub end: usize,
    /// 1: this part is good; −1: it is bad.
    pub sign: f64,
}

/// The text that each token adds to those before it; special tokens add none.
pub fn pieces(tokenizer: &Tokenizer, tokens: &[u32]) -> Result<Vec<String>> {
    let mut pieces = Vec::with_capacity(tokens.len());
    let mut stream = tokenizer.stream(true);
    for &token in tokens {
        pieces.push(stream.push(token)?);
    }
    if let Some(last) = pieces.last_mut() {
        last.push_str(&stream.finish()?);
    }
    Ok(pieces)
}

/// Cuts an answer, given as the text of each token. The end token belongs to the last part. Never empty parts.
pub fn cut(pieces: &[String], cut: Cut) -> Vec<Range<usize>> {
    let sentences = || join(sentences(pieces));
    match cut {
        Cut::Sentence => sentences(),
        Cut::Span => spans(pieces.len()),
        Cut::Adaptive => Some(sentences()).filter(|s| s.len() >= 4).unwrap_or_else(|| spans(pieces.len())),
    }
}

fn spans(tokens: usize) -> Vec<Range<usize>> {
    let parts = tokens.min(MOST_SEGMENTS);
    (0..parts).map(|i| i * tokens / parts..(i + 1) * tokens / parts).collect()
}

/// A sentence ends after a token whose text ends with a full stop, a question or exclamation mark or a line break.
fn sentences(pieces: &[String]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for (i, piece) in pieces.iter().enumerate() {
        let ends = piece.ends_with('\n') || piece.trim_end().ends_with(['.', '!', '?', '。', '！', '？']);
        // What has no text (an end token, half a character) stays with what came before.
        let rest_has_text = pieces[i + 1..].iter().any(|piece| !piece.trim().is_empty());
        if ends && rest_has_text {
            found.push(start..i + 1);
            start = i + 1;
        }
    }
    if start < pieces.len() {
        found.push(start..pieces.len());
    }
    found
}

/// Joins the two neighbours that are shortest together until there are few enough.
fn join(mut parts: Vec<Range<usize>>) -> Vec<Range<usize>> {
    while parts.len() > MOST_SEGMENTS {
        let shortest = (1..parts.len()).min_by_key(|&i| parts[i].end - parts[i - 1].start).unwrap_or(1);
        parts[shortest - 1].end = parts[shortest].end;
        parts.remove(shortest);
    }
    parts
}

/// Adds up numbers of other pieces of the same text over the pieces at hand: each number is even over its characters. What
/// has no characters (an end token) is added to the piece at the same place that has none, else to the last.
pub fn lay_over(from: &[(String, f64)], onto: &[String]) -> Vec<f64> {
    let mut sums = vec![0.0; onto.len()];
    if onto.is_empty() {
        return sums;
    }
    let mut ends = Vec::with_capacity(onto.len());
    let mut end = 0;
    for piece in onto {
        end += piece.len();
        ends.push(end);
    }
    let mut start = 0;
    for (text, number) in from {
        let own = start..start + text.len();
        if own.is_empty() {
            let textless = (0..onto.len()).rev().find(|&i| onto[i].is_empty() && ends[i] == start);
            sums[textless.unwrap_or(onto.len() - 1)] += number;
            continue;
        }
        let mut before = 0;
        for (sum, &end) in sums.iter_mut().zip(&ends) {
            let shared = own.end.min(end).saturating_sub(own.start.max(before));
            *sum += number * shared as f64 / own.len() as f64;
            before = end;
        }
        start = own.end;
    }
    sums
}

/// People's marks as one number a token: the mean of the signs over its characters. Errors: a mark outside the answer.
pub fn mark_tokens(marks: &[Mark], pieces: &[String]) -> Result<Vec<f64>> {
    let length: usize = pieces.iter().map(|piece| piece.chars().count()).sum();
    let mut signs = vec![0.0; length];
    for mark in marks {
        if mark.start >= mark.end || mark.end > length || !mark.sign.is_finite() {
            let (start, end) = (mark.start, mark.end);
            let what = format!(
                "a mark on characters {start}..{end} does not lie in the answer of {length} characters; mend its ends"
            );
            return Err(Error::Question(what));
        }
        signs[mark.start..mark.end].iter_mut().for_each(|sign| *sign += mark.sign);
    }
    let mut rest = signs.as_slice();
    let mean = |piece: &String| {
        let (own, later) = rest.split_at(piece.chars().count());
        rest = later;
        if own.is_empty() { 0.0 } else { own.iter().sum::<f64>() / own.len() as f64 }
    };
    Ok(pieces.iter().map(mean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pieces: &[&str]) -> Vec<String> {
        pieces.iter().map(|piece| (*piece).to_owned()).collect()
    }

    #[test]
    fn sentences_keep_the_end_token() {
        let pieces = texts(&["It", " is", ".", " No", "!", " So", ".", " And", ".", ""]);
        assert_eq!(cut(&pieces, Cut::Sentence), [0..3, 3..5, 5..7, 7..10]);
        assert_eq!(cut(&pieces, Cut::Adaptive).len(), 4);
        assert_eq!(cut(&pieces[..5], Cut::Adaptive), [0..1, 1..2, 2..3, 3..4, 4..5]);
        assert_eq!(cut(&vec!["a".to_owned(); 30], Cut::Span).len(), MOST_SEGMENTS);
        let many = cut(&vec!["a.".to_owned(); 40], Cut::Sentence);
        assert_eq!((many.len(), many[0].start, many[MOST_SEGMENTS - 1].end), (MOST_SEGMENTS, 0, 40));
    }

    #[test]
    fn numbers_are_laid_over_other_tokens() {
        let from = [("ab".to_owned(), 1.0), ("cd".to_owned(), 2.0), (String::new(), 5.0)];
        assert_eq!(lay_over(&from, &texts(&["a", "bc", "d", ""])), [0.5, 1.5, 1.0, 5.0]);
        assert_eq!(lay_over(&from, &texts(&["abcd"])), [8.0]);
    }

    #[test]
    fn marks_are_counted_in_characters() {
        let pieces = texts(&["é", "tä", "x", ""]);
        let mark = |start, end, sign| Mark { response: 0, start, end, sign };
        assert_eq!(
            mark_tokens(&[mark(0, 2, 1.0), mark(3, 4, -1.0)], &pieces).unwrap(),
            [1.0, 0.5, -1.0, 0.0]
        );
        let error = mark_tokens(&[mark(2, 9, 1.0)], &pieces).unwrap_err().to_string();
        assert!(error.contains("2..9") && error.contains("4 characters"), "{error}");
    }
}
