//! Rows of data sets, by TRL's column names, standard (strings) and conversational (lists of messages).

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::comparison::{Choice, Comparison};
use crate::judgment::{Demonstration, Judgment};
use crate::ranking::{self, Ranked};
use crate::rating::{self, Rated};
use crate::text::{Message, Text, kind};

/// One row of a data set.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// `text`: every token is learned.
    Text {
        /// The text.
        text: String,
    },
    /// `messages` (and `tools`): the assistant's turns are learned.
    Messages {
        /// The conversation.
        messages: Vec<Message>,
        /// JSON schemas of the tools the assistant may call.
        tools: Option<Vec<Value>>,
    },
    /// `prompt` and `completion`: the completion is learned.
    PromptCompletion {
        /// What comes before.
        prompt: Text,
        /// What is learned.
        completion: Text,
    },
    /// `chosen` and `rejected`, and `prompt` unless both are whole conversations or texts.
    Preference {
        /// The prompt; `None` where `chosen` and `rejected` are strings that carry it.
        prompt: Option<Text>,
        /// The better answer.
        chosen: Text,
        /// The worse answer.
        rejected: Text,
        /// By how many reward points the better one should lead.
        margin: Option<f64>,
        /// True where neither is better.
        tie: bool,
    },
    /// `prompt`, `completions` and `ranks`: answers in order.
    Ranking {
        /// What comes before.
        prompt: Text,
        /// The answers.
        completions: Vec<Text>,
        /// The rank of each: 1 is the best, equals share one, and the next is one more than how many are better.
        ranks: Vec<u8>,
    },
    /// `prompt`, `completion` and `label`: good or bad.
    Unpaired {
        /// What comes before.
        prompt: Text,
        /// The answer.
        completion: Text,
        /// True for a good answer.
        label: bool,
    },
    /// `prompt`, `completion` and `score`, or `rating` with its `scale`.
    Rating {
        /// What comes before.
        prompt: Text,
        /// The answer.
        completion: Text,
        /// Points: on the scale if there is one.
        score: f64,
        /// The lowest and the highest possible rating.
        scale: Option<(f64, f64)>,
    },
    /// `prompt` alone: every other column is handed to rewards.
    PromptOnly {
        /// What the policy answers.
        prompt: Text,
        /// The other columns.
        columns: Map<String, Value>,
    },
    /// `input_ids`: tokens as they are.
    InputIds {
        /// Token ids.
        input_ids: Vec<u32>,
    },
    /// `kind` and `responses`: a judgment.
    Judgment(Box<Judgment>),
}

const KNOWN: &str = "text | messages | prompt+completion | prompt+chosen+rejected | prompt+completion+label | \
                     prompt+completion+score | prompt+completions+ranks | prompt | input_ids | kind+prompt+responses";

impl Row {
    /// Tells a row's kind by its columns. Keys that no kind of this row reads are ignored, except where ignoring them
    /// would change what is learned. The error says what is wrong and the mend, without naming the place.
    pub fn from_object(mut object: Map<String, Value>) -> Result<Self, String> {
        let has = |keys: &[&str]| keys.iter().all(|key| object.contains_key(*key));
        if has(&["kind", "responses"]) {
            let judgment =
                Judgment::deserialize(Value::Object(object)).map_err(|e| format!("judgment: {e}"))?;
            return judgment.validate().map(|()| Self::Judgment(Box::new(judgment)));
        }
        if has(&["chosen", "rejected"]) {
            return preference(object);
        }
        if has(&["prompt", "completions", "ranks"]) {
            return ranked(object);
        }
        if has(&["prompt", "completion"]) {
            return completion(object);
        }
        if has(&["messages"]) {
            let messages = chat(&mut object, "messages")?;
            let tools = tools(&mut object)?;
            refuse(&object, &["images"])?;
            return Ok(Self::Messages { messages, tools });
        }
        if has(&["input_ids"]) {
            // A mask that is ignored would train on the wrong tokens.
            refuse(&object, &["labels", "completion_mask", "assistant_masks"])?;
            return Ok(Self::InputIds { input_ids: token_ids(&mut object)? });
        }
        if has(&["text"]) {
            return match object.shift_remove("text") {
                Some(Value::String(text)) => Ok(Self::Text { text }),
                other => Err(format!("`text` is {}; give it a string", kind(&other.unwrap_or_default()))),
            };
        }
        if has(&["prompt"]) {
            let (prompt, columns) = prompt_and_columns(object)?;
            return Ok(Self::PromptOnly { prompt, columns });
        }
        let mut columns: Vec<_> =
            object.keys().take(12).map(|key| key.chars().take(40).collect::<String>()).collect();
        if object.len() > columns.len() {
            columns.push("…".into());
        }
        Err(format!(
            "the columns ({}) are no known kind of row; rename them to one of: {KNOWN}",
            columns.join(", ")
        ))
    }

    /// The row as a JSON object that [`Row::from_object`] reads back.
    pub fn to_object(&self) -> Map<String, Value> {
        let value = match self {
            Self::Text { text } => json!({ "text": text }),
            Self::Messages { messages, tools: None } => json!({ "messages": messages }),
            Self::Messages { messages, tools } => json!({ "messages": messages, "tools": tools }),
            Self::PromptCompletion { prompt, completion } => {
                json!({ "prompt": prompt, "completion": completion })
            }
            Self::Preference { prompt, chosen, rejected, margin, tie } => {
                let mut value = json!({ "chosen": chosen, "rejected": rejected });
                if let Some(prompt) = prompt {
                    value["prompt"] = json!(prompt);
                }
                if let Some(margin) = margin {
                    value["margin"] = json!(margin);
                }
                if *tie {
                    value["tie"] = json!(true);
                }
                value
            }
            Self::Ranking { prompt, completions, ranks } => {
                json!({ "prompt": prompt, "completions": completions, "ranks": ranks })
            }
            Self::Unpaired { prompt, completion, label } => {
                json!({ "prompt": prompt, "completion": completion, "label": label })
            }
            Self::Rating { prompt, completion, score, scale: None } => {
                json!({ "prompt": prompt, "completion": completion, "score": score })
            }
            Self::Rating { prompt, completion, score, scale } => {
                json!({ "prompt": prompt, "completion": completion, "rating": score, "scale": scale })
            }
            Self::PromptOnly { prompt, columns } => {
                let mut object = columns.clone();
                object.insert("prompt".into(), json!(prompt));
                return object;
            }
            Self::InputIds { input_ids } => json!({ "input_ids": input_ids }),
            Self::Judgment(judgment) => json!(judgment),
        };
        // Every arm above is an object.
        if let Value::Object(object) = value { object } else { Map::new() }
    }

    /// The comparison this row makes, if any.
    pub fn comparison(&self) -> Option<Comparison> {
        match self {
            Self::Preference { prompt, chosen, rejected, margin, tie } => Some(Comparison {
                prompt: prompt.clone().unwrap_or_else(|| Text::from("")),
                a: chosen.clone(),
                b: rejected.clone(),
                choice: if *tie { Choice::Tie } else { Choice::A },
                strength: None,
                margin: *margin,
                annotator: None,
            }),
            Self::Judgment(judgment) => judgment.comparison(),
            _ => None,
        }
    }

    /// The order this row puts answers in, if any.
    pub fn ranked(&self) -> Option<Ranked> {
        match self {
            Self::Ranking { prompt, completions, ranks } => Some(Ranked {
                prompt: prompt.clone(),
                responses: completions.clone(),
                ranks: ranks.clone(),
                annotator: None,
            }),
            Self::Judgment(judgment) => judgment.ranked(),
            _ => None,
        }
    }

    /// The rating this row gives, if any; a `label` is a rating of 0 or 1 on the scale from 0 to 1.
    pub fn rated(&self) -> Option<Rated> {
        let (prompt, response, rating, scale) = match self {
            Self::Rating { prompt, completion, score, scale } => (prompt, completion, *score, *scale),
            Self::Unpaired { prompt, completion, label } => {
                (prompt, completion, f64::from(u8::from(*label)), Some((0.0, 1.0)))
            }
            Self::Judgment(judgment) => return judgment.rated(),
            _ => return None,
        };
        Some(Rated { prompt: prompt.clone(), response: response.clone(), rating, scale, annotator: None })
    }

    /// The answer to imitate that this row shows after a prompt, if any.
    pub fn demonstration(&self) -> Option<Demonstration> {
        match self {
            Self::PromptCompletion { prompt, completion } => {
                Some(Demonstration { prompt: prompt.clone(), response: completion.clone() })
            }
            Self::Judgment(judgment) => judgment.demonstration(),
            _ => None,
        }
    }
}

/// Splits a row into the prompt that a policy answers and every other column, whatever they are.
pub(crate) fn prompt_and_columns(
    mut object: Map<String, Value>,
) -> Result<(Text, Map<String, Value>), String> {
    let prompt = text(&mut object, "prompt")?;
    if prompt.is_empty() {
        return Err("`prompt` is empty; give the policy something to answer".into());
    }
    Ok((prompt, object))
}

fn preference(mut object: Map<String, Value>) -> Result<Row, String> {
    refuse(&object, &["tools", "images"])?;
    let (chosen, rejected) = (text(&mut object, "chosen")?, text(&mut object, "rejected")?);
    let margin = match object.shift_remove("margin") {
        None | Some(Value::Null) => None,
        Some(value) => {
            Some(value.as_f64().ok_or_else(|| format!("`margin` is {}; give it a number", kind(&value)))?)
        }
    };
    let tie = match object.shift_remove("tie") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(tie)) => tie,
        Some(other) => return Err(format!("`tie` is {}; give it true or false", kind(&other))),
    };
    let prompt = match object.get("prompt") {
        None | Some(Value::Null) => None,
        Some(_) => Some(text(&mut object, "prompt")?),
    };
    let (prompt, chosen, rejected) = match (prompt, chosen, rejected) {
        // A string beside two whole conversations repeats their first turn: TRL reads the conversations.
        (None | Some(Text::Plain(_)), Text::Chat(chosen), Text::Chat(rejected)) => split(chosen, rejected)?,
        (prompt, chosen, rejected) => (prompt, chosen, rejected),
    };
    if chosen == rejected {
        return Err("`chosen` and `rejected` are equal; remove the row".into());
    }
    same_form(&chosen, &rejected, "chosen", "rejected")?;
    if let Some(prompt) = &prompt {
        same_form(prompt, &chosen, "prompt", "chosen")?;
    }
    Ok(Row::Preference { prompt, chosen, rejected, margin, tie })
}

/// The longest common prefix of two conversations is their prompt.
fn split(mut chosen: Vec<Message>, mut rejected: Vec<Message>) -> Result<(Option<Text>, Text, Text), String> {
    let shared = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
    if shared == chosen.len() || shared == rejected.len() {
        return Err(
            "`chosen` and `rejected` do not part before one of them ends; each needs an answer of its own"
                .into(),
        );
    }
    if shared == 0 {
        return Err("`chosen` and `rejected` share no first message; give the row a `prompt`".into());
    }
    let (chosen_answer, rejected_answer) = (chosen.split_off(shared), rejected.split_off(shared));
    Ok((Some(Text::Chat(chosen)), Text::Chat(chosen_answer), Text::Chat(rejected_answer)))
}

fn ranked(mut object: Map<String, Value>) -> Result<Row, String> {
    refuse(&object, &["tools", "images"])?;
    let prompt = text(&mut object, "prompt")?;
    let completions = match object.shift_remove("completions") {
        Some(Value::Array(completions)) => completions,
        other => {
            let found = kind(&other.unwrap_or_default());
            return Err(format!("`completions` is {found}; give it a list of answers"));
        }
    };
    let read = |(i, completion): (usize, Value)| {
        let completion =
            Text::from_value(completion).map_err(|what| format!("completion {}: {what}", i + 1))?;
        same_form(&prompt, &completion, "prompt", "completions").map(|()| completion)
    };
    let completions: Vec<Text> = completions.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
    let ranks = object.shift_remove("ranks").unwrap_or_default();
    let ranks = Vec::<u8>::deserialize(ranks)
        .map_err(|e| format!("`ranks`: {e}; give each completion its rank, from 1"))?;
    ranking::check(&ranks, false, completions.len())?;
    Ok(Row::Ranking { prompt, completions, ranks })
}

fn completion(mut object: Map<String, Value>) -> Result<Row, String> {
    refuse(&object, &["tools", "images"])?;
    let (prompt, completion) = (text(&mut object, "prompt")?, text(&mut object, "completion")?);
    same_form(&prompt, &completion, "prompt", "completion")?;
    if matches!(&completion, Text::Chat(turns) if turns.is_empty()) {
        return Err("`completion` has no message; give it one".into());
    }
    match ["label", "score", "rating"].map(|key| object.shift_remove(key)) {
        [None, None, None] => Ok(Row::PromptCompletion { prompt, completion }),
        [Some(Value::Bool(label)), None, None] => Ok(Row::Unpaired { prompt, completion, label }),
        [Some(other), None, None] => Err(format!("`label` is {}; give it true or false", kind(&other))),
        [None, Some(score), None] => {
            let score =
                score.as_f64().ok_or_else(|| format!("`score` is {}; give it a number", kind(&score)))?;
            Ok(Row::Rating { prompt, completion, score, scale: None })
        }
        [None, None, Some(rating)] => {
            let score =
                rating.as_f64().ok_or_else(|| format!("`rating` is {}; give it a number", kind(&rating)))?;
            let scale = object.shift_remove("scale").unwrap_or_default();
            let scale = <(f64, f64)>::deserialize(scale)
                .map_err(|_| "`rating` needs `scale`: [lowest, highest]".to_owned())?;
            rating::check(score, scale)?;
            Ok(Row::Rating { prompt, completion, score, scale: Some(scale) })
        }
        _ => Err("has more than one of `label`, `score` and `rating`; keep one".into()),
    }
}

/// Takes a column that must hold text.
fn text(object: &mut Map<String, Value>, key: &str) -> Result<Text, String> {
    match object.shift_remove(key) {
        None => Err(format!("has no `{key}`; give it one")),
        Some(value) => Text::from_value(value).map_err(|what| format!("`{key}`: {what}")),
    }
}

/// Takes a column that must hold messages, at least one.
fn chat(object: &mut Map<String, Value>, key: &str) -> Result<Vec<Message>, String> {
    match text(object, key)? {
        Text::Chat(messages) if !messages.is_empty() => Ok(messages),
        Text::Chat(_) => Err(format!("`{key}` is empty; give it a message")),
        Text::Plain(_) => Err(format!("`{key}` is a string; give it a list of messages, or name it `text`")),
    }
}

/// Takes `tools`: a list, or a string that holds one (data sets with one schema for all rows write strings).
fn tools(object: &mut Map<String, Value>) -> Result<Option<Vec<Value>>, String> {
    let value = match object.shift_remove("tools") {
        Some(Value::String(tools)) => {
            serde_json::from_str(&tools).map_err(|e| format!("`tools` is a string that is not JSON: {e}"))?
        }
        other => other.unwrap_or_default(),
    };
    match value {
        Value::Null => Ok(None),
        Value::Array(tools) => Ok(Some(tools)),
        other => Err(format!("`tools` is {}; give it a list of JSON schemas", kind(&other))),
    }
}

fn token_ids(object: &mut Map<String, Value>) -> Result<Vec<u32>, String> {
    let value = object.shift_remove("input_ids").unwrap_or_default();
    let ids: Vec<u32> =
        Vec::deserialize(value).map_err(|e| format!("`input_ids`: {e}; give it a list of token ids"))?;
    if ids.is_empty() { Err("`input_ids` is empty; remove the row".into()) } else { Ok(ids) }
}

/// An error if a column is there that this kind of row would silently ignore.
fn refuse(object: &Map<String, Value>, keys: &[&str]) -> Result<(), String> {
    let empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    match keys.iter().find(|key| object.get(**key).is_some_and(|value| !empty(value))) {
        Some(key) => Err(format!("`{key}` is not read in this kind of row; remove the column")),
        None => Ok(()),
    }
}

fn same_form(a: &Text, b: &Text, a_name: &str, b_name: &str) -> Result<(), String> {
    if matches!(a, Text::Chat(_)) == matches!(b, Text::Chat(_)) {
        return Ok(());
    }
    let form = |text: &Text| if matches!(text, Text::Chat(_)) { "a list of messages" } else { "a string" };
    Err(format!("`{a_name}` is {} and `{b_name}` is {}; make both the same", form(a), form(b)))
}
