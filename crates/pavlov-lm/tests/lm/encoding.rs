//! Which tokens of a row are learned, to the token.

use std::collections::BTreeMap;

use crate::common::{BOS, END, EOS, START, tokenizer_json};
use pavlov_lm::template::ChatTemplate;
use pavlov_lm::{EncodeOptions, Encoded, Encoder, Tokenizer};
use pavlov_schema::row::Row;
use pavlov_schema::text::{Message, Text};
use serde_json::{Value, json};

const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                      {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn tokenizer(add_bos: bool, specials: &[(&str, &str)]) -> Tokenizer {
    let specials = specials.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Tokenizer::from_json(&tokenizer_json(add_bos), &specials).unwrap()
}

fn encoder<'a>(tokenizer: &'a Tokenizer, template: Option<&'a ChatTemplate>) -> Encoder<'a> {
    Encoder { tokenizer, template, vocab_size: 262, max_positions: 500 }
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, BTreeMap::from([("eos_token".into(), "</s>".into())])).unwrap()
}

fn row(value: Value) -> Row {
    let Value::Object(object) = value else { panic!("not an object") };
    Row::from_object(object).unwrap()
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// The text of the learned tokens; tokens that are not learned become `·`, once a run.
fn learned(tokenizer: &Tokenizer, encoded: &Encoded) -> String {
    assert_eq!(encoded.tokens.len(), encoded.trained.len());
    let mut out = String::new();
    let mut i = 0;
    while i < encoded.tokens.len() {
        let end = (i..encoded.tokens.len()).find(|j| encoded.trained[*j] != encoded.trained[i]);
        let end = end.unwrap_or(encoded.tokens.len());
        if encoded.trained[i] {
            out.push_str(&tokenizer.decode(&encoded.tokens[i..end], false).unwrap());
        } else {
            out.push('·');
        }
        i = end;
    }
    out
}

#[test]
fn a_text_is_learned_whole_with_one_end() {
    let t = tokenizer(true, &[("bos_token", "<s>"), ("eos_token", "</s>")]);
    let e = encoder(&t, None);
    let encode =
        |text: &str| e.encode_row(&row(json!({"text": text})), &EncodeOptions::default(), "r").unwrap();
    let tokens = [vec![BOS], bytes("hi"), vec![EOS]].concat();
    let plain = encode("hi");
    assert_eq!((plain.tokens, plain.trained), (tokens.clone(), vec![false, true, true, true]));
    // Neither token is doubled where the text has it already.
    assert_eq!(encode("<s>hi</s>").tokens, tokens);
    assert_eq!(encode("<s>hi").tokens, tokens);
    // Without BOS the first token has nothing before it.
    let bare = tokenizer(false, &[("eos_token", "</s>")]);
    let encoded =
        encoder(&bare, None).encode_row(&row(json!({"text": "hi"})), &EncodeOptions::default(), "r").unwrap();
    assert_eq!(
        (encoded.tokens, encoded.trained),
        ([bytes("hi"), vec![EOS]].concat(), vec![false, true, true])
    );
    let no_end = EncodeOptions { append_end: false, ..EncodeOptions::default() };
    assert_eq!(e.encode_row(&row(json!({"text": "hi"})), &no_end, "r").unwrap().tokens, tokens[..3]);
}

#[test]
fn an_answer_is_learned_after_the_prompt_a_sampler_sees() {
    let t = tokenizer(true, &[("bos_token", "<s>"), ("eos_token", "</s>"), ("pad_token", "</s>")]);
    let e = encoder(&t, None);
    let encode = |prompt: &str, completion: &str| {
        let row = row(json!({"prompt": prompt, "completion": completion}));
        let encoded = e.encode_row(&row, &EncodeOptions::default(), "r").unwrap();
        let prompt = e.encode_prompt(&Text::from(prompt), None).unwrap();
        assert_eq!(
            (&encoded.tokens[..prompt.len()], encoded.prompt_tokens),
            (prompt.as_slice(), prompt.len())
        );
        assert!(encoded.trained.iter().enumerate().all(|(i, trained)| *trained == (i >= prompt.len())));
        encoded.tokens
    };
    // " a" is one token; the end is learned though it is the padding token too.
    assert_eq!(encode("q", " a"), [vec![BOS], bytes("q"), vec![260, EOS]].concat());
    // Together "\n" and "\n" would be one token, which no sampler sees after the prompt.
    assert_eq!(encode("q\n", "\na"), [vec![BOS], bytes("q\n\na"), vec![EOS]].concat());
    assert_eq!(encode("q", "x</s>"), [vec![BOS], bytes("qx"), vec![EOS]].concat());
    let all = EncodeOptions { completion_only: false, ..EncodeOptions::default() };
    let whole = e.encode_row(&row(json!({"prompt": "q", "completion": "a"})), &all, "r").unwrap();
    assert_eq!((whole.trained, whole.prompt_tokens), (vec![false, true, true, true], 2));
}

#[test]
fn assistant_turns_are_learned_with_one_end_each() {
    let conversation = json!({"messages": [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"},
        {"role": "user", "content": "q2"}, {"role": "assistant", "content": "é2"}]});
    let expected = "·a1<|im_end|>·é2<|im_end|>";
    let marked = CHATML.replace(
        "{{ m.content }}<|im_end|>\n",
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}\
         {{ m.content }}<|im_end|>{% endif %}{{ '\\n' }}",
    );
    let unended = marked.replace("<|im_end|>{% endgeneration %}", "{% endgeneration %}<|im_end|>");
    for eos in ["</s>", "<|im_end|>"] {
        let mut t = tokenizer(false, &[("eos_token", eos), ("pad_token", eos)]);
        t.add_stop(END);
        for source in [CHATML, &marked, &unended] {
            let template = template(source);
            let e = encoder(&t, Some(&template));
            let encoded = e.encode_row(&row(conversation.clone()), &EncodeOptions::default(), "r").unwrap();
            assert_eq!(learned(&t, &encoded), expected, "{source}");
            assert_eq!(encoded.tokens.iter().filter(|id| **id == START).count(), 4);
            let prompt = Text::Chat(vec![Message::new("user", "q1")]);
            let seen = e.encode_prompt(&prompt, None).unwrap();
            assert!(
                encoded.tokens.starts_with(&seen)
                    && encoded.trained[seen.len()]
                    && !encoded.trained[seen.len() - 1]
            );
        }
    }
}

#[test]
fn a_template_without_end_gets_one_at_the_end_of_the_row() {
    let t = tokenizer(false, &[("eos_token", "</s>")]);
    let template = template(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
    );
    let e = encoder(&t, Some(&template));
    let chat = |n: usize| {
        let turns: Vec<Value> = (0..n)
            .map(|i| json!({"role": if i % 2 == 0 { "user" } else { "assistant" }, "content": "x"}))
            .collect();
        e.encode_row(&row(json!({"messages": turns})), &EncodeOptions::default(), "data.jsonl:3")
    };
    assert_eq!(learned(&t, &chat(2).unwrap()), "·x\n</s>");
    let error = chat(4).unwrap_err().to_string();
    assert!(error.starts_with("data.jsonl:3: chat template: it writes no end token"), "{error}");
}

#[test]
fn answers_of_a_conversation_continue_its_prompt() {
    let mut t = tokenizer(true, &[("bos_token", "<s>"), ("eos_token", "</s>")]);
    t.add_stop(END);
    // BOS comes from the template, and is not doubled.
    let source = format!("<s>{CHATML}");
    let template = template(&source);
    let e = encoder(&t, Some(&template));
    let prompt = Text::Chat(vec![Message::new("user", "q")]);
    let answers = e.encode_answers(&prompt, &[Text::from("\nx"), Text::from("a")], "r").unwrap();
    assert_eq!(
        answers.prompt,
        [vec![BOS, START], bytes("user\nq"), vec![END], bytes("\n"), vec![START], bytes("assistant\n")]
            .concat()
    );
    // The first answer's "\n" must not merge with the prompt's.
    assert_eq!(answers.answers[0], [bytes("\nx"), vec![END]].concat());
    assert_eq!(answers.answers[1], [bytes("a"), vec![END]].concat());
    let row = row(
        json!({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "\nx"}]}),
    );
    let encoded = e.encode_row(&row, &EncodeOptions::default(), "r").unwrap();
    assert_eq!(
        (encoded.prompt_tokens, learned(&t, &encoded)),
        (answers.prompt.len(), "·\nx<|im_end|>".into())
    );
}

#[test]
fn an_unstable_template_is_refused() {
    let mut t = tokenizer(false, &[("eos_token", "</s>")]);
    t.add_stop(END);
    let source = CHATML.replace("{{ m.content }}", "{% if loop.last %}[last]{% endif %}{{ m.content }}");
    let template = template(&source);
    let e = encoder(&t, Some(&template));
    let messages: Vec<Message> =
        ["user", "assistant", "user", "assistant"].map(|role| Message::new(role, "x")).to_vec();
    let row = Row::Messages { messages: messages.clone(), tools: None };
    let error = e.encode_row(&row, &EncodeOptions::default(), "d.jsonl:1").unwrap_err().to_string();
    assert!(error.starts_with("d.jsonl:1: chat template") && error.contains("{% generation %}"), "{error}");
    assert!(e.check_prefix_stable(&messages, None).is_err());
    let stable = self::template(CHATML);
    encoder(&t, Some(&stable)).check_prefix_stable(&messages, None).unwrap();
}

#[test]
fn rows_that_teach_nothing_are_refused() {
    let t = tokenizer(false, &[("eos_token", "</s>")]);
    let template = template(CHATML);
    let e = encoder(&t, Some(&template));
    let says = |row_: Row, options: &EncodeOptions, part: &str| {
        let error = e.encode_row(&row_, options, "f:9").expect_err(part).to_string();
        assert!(error.starts_with("f:9: ") && error.contains(part) && !error.contains('\n'), "{error}");
    };
    let any = EncodeOptions::default();
    let long = "x".repeat(600);
    says(row(json!({"prompt": "", "completion": "a"})), &any, "prompt is empty");
    says(row(json!({"prompt": "q"})), &any, "nothing to learn");
    says(row(json!({"input_ids": [7]})), &any, "no token of it is learned");
    says(row(json!({"input_ids": [7, 300]})), &any, "token 300 is outside");
    says(row(json!({"text": long.clone()})), &any, "601 tokens, more than the model's context of 500");
    let short = EncodeOptions { max_length: Some(4), ..any };
    says(row(json!({"prompt": "12345", "completion": "a"})), &short, "after 3 are cut off");
    says(
        Row::Messages { messages: vec![Message::new("user", "q")], tools: None },
        &any,
        "no assistant's turn",
    );
    let cut = e.encode_row(&row(json!({"prompt": "12", "completion": "abc"})), &short, "r").unwrap();
    assert_eq!((cut.tokens.len(), cut.cut, cut.prompt_tokens), (4, 2, 2));
    let without = encoder(&t, None);
    let chat = Row::Messages { messages: vec![Message::new("user", "q")], tools: None };
    let error = without.encode_row(&chat, &any, "r").unwrap_err().to_string();
    assert!(error.contains("chat_template.jinja"), "{error}");
}
