//! What differs between two answers, word by word.

use std::fmt::Write as _;

use std::time::Duration;

use similar::{ChangeTag, TextDiff};

use super::{Places, words};

/// After this long the rest is shown as different: a hostile pair must not hold the server.
const LONGEST: Duration = Duration::from_millis(50);

/// Two texts as they were written, with the words that only one of them has marked: in the first as `<del>`, in the second
/// as `<ins>`.
pub fn differences(first: &str, second: &str) -> (String, String) {
    let difference = TextDiff::configure().timeout(LONGEST).diff_words(first, second);
    let (mut left, mut right) = (Side::new(first), Side::new(second));
    for change in difference.iter_all_changes() {
        match change.tag() {
            ChangeTag::Equal => {
                left.push(change.value(), "");
                right.push(change.value(), "");
            }
            ChangeTag::Delete => left.push(change.value(), "del"),
            ChangeTag::Insert => right.push(change.value(), "ins"),
        }
    }
    (left.finish(), right.finish())
}

struct Side {
    out: String,
    places: Places,
    at: usize,
    /// The tag that is open.
    tag: &'static str,
}

impl Side {
    fn new(text: &str) -> Side {
        let out = "<div class=\"plain\" dir=\"auto\">".to_owned();
        Side { out, places: Places::new(text), at: 0, tag: "" }
    }

    fn push(&mut self, part: &str, tag: &'static str) {
        // White space between changed words joins them.
        if tag != self.tag {
            self.switch(tag);
        }
        words(&mut self.out, part, self.at, &self.places);
        self.at += part.len();
    }

    fn switch(&mut self, tag: &'static str) {
        if !self.tag.is_empty() {
            let _ = write!(self.out, "</{}>", self.tag);
        }
        if !tag.is_empty() {
            let _ = write!(self.out, "<{tag}>");
        }
        self.tag = tag;
    }

    fn finish(mut self) -> String {
        self.switch("");
        self.out.push_str("</div>");
        self.out
    }
}
