//! Characters that hide, reorder or swallow others are shown by their number.

use std::fmt::Write as _;

/// Writes text, escaped, with its deceiving characters made visible.
pub fn unveil(out: &mut String, text: &str) {
    let mut before = '\0';
    let mut marks = 0;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        marks = if is_combining(c) { marks + 1 } else { 0 };
        // A carriage return before a line feed is how some systems end lines.
        let line_end = c == '\r' && rest.peek() == Some(&'\n');
        if line_end {
        } else if (is_deceiving(c) && !belongs(c, before, rest.peek().copied())) || marks > 4 {
            let _ = write!(out, "<span class=\"unseen\">U+{:04X}</span>", u32::from(c));
        } else {
            push(out, c);
        }
        before = c;
    }
}

/// Writes text with HTML's five characters escaped.
pub fn escape(out: &mut String, text: &str) {
    text.chars().for_each(|c| push(out, c));
}

fn push(out: &mut String, c: char) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        c => out.push(c),
    }
}

/// Control characters, marks of direction, characters of no width, fillers, tags, and places without a character.
pub fn is_deceiving(c: char) -> bool {
    matches!(c,
        '\0'..='\x08' | '\x0B'..='\x1F' | '\x7F'..='\u{9F}' | '\u{AD}' | '\u{34F}' | '\u{61C}'
        | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{2800}'
        | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}'
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
        | '\u{E000}'..='\u{F8FF}' | '\u{E0000}'..='\u{10FFFF}')
}

/// Joiners and variation selectors where a script or an emoji needs them.
fn belongs(c: char, before: char, after: Option<char>) -> bool {
    let joins =
        |c: char| matches!(c, '\u{600}'..='\u{8FF}' | '\u{900}'..='\u{DFF}' | '\u{FB50}'..='\u{FDFF}');
    let emoji = |c: char| matches!(c, '\u{2190}'..='\u{2BFF}' | '\u{FE0F}' | '\u{1F000}'..='\u{1FAFF}');
    match c {
        '\u{200C}' => joins(before) && after.is_some_and(joins),
        '\u{200D}' => {
            (joins(before) && after.is_some_and(joins)) || (emoji(before) && after.is_some_and(emoji))
        }
        '\u{FE0E}' | '\u{FE0F}' => {
            emoji(before) && before != '\u{FE0F}' || matches!(before, '0'..='9' | '#' | '©' | '®')
        }
        _ => false,
    }
}

/// The blocks of combining marks; a few on one letter are a script, a tower of them covers other lines.
fn is_combining(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36F}' | '\u{483}'..='\u{489}' | '\u{1AB0}'..='\u{1AFF}' | '\u{1DC0}'..='\u{1DFF}'
        | '\u{20D0}'..='\u{20FF}' | '\u{FE20}'..='\u{FE2F}')
}
