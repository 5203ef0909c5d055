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
    let fixture: Value = serde_json::from_str(include_str!("golden/templates.json")).unwrap();
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
                let expected: Vec<[usize; 2]> =
                    expected.iter().map(|s| serde_json::from_value(s.clone()).unwrap()).filter(|s: &[usize; 2]| s[0] < s[1]).collect();
                assert_eq!(found, expected, "{place}");
                spans += found.len();
            }
        }
    }
    // The fixture is not empty, and holds texts, spans and refusals.
    assert!(checked > 200 && spans > 50 && refused > 10, "{checked} {spans} {refused}");
}
