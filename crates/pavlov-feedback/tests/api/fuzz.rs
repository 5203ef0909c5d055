//! A fuzzer that reads the served document: for every operation, bodies, queries and paths of the described shapes and of
//! hostile ones. Whatever is sent, the answer is no 5xx, and every failure is one line of JSON (`Place::send` checks that).

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};
use serde_json::{Map, Value, json};

use super::roles::routes;
use super::setup::{Place, plain};

/// Requests to each operation.
const EACH: usize = 60;

/// Values that programs stumble over.
fn hostile() -> BoxedStrategy<Value> {
    let texts = [
        "",
        " ",
        "\u{0}",
        "' OR '1'='1",
        "\"; DROP TABLE judgments; --",
        "<script>alert(1)</script>",
        "\u{202e}txt",
        "../../etc/passwd",
        "%00",
        "\u{fffd}",
        "NaN",
        "-1",
        "null",
        "{{7*7}}",
        "\r\nset-cookie: a=b",
    ];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(1e308)),
        Just(json!(-0.0)),
        select(texts.to_vec()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(Value::from("x".repeat(70_000))),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[[[[[[[null]]]]]]]])),
        vec(any::<i32>(), 0..40).prop_map(Value::from),
    ]
    .boxed()
}

/// Values of a schema, some of them hostile somewhere.
fn values(schema: &Value, document: &Value, depth: usize) -> BoxedStrategy<Value> {
    prop_oneof![9 => described(schema, document, depth), 1 => hostile()].boxed()
}

fn described(schema: &Value, document: &Value, depth: usize) -> BoxedStrategy<Value> {
    if depth == 0 {
        return hostile();
    }
    if let Some(name) = schema["$ref"].as_str() {
        let pointer = name.trim_start_matches('#');
        let target = document.pointer(pointer).unwrap_or_else(|| panic!("the document has no {name}"));
        return described(target, document, depth - 1);
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(variants) = schema[key].as_array() {
            let variants: Vec<_> = variants.iter().map(|one| described(one, document, depth - 1)).collect();
            return proptest::strategy::Union::new(variants).boxed();
        }
    }
    if let Some(all) = schema["allOf"].as_array() {
        let parts: Vec<_> = all.iter().map(|one| described(one, document, depth - 1)).collect();
        return parts
            .prop_map(|parts| {
                Value::Object(
                    parts
                        .into_iter()
                        .filter_map(|part| part.as_object().cloned())
                        .flatten()
                        .collect::<Map<_, _>>(),
                )
            })
            .boxed();
    }
    if let Some(values) = schema["enum"].as_array() {
        return select(values.clone()).boxed();
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind.as_str(),
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        _ => "any",
    };
    match kind {
        "object" => object(schema, document, depth),
        "array" => {
            let items = schema["prefixItems"].as_array().map_or(&schema["items"], |items| &items[0]);
            vec(values(items, document, depth - 1), 0..4).prop_map(Value::from).boxed()
        }
        "string" => prop_oneof![any::<String>(), "[a-z]{1,8}", Just("worlds".to_owned())]
            .prop_map(Value::from)
            .boxed(),
        "integer" => prop_oneof![
            (0_u64..10).prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from)
        ]
        .boxed(),
        "number" => {
            prop_oneof![(0.0..1.0).prop_map(|x: f64| json!(x)), any::<f64>().prop_map(|x| json!(x))].boxed()
        }
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        _ => hostile(),
    }
}

fn object(schema: &Value, document: &Value, depth: usize) -> BoxedStrategy<Value> {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let fields: Vec<_> = properties
        .iter()
        .map(|(name, field)| {
            let (name, chance) = (name.clone(), if required.contains(&name.as_str()) { 0.97 } else { 0.5 });
            (prop::bool::weighted(chance), values(field, document, depth - 1))
                .prop_map(move |(there, value)| there.then(|| (name.clone(), value)))
                .boxed()
        })
        .collect();
    let extra = prop::option::weighted(0.03, hostile().prop_map(|value| ("no_such_key".to_owned(), value)));
    (fields, extra)
        .prop_map(|(fields, extra)| Value::Object(fields.into_iter().flatten().chain(extra).collect()))
        .boxed()
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn nothing_that_is_sent_breaks_the_server() {
    let place = Place::new(plain());
    place.pairs(40);
    let document = place.call(None, "GET", "/openapi.json", None).ok();
    let rater = place.token("rater").expect("a token");
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha),
    );
    let mut statuses = std::collections::BTreeMap::new();
    for ((method, path), operation) in routes(&place) {
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        let bodies = if body.is_null() { Just(Value::Null).boxed() } else { values(body, &document, 9) };
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let query: Vec<_> = parameters.iter().filter(|p| p["in"] == "query").collect();
        let asked: Vec<_> =
            query.iter().map(|p| prop::option::of(values(&p["schema"], &document, 5))).collect();
        for _ in 0..EACH {
            let mut draw =
                |strategy: &BoxedStrategy<Value>| strategy.new_tree(&mut runner).expect("a value").current();
            let body = draw(&bodies);
            let names = path.split('/').map(|part| match part {
                "{project}" => "worlds".to_owned(),
                "{lease}" => held(&place, &rater),
                "{format}" => "kto".into(),
                "{delivery}" => "1".into(),
                part if part.starts_with('{') => escaped(&text(&draw(&hostile()))),
                part => part.to_owned(),
            });
            let mut address = names.collect::<Vec<_>>().join("/");
            for (i, (parameter, strategy)) in query.iter().zip(&asked).enumerate() {
                let value = strategy.new_tree(&mut runner).expect("a value").current();
                // Waiting for records would only take time.
                if let Some(value) = value.filter(|_| parameter["name"] != "wait") {
                    let mark = if i == 0 || !address.contains('?') { '?' } else { '&' };
                    address.push(mark);
                    address += &text(&parameter["name"]);
                    address.push('=');
                    address += &escaped(&text(&value));
                }
            }
            // A name of 70 kB is an address that no connection carries.
            if address.len() > 60_000 {
                continue;
            }
            // Leases are the rater's; all else is the owner's to try. Both tokens are new: some calls revoke theirs.
            let caller =
                if path.contains("{lease}") { rater.clone() } else { place.token("owner").expect("a token") };
            let answer = place.call(Some(&caller), &method, &address, (!body.is_null()).then_some(&body));
            assert!(answer.status < 500, "{method} {address} {body}: {} {}", answer.status, answer.text);
            *statuses.entry(answer.status).or_insert(0) += 1;
        }
    }
    // A fuzzer that never gets past the door proves nothing.
    assert!(statuses[&200] > 300 && statuses[&422] > 300 && statuses[&404] > 300, "{statuses:?}");
}

/// The lease that the rater holds, or that of another name.
fn held(place: &Place, rater: &str) -> String {
    let task = place.post(rater, "/projects/worlds/claim", &json!({})).body;
    task["task"]["lease"].as_str().unwrap_or("none").to_owned()
}
