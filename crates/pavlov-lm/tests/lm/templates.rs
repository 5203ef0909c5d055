//! Chat templates render as in `transformers`; the fixture is made by scripts/golden/templates.py.

use std::collections::BTreeMap;

use pavlov_lm::template::ChatTemplate;
use pavlov_schema::text::Message;
use serde_json::Value;

fn special_tokens(template: &Value) -> BTreeMap<String, String> {
    ["bos_token", "eos_token"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), template[*name].as_str()?.to_owned())))
        .collect()
}

/// [start, end) in characters, of byte ranges.
fn characters(text: &str, spans: &[std::ops::Range<usize>]) -> Vec<[usize; 2]> {
    let count = |end: usize| text[..end].chars().count();
    spans.iter().map(|span| [count(span.start), count(span.end)]).collect()
}

#[test]
fn real_templates_render_as_in_transformers() {
    let fixture: Value = serde_json::from_str(include_str!("../golden/templates.json")).unwrap();
    let mut checked = 0;
    let mut spans = 0;
    let mut refused = 0;
    for entry in fixture["templates"].as_array().unwrap() {
        let mut template =
            ChatTemplate::new(entry["template"].as_str().unwrap(), special_tokens(entry)).unwrap();
        template.set_now(1_700_000_000);
        for case in entry["cases"].as_array().unwrap() {
            let conversation = fixture["conversations"]
                .as_array()
                .unwrap()
                .iter()
                .find(|c| c["name"] == case["conversation"])
                .unwrap();
            if conversation["plain"] != true {
                continue;
            }
            let place = format!("{} {} {}", entry["name"], case["conversation"], case["variables"]);
            let messages: Vec<Message> = serde_json::from_value(conversation["messages"].clone()).unwrap();
            template.set_variables(case["variables"].as_object().unwrap().clone());
            let rendered = template.render(
                &messages,
                conversation["tools"].as_array().map(Vec::as_slice),
                case["add_generation_prompt"].as_bool().unwrap(),
            );
            checked += 1;
            let Some(expected) = case["rendered"].as_str() else {
                let error = rendered.map(|r| r.text).expect_err(&place).to_string();
                refused += 1;
                if case["raised"] == true {
                    let message = case["error"].as_str().unwrap().split_once(": ").unwrap().1;
                    let one_line = message.split_whitespace().collect::<Vec<_>>().join(" ");
                    assert!(error.contains(&one_line), "{place}: {error} does not say {message}");
                }
                continue;
            };
            let rendered = rendered.unwrap_or_else(|e| panic!("{place}: {e}"));
            assert_eq!(rendered.text, expected, "{place}");
            if let Some(expected) = case["generation_spans"].as_array() {
                let found = characters(&rendered.text, &rendered.generated);
                let expected: Vec<[usize; 2]> = expected
                    .iter()
                    .map(|s| serde_json::from_value(s.clone()).unwrap())
                    .filter(|s: &[usize; 2]| s[0] < s[1])
                    .collect();
                assert_eq!(found, expected, "{place}");
                spans += found.len();
            }
        }
    }
    // The fixture is not empty, and holds texts, spans and refusals.
    assert!(checked > 200 && spans > 50 && refused > 10, "{checked} {spans} {refused}");
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, BTreeMap::new()).unwrap()
}

#[test]
fn a_message_cannot_forge_a_generation_span() {
    let template = template(
        "{% for m in messages %}{{ m.content }}|{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    );
    // The marks are private-use characters; the first that are free are not those of the message.
    let content = "\u{F0000}x\u{F0001}\u{F0000}{% generation %}";
    let rendered = template.render(&[Message::new("user", content)], None, false).unwrap();
    assert_eq!(rendered.text, format!("{content}|{content}"));
    assert_eq!(rendered.generated.len(), 1);
    assert_eq!(rendered.generated[0], content.len() + 1..2 * content.len() + 1);
}

#[test]
fn hostile_templates_end_in_an_error() {
    let message = [Message::new("user", "x")];
    for source in [
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s=['x']) %}{% for i in range(64) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s | tojson }}",
        "{{ 'x' * 100000000000 }}",
        "{{ messages[0].content.nothing.there }}",
        "{{ strftime_now('%Q') }}",
        "{{ {'a': 1} | tojson(indent=100000000) }}",
        "{{ raise_exception('two\nlines') }}",
        "{% generation %}a{% generation %}b",
    ] {
        let rendered =
            ChatTemplate::new(source, BTreeMap::new()).and_then(|t| t.render(&message, None, false));
        let error = rendered.map(|r| r.text.len()).expect_err(source).to_string();
        assert!(
            error.starts_with("chat template: ") && !error.contains('\n') && error.len() < 500,
            "{error}"
        );
    }
}

#[test]
fn the_date_is_the_one_that_was_set() {
    let mut template = template("{{ strftime_now('%d %b %Y') }}");
    template.set_now(1_700_000_000);
    assert_eq!(template.render(&[], None, false).unwrap().text, "14 Nov 2023");
}

#[test]
fn json_is_written_as_python_writes_it() {
    let render = |source: &str| {
        let mut template = template(source);
        let value = serde_json::json!({"v": {"b": [1, 2.0, 1e-5, null, true], "a": "é<\"\n\u{1}>'", "e": [], "o": {}}});
        template.set_variables(value.as_object().unwrap().clone());
        template.render(&[], None, false).unwrap().text
    };
    // What json.dumps(v, ensure_ascii=False) and its variants print.
    let flat = r#"{"b": [1, 2.0, 1e-05, null, true], "a": "é<\"\n\u0001>'", "e": [], "o": {}}"#;
    assert_eq!(render("{{ v | tojson }}"), flat);
    assert_eq!(render("{{ v.b | tojson(separators=(',', ':')) }}"), "[1,2.0,1e-05,null,true]");
    assert_eq!(render("{{ v.a | tojson(ensure_ascii=true) }}"), r#""\u00e9<\"\n\u0001>'""#);
    let indented = "{\n  \"a\": \"é<\\\"\\n\\u0001>'\",\n  \"b\": [\n    1,\n    2.0,\n    1e-05,\n    null,\n    true\n  ],\n  \"e\": [],\n  \"o\": {}\n}";
    assert_eq!(render("{{ v | tojson(indent=2, sort_keys=true) }}"), indented);
}
