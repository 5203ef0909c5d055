use std::path::Path;

use pavlov_schema::comparison::Choice;
use pavlov_schema::dataset::{read, read_prompts, write};
use pavlov_schema::judgment::Verdict;
use pavlov_schema::row::Row;
use pavlov_schema::text::{Message, Text};
use serde_json::{Value, json};

use super::file;

fn one(value: &Value) -> Result<Row, String> {
    let (_folder, path) = file(value.to_string());
    read(&path).map(|mut rows| rows.remove(0)).map_err(|e| e.to_string())
}

fn error(bytes: impl AsRef<[u8]>) -> String {
    let (_folder, path) = file(bytes);
    let error = read(&path).unwrap_err().to_string();
    assert!(!error.contains('\n'), "more than one line: {error}");
    error.split_once("data.jsonl").expect("the error names the file").1.to_owned()
}

fn turns(role: &str, contents: &[&str]) -> Vec<Message> {
    contents.iter().map(|content| Message::new(role, *content)).collect()
}

#[test]
fn every_kind_of_row_is_known_by_its_columns() {
    let chat = json!([{"role": "user", "content": "q"}]);
    let rows = [
        json!({"text": "t", "source": 1}),
        json!({"messages": chat, "tools": "[{\"name\": \"f\"}]", "prompt": "q"}),
        json!({"prompt": "p", "completion": "c"}),
        json!({"prompt": "p", "chosen": "c", "rejected": "r", "margin": 2, "tie": false}),
        json!({"prompt": "p", "completion": "c", "label": true}),
        json!({"prompt": "p", "completion": "c", "score": 3}),
        json!({"prompt": "p", "completion": "c", "rating": 3, "scale": [1, 5]}),
        json!({"prompt": chat, "answer": 42}),
        json!({"input_ids": [1, 2]}),
        json!({"kind": "comparison", "prompt": "p", "responses": [{"text": "a"}, {"text": "b"}], "choice": "tie"}),
        json!({"prompt": "p", "completions": ["x", "y"], "ranks": [2, 1]}),
    ];
    let (_folder, path) = file(rows.map(|row| row.to_string()).join("\n"));
    let rows = read(&path).unwrap();
    let text = |text: &str| Text::Plain(text.to_owned());
    assert_eq!(rows[0], Row::Text { text: "t".into() });
    let tools = Some(vec![json!({"name": "f"})]);
    assert_eq!(rows[1], Row::Messages { messages: turns("user", &["q"]), tools });
    assert_eq!(rows[2], Row::PromptCompletion { prompt: text("p"), completion: text("c") });
    let (chosen, rejected) = (text("c"), text("r"));
    assert_eq!(
        rows[3],
        Row::Preference { prompt: Some(text("p")), chosen, rejected, margin: Some(2.0), tie: false }
    );
    assert_eq!(rows[4], Row::Unpaired { prompt: text("p"), completion: text("c"), label: true });
    let rating = |scale| Row::Rating { prompt: text("p"), completion: text("c"), score: 3.0, scale };
    assert_eq!(rows[5], rating(None));
    assert_eq!(rows[6], rating(Some((1.0, 5.0))));
    let columns = serde_json::from_value(json!({"answer": 42})).unwrap();
    assert_eq!(rows[7], Row::PromptOnly { prompt: Text::Chat(turns("user", &["q"])), columns });
    assert_eq!(rows[8], Row::InputIds { input_ids: vec![1, 2] });
    assert!(matches!(&rows[9], Row::Judgment(judgment) if matches!(judgment.verdict,
        Verdict::Comparison { choice: Choice::Tie, .. })));
    let completions = vec![text("x"), text("y")];
    assert_eq!(rows[10], Row::Ranking { prompt: text("p"), completions, ranks: vec![2, 1] });
}

#[test]
fn rows_in_order_say_what_is_wrong() {
    for (completions, ranks, wanted) in [
        (json!("x"), json!([1, 2]), "`completions` is a string"),
        (json!(["x", 3]), json!([1, 2]), "completion 2: is a number"),
        (json!(["x", [{"role": "assistant", "content": "y"}]]), json!([1, 2]), "make both the same"),
        (json!(["x", "y"]), json!([1, 1.5]), "`ranks`: "),
        (json!(["x", "y"]), json!([1, 3]), "write [1, 2]"),
        (json!(["x", "y"]), json!(null), "`ranks`: "),
        (json!(["x"]), json!([1]), "give 2 to 9"),
    ] {
        let what = one(&json!({"prompt": "p", "completions": completions, "ranks": ranks})).unwrap_err();
        assert!(what.contains(wanted), "{what}");
    }
}

#[test]
fn an_implicit_prompt_is_what_two_conversations_share() {
    let message = |role: &str, content: &str| json!({"role": role, "content": content});
    let shared = [message("system", "s"), message("user", "q")];
    let with = |answer: &str| [&shared[..], &[message("assistant", answer)]].concat();
    let wanted = Row::Preference {
        prompt: Some(Text::Chat(vec![Message::new("system", "s"), Message::new("user", "q")])),
        chosen: Text::Chat(turns("assistant", &["good"])),
        rejected: Text::Chat(turns("assistant", &["bad"])),
        margin: None,
        tie: false,
    };
    assert_eq!(one(&json!({"chosen": with("good"), "rejected": with("bad")})).unwrap(), wanted);
    // UltraFeedback repeats the prompt as a string beside whole conversations.
    assert_eq!(
        one(&json!({"prompt": "q", "chosen": with("good"), "rejected": with("bad")})).unwrap(),
        wanted
    );
    assert!(matches!(
        one(&json!({"chosen": "q good", "rejected": "q bad"})),
        Ok(Row::Preference { prompt: None, .. })
    ));
    for (row, what) in [
        (json!({"chosen": with("x"), "rejected": with("x")}), "do not part"),
        (json!({"chosen": with("x"), "rejected": shared}), "do not part"),
        (
            json!({"chosen": [message("user", "a")], "rejected": [message("user", "b")]}),
            "share no first message",
        ),
        (json!({"chosen": "x", "rejected": "x"}), "equal"),
        (json!({"chosen": "x", "rejected": with("x")}), "`chosen` is a string and `rejected` is a list"),
    ] {
        let error = one(&row).unwrap_err();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn a_row_that_would_teach_something_else_is_an_error() {
    for (row, what) in [
        (json!({"question": "q", "answer": "a"}), "the columns (question, answer) are no known kind of row"),
        (json!({}), "the columns () are"),
        (json!({"prompt": "p", "completion": "c", "score": null}), "`score` is null"),
        (json!({"prompt": "p", "completion": "c", "label": 1}), "`label` is a number"),
        (json!({"prompt": "p", "completion": "c", "rating": 3}), "needs `scale`"),
        (json!({"prompt": "p", "completion": "c", "rating": 9, "scale": [1, 5]}), "off its scale"),
        (json!({"prompt": "p", "completion": "c", "score": 3, "label": true}), "more than one"),
        (json!({"prompt": [{"role": "user", "content": "q"}], "completion": "c"}), "make both the same"),
        (json!({"prompt": "p", "completion": "c", "tools": [{}]}), "`tools` is not read"),
        (json!({"messages": "q"}), "name it `text`"),
        (json!({"messages": []}), "`messages` is empty"),
        (json!({"prompt": ""}), "`prompt` is empty"),
        (json!({"input_ids": [1, -1]}), "`input_ids`"),
        (json!({"input_ids": [1], "labels": [-100]}), "`labels` is not read"),
        (json!({"kind": "rating", "prompt": "p", "responses": []}), "judgment: "),
    ] {
        let error = one(&row).unwrap_err();
        assert!(error.contains("data.jsonl:1: ") && error.contains(what), "{error}");
    }
}

#[test]
fn lines_are_read_as_editors_write_them() {
    let (_folder, path) = file("\u{feff}\r\n{\"text\": \"a\"}\r\n\n  \n{\"text\": \"b\"}");
    let rows = read(&path).unwrap();
    assert_eq!(rows, ["a", "b"].map(|text| Row::Text { text: text.into() }));
    let (_folder, path) = file(" [{\"text\": \"a\"},\n {\"text\": \"b\"}]\n");
    assert_eq!(read(&path).unwrap(), rows);
}

#[test]
fn errors_name_the_line_and_the_mend() {
    assert_eq!(
        error("{\"text\": \"a\"}\n\n{\"text\": }\n"),
        ":3: is not JSON: expected value (column 10); write one JSON object"
    );
    assert!(error("{\"text\": \"a\"\n").starts_with(":1: is not JSON: EOF"));
    assert!(error("{\"text\": \"a\"} {\"text\": \"b\"}\n").starts_with(":1: is not JSON: trailing"));
    assert!(error("{\"text\": \"a\"}\n7\n").starts_with(":2: is a number, not an object"));
    assert!(error(b"{\"text\": \"a\"}\n{\"text\": \"\xff\"}\n").starts_with(":2: byte 11 is not UTF-8"));
    assert!(error(b"\xff\xfe{\0").contains("is UTF-16"));
    assert!(error([0x1f, 0x8b, 8]).contains("gunzip"));
    assert!(error("").contains("has no rows"));
    assert!(error(" \n\n").contains("has no rows"));
    assert!(error("[{\"text\": \"a\"},\n{\"text\": 1}]").starts_with(": row 2: `text` is a number"));
    assert!(error("[{\"text\": \"a\"},\n{\"text\"}]").starts_with(":2: is not JSON"));
    let folder = tempfile::tempdir().unwrap();
    assert!(read(folder.path()).unwrap_err().to_string().contains("is a folder"));
    assert!(
        read(&folder.path().join("none.jsonl")).unwrap_err().to_string().contains("none.jsonl: cannot open")
    );
}

#[test]
fn hostile_lines_are_errors() {
    assert!(error(format!("{{\"text\": {}", "[".repeat(1 << 20))).contains("recursion limit"));
    assert!(error("{\"prompt\":\"p\",\"completion\":\"c\",\"score\":1e999}").contains("number out of range"));
    assert!(error("{\"prompt\":\"p\",\"completion\":\"c\",\"score\":NaN}").contains("is not JSON"));
    assert!(error("{\"input_ids\": [99999999999]}").contains("`input_ids`"));
    assert!(error(" ".repeat((64 << 20) + 2)).contains("longer than 64 MiB"));
}

#[test]
fn prompts_keep_every_other_column() {
    let (_folder, path) = file(
        "{\"prompt\": \"p\", \"completion\": \"c\", \"id\": \"x\"}\n{\"prompt\": \"q\", \"answer\": 4, \"id\": 7}\n\
         {\"prompt\": \"r\"}\n",
    );
    let prompts = read_prompts(&path).unwrap();
    assert_eq!(prompts.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["x", "7", "2"]);
    assert_eq!(prompts[0].columns["completion"], "c");
    assert_eq!(prompts[1].columns["answer"], 4);
    let (_folder, path) = file("{\"text\": \"p\"}");
    assert!(read_prompts(&path).unwrap_err().to_string().contains("has no `prompt`"));
}

#[test]
fn typed_lessons_of_rows() {
    let unpaired = one(&json!({"prompt": "p", "completion": "c", "label": false})).unwrap();
    let rated = unpaired.rated().unwrap();
    assert_eq!((rated.rating, rated.scale), (0.0, Some((0.0, 1.0))));
    let tie = one(&json!({"chosen": "x", "rejected": "y", "tie": true, "margin": 1.5})).unwrap();
    let comparison = tie.comparison().unwrap();
    assert_eq!((comparison.choice, comparison.margin), (Choice::Tie, Some(1.5)));
    assert!(comparison.prompt.is_empty() && tie.rated().is_none() && tie.demonstration().is_none());
    let ranked = one(&json!({"prompt": "p", "completions": ["x", "y"], "ranks": [1, 1]})).unwrap();
    assert_eq!(ranked.ranked().unwrap().comparisons()[0].choice, Choice::Tie);
    assert!(ranked.comparison().is_none() && ranked.rated().is_none() && ranked.demonstration().is_none());
    let shown = one(&json!({"prompt": "p", "completion": "c"})).unwrap();
    assert_eq!(shown.demonstration().unwrap().response, Text::from("c"));
}

#[test]
fn reads_parquet_of_other_writers() {
    // Two rows of `chosen`, `rejected` (list<struct<role, content, tool_calls: list<string>>>), `margin` (0.5, null)
    // and `source`, written by pyarrow 26.0.1's `pq.write_table` with its defaults.
    let rows = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/preference.parquet")).unwrap();
    let wanted = |prompt: &str, chosen: &str, rejected: &str, margin| Row::Preference {
        prompt: Some(Text::Chat(turns("user", &[prompt]))),
        chosen: Text::Chat(turns("assistant", &[chosen])),
        rejected: Text::Chat(turns("assistant", &[rejected])),
        margin,
        tie: false,
    };
    assert_eq!(rows, [wanted("q1", "yes", "no", Some(0.5)), wanted("q2 é", "4", "5", None)]);
}

#[test]
fn damaged_parquet_is_an_error() {
    let whole =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/preference.parquet")).unwrap();
    let mut errors = 0;
    for i in 4..whole.len() {
        let mut damaged = whole.clone();
        damaged[i] ^= 0x55;
        let (_folder, path) = file(&damaged);
        errors += usize::from(read(&path).is_err());
    }
    assert!(errors > whole.len() / 4, "{errors} of {}", whole.len());
    assert!(error(&whole[..whole.len() / 2]).contains("cannot be read as Parquet"));
    assert!(error(b"PAR1").contains("cannot be read as Parquet"));
}

#[test]
fn rows_are_written_whole() {
    let (folder, path) = file("old");
    let rows = [Row::Text { text: "a\nb".into() }, Row::InputIds { input_ids: vec![u32::MAX] }];
    write(&path, &rows).unwrap();
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        "{\"text\":\"a\\nb\"}\n{\"input_ids\":[4294967295]}\n"
    );
    assert_eq!(read(&path).unwrap(), rows);
    assert!(
        write(&folder.path().join("none/x.jsonl"), &rows).unwrap_err().to_string().contains("cannot write")
    );
}
