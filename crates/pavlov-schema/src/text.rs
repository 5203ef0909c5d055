//! Text as data sets hold it: one string, or a conversation.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, `tool`, …
    pub role: String,
    /// What is said. Empty where the turn is only a call of tools.
    pub content: String,
    /// Every other key (`tool_calls`, `reasoning_content`, `name`, …), handed to the chat template as it is.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A string, or a list of messages. In JSON: a string or an array of `{"role", "content"}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Text {
    /// Text that no chat template touches.
    Plain(String),
    /// Turns that a chat template renders.
    Chat(Vec<Message>),
}

impl Message {
    /// A message without further keys.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), extra: Map::new() }
    }

    /// Reads one message; the error says what is wrong and the mend, without naming the place.
    pub(crate) fn from_value(value: Value) -> Result<Self, String> {
        let Value::Object(mut object) = value else {
            return Err(format!("is {}; write {{\"role\": …, \"content\": …}}", kind(&value)));
        };
        let role = match object.shift_remove("role") {
            Some(Value::String(role)) if !role.is_empty() => role,
            _ => return Err("has no `role`; write {\"role\": …, \"content\": …}".into()),
        };
        let content = object.shift_remove("content");
        // Writers with one schema for all rows (Arrow, Parquet) fill absent keys with null.
        object.retain(|_, value| !value.is_null());
        let content = match content {
            Some(Value::String(content)) => content,
            Some(Value::Array(parts)) => join_parts(parts)?,
            None | Some(Value::Null) if object.contains_key("tool_calls") => String::new(),
            None | Some(Value::Null) => return Err("has no `content`; give it a string".into()),
            Some(other) => return Err(format!("has a `content` that is {}; give it a string", kind(&other))),
        };
        Ok(Self { role, content, extra: object })
    }
}

/// Joins the parts of `[{"type": "text", "text": …}, …]`.
fn join_parts(parts: Vec<Value>) -> Result<String, String> {
    let mut joined = String::new();
    for part in parts {
        match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(text)) => joined.push_str(text),
            (Some("text"), None) => return Err("has a part of type `text` without `text`".into()),
            (Some(other), _) => {
                return Err(format!(
                    "has a part of type `{other}`; only text can be learned from, remove it"
                ));
            }
            (None, _) => {
                return Err("has a part without `type`; write {\"type\": \"text\", \"text\": …}".into());
            }
        }
    }
    Ok(joined)
}

impl Text {
    /// Reads a string or a list of messages; the error says what is wrong and the mend, without naming the place.
    pub(crate) fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(Self::Plain(text)),
            Value::Array(messages) => {
                let read = |(i, message)| {
                    Message::from_value(message).map_err(|what| format!("message {} {what}", i + 1))
                };
                messages.into_iter().enumerate().map(read).collect::<Result<_, _>>().map(Self::Chat)
            }
            other => Err(format!("is {}; give it a string or a list of messages", kind(&other))),
        }
    }

    /// True for an empty string and for no messages.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Plain(text) => text.is_empty(),
            Self::Chat(messages) => messages.is_empty(),
        }
    }

    /// This text as an answer to `prompt`: a plain answer to a conversation is its next assistant turn.
    #[must_use]
    pub fn answering(self, prompt: &Text) -> Self {
        match (prompt, self) {
            (Self::Chat(_), Self::Plain(text)) => Self::Chat(vec![Message::new("assistant", text)]),
            (_, answer) => answer,
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?)
            .map_err(|what| serde::de::Error::custom(format!("message {what}")))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
mod openapi {
    use utoipa::openapi::RefOr;
    use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};
    use utoipa::{PartialSchema, ToSchema};

    /// A string, or messages.
    impl PartialSchema for super::Text {
        fn schema() -> RefOr<Schema> {
            let string = || ObjectBuilder::new().schema_type(Type::String);
            let message = ObjectBuilder::new()
                .property("role", string())
                .property("content", string())
                .required("role")
                .required("content");
            let chat = ArrayBuilder::new().items(message);
            OneOfBuilder::new()
                .item(string())
                .item(chat)
                .description(Some("A string, or a list of messages."))
                .into()
        }
    }

    impl ToSchema for super::Text {}
}

/// A JSON value's type, with its article, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_strings_and_messages() {
        assert_eq!(Text::from_value(json!("hi")).unwrap(), Text::Plain("hi".into()));
        let chat = Text::from_value(json!([
            {"role": "user", "content": "hi", "name": null},
            {"role": "assistant", "content": null, "tool_calls": [1]},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ]))
        .unwrap();
        let mut call = Message::new("assistant", "");
        call.extra.insert("tool_calls".into(), json!([1]));
        assert_eq!(chat, Text::Chat(vec![Message::new("user", "hi"), call, Message::new("user", "ab")]));
        assert_eq!(
            serde_json::to_value(&chat).unwrap()[1],
            json!({"role": "assistant", "content": "", "tool_calls": [1]})
        );
    }

    #[test]
    fn names_the_message_that_is_wrong() {
        let error = |value| Text::from_value(value).unwrap_err();
        assert_eq!(error(json!(3)), "is a number; give it a string or a list of messages");
        assert!(
            error(json!([{"role": "user", "content": "a"}, {"from": "gpt", "value": "b"}]))
                .starts_with("message 2 has no `role`")
        );
        assert!(
            error(json!([{"role": "user", "content": 7}]))
                .contains("message 1 has a `content` that is a number")
        );
        assert!(error(json!([{"role": "user", "content": null}])).contains("no `content`"));
        assert!(error(json!([{"role": "user", "content": [{"type": "image"}]}])).contains("type `image`"));
    }

    #[test]
    fn a_plain_answer_to_a_conversation_is_a_turn() {
        let chat = Text::Chat(vec![Message::new("user", "q")]);
        assert_eq!(Text::from("a").answering(&chat), Text::Chat(vec![Message::new("assistant", "a")]));
        assert_eq!(Text::from("a").answering(&Text::from("q")), Text::from("a"));
    }
}
