//! Hostile text to HTML that can only be read.
//!
//! A policy is rewarded for what its rater sees, so whatever its text can do to the page is a way to be rewarded without
//! answering well. Nothing of the text becomes markup: this module writes every tag itself, from a list that holds no
//! script, style, form, anchor, image or address to load; characters that hide or reorder others are shown by their
//! number (`visible`); headings of the text are no headings of the page.
//!
//! Each run of text carries its place in the source, in characters (`data-s`, `data-e`): that is how a rater's mark on a
//! word finds the characters that earned it.

mod difference;
mod maths;
mod visible;

use std::fmt::Write as _;
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

pub use difference::differences;
pub use visible::{escape, is_deceiving, unveil};

/// Texts longer than this (bytes) are shown plainly: no mark-up is worth a page that stalls.
const LONGEST_MARKDOWN: usize = 200_000;
/// How deep quotations and lists may nest on the page; deeper ones stay at this depth.
const DEEPEST: usize = 12;

/// How a text is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As the Markdown it most likely is.
    Formatted,
    /// As it was written, every character.
    Plain,
}

/// A text as safe HTML.
pub fn render(text: &str, view: View) -> String {
    match view {
        View::Formatted if text.len() <= LONGEST_MARKDOWN => markdown(text),
        View::Formatted | View::Plain => plain(text),
    }
}

/// A text as it was written.
pub fn plain(text: &str) -> String {
    let places = Places::new(text);
    let mut out = String::with_capacity(text.len() * 2);
    out.push_str("<div class=\"plain\" dir=\"auto\">");
    words(&mut out, text, 0, &places);
    out.push_str("</div>");
    out
}

/// A text read as Markdown, with code and maths.
pub fn markdown(text: &str) -> String {
    let source = maths::dollars(text);
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_MATH;
    let mut page =
        Page { out: String::with_capacity(text.len() * 2), places: Places::new(text), ..Page::default() };
    for (event, range) in Parser::new_ext(&source, options).into_offset_iter() {
        page.event(event, range, &source);
    }
    page.out
}

/// From bytes of a text to its characters.
#[derive(Default)]
pub(crate) struct Places {
    /// The byte each character starts at; none where all are one byte long.
    starts: Vec<usize>,
}

impl Places {
    pub(crate) fn new(text: &str) -> Places {
        let starts = if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(i, _)| i).collect() };
        Places { starts }
    }

    fn character(&self, byte: usize) -> usize {
        if self.starts.is_empty() { byte } else { self.starts.partition_point(|start| *start < byte) }
    }
}

/// Writes a part of a text that starts at a byte of it, each word with its place.
pub(crate) fn words(out: &mut String, part: &str, start: usize, places: &Places) {
    let mut at = start;
    for piece in part.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end_matches(char::is_whitespace);
        if !word.is_empty() {
            one_word(out, word, at..at + word.len(), places);
        }
        unveil(out, &piece[word.len()..]);
        at += piece.len();
    }
}

/// A word that stands for a range of bytes of the source.
fn one_word(out: &mut String, word: &str, bytes: Range<usize>, places: &Places) {
    let (s, e) = (places.character(bytes.start), places.character(bytes.end));
    let _ = write!(out, "<span data-s=\"{s}\" data-e=\"{e}\">");
    unveil(out, word);
    out.push_str("</span>");
}

/// The page as it is written.
#[derive(Default)]
struct Page {
    out: String,
    places: Places,
    /// For each open list, quotation and item: whether its tag was written.
    nested: Vec<bool>,
    depth: usize,
    /// The addresses of open links.
    addresses: Vec<(String, usize)>,
    /// Whether the cells of a table are its head.
    head: bool,
}

impl Page {
    fn event(&mut self, event: Event<'_>, range: Range<usize>, source: &str) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            // Raw HTML is text like any other.
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => {
                self.text(&text, range, source);
            }
            Event::Code(text) => {
                self.out.push_str("<code>");
                // Its range has the backticks.
                let offset = source.get(range.clone()).and_then(|written| written.find(&*text)).unwrap_or(0);
                let start = range.start + offset;
                self.text(&text, start..(start + text.len()).min(range.end), source);
                self.out.push_str("</code>");
            }
            Event::InlineMath(tex) => self.maths(&tex, &range, false),
            Event::DisplayMath(tex) => self.maths(&tex, &range, true),
            Event::SoftBreak | Event::HardBreak => self.out.push_str("<br>"),
            Event::Rule => self.out.push_str("<hr>"),
            Event::TaskListMarker(done) => self.out.push_str(if done { "☑ " } else { "☐ " }),
            Event::FootnoteReference(name) => unveil(&mut self.out, &name),
        }
    }

    /// Text has the places of its source; where it was changed on the way (`&amp;`), it is one word as long as its source.
    fn text(&mut self, text: &str, range: Range<usize>, source: &str) {
        if source.get(range.clone()) == Some(text) {
            words(&mut self.out, text, range.start, &self.places);
        } else {
            one_word(&mut self.out, text, range, &self.places);
        }
    }

    fn maths(&mut self, tex: &str, range: &Range<usize>, display: bool) {
        let (s, e) = (self.places.character(range.start), self.places.character(range.end));
        let kind = if display { "maths display" } else { "maths" };
        let _ = write!(self.out, "<span class=\"{kind}\" data-s=\"{s}\" data-e=\"{e}\">");
        if let Some(mathml) = maths::mathml(tex, display) {
            self.out.push_str(&mathml);
        } else {
            self.out.push_str("<code>");
            unveil(&mut self.out, tex);
            self.out.push_str("</code>");
        }
        self.out.push_str("</span>");
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph | Tag::HtmlBlock => self.out.push_str("<p dir=\"auto\">"),
            Tag::Heading { level, .. } => {
                let _ = write!(self.out, "<p class=\"{}\" dir=\"auto\">", heading(level));
            }
            Tag::BlockQuote(_) => self.nest("<blockquote dir=\"auto\">"),
            Tag::List(None) => self.nest("<ul>"),
            Tag::List(Some(first)) => {
                // HTML's list numbers are 32 bits.
                self.nest(&format!("<ol start=\"{}\">", first.min(i32::MAX as u64)));
            }
            Tag::Item => self.nest("<li dir=\"auto\">"),
            Tag::CodeBlock(kind) => {
                self.out.push_str("<pre dir=\"ltr\">");
                if let CodeBlockKind::Fenced(language) = kind
                    && !language.trim().is_empty()
                {
                    self.out.push_str("<span class=\"language\">");
                    unveil(&mut self.out, language.trim());
                    self.out.push_str("</span>");
                }
                self.out.push_str("<code>");
            }
            Tag::Table(_) => self.out.push_str("<table>"),
            Tag::TableHead => {
                self.head = true;
                self.out.push_str("<thead><tr>");
            }
            Tag::TableRow => self.out.push_str("<tr>"),
            Tag::TableCell => {
                self.out.push_str(if self.head { "<th dir=\"auto\">" } else { "<td dir=\"auto\">" });
            }
            Tag::Emphasis => self.out.push_str("<em>"),
            Tag::Strong => self.out.push_str("<strong>"),
            Tag::Strikethrough => self.out.push_str("<del>"),
            Tag::Link { dest_url, .. } => self.open_address("link", dest_url),
            Tag::Image { dest_url, .. } => {
                self.open_address("picture", dest_url);
                self.out.push_str("picture, not shown: ");
            }
            Tag::FootnoteDefinition(_)
            | Tag::DefinitionList
            | Tag::DefinitionListTitle
            | Tag::DefinitionListDefinition
            | Tag::Superscript
            | Tag::Subscript
            | Tag::MetadataBlock(_) => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::HtmlBlock | TagEnd::Heading(_) => self.out.push_str("</p>"),
            TagEnd::BlockQuote(_) => self.leave("</blockquote>"),
            TagEnd::List(false) => self.leave("</ul>"),
            TagEnd::List(true) => self.leave("</ol>"),
            TagEnd::Item => self.leave("</li>"),
            TagEnd::CodeBlock => self.out.push_str("</code></pre>"),
            TagEnd::Table => self.out.push_str("</tbody></table>"),
            TagEnd::TableHead => {
                self.head = false;
                self.out.push_str("</tr></thead><tbody>");
            }
            TagEnd::TableRow => self.out.push_str("</tr>"),
            TagEnd::TableCell => self.out.push_str(if self.head { "</th>" } else { "</td>" }),
            TagEnd::Emphasis => self.out.push_str("</em>"),
            TagEnd::Strong => self.out.push_str("</strong>"),
            TagEnd::Strikethrough => self.out.push_str("</del>"),
            TagEnd::Link | TagEnd::Image => self.close_address(),
            TagEnd::FootnoteDefinition
            | TagEnd::DefinitionList
            | TagEnd::DefinitionListTitle
            | TagEnd::DefinitionListDefinition
            | TagEnd::Superscript
            | TagEnd::Subscript
            | TagEnd::MetadataBlock(_) => {}
        }
    }

    fn nest(&mut self, tag: &str) {
        let written = self.depth < DEEPEST;
        if written {
            self.out.push_str(tag);
        }
        self.depth += 1;
        self.nested.push(written);
    }

    fn leave(&mut self, tag: &str) {
        self.depth = self.depth.saturating_sub(1);
        if self.nested.pop() == Some(true) {
            self.out.push_str(tag);
        }
    }

    /// A link is its text and its address, to read: nothing on the page leads to where a policy wants.
    fn open_address(&mut self, class: &str, address: CowStr<'_>) {
        let _ = write!(self.out, "<span class=\"{class}\">");
        self.addresses.push((address.into_string(), self.out.len()));
    }

    fn close_address(&mut self) {
        let Some((address, start)) = self.addresses.pop() else { return };
        let mut shown = String::new();
        unveil(&mut shown, &address);
        // An address that is its own text is shown once.
        if !self.out[start..].contains(&format!(">{shown}<")) {
            let _ = write!(self.out, " <span class=\"address\">({shown})</span>");
        }
        self.out.push_str("</span>");
    }
}

/// Big, middling or small; not a heading of the page.
fn heading(level: HeadingLevel) -> &'static str {
    match level {
        HeadingLevel::H1 => "heading big",
        HeadingLevel::H2 => "heading middling",
        HeadingLevel::H3 | HeadingLevel::H4 | HeadingLevel::H5 | HeadingLevel::H6 => "heading",
    }
}

#[cfg(test)]
mod tests;
