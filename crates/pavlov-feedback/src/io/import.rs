//! From data sets to tasks: JSON lines, JSON arrays, Parquet and CSV, by their columns.
//!
//! | columns | pairwise | ranking | pointwise, edit | demonstration |
//! |---|---|---|---|---|
//! | `prompt` | – | – | – | one task |
//! | `prompt`, `completion` | – | – | one task | one task, without the answer |
//! | `prompt`, `completions` (a list) | each pair of two | all of them, 2 to 9 | each answer | one task |
//! | `prompt`, `responses` (as [`NewTask`] has them) | one task | one task | one task | one task |
//! | `chosen`, `rejected` (and `prompt`) | one task | one task | both answers (edit: the rejected one) | one task |
//! | `messages` | – | – | the last turn | the turns before it |
//!
//! `chosen` and `rejected` may be messages, or texts with `Human:` and `Assistant:` turns; what they share is the prompt. With
//! [`Options::gold`] they are known to be in this order, and `completions` in that of `ranks` beside them. Of answers to be ranked
//! that read the same, one is shown.

use std::io::Read;
use std::path::Path;

use pavlov_schema::feedback::{Answer, NewResponse, NewTask, Said, TaskKind};
use pavlov_schema::ranking;
use pavlov_schema::text::{Message, Text};
use pavlov_schema::{Error, Map, Value, dataset};
use serde::de::DeserializeOwned;

use super::dialogue;
use crate::queue::screen;
use crate::secret;

/// How rows become tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What people shall do.
    pub kind: TaskKind,
    /// The column of the prompt, where it is not `prompt`.
    pub prompt: Option<String>,
    /// The column of the answer, where it is not `completion`.
    pub completion: Option<String>,
    /// Whether it is known that `chosen` is better, or that `ranks` are right: gold tasks, which measure raters.
    pub gold: bool,
}

impl Options {
    /// By the names that data sets usually have.
    pub fn new(kind: TaskKind) -> Self {
        Self { kind, prompt: None, completion: None, gold: false }
    }
}

/// What a file has for people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imported {
    /// In the file's order.
    pub tasks: Vec<NewTask>,
    /// Tasks that would show an answer without a character; nobody is asked about these. Collections of dialogues have such rows.
    pub empty: usize,
}

impl Imported {
    /// Takes the tasks that show something.
    pub fn of(tasks: impl IntoIterator<Item = NewTask>) -> Self {
        let mut imported = Self::default();
        imported.extend(tasks);
        imported
    }

    fn extend(&mut self, tasks: impl IntoIterator<Item = NewTask>) {
        for task in tasks {
            if task.responses.iter().any(|response| response.text.is_empty()) {
                self.empty += 1;
            } else {
                self.tasks.push(task);
            }
        }
    }

    /// Refuses a file of nothing.
    fn checked(self, name: &Path) -> Result<Self, Error> {
        let what = match (self.tasks.is_empty(), self.empty) {
            (false, _) => return Ok(self),
            (true, 0) => "has no rows; give it at least one",
            (true, _) => "has empty answers alone; give it others",
        };
        Err(Error::File { file: name.to_owned(), what: what.into() })
    }
}

/// Reads a file; `.csv` by its name, all else by its first bytes.
pub fn file(path: &Path, options: &Options) -> Result<Imported, Error> {
    if is_csv(path) {
        let file = std::fs::File::open(path).map_err(|source| Error::Io {
            file: path.to_owned(),
            doing: "open",
            source,
        })?;
        return csv(path, file, options);
    }
    let mut imported = Imported::default();
    dataset::each(path, &mut |_, row| {
        imported.extend(from_row(row, options)?);
        Ok(())
    })?;
    imported.checked(path)
}

/// Reads what was uploaded under a name: [`file()`] without Parquet.
pub fn bytes(name: &Path, bytes: &[u8], options: &Options) -> Result<Imported, Error> {
    if is_csv(name) {
        return csv(name, bytes, options);
    }
    let mut imported = Imported::default();
    dataset::each_in(name, bytes, &mut |_, row| {
        imported.extend(from_row(row, options)?);
        Ok(())
    })?;
    imported.checked(name)
}

fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
}

/// Rows of text columns, named by the first line.
fn csv(name: &Path, reader: impl Read, options: &Options) -> Result<Imported, Error> {
    let mut reader = csv::ReaderBuilder::new().from_reader(reader);
    let wrong = |line: u64, what: String| Error::Line { file: name.to_owned(), line: line as usize, what };
    let damaged = |error: &csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        let what = match error.kind() {
            csv::ErrorKind::Utf8 { .. } => "is not UTF-8; save the file as UTF-8".into(),
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("has {len} columns and the first line {expected_len}; quote texts that have commas")
            }
            _ => format!("cannot be read as CSV: {error}; write it again"),
        };
        wrong(line, what)
    };
    let mut header = reader.headers().map_err(|error| damaged(&error))?.clone();
    if let Some(first) = header.get(0).and_then(|first| first.strip_prefix('\u{feff}')) {
        header = std::iter::once(first).chain(header.iter().skip(1)).collect();
    }
    let mut imported = Imported::default();
    for record in reader.records() {
        let record = record.map_err(|error| damaged(&error))?;
        let line = record.position().map_or(1, csv::Position::line);
        // An empty field is an absent one.
        let columns = header.iter().zip(&record).filter(|(_, value)| !value.is_empty());
        let row = columns.map(|(key, value)| (key.to_owned(), Value::from(value))).collect();
        imported.extend(from_row(row, options).map_err(|what| wrong(line, what))?);
    }
    imported.checked(name)
}

/// The tasks of one row. The error says what is wrong and the mend, without naming the place.
pub fn from_row(mut row: Map<String, Value>, options: &Options) -> Result<Vec<NewTask>, String> {
    for (wanted, given) in [("prompt", &options.prompt), ("completion", &options.completion)] {
        let Some(given) = given else { continue };
        let value = row.shift_remove(given).ok_or_else(|| no_column(given, &row))?;
        row.insert(wanted.to_owned(), value);
    }
    row.retain(|_, value| !value.is_null());
    if row.contains_key("responses") {
        return task_of_ours(row, options.kind).map(|task| vec![task]);
    }
    let (prompt, answers) = question(&mut row, options.gold)?;
    let prefix = match row.get("id") {
        Some(Value::String(id)) => format!("{id}/"),
        Some(Value::Number(id)) => format!("{id}/"),
        _ => String::new(),
    };
    let tasks = choose(options.kind, &answers)?.into_iter().map(|places| {
        let responses = places.iter().map(|&place| NewResponse::new(answers.texts[place].clone())).collect();
        let mut task = NewTask::new(prompt.clone(), responses);
        task.key = Some(format!("{prefix}{}", content_key(&task)));
        if options.gold {
            task.gold = Some(known(options.kind, &answers, &places)?);
        }
        check(&task, options.kind).map(|()| task)
    });
    tasks.collect()
}

/// What is known to be right of some of a row's answers.
fn known(kind: TaskKind, answers: &Answers, places: &[usize]) -> Result<Answer, String> {
    let ranks = answers.ranks.as_deref().unwrap_or_default();
    let ranks: Vec<u8> = places.iter().filter_map(|&place| ranks.get(place).copied()).collect();
    let said = match (kind, &ranks[..]) {
        (TaskKind::Pairwise, [_, _]) => {
            Said::Pairwise { choice: ranking::preferred(&ranks, 0, 1), strength: None, edit: None }
        }
        (TaskKind::Ranking, [_, _, ..]) => {
            Said::Ranking { ranks: ranking::competition(&ranks), all_bad: false }
        }
        _ => {
            let what = "has no known right answer; gold tasks are `chosen` and `rejected`, or `completions` with `ranks`, of a \
                        pairwise or ranking project";
            return Err(what.into());
        }
    };
    Ok(Answer { said, rationale: None, flags: Vec::new(), marks: Vec::new() })
}

/// The answers of a row.
struct Answers {
    /// In their order.
    texts: Vec<Text>,
    /// Their ranks, where they are known: 1 is the best.
    ranks: Option<Vec<u8>>,
}

/// The prompt and the answers of a row, whatever its columns are.
fn question(row: &mut Map<String, Value>, gold: bool) -> Result<(Text, Answers), String> {
    if row.contains_key("chosen") && row.contains_key("rejected") {
        return preference(row);
    }
    if row.contains_key("messages") {
        let Text::Chat(mut turns) = take(row, "messages")? else {
            return Err("`messages` is a string; give it a list of messages".into());
        };
        let last = turns.pop_if(|last| last.role == "assistant");
        let texts = last.map(|last| Text::Chat(vec![last])).into_iter().collect();
        return Ok((Text::Chat(turns), Answers { texts, ranks: None }));
    }
    if !row.contains_key("prompt") {
        return Err(no_column("prompt", row));
    }
    let prompt = take(row, "prompt")?;
    let texts: Vec<Text> = match row.shift_remove("completions") {
        Some(Value::Array(list)) => {
            let read = |(i, value)| text(value).map_err(|what| format!("`completions` {}: {what}", i + 1));
            list.into_iter().enumerate().map(read).collect::<Result<_, _>>()?
        }
        Some(_) => {
            return Err(
                "`completions` is no list; write [\"…\", \"…\"], or name the column `completion`".into()
            );
        }
        None if row.contains_key("completion") => vec![take(row, "completion")?],
        None => Vec::new(),
    };
    let ranks: Option<Vec<u8>> = match row.shift_remove("ranks") {
        Some(ranks) if gold => Some(parse(ranks).map_err(|what| format!("`ranks`: {what}"))?),
        _ => None,
    };
    if let Some(ranks) = ranks.as_ref().filter(|ranks| ranks.len() != texts.len()) {
        let (found, wanted) = (ranks.len(), texts.len());
        return Err(format!("`ranks` has length {found} for {wanted} `completions`; give each one its rank"));
    }
    Ok((prompt, Answers { texts, ranks }))
}

/// What two answers share is their prompt.
fn preference(row: &mut Map<String, Value>) -> Result<(Text, Answers), String> {
    let answers = |chosen, rejected| Answers { texts: vec![chosen, rejected], ranks: Some(vec![1, 2]) };
    let (chosen, rejected) = (take(row, "chosen")?, take(row, "rejected")?);
    let prompt = if row.contains_key("prompt") { Some(take(row, "prompt")?) } else { None };
    if let Some(prompt @ Text::Plain(_)) = &prompt
        && matches!((&chosen, &rejected), (Text::Plain(_), Text::Plain(_)))
    {
        return Ok((prompt.clone(), answers(chosen, rejected)));
    }
    if let Some(Text::Chat(_)) = &prompt {
        return Ok((prompt.unwrap_or(Text::Chat(Vec::new())), answers(chosen, rejected)));
    }
    let turns = |text, name: &str| match text {
        Text::Chat(turns) => Ok(turns),
        Text::Plain(text) => dialogue::turns(&text).ok_or_else(|| {
            format!(
                "`{name}` has neither `Human:` and `Assistant:` turns nor a `prompt` beside it; add `prompt`"
            )
        }),
    };
    let (mut chosen, mut rejected) = (turns(chosen, "chosen")?, turns(rejected, "rejected")?);
    let shared = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
    // Equal dialogues part before their last turn: the store sees that the answers are equal.
    let shared = shared.min(chosen.len().saturating_sub(1)).min(rejected.len().saturating_sub(1));
    if shared == 0 {
        return Err("`chosen` and `rejected` share no first turn; give the row a `prompt`".into());
    }
    let (a, b) = (chosen.split_off(shared), rejected.split_off(shared));
    let answer = |mut turns: Vec<Message>| match &mut turns[..] {
        [one] if one.role == "assistant" => Text::Plain(std::mem::take(&mut one.content)),
        _ => Text::Chat(turns),
    };
    Ok((Text::Chat(chosen), answers(answer(a), answer(b))))
}

/// Which answers make a task of this kind, by their places in the row.
fn choose(kind: TaskKind, Answers { texts, ranks }: &Answers) -> Result<Vec<Vec<usize>>, String> {
    let all = 0..texts.len();
    let lists: Vec<Vec<usize>> = match kind {
        TaskKind::Demonstration => vec![Vec::new()],
        // The worse one is to be mended.
        TaskKind::Edit if ranks.is_some() => all.skip(1).map(|i| vec![i]).collect(),
        TaskKind::Edit | TaskKind::Pointwise => all.map(|i| vec![i]).collect(),
        TaskKind::Pairwise => all.flat_map(|i| (i + 1..texts.len()).map(move |j| vec![i, j])).collect(),
        TaskKind::Ranking => {
            let distinct = distinct(texts);
            if texts.len() < 2 || distinct.len() > ranking::MOST { Vec::new() } else { vec![distinct] }
        }
    };
    if lists.is_empty() {
        let (name, wanted) = (kind.name(), kind.responses_in_words());
        let mend =
            "add `completions`, sample answers from models, or make the project's kind `demonstration`";
        return Err(format!("has {} answers and a {name} task shows {wanted}; {mend}", texts.len()));
    }
    Ok(lists)
}

/// The places of answers that read differently, each first of its kind. If all read the same there are two of them: the store sees
/// that, and nobody is asked.
pub fn distinct(texts: &[Text]) -> Vec<usize> {
    let new = |&i: &usize| !texts[..i].iter().any(|earlier| screen::same(earlier, &texts[i]));
    let found: Vec<usize> = (0..texts.len()).filter(new).collect();
    if found.len() < 2 { (0..texts.len().min(2)).collect() } else { found }
}

/// A row that is a task already.
fn task_of_ours(mut row: Map<String, Value>, kind: TaskKind) -> Result<NewTask, String> {
    // Judgments and exports have further columns: only what a task has is read.
    row.retain(|key, _| TASK_KEYS.contains(&key.as_str()));
    if let Some(Value::Array(responses)) = row.get_mut("responses") {
        for response in responses.iter_mut().filter_map(Value::as_object_mut) {
            response.retain(|key, value| key != "id" && !value.is_null());
        }
    }
    let mut task: NewTask = parse(Value::Object(row))?;
    if task.kind.unwrap_or(kind) == TaskKind::Demonstration {
        task.responses.clear();
    }
    if task.key.is_none() {
        task.key = Some(content_key(&task));
    }
    check(&task, kind).map(|()| task)
}

/// [`NewTask::validate`], but for answers without a character: [`Imported`] counts these.
fn check(task: &NewTask, kind: TaskKind) -> Result<(), String> {
    if task.responses.iter().any(|response| response.text.is_empty()) {
        return Ok(());
    }
    task.validate(kind)
}

/// The keys of [`NewTask`].
const TASK_KEYS: [&str; 10] = [
    "key",
    "author",
    "prompt",
    "responses",
    "policy_version",
    "predicted",
    "gold",
    "calibration",
    "explanation",
    "overlap",
];

/// A digest of the words and whose they are: the same file imported twice makes no task twice.
pub fn content_key(task: &NewTask) -> String {
    let texts: Vec<&Text> = task.responses.iter().map(|response| &response.text).collect();
    let policies: Vec<&str> = task.responses.iter().filter_map(|one| one.policy.as_deref()).collect();
    let words = serde_json::json!([task.prompt, texts, policies]).to_string();
    secret::hex(&secret::hash(&words)[..8])
}

fn take(row: &mut Map<String, Value>, key: &str) -> Result<Text, String> {
    text(row.shift_remove(key).unwrap_or_default()).map_err(|what| format!("`{key}`: {what}"))
}

fn text(value: Value) -> Result<Text, String> {
    parse(value)
}

fn parse<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn no_column(name: &str, row: &Map<String, Value>) -> String {
    let mut columns: Vec<String> = row.keys().take(12).map(|key| key.chars().take(40).collect()).collect();
    columns.sort();
    format!("has no column `{name}` (it has {}); name the column that holds it", columns.join(", "))
}
