use std::path::Path;

use pavlov_feedback::io::import::{Options, bytes, file};
use pavlov_schema::comparison::Choice;
use pavlov_schema::feedback::{NewTask, Said, TaskKind};
use pavlov_schema::text::{Message, Text};
use proptest::prelude::*;

fn read(text: &str, kind: TaskKind) -> Result<Vec<NewTask>, String> {
    let options = Options::new(kind);
    bytes(Path::new("rows.jsonl"), text.as_bytes(), &options)
        .map(|imported| imported.tasks)
        .map_err(|error| error.to_string())
}

fn texts(tasks: &[NewTask]) -> Vec<Vec<Text>> {
    tasks.iter().map(|task| task.responses.iter().map(|response| response.text.clone()).collect()).collect()
}

#[test]
fn rows_become_tasks_of_the_projects_kind() {
    use TaskKind::{Demonstration, Edit, Pairwise, Pointwise, Ranking};
    let [a, b, c] = ["a", "b", "c"].map(Text::from);
    let three = r#"{"prompt":"q","completions":["a","b","c"]}"#;
    let pair = r#"{"prompt":"q","chosen":"a","rejected":"b","margin":null}"#;
    for (row, kind, wanted) in [
        (r#"{"prompt":"q"}"#, Demonstration, vec![vec![]]),
        (r#"{"prompt":"q","completion":"a"}"#, Pointwise, vec![vec![a.clone()]]),
        (r#"{"prompt":"q","completion":"a"}"#, Edit, vec![vec![a.clone()]]),
        (
            three,
            Pairwise,
            vec![vec![a.clone(), b.clone()], vec![a.clone(), c.clone()], vec![b.clone(), c.clone()]],
        ),
        (three, Ranking, vec![vec![a.clone(), b.clone(), c.clone()]]),
        // Of answers that read the same one is shown; two, if there is no other: the store asks nobody then.
        (r#"{"prompt":"q","completions":["a"," A","b"]}"#, Ranking, vec![vec![a.clone(), b.clone()]]),
        (r#"{"prompt":"q","completions":["a","a","a"]}"#, Ranking, vec![vec![a.clone(), a.clone()]]),
        (three, Pointwise, vec![vec![a.clone()], vec![b.clone()], vec![c]]),
        (three, Demonstration, vec![vec![]]),
        (pair, Pairwise, vec![vec![a.clone(), b.clone()]]),
        (pair, Ranking, vec![vec![a.clone(), b.clone()]]),
        (pair, Pointwise, vec![vec![a.clone()], vec![b.clone()]]),
        (pair, Edit, vec![vec![b.clone()]]),
        (
            r#"{"prompt":"q","responses":[{"id":"x","text":"a","policy":"p"},{"text":"b","seed":null}]}"#,
            Pairwise,
            vec![vec![a, b]],
        ),
    ] {
        let tasks = read(row, kind).unwrap();
        assert_eq!(texts(&tasks), wanted, "{row}");
        assert!(tasks.iter().all(|task| task.prompt == Text::from("q")));
    }
    let chat =
        read(r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#, Pointwise)
            .unwrap();
    assert_eq!(chat[0].prompt, Text::Chat(vec![Message::new("user", "q")]));
    assert_eq!(texts(&chat), [[Text::Chat(vec![Message::new("assistant", "a")])]]);
}

#[test]
fn dialogues_part_where_their_turns_do() {
    let row = r#"{"chosen":"\n\nHuman: q\n\nAssistant: hm\n\nHuman: why\n\nAssistant: a","rejected":"\n\nHuman: q\n\nAssistant: hm\n\nHuman: why\n\nAssistant: b"}"#;
    let turns = [("user", "q"), ("assistant", "hm"), ("user", "why")];
    let options = Options { gold: true, ..Options::new(TaskKind::Pairwise) };
    let tasks = bytes(Path::new("hh.jsonl"), row.as_bytes(), &options).unwrap().tasks;
    assert_eq!(tasks[0].prompt, Text::Chat(turns.map(|(role, text)| Message::new(role, text)).into()));
    assert_eq!(texts(&tasks), [["a", "b"].map(Text::from)]);
    assert!(matches!(tasks[0].gold.as_ref().unwrap().said, Said::Pairwise { choice: Choice::A, .. }));
}

#[test]
fn known_ranks_make_gold_tasks() {
    let read = |row: &str, kind| {
        let options = Options { gold: true, ..Options::new(kind) };
        let read = bytes(Path::new("rows.jsonl"), row.as_bytes(), &options);
        read.map(|imported| imported.tasks).map_err(|error| error.to_string())
    };
    let gold = |tasks: &[NewTask]| -> Vec<Said> {
        tasks.iter().map(|task| task.gold.as_ref().unwrap().said.clone()).collect()
    };
    let three = r#"{"prompt":"q","completions":["a","b","c"],"ranks":[2,1,2]}"#;
    let pair = r#"{"prompt":"q","chosen":"a","rejected":"b"}"#;
    let ranking = |ranks: &[u8]| Said::Ranking { ranks: ranks.to_vec(), all_bad: false };
    assert_eq!(gold(&read(three, TaskKind::Ranking).unwrap()), [ranking(&[2, 1, 2])]);
    assert_eq!(gold(&read(pair, TaskKind::Ranking).unwrap()), [ranking(&[1, 2])]);
    let choices = [Choice::B, Choice::Tie, Choice::A];
    let wanted = choices.map(|choice| Said::Pairwise { choice, strength: None, edit: None });
    assert_eq!(gold(&read(three, TaskKind::Pairwise).unwrap()), wanted);
    for (row, kind, wanted) in [
        (r#"{"prompt":"q","completions":["a","b"]}"#, TaskKind::Ranking, "no known right answer"),
        (r#"{"prompt":"q","completions":["a","b"],"ranks":[1]}"#, TaskKind::Ranking, "length 1 for 2"),
        (r#"{"prompt":"q","completions":["a","b"],"ranks":[1,1]}"#, TaskKind::Ranking, "asks for nothing"),
        (r#"{"prompt":"q","completions":["a","b"],"ranks":"x"}"#, TaskKind::Ranking, "`ranks`: "),
        (three, TaskKind::Pointwise, "no known right answer"),
    ] {
        let what = read(row, kind).unwrap_err();
        assert!(what.contains(wanted), "{what}");
    }
}

#[test]
fn csv_has_a_header_and_quoted_commas() {
    let text = "\u{feff}id,question,label,note\n7,\"Which, and\nhow?\",safe,\n8,Why?,,x\n";
    let options = Options { prompt: Some("question".into()), ..Options::new(TaskKind::Demonstration) };
    let tasks = bytes(Path::new("x.CSV"), text.as_bytes(), &options).unwrap().tasks;
    let prompts: Vec<_> = tasks.iter().map(|task| task.prompt.clone()).collect();
    assert_eq!(prompts, ["Which, and\nhow?", "Why?"].map(Text::from));
    assert!(tasks[0].key.as_ref().unwrap().starts_with("7/"));
    let error = |text: &str| bytes(Path::new("x.csv"), text.as_bytes(), &options).unwrap_err().to_string();
    assert!(
        error("question\na,b\n").starts_with("x.csv:2: has 2 columns and the first line 1"),
        "{}",
        error("question\na,b\n")
    );
    assert!(error("prompt,label\nq,safe\n").contains("x.csv:2: has no column `question`"));
    assert!(error("question\n").contains("no rows"));
}

#[test]
fn the_same_words_have_the_same_key() {
    let rows = "{\"prompt\":\"q\",\"completion\":\"a\"}\n{\"prompt\":\"q\",\"completion\":\"b\"}\n{\"completion\":\"a\",\"prompt\":\"q\"}\n";
    let keys: Vec<_> =
        read(rows, TaskKind::Pointwise).unwrap().into_iter().map(|task| task.key.unwrap()).collect();
    assert!(keys[0] == keys[2] && keys[0] != keys[1], "{keys:?}");
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    use TaskKind::{Demonstration, Pairwise, Ranking};
    let ten = r#"{"prompt":"q","completions":["0","1","2","3","4","5","6","7","8","9"]}"#;
    for (row, kind, wanted) in [
        ("{\"prompt\":\"q\"}\n", Pairwise, "rows.jsonl:1: has 0 answers and a pairwise task shows 2"),
        ("\n{\"prompt\":\"q\",\"completion\":\"a\"}\n", Pairwise, "rows.jsonl:2: has 1 answers"),
        (
            "{\"prompt\":\"q\",\"completions\":[\"a\"]}\n",
            Ranking,
            "has 1 answers and a ranking task shows 2 to 9",
        ),
        (ten, Ranking, "has 10 answers and a ranking task shows 2 to 9"),
        ("{\"question\":\"q\"}\n", Demonstration, "has no column `prompt` (it has question)"),
        ("{\"prompt\":7}\n", Demonstration, "`prompt`: is a number"),
        ("{\"prompt\":\"\"}\n", Demonstration, "`prompt` is empty"),
        ("{\"prompt\":\"q\",\"completions\":\"a\"}\n", Pairwise, "`completions` is no list"),
        ("{\"chosen\":\"a\",\"rejected\":\"b\"}\n", Pairwise, "add `prompt`"),
        ("PAR1", Pairwise, "import it as a file"),
        ("{\"prompt\":\"q\",\"responses\":[{\"text\":\"a\"}]}\n", Pairwise, "length 2, found 1"),
    ] {
        let error = read(row, kind).unwrap_err();
        assert!(error.contains(wanted), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn an_answer_without_a_character_is_nothing_to_ask_about() {
    let rows = r#"{"chosen":"\n\nHuman: q\n\nAssistant:","rejected":"\n\nHuman: q\n\nAssistant: b"}
{"prompt":"q","chosen":"a","rejected":"b"}"#;
    for (kind, tasks, empty) in
        [(TaskKind::Pairwise, 1, 1), (TaskKind::Pointwise, 3, 1), (TaskKind::Edit, 2, 0)]
    {
        let imported = bytes(Path::new("hh.jsonl"), rows.as_bytes(), &Options::new(kind)).unwrap();
        assert_eq!((imported.tasks.len(), imported.empty), (tasks, empty), "{kind:?}");
    }
    let alone = read(rows.lines().next().unwrap(), TaskKind::Pairwise).unwrap_err();
    assert!(alone.contains("has empty answers alone"), "{alone}");
}

#[test]
fn parquet_is_read_from_files() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pavlov-schema/tests/data/preference.parquet");
    let tasks = file(&path, &Options::new(TaskKind::Pairwise)).unwrap().tasks;
    assert!(!tasks.is_empty() && tasks.iter().all(|task| task.responses.len() == 2));
}

proptest! {
    #[test]
    fn no_bytes_panic(text in ".{0,200}", csv: bool) {
        let name = if csv { "x.csv" } else { "x.jsonl" };
        let _ = bytes(Path::new(name), text.as_bytes(), &Options::new(TaskKind::Pairwise));
    }
}
