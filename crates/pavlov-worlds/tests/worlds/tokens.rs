//! The tokenizer file in the library that reads it.

use std::str::FromStr;

use pavlov_worlds::{
    Config, END, SPECIALS, Split, UNKNOWN, generate, special_names, statement_text, tokenizer_json,
    vocabulary,
};
use tokenizers::Tokenizer;

fn tokenizer() -> Tokenizer {
    Tokenizer::from_str(&tokenizer_json()).expect("the library reads the file")
}

#[test]
fn every_world_survives_encoding_and_the_answer_starts_a_token() {
    let tokenizer = tokenizer();
    let encode = |text: &str| tokenizer.encode(text, true).unwrap().get_ids().to_vec();
    let unknown = tokenizer.token_to_id(UNKNOWN).unwrap();
    for index in 0..2000 {
        let config = if index % 2 == 0 { Config::demo() } else { Config::large() };
        let world = generate(31, index, &config, Split::Train);
        let (prompt, answer) = (encode(&world.prompt()), encode(&world.answer));
        let text = world.prompt() + &world.answer;
        assert_eq!(encode(&text), [prompt.clone(), answer.clone()].concat(), "{text}");
        assert!((4..=8).contains(&answer.len()), "{}", world.answer);
        for text in [text, world.prompt(), world.answer, statement_text(31, index, &config)] {
            let tokens = encode(&text);
            assert!(!tokens.contains(&unknown), "{text}");
            assert_eq!(tokenizer.decode(&tokens, false).unwrap(), text);
        }
    }
}

#[test]
fn identifiers_are_the_specials_and_then_the_vocabulary() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.get_vocab_size(true), SPECIALS.len() + vocabulary().len());
    for (id, word) in SPECIALS.iter().map(|s| (*s).to_owned()).chain(vocabulary()).enumerate() {
        assert_eq!(tokenizer.token_to_id(&word), Some(id as u32), "{word:?}");
    }
}

#[test]
fn special_tokens_are_cut_out_and_left_out() {
    let tokenizer = tokenizer();
    let text = format!("Ana is older.{END}Ben.");
    let encoded = tokenizer.encode(text.as_str(), true).unwrap();
    assert_eq!(encoded.get_tokens(), ["Ana", "is", "older", ".", END, "Ben", "."]);
    assert_eq!(tokenizer.decode(encoded.get_ids(), false).unwrap(), text);
    assert_eq!(tokenizer.decode(&encoded.get_ids()[..5], true).unwrap(), "Ana is older.");
}

#[test]
fn words_of_no_world_are_unknown() {
    let encoded = tokenizer().encode("Ana ate a zebra!", true).unwrap();
    assert_eq!(encoded.get_tokens(), ["Ana", UNKNOWN, UNKNOWN, UNKNOWN]);
}

#[test]
fn a_stream_of_tokens_decodes_to_the_whole_text() {
    let tokenizer = tokenizer();
    for index in 0..50 {
        let world = generate(32, index, &Config::demo(), Split::Train);
        let text = world.prompt() + &world.answer;
        let mut stream = tokenizer.decode_stream(true);
        let pieces: Vec<String> = tokenizer
            .encode(text.as_str(), true)
            .unwrap()
            .get_ids()
            .iter()
            .filter_map(|&id| stream.step(id).unwrap())
            .collect();
        assert_eq!(pieces.concat(), text);
    }
}

#[test]
fn every_special_token_has_a_name() {
    let names = special_names();
    assert!(names.contains_key("eos_token"));
    let mut named: Vec<&str> = names.values().map(String::as_str).collect();
    named.sort_unstable();
    let mut special = SPECIALS.to_vec();
    special.sort_unstable();
    assert_eq!(named, special);
}

#[test]
fn every_word_of_the_vocabulary_is_used() {
    let tokenizer = tokenizer();
    let mut used: Vec<bool> = (0..tokenizer.get_vocab_size(true)).map(|id| id < SPECIALS.len()).collect();
    for index in 0..8000 {
        let world = generate(33, index, &Config::large(), Split::Train);
        let encoded = tokenizer.encode(world.prompt() + &world.answer, true).unwrap();
        encoded.get_ids().iter().for_each(|&id| used[id as usize] = true);
    }
    let unused: Vec<String> =
        (0..used.len()).filter(|&id| !used[id]).filter_map(|id| tokenizer.id_to_token(id as u32)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}
