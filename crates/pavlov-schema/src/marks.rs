//! The words of an answer that a rater marked, and the credit map that is made of them.

use serde::{Deserialize, Serialize};

use crate::text::Text;

/// The words of one answer that a rater marked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Marks {
    /// Place of the answer among the task's responses, from 0.
    pub response: usize,
    /// The marked stretches; they do not overlap.
    pub spans: Vec<Span>,
}

/// A marked stretch of an answer, in characters (Unicode scalar values) from 0; `end` is behind the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The first character.
    pub start: usize,
    /// Behind the last character.
    pub end: usize,
    /// 1: it earned the verdict; −1: it lost it.
    pub sign: i8,
}

/// The characters of an answer that marks count: its text, or the contents of its messages one after another.
pub fn marked_text(text: &Text) -> String {
    match text {
        Text::Plain(text) => text.clone(),
        Text::Chat(messages) => messages.iter().map(|message| message.content.as_str()).collect(),
    }
}

/// One weight per token from a person's marks, as a credit map: the share of the token's characters that earned the
/// verdict less the share that lost it, in [−1, 1]. `offsets` are each token's first character and the one behind its
/// last, in characters of [`marked_text`]; a token without characters (an end token) weighs 0.
pub fn token_weights(marks: &[Marks], response: usize, offsets: &[(usize, usize)]) -> Vec<f32> {
    let spans: Vec<&Span> =
        marks.iter().filter(|mark| mark.response == response).flat_map(|mark| &mark.spans).collect();
    let weight = |&(start, end): &(usize, usize)| {
        let share = |span: &&Span| {
            let shared = span.end.min(end).saturating_sub(span.start.max(start));
            f32::from(span.sign) * shared as f32
        };
        spans.iter().map(share).sum::<f32>() / end.saturating_sub(start).max(1) as f32
    };
    offsets.iter().map(weight).collect()
}

/// Every stretch lies within its answer, points one way, and no two of an answer overlap.
pub(crate) fn check(marks: &[Marks], responses: &[&Text]) -> Result<(), String> {
    for (i, mark) in marks.iter().enumerate() {
        let place = format!("`marks` {}", i + 1);
        let Some(text) = responses.get(mark.response) else {
            let (wrong, found) = (mark.response, responses.len());
            return Err(format!("{place}: `response` is {wrong}, of {found} counted from 0; correct it"));
        };
        if marks[..i].iter().any(|earlier| earlier.response == mark.response) {
            return Err(format!("{place}: response {} has marks already; put them together", mark.response));
        }
        let length = marked_text(text).chars().count();
        let mut spans = mark.spans.clone();
        spans.sort_unstable_by_key(|span| span.start);
        let mut after = 0;
        for &Span { start, end, sign } in &spans {
            if start >= end || end > length {
                return Err(format!(
                    "{place}: goes from {start} to {end} in an answer of {length} characters; correct it"
                ));
            }
            if start < after {
                return Err(format!("{place}: two stretches overlap at {start}; keep one of them"));
            }
            if sign != 1 && sign != -1 {
                return Err(format!("{place}: `sign` is {sign}; write 1 (earned it) or -1 (lost it)"));
            }
            after = end;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_weights_of_tokens() {
        let span = |start, end, sign| Span { start, end, sign };
        let marks = |response, spans: &[Span]| Marks { response, spans: spans.to_vec() };
        // Ê and à are one character each, two bytes.
        let text = Text::from("Être là");
        let both = [marks(0, &[span(5, 6, -1), span(0, 4, 1)]), marks(1, &[span(0, 7, -1)])];
        let offsets = [(0, 2), (2, 5), (5, 7), (7, 7)];
        assert_eq!(token_weights(&both, 0, &offsets), [1.0, 2.0 / 3.0, -0.5, 0.0]);
        assert_eq!(token_weights(&[], 0, &offsets), [0.0; 4]);
        assert!(check(&both, &[&text, &text]).is_ok());
        for (spans, wanted) in [
            (vec![span(3, 8, 1)], "7 characters"),
            (vec![span(3, 3, 1)], "7 characters"),
            (vec![span(0, 2, 2)], "`sign` is 2"),
            (vec![span(2, 4, 1), span(0, 3, 1)], "overlap at 2"),
        ] {
            let what = check(&[marks(0, &spans)], &[&text]).unwrap_err();
            assert!(what.contains(wanted), "{what}");
        }
        assert!(check(&both, &[&text]).unwrap_err().contains("`response` is 1, of 1"));
        assert!(check(&[marks(0, &[]), marks(0, &[])], &[&text]).is_err());
    }
}
