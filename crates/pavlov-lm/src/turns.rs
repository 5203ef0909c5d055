//! What is learned of a conversation: the byte ranges of the assistant's turns in its rendered text.

use std::ops::Range;

use pavlov_schema::text::Message;
use serde_json::Value;

use crate::encode::unstable;
use crate::template::ChatTemplate;
use crate::{Error, Result};

/// A rendered conversation and its learned turns.
#[derive(Debug)]
pub(crate) struct Turns {
    pub(crate) text: String,
    /// Byte ranges, in order and apart.
    pub(crate) trained: Vec<Range<usize>>,
    /// Bytes of the prompt, which a sampler is given alone.
    prompt: usize,
}

impl Turns {
    /// Where pieces that must not share a token meet, ascending.
    pub(crate) fn borders(&self) -> impl Iterator<Item = usize> {
        let mut borders: Vec<usize> = self.trained.iter().flat_map(|span| [span.start, span.end]).collect();
        borders.extend([self.prompt]);
        borders.sort_unstable();
        borders.into_iter()
    }
}

/// Renders a conversation whose first `prompt` messages are not learned.
///
/// The template's generation blocks say what is learned; without them each turn is what it adds to the text before it.
pub(crate) fn turns(
    template: &ChatTemplate,
    messages: &[Message],
    tools: Option<&[Value]>,
    prompt: usize,
) -> Result<Turns> {
    let whole = template.render(messages, tools, false)?;
    let begins = |end: usize, speak: bool| -> Result<usize> {
        let part = template.render(&messages[..end], tools, speak)?.text;
        if whole.text.starts_with(&part) { Ok(part.len()) } else { Err(unstable(end + 1)) }
    };
    let prompt_bytes = if prompt > 0 { begins(prompt, true)? } else { 0 };
    let mut trained = Vec::new();
    if template.marks_generation() {
        trained.extend(whole.generated.iter().filter(|span| span.start >= prompt_bytes).cloned());
    } else {
        for (turn, message) in messages.iter().enumerate().skip(prompt) {
            if message.role == "assistant" {
                let start = begins(turn, true)?;
                let end =
                    if turn + 1 == messages.len() { whole.text.len() } else { begins(turn + 1, false)? };
                if start < end {
                    trained.push(start..end);
                }
            }
        }
    }
    if trained.is_empty() {
        let what = "no assistant's turn is in its text, so nothing is learned; add an answer, or correct the template";
        return Err(Error::Template(what.into()));
    }
    Ok(Turns { text: whole.text, trained, prompt: prompt_bytes })
}
