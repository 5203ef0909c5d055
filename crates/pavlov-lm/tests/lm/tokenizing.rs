//! Text to tokens and back, whole and streamed.

use std::collections::BTreeMap;
use std::fs;

use crate::common::{BOS, EOS, tokenizer_json};
use pavlov_lm::Tokenizer;
use serde_json::json;

#[test]
fn streamed_text_is_whole_characters_and_the_same_text() {
    let tokenizer = Tokenizer::from_json(&tokenizer_json(false), &BTreeMap::new()).unwrap();
    for text in ["plain a a", "é", "日本語 and 👩‍👩‍👧 done", "a\u{FFFD}b", "tail 👩"] {
        let ids = tokenizer.encode(text, false).unwrap();
        let mut stream = tokenizer.stream(false);
        let mut out = String::new();
        for id in ids {
            let piece = stream.push(id).unwrap();
            assert!(text.contains('\u{FFFD}') || !piece.contains('\u{FFFD}'), "{piece:?} of {text:?}");
            out.push_str(&piece);
        }
        out.push_str(&stream.finish().unwrap());
        assert_eq!(out, text);
    }
}

#[test]
fn broken_bytes_are_held_until_they_cannot_become_a_character() {
    let tokenizer = Tokenizer::from_json(&tokenizer_json(false), &BTreeMap::new()).unwrap();
    let mut stream = tokenizer.stream(false);
    assert_eq!(stream.push(0xF0).unwrap(), "");
    assert_eq!(stream.push(0x9F).unwrap(), "");
    assert_eq!(stream.finish().unwrap(), "\u{FFFD}");
    let mut stream = tokenizer.stream(false);
    let given: String = (0..20).map(|_| stream.push(0x80).unwrap()).collect();
    assert!(given.chars().count() >= 12, "the stream never gives up: {given:?}");
}

#[test]
fn offsets_keep_their_white_space_and_nothing_is_truncated() {
    // The file asks for truncation to 4 tokens and for trimmed offsets.
    let tokenizer = Tokenizer::from_json(&tokenizer_json(false), &BTreeMap::new()).unwrap();
    let tokens = tokenizer.encode_with_offsets("q a é q q").unwrap();
    assert_eq!(tokens.ids, [113, 260, 32, 0xC3, 0xA9, 32, 113, 32, 113]);
    assert_eq!(
        (tokens.offsets[1].clone(), tokens.offsets[3].clone(), tokens.offsets[4].clone()),
        (1..3, 4..6, 4..6)
    );
    assert_eq!(tokenizer.decode(&tokens.ids, false).unwrap(), "q a é q q");
}

#[test]
fn special_tokens_are_those_of_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: serde_json::Value| {
        fs::write(folder.path().join(name), value.to_string()).unwrap();
    };
    fs::write(folder.path().join("tokenizer.json"), tokenizer_json(true)).unwrap();
    write(
        "tokenizer_config.json",
        json!({"eos_token": {"content": "</s>", "special": true}, "bos_token": null}),
    );
    write("special_tokens_map.json", json!({"bos_token": "<s>", "eos_token": "<|im_start|>"}));
    write("generation_config.json", json!({"eos_token_id": [259, 257]}));
    write("config.json", json!({"eos_token_id": 65, "pad_token_id": 66}));
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.pad()), (Some(BOS), Some(EOS), Some(66)));
    assert_eq!(tokenizer.stops(), [65, 257, 259]);
    assert_eq!(tokenizer.specials()["eos_token"], "</s>");
    assert_eq!(tokenizer.encode("<s>x", true).unwrap(), [BOS, 120]);
    assert_eq!(tokenizer.encode("x", true).unwrap(), [BOS, 120]);
    assert_eq!(tokenizer.decode(&[BOS, 120, EOS], true).unwrap(), "x");
    assert_eq!(tokenizer.vocabulary(), 262);
}
