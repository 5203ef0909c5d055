//! Chat templates: the Jinja programs that turn a conversation into the text a model was trained on.
//!
//! The environment is transformers' (`trim_blocks`, `lstrip_blocks`, loop controls, `raise_exception`,
//! `strftime_now`, `tojson` without HTML escapes) and Python's string and dictionary methods. Templates come from
//! strangers: they see nothing but the conversation, and their instructions, recursion and output are bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;

use chrono::DateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error as JinjaError, ErrorKind, State, Value};
use pavlov_schema::clock::unix_seconds;
use pavlov_schema::text::Message;
use serde_json::Value as Json;

use crate::error::one_line;
use crate::json::tojson;
use crate::{Error, Result};

/// Instructions (and 64-byte pieces of text) a template may use beyond those its input pays for.
const FUEL: u64 = 2_000_000;
/// The mark of a learned span in the template's source, as transformers defines it.
const GENERATION: &str = "generation";
const TEMPLATE: &str = "chat";

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
    specials: BTreeMap<String, String>,
    variables: serde_json::Map<String, Json>,
    marks_generation: bool,
}

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Byte ranges of `text` written inside `{% generation %}` … `{% endgeneration %}`, in order.
    pub generated: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// Compiles a template. `specials` are the variables `bos_token`, `eos_token`, … with their texts.
    ///
    /// The date that `strftime_now` tells is that of this call, in UTC, until [`ChatTemplate::set_now`].
    pub fn new(source: &str, specials: BTreeMap<String, String>) -> Result<Self> {
        let (rewritten, marks_generation) = rewrite_generation(source);
        let mut env = Environment::empty_python();
        env.add_template_owned(TEMPLATE, rewritten).map_err(|e| failed(&e))?;
        let source = source.to_owned();
        let mut template =
            Self { env, source, specials, variables: serde_json::Map::new(), marks_generation };
        template.set_now(unix_seconds() as i64);
        Ok(template)
    }

    /// Sets the date that `strftime_now` tells, in seconds since 1970, so that a run can be repeated another day.
    pub fn set_now(&mut self, unix_seconds: i64) {
        let now = DateTime::from_timestamp(unix_seconds, 0).unwrap_or(DateTime::UNIX_EPOCH);
        self.env.add_function("strftime_now", move |format: &str| {
            // An unknown specifier is a formatting error, and `to_string` would panic on it.
            let mut text = String::new();
            match write!(text, "{}", now.format(format)) {
                Ok(()) => Ok(text),
                Err(_) => Err(JinjaError::new(
                    ErrorKind::InvalidOperation,
                    format!("strftime_now: bad format {format}"),
                )),
            }
        });
    }

    /// Sets further variables of the template, such as Qwen3's `enable_thinking`. They win over the special tokens.
    pub fn set_variables(&mut self, variables: serde_json::Map<String, Json>) {
        self.variables = variables;
    }

    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the template says itself, with `{% generation %}`, what is learned.
    pub fn marks_generation(&self) -> bool {
        self.marks_generation
    }

    /// Renders a conversation. With `add_generation_prompt` the text ends where the assistant begins to speak.
    pub fn render(
        &self,
        messages: &[Message],
        tools: Option<&[Json]>,
        add_generation_prompt: bool,
    ) -> Result<Rendered> {
        let mut taken = PrivateChars::default();
        let mut bytes = 0;
        let messages: Vec<Json> = messages.iter().map(plain).collect();
        for value in messages.iter().chain(tools.unwrap_or_default()).chain(self.variables.values()) {
            bytes += taken.scan(value);
        }
        taken.scan_text(&self.source);
        self.specials.values().for_each(|text| taken.scan_text(text));
        let [open, close] = taken.two_free().ok_or_else(|| {
            Error::Template("the conversation uses every private-use character; remove them from it".into())
        })?;

        let mut context: BTreeMap<String, Value> =
            self.specials.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str()))).collect();
        context.insert("messages".into(), Value::from(Serde(&messages)));
        context.insert("tools".into(), Value::from(Serde(&tools)));
        context.insert("documents".into(), Value::from(()));
        context.insert("add_generation_prompt".into(), Value::from(add_generation_prompt));
        context.extend(self.variables.iter().map(|(name, value)| (name.clone(), Value::from(Serde(value)))));
        context.insert("pavlov_open".into(), Value::from(open.to_string()));
        context.insert("pavlov_close".into(), Value::from(close.to_string()));

        let mut env = self.env.clone();
        env.set_fuel(Some(FUEL + bytes as u64));
        let template = env.get_template(TEMPLATE).map_err(|e| failed(&e))?;
        let marked = template.render(Value::from(context)).map_err(|e| failed(&e))?;
        unmark(&marked, open, close)
    }
}

/// The environment of chat templates.
trait PythonEnvironment {
    fn empty_python() -> Self;
}

impl PythonEnvironment for Environment<'static> {
    fn empty_python() -> Self {
        let mut env = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        // The default delimiters cannot fail to build.
        if let Ok(syntax) = syntax.build() {
            env.set_syntax(syntax);
        }
        env.set_recursion_limit(200);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_filter("tojson", tojson);
        env.add_function("raise_exception", |message: String| -> Result<Value, JinjaError> {
            Err(JinjaError::new(ErrorKind::InvalidOperation, message))
        });
        env.add_function("pavlov_generation", generation);
        env
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the template engine passes arguments by value")]
/// What a rewritten `{% generation %}` calls: its body between two marks.
fn generation(state: &mut State, open: &str, close: &str, args: Kwargs) -> Result<String, JinjaError> {
    let caller: Value = args.get("caller")?;
    let body = caller.call(state, &[])?;
    Ok(format!("{open}{body}{close}"))
}

/// A message as templates see it, with the names under which they look for reasoning (as transformers fills them).
fn plain(message: &Message) -> Json {
    let mut object = serde_json::Map::new();
    object.insert("role".into(), message.role.clone().into());
    object.insert("content".into(), message.content.clone().into());
    object.extend(message.extra.iter().map(|(key, value)| (key.clone(), value.clone())));
    let names = ["reasoning_content", "thinking", "reasoning"];
    if let Some(reasoning) = names.iter().find_map(|name| object.get(*name).filter(|v| !v.is_null())).cloned()
    {
        object.entry("thinking").or_insert_with(|| reasoning.clone());
        object.insert("reasoning_content".into(), reasoning);
    }
    Json::Object(object)
}

fn failed(error: &JinjaError) -> Error {
    let line = error.line().map_or(String::new(), |line| format!("line {line}: "));
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let mend = match error.kind() {
        ErrorKind::OutOfFuel => {
            "; it works longer or writes more than a chat template has to, so it is refused"
        }
        _ => "",
    };
    Error::Template(format!("{line}{}{mend}", one_line(what)))
}

/// Replaces the tags of generation blocks by those of call blocks, keeping their white-space control.
fn rewrite_generation(source: &str) -> (String, bool) {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut found = false;
    while let Some(start) = rest.find("{%") {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let Some((length, left, name, right)) = bare_tag(rest) else {
            out.push_str("{%");
            rest = &rest[2..];
            continue;
        };
        let call = match name {
            GENERATION => "call pavlov_generation(pavlov_open, pavlov_close)",
            _ => "endcall",
        };
        found = true;
        for part in ["{%", left, " ", call, " ", right, "%}"] {
            out.push_str(part);
        }
        rest = &rest[length..];
    }
    out.push_str(rest);
    (out, found)
}

/// Reads `{%- generation -%}` or `{%- endgeneration -%}`: length, left control, name, right control.
fn bare_tag(text: &str) -> Option<(usize, &str, &str, &str)> {
    let inside = &text[2..text.find("%}")?];
    let control = |c: char| c == '-' || c == '+';
    let (left, body) = inside.split_at(usize::from(inside.starts_with(control)));
    let (body, right) = body.split_at(body.len() - usize::from(body.ends_with(control)));
    let name = body.trim();
    (name == GENERATION || name == "endgeneration").then_some((inside.len() + 4, left, name, right))
}

/// Takes the marks out and returns where they stood. A block inside a block belongs to the outer one.
fn unmark(marked: &str, open: char, close: char) -> Result<Rendered> {
    let mut text = String::with_capacity(marked.len());
    let mut generated = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    let broken =
        || Error::Template("it takes the text of a {% generation %} block apart; print it whole".into());
    for c in marked.chars() {
        if c == open {
            if depth == 0 {
                start = text.len();
            }
            depth += 1;
        } else if c == close {
            depth = depth.checked_sub(1).ok_or_else(broken)?;
            if depth == 0 && start < text.len() {
                generated.push(start..text.len());
            }
        } else {
            text.push(c);
        }
    }
    if depth > 0 {
        return Err(broken());
    }
    Ok(Rendered { text, generated })
}

/// The private-use characters of a conversation: the marks are two others, so no message can forge one.
#[derive(Default)]
struct PrivateChars(BTreeSet<char>);

impl PrivateChars {
    const RANGE: std::ops::RangeInclusive<char> = '\u{F0000}'..='\u{FFFFD}';

    fn scan_text(&mut self, text: &str) {
        self.0.extend(text.chars().filter(|c| Self::RANGE.contains(c)));
    }

    /// Collects from a value; returns about how many bytes it has.
    fn scan(&mut self, value: &Json) -> usize {
        match value {
            Json::String(text) => {
                self.scan_text(text);
                text.len()
            }
            Json::Array(items) => items.iter().map(|item| 1 + self.scan(item)).sum(),
            Json::Object(items) => items
                .iter()
                .map(|(key, item)| {
                    self.scan_text(key);
                    key.len() + self.scan(item)
                })
                .sum(),
            _ => 8,
        }
    }

    fn two_free(&self) -> Option<[char; 2]> {
        let mut free = Self::RANGE.filter(|c| !self.0.contains(c));
        Some([free.next()?, free.next()?])
    }
}
