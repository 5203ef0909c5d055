use super::*;
use crate::web::attacks::ATTACKS;

/// Tags that the renderer may write.
const TAGS: &[&str] = &[
    "div",
    "p",
    "span",
    "br",
    "hr",
    "ul",
    "ol",
    "li",
    "blockquote",
    "pre",
    "code",
    "em",
    "strong",
    "del",
    "ins",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
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
const ATTRIBUTES: &[&str] = &[
    "class",
    "dir",
    "data-s",
    "data-e",
    "start",
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

/// Every tag closes, and every tag and attribute is one of ours.
#[track_caller]
fn assert_inert(html: &str, source: &str) {
    let mut open = Vec::new();
    for part in html.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("{source:?}: {html}"));
        assert!(!text.contains('"') && !text.contains('>'), "{source:?}: unescaped in {text:?}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{source:?}: {html}");
            continue;
        }
        let mut words = tag.split(' ');
        let name = words.next().unwrap();
        assert!(TAGS.contains(&name), "{source:?}: <{name}> in {html}");
        for attribute in tag[name.len()..].split_inclusive("\" ").map(str::trim).filter(|a| !a.is_empty()) {
            let (key, value) = attribute.split_once("=\"").unwrap_or_else(|| panic!("{source:?}: {tag}"));
            assert!(ATTRIBUTES.contains(&key), "{source:?}: {tag}");
            assert!(
                value.trim_end_matches('"').chars().all(|c| c.is_ascii_alphanumeric() || " -.".contains(c)),
                "{tag}"
            );
        }
        if !matches!(name, "br" | "hr") {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{source:?}: {open:?} left open in {html}");
    let raw = |c: char| {
        !matches!(c, '\n' | '\t')
            && (c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{200B}' | '\u{FEFF}'))
    };
    assert!(!html.contains(raw), "{source:?}: a hidden character is in {html:?}");
}

#[test]
fn attacks_are_text() {
    assert!(ATTACKS.len() > 50);
    for attack in ATTACKS {
        assert_inert(&markdown(attack), attack);
        assert_inert(&plain(attack), attack);
        let (left, right) = differences(attack, "a fair answer");
        assert_inert(&left, attack);
        assert_inert(&right, attack);
    }
}

#[test]
fn hidden_characters_are_seen() {
    let seen = |text: &str| {
        let mut out = String::new();
        unveil(&mut out, text);
        out
    };
    let number = |n: &str| format!("<span class=\"unseen\">{n}</span>");
    assert_eq!(seen("a\u{202E}b"), format!("a{}b", number("U+202E")));
    assert_eq!(seen("\u{200B}\0\u{E0041}"), ["U+200B", "U+0000", "U+E0041"].map(number).concat());
    // What scripts and emoji need stays; line ends of either kind too.
    for fine in ["می\u{200C}خواهم", "👩\u{200D}🔬", "❤\u{FE0F}", "1\u{FE0F}\u{20E3}", "é e\u{301}", "a\nb\tc"]
    {
        assert_eq!(seen(fine), fine, "{fine:?}");
    }
    assert_eq!(seen("a\r\nb"), "a\nb");
    assert!(seen(&format!("z{}", "\u{30D}".repeat(9))).contains("U+030D"));
    assert_eq!(seen("<&>\"'"), "&lt;&amp;&gt;&quot;&#39;");
}

#[test]
fn markdown_reads_well() {
    let html = markdown(
        "# Title\n\n- one\n- **two**\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```rust\nfn main() {}\n```\n",
    );
    for part in [
        "<p class=\"heading big\" dir=\"auto\">",
        "<li dir=\"auto\">",
        "<strong>",
        "<th dir=\"auto\">",
        "<span class=\"language\">rust</span>",
        "<pre dir=\"ltr\">",
    ] {
        assert!(html.contains(part), "{part} in {html}");
    }
    assert!(!html.contains("<h1"), "the text's headings are not the page's");
}

#[test]
fn links_and_pictures_are_read_not_followed() {
    let html = markdown(
        "[the docs](https://evil.example/?q=1) ![cat](https://evil.example/c.png) <https://a.example>",
    );
    assert!(
        !html.contains("<a") && !html.contains("<img") && !html.contains("href") && !html.contains("src")
    );
    assert!(html.contains("(https://evil.example/?q=1)") && html.contains("(https://evil.example/c.png)"));
    assert_eq!(
        html.matches("https://a.example").count(),
        1,
        "an address that is its own text is shown once: {html}"
    );
}

#[test]
fn maths_is_mathml_or_its_source() {
    for text in ["$x^2$", "Let \\( x^2 \\) be", "\\[\n\\frac{x}{2}\n\\]", "$$\\sum_{i=1}^n i$$"] {
        assert!(markdown(text).contains("<math"), "{text}: {}", markdown(text));
        assert_eq!(super::maths::dollars(text).len(), text.len());
    }
    for text in ["`\\(x\\)`", "```\n\\[x\\]\n```", "costs $5 and $6", "a \\\\(b\\\\) c"] {
        assert!(!markdown(text).contains("<math"), "{text}: {}", markdown(text));
    }
    let bomb = "\\def\\a{xxxxxxxxxx}\\def\\b{\\a\\a\\a\\a\\a\\a}\\b\\b\\b";
    assert!(markdown(&format!("${bomb}$")).contains("<code>"));
    assert!(markdown("$\\frac{$").contains("frac"));
}

#[test]
fn every_word_knows_its_place() {
    let text = "Ünder *the* `box` &amp; more\n\n- ein wörd";
    let characters: Vec<char> = text.chars().collect();
    let html = markdown(text);
    let mut found = Vec::new();
    for part in html.split("data-s=\"").skip(1) {
        let (s, rest) = part.split_once('"').unwrap();
        let e = rest.split('"').nth(1).unwrap();
        let place: String = characters[s.parse().unwrap()..e.parse().unwrap()].iter().collect();
        found.push((place, rest.split_once('>').unwrap().1.split('<').next().unwrap().to_owned()));
    }
    let places: Vec<&str> = found.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["Ünder", "the", "box", "&amp;", "more", "ein", "wörd"]);
    for (place, shown) in &found {
        assert!(place == shown || (place == "&amp;" && shown == "&amp;"), "{place} {shown}");
    }
}

#[test]
fn differences_are_marked_on_both_sides() {
    let (left, right) = differences("the old house", "the new house");
    assert!(
        left.contains("<del>")
            && !left.contains("<ins>")
            && right.contains("<ins>")
            && !right.contains("<del>")
    );
    assert_eq!(left.matches("data-s").count(), 3);
    let (same, _) = differences("one", "one");
    assert!(!same.contains("<del>"));
}

#[test]
fn nothing_stalls() {
    for text in [
        ">".repeat(50_000),
        "[".repeat(50_000),
        "*a ".repeat(30_000),
        "$x".repeat(30_000),
        "- ".repeat(20_000),
        "`".repeat(60_000),
        "\\(".repeat(50_000),
        format!("${}$", "{".repeat(1900)),
        "<a ".repeat(30_000),
    ] {
        let start = std::time::Instant::now();
        assert_inert(&markdown(&text), "long");
        assert!(start.elapsed().as_secs() < 2, "{}… took {:?}", &text[..8], start.elapsed());
    }
    let deep = markdown(&format!("{}x", "> ".repeat(500)));
    assert!(deep.matches("<blockquote").count() <= 12);
}

proptest::proptest! {
    #[test]
    fn any_text_is_inert(text in "[\\PC\\n\\t$\\\\`*_<>&\\[\\]()#|{}^a\u{202E}\u{0}-]{0,80}") {
        assert_inert(&markdown(&text), &text);
        assert_inert(&plain(&text), &text);
    }
    #[test]
    fn any_formula_is_inert(tex in "(\\\\(frac|sqrt|text|operatorname|left|right|begin|end|color|mathbb|not|limits|kern)|[{}^_&<>a-z0-9\"'=|() .\\\\-]){0,30}") {
        assert_inert(&markdown(&format!("$${tex}$$")), &tex);
    }
}
