//! LaTeX maths to MathML, through a list of what MathML may hold.

use std::fmt::Write as _;

use std::panic;

use pulldown_latex::config::{DisplayMode, RenderConfig};
use pulldown_latex::{Parser, Storage, push_mathml};

/// Longer formulas (bytes), and those nested deeper, are shown as they were written.
const LONGEST: usize = 2_000;
const DEEPEST: usize = 40;

const TAGS: [&str; 24] = [
    "math",
    "mrow",
    "mi",
    "mn",
    "mo",
    "mtext",
    "mspace",
    "mfrac",
    "msqrt",
    "mroot",
    "msub",
    "msup",
    "msubsup",
    "munder",
    "mover",
    "munderover",
    "mtable",
    "mtr",
    "mtd",
    "mmultiscripts",
    "mprescripts",
    "mpadded",
    "mphantom",
    "mstyle",
];
const ATTRIBUTES: [&str; 16] = [
    "display",
    "displaystyle",
    "scriptlevel",
    "mathvariant",
    "stretchy",
    "symmetric",
    "linethickness",
    "width",
    "accent",
    "accentunder",
    "form",
    "fence",
    "separator",
    "lspace",
    "rspace",
    "movablelimits",
];

/// A formula as MathML, or nothing where it must be shown as it was written.
pub(super) fn mathml(tex: &str, display: bool) -> Option<String> {
    // Definitions could double their own length again and again.
    let defines = ["\\def", "\\let", "\\newcommand", "\\renewcommand", "\\edef", "\\gdef", "\\futurelet"];
    let depth = tex.matches(['{', '[', '(']).count() + tex.matches("\\begin").count();
    let roots = tex.matches(['^', '_']).count() + tex.matches('\\').count();
    if tex.len() > LONGEST
        || depth > 4 * DEEPEST
        || roots > 10 * DEEPEST
        || nesting(tex) > DEEPEST
        || defines.iter().any(|word| tex.contains(word))
    {
        return None;
    }
    let config = RenderConfig {
        display_mode: if display { DisplayMode::Block } else { DisplayMode::Inline },
        ..RenderConfig::default()
    };
    // The text is hostile and the parser another's: should it ever panic, the formula is shown as it was written.
    let made = panic::catch_unwind(|| {
        let storage = Storage::new();
        let mut out = String::new();
        push_mathml(&mut out, Parser::new(tex, &storage), config).ok().map(|()| out)
    });
    made.ok().flatten().and_then(|made| allowed(&made))
}

fn nesting(tex: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for c in tex.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// MathML rebuilt from allowed tags and attributes, or nothing where it holds another tag, an error, or tags that do not
/// close.
fn allowed(made: &str) -> Option<String> {
    let mut out = String::with_capacity(made.len());
    let mut open: Vec<&str> = Vec::new();
    let mut rest = made;
    while let Some(start) = rest.find('<') {
        text(&mut out, &rest[..start], !open.is_empty())?;
        let end = start + rest[start..].find('>')?;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            (open.pop()? == name).then_some(())?;
            let _ = write!(out, "</{name}>");
            continue;
        }
        let (tag, closed) = match tag.strip_suffix('/') {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let name = *TAGS.iter().find(|known| **known == name)?;
        // One formula, outermost.
        ((name == "math") == out.is_empty() && (name == "math") == open.is_empty()).then_some(())?;
        let _ = write!(out, "<{name}");
        copy_attributes(&mut out, attributes)?;
        out.push('>');
        if closed {
            let _ = write!(out, "</{name}>");
        } else {
            open.push(name);
        }
    }
    (open.is_empty() && rest.trim().is_empty()).then_some(out)
}

/// The text between tags, in which only named or numbered characters may start with `&`.
fn text(out: &mut String, text: &str, inside: bool) -> Option<()> {
    if !inside {
        return text.trim().is_empty().then_some(());
    }
    let mut parts = text.split('&');
    super::unveil(out, parts.next()?);
    for part in parts {
        let (entity, after) = part.split_once(';')?;
        let c = match entity {
            "nbsp" => '\u{A0}',
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            number => char::from_u32(match number.strip_prefix("#x") {
                Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok()?,
                None => number.strip_prefix('#')?.parse().ok()?,
            })?,
        };
        super::unveil(out, c.encode_utf8(&mut [0; 4]));
        super::unveil(out, after);
    }
    Some(())
}

/// Copies what may stay: `style` is left out (no style but the page's own), unknown names and odd values too.
fn copy_attributes(out: &mut String, mut attributes: &str) -> Option<()> {
    while let Some((name, after)) = attributes.trim_start().split_once("=\"") {
        let (value, rest) = after.split_once('"')?;
        let plain = value.len() <= 12 && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
        if plain && ATTRIBUTES.contains(&name) {
            let _ = write!(out, " {name}=\"{value}\"");
        } else if name == "class"
            && value.split(' ').all(|class| class.starts_with("menv-") && class.is_ascii())
        {
            let classes: String =
                value.chars().filter(|c| c.is_ascii_lowercase() || matches!(c, '-' | ' ')).collect();
            let _ = write!(out, " class=\"{classes}\"");
        }
        attributes = rest;
    }
    Some(())
}

/// `\(…\)` and `\[…\]`, which many models write, as the dollars that Markdown parsers know. Each takes as many bytes as it
/// had, so that places in the text stay. Code keeps its backslashes.
pub(super) fn dollars(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.split_inclusive('\n') {
        let fence = ["```", "~~~"].iter().any(|fence| line.trim_start().starts_with(fence));
        if fence && !fenced {
            prose_dollars(&mut out, &std::mem::take(&mut prose));
        }
        if fenced || fence {
            out.push_str(line);
        } else {
            prose.push_str(line);
        }
        fenced ^= fence;
    }
    prose_dollars(&mut out, &prose);
    out
}

fn prose_dollars(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(start) = rest.find(['`', '\\']) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let formula = ["\\)", "\\]"].iter().find_map(|closing| formula(rest, closing));
        let taken = match &formula {
            Some(formula) => formula.len(),
            None if rest.starts_with('`') => code_span(rest),
            // An escaped character: its backslash is not another's.
            None => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(formula.as_deref().unwrap_or(&rest[..taken]));
        rest = &rest[taken..];
    }
    out.push_str(rest);
}

/// How long a span of code is that a text starts with.
fn code_span(text: &str) -> usize {
    let ticks = text.len() - text.trim_start_matches('`').len();
    let after = &text[ticks..];
    let mut from = 0;
    while let Some(found) = after[from..].find('`') {
        let run = after[from + found..].len() - after[from + found..].trim_start_matches('`').len();
        from += found + run;
        if run == ticks {
            return ticks + from;
        }
    }
    ticks
}

/// A formula that a text starts with, in dollars. Markdown wants no space inside of single ones: it goes outside.
fn formula(text: &str, closing: &str) -> Option<String> {
    let opening = if closing == "\\)" { "\\(" } else { "\\[" };
    let after = text.strip_prefix(opening)?;
    let near = after.char_indices().nth(LONGEST).map_or(after, |(end, _)| &after[..end]);
    let inner = near.split_once(closing)?.0;
    if inner.contains(['$', '`']) || inner.contains("\n\n") || inner.trim().is_empty() {
        return None;
    }
    if closing == "\\]" {
        return Some(format!("$${inner}$$"));
    }
    let (start, end) = (inner.len() - inner.trim_start().len(), inner.trim_end().len());
    Some(format!(" {}${}${} ", &inner[..start], &inner[start..end], &inner[end..]))
}
