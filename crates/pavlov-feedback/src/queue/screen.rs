//! Tasks that are not worth a rater's time, or would tell which policy wrote an answer.

use pavlov_schema::marks::marked_text;
use pavlov_schema::text::Text;

/// Names by which answers of well-known models give themselves away, in lower case.
const NAMES: [&str; 24] = [
    "openai",
    "chatgpt",
    "gpt-3",
    "gpt-4",
    "gpt-5",
    "gpt4",
    "anthropic",
    "claude",
    "google gemini",
    "google deepmind",
    "google bard",
    "llama",
    "meta ai",
    "mistral ai",
    "mixtral",
    "qwen",
    "tongyi",
    "alibaba cloud",
    "deepseek",
    "smollm",
    "hugging face",
    "vicuna",
    "lmsys",
    "moonshot ai",
];

/// Sentences in which such a name speaks of the writer; a text about a llama is no leak.
const SELF: [&str; 12] = [
    "i am ",
    "i'm ",
    "i’m ",
    "my name is ",
    "as a language model",
    "as an ai",
    "trained by ",
    "developed by ",
    "created by ",
    "made by ",
    "built by ",
    "this is ",
];

/// Whether two answers are the same to a reader: equal but for case and white space.
pub fn same(a: &Text, b: &Text) -> bool {
    let (a, b) = (marked_text(a), marked_text(b));
    a.split_whitespace().map(str::to_lowercase).eq(b.split_whitespace().map(str::to_lowercase))
}

/// The sentence in which an answer says which model wrote it.
pub fn leak(text: &Text) -> Option<String> {
    let text = marked_text(text);
    let sentences = text.split_inclusive(['.', '!', '?', '\n']);
    let names_itself = |sentence: &&str| {
        let lower = sentence.to_lowercase();
        SELF.iter().any(|start| lower.contains(start)) && NAMES.iter().any(|name| has_word(&lower, name))
    };
    sentences.into_iter().find(names_itself).map(|sentence| sentence.trim().chars().take(200).collect())
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_to_a_reader() {
        let same = |a: &str, b: &str| same(&a.into(), &b.into());
        assert!(same("The key is\n in the tin.", " the  Key is in the tin. "));
        assert!(!same("The key is in the tin.", "The key is in the tin"));
        assert!(same("", " "));
    }

    #[test]
    fn leaks_are_seen_and_animals_are_not() {
        let leak = |text: &str| leak(&text.into());
        assert_eq!(leak("Sure! I'm ChatGPT, how can I help?").unwrap(), "I'm ChatGPT, how can I help?");
        assert!(leak("As an AI developed by Alibaba Cloud, I cannot.").is_some());
        assert_eq!(leak("A llama eats grass."), None);
        assert_eq!(leak("I am sure that it is in the tin."), None);
        assert_eq!(leak("I am fond of bombardment."), None);
    }
}
