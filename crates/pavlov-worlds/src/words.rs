//! The words that fill the sentences' slots.

/// People. Women have even places, men odd ones, so that any beginning of the list is balanced.
pub(crate) const NAMES: [&str; 16] = [
    "Ana", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gia", "Hugo", "Ida", "Jon", "Kira", "Leo", "Mia", "Noah",
    "Olga", "Paul",
];

/// Small things that hold nothing.
pub(crate) const THINGS: [&str; 8] = ["key", "ring", "coin", "pen", "book", "ball", "cup", "map"];

/// Things that hold other things and can be carried.
pub(crate) const CONTAINERS: [&str; 6] = ["tin", "box", "bag", "chest", "jar", "crate"];

/// Where things end up; a place is in nothing.
pub(crate) const PLACES: [&str; 8] = ["shed", "garden", "kitchen", "attic", "cellar", "barn", "hall", "yard"];

/// What is counted; every plural is the word and an s.
pub(crate) const ITEMS: [&str; 6] = ["apple", "pear", "plum", "nut", "shell", "card"];

/// The largest number a story or an answer says.
pub(crate) const LARGEST: u8 = 20;

/// Every word of the sentences that fills no slot above, and the punctuation.
pub(crate) const FRAME: [&str; 30] = [
    "\n",
    ",",
    ".",
    "?",
    "How",
    "That",
    "The",
    "They",
    "What",
    "Where",
    "Who",
    "and",
    "carried",
    "do",
    "does",
    "found",
    "gave",
    "has",
    "have",
    "in",
    "inconsistent",
    "is",
    "lost",
    "many",
    "of",
    "or",
    "put",
    "than",
    "the",
    "to",
];

/// Whether the name is a woman's.
pub(crate) fn is_female(name: &str) -> bool {
    NAMES.iter().position(|&n| n == name).is_some_and(|i| i % 2 == 0)
}

/// "1 apple", "3 apples".
pub(crate) fn counted(count: u8, item: &str) -> String {
    if count == 1 { format!("1 {item}") } else { format!("{count} {item}s") }
}
