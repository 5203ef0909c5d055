//! Dialogues written as one text with `Human:` and `Assistant:` turns, as the HH-RLHF data has them.

use pavlov_schema::text::Message;

const TURNS: [(&str, &str); 2] = [("\n\nHuman:", "user"), ("\n\nAssistant:", "assistant")];

/// The turns of a dialogue, without the white space around each; none if the text is no dialogue. Empty turns are kept: an
/// assistant that says nothing was judged for that.
pub(super) fn turns(text: &str) -> Option<Vec<Message>> {
    let (mut rest, mut role) = start(text)?;
    let mut turns = Vec::new();
    loop {
        let next = TURNS.iter().filter_map(|(word, role)| Some((rest.find(word)?, *word, *role))).min();
        let (content, after) = match next {
            Some((at, word, next)) => (&rest[..at], Some((&rest[at + word.len()..], next))),
            None => (rest, None),
        };
        turns.push(Message::new(role, content.trim()));
        match after {
            Some(after) => (rest, role) = after,
            None => return Some(turns),
        }
    }
}

/// What follows the first word, and whose turn it begins.
fn start(text: &str) -> Option<(&str, &'static str)> {
    let text = text.trim_start();
    TURNS.iter().find_map(|(word, role)| Some((text.strip_prefix(word.trim_start())?, *role)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialogue_has_its_turns() {
        let text = "\n\nHuman: A Human: here\n\nwith two parts\n\nAssistant:  Yes?\n\nHuman: \n\nAssistant:";
        let wanted = [
            ("user", "A Human: here\n\nwith two parts"),
            ("assistant", "Yes?"),
            ("user", ""),
            ("assistant", ""),
        ];
        let wanted: Vec<_> = wanted.map(|(role, content)| Message::new(role, content)).into();
        assert_eq!(turns(text), Some(wanted));
        assert_eq!(turns("Human: q"), Some(vec![Message::new("user", "q")]));
        assert_eq!(turns("Ask a Human: now"), None);
    }
}
