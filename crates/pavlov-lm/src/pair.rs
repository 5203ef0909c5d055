//! Preference rows without a prompt column: the prompt is what both answers begin with.

use pavlov_schema::text::Text;

use crate::{Error, Result};

/// A comparison as prompt, chosen answer and rejected answer.
///
/// Without a prompt it is what both begin with: the same messages, or the same characters (less a space at their end,
/// which belongs to the answers' first words).
pub fn split_pair(prompt: Option<&Text>, chosen: &Text, rejected: &Text) -> Result<(Text, Text, Text)> {
    let (prompt, chosen, rejected) = match (prompt, chosen, rejected) {
        (Some(prompt), _, _) => {
            (prompt.clone(), chosen.clone().answering(prompt), rejected.clone().answering(prompt))
        }
        (None, Text::Chat(a), Text::Chat(b)) => {
            let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
            (Text::Chat(a[..same].to_vec()), Text::Chat(a[same..].to_vec()), Text::Chat(b[same..].to_vec()))
        }
        (None, Text::Plain(a), Text::Plain(b)) => {
            let same: usize =
                a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
            let same = if a[..same].ends_with(' ') { same - 1 } else { same };
            (Text::from(&a[..same]), Text::from(&a[same..]), Text::from(&b[same..]))
        }
        _ => return Err(wrong("one answer is a string and the other a conversation; make both the same")),
    };
    if prompt.is_empty() {
        return Err(wrong("the two answers have no common beginning; add a `prompt` column"));
    }
    if chosen.is_empty() || rejected.is_empty() {
        return Err(wrong("one answer is the beginning of the other, or empty; remove the row"));
    }
    Ok((prompt, chosen, rejected))
}

fn wrong(what: &str) -> Error {
    Error::Model(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pavlov_schema::text::Message;

    #[test]
    fn the_common_beginning_is_the_prompt() {
        let (prompt, a, b) = split_pair(None, &Text::from("Q: é? yes"), &Text::from("Q: é? no")).unwrap();
        assert_eq!((prompt, a, b), (Text::from("Q: é?"), Text::from(" yes"), Text::from(" no")));
        let chat =
            |answer: &str| Text::Chat(vec![Message::new("user", "q"), Message::new("assistant", answer)]);
        let (prompt, a, _) = split_pair(None, &chat("a"), &chat("b")).unwrap();
        assert_eq!(prompt, Text::Chat(vec![Message::new("user", "q")]));
        assert_eq!(a, Text::Chat(vec![Message::new("assistant", "a")]));
        assert!(split_pair(None, &chat("a"), &chat("a")).is_err());
        assert!(split_pair(None, &Text::from("a"), &Text::from("b")).is_err());
    }
}
