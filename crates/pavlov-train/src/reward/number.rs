//! Finding the number an answer gives.

/// A decimal number, exactly as written: no rounding makes two long numbers equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    negative: bool,
    /// Digits before the point, without leading zeros.
    integer: String,
    /// Digits after the point, without trailing zeros.
    fraction: String,
}

/// The number a text answers with, by GSM8K's convention: the first number on the rest of the line after the
/// first `####`; without that mark, the last number of the text. A mark without a number after it answers
/// nothing.
pub(crate) fn answer(text: &str) -> Option<Number> {
    match text.split_once("####") {
        Some((_, rest)) => numbers(rest.lines().next().unwrap_or("")).next(),
        None => numbers(text).last(),
    }
}

/// The numbers of a text, from left to right: digits with thousands commas, a decimal point, and a minus
/// sign, before or after which a currency sign may stand.
fn numbers(text: &str) -> impl Iterator<Item = Number> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let start = at;
            let integer = integer_part(&bytes[at..]);
            at += integer;
            let fraction = fraction_part(&bytes[at..]);
            at += fraction;
            if integer + fraction > 0 {
                let digits =
                    |part: &[u8]| part.iter().filter(|b| b.is_ascii_digit()).map(|&b| b as char).collect();
                let integer: String = digits(&bytes[start..start + integer]);
                let fraction: String = digits(&bytes[at - fraction..at]);
                let number = Number {
                    negative: false,
                    integer: integer.trim_start_matches('0').to_owned(),
                    fraction: fraction.trim_end_matches('0').to_owned(),
                };
                let zero = number.integer.is_empty() && number.fraction.is_empty();
                // Digits and points are ASCII, so `start` is a character boundary.
                return Some(Number { negative: !zero && is_negated(&text[..start]), ..number });
            }
            at += 1;
        }
        None
    })
}

/// The bytes of `12`, `1,234` or `1,234,567` at the front.
fn integer_part(bytes: &[u8]) -> usize {
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut length = digits(0);
    if (1..=3).contains(&length) {
        while bytes.get(length) == Some(&b',') && digits(length + 1) == 3 {
            length += 4;
        }
    }
    length
}

/// The bytes of `.5` at the front; a full stop alone is none.
fn fraction_part(bytes: &[u8]) -> usize {
    let digits = bytes.iter().skip(1).take_while(|b| b.is_ascii_digit()).count();
    if bytes.first() == Some(&b'.') && digits > 0 { 1 + digits } else { 0 }
}

/// Whether the text before a number ends in a minus sign: one that does not stand after a word, a number or a
/// bracket, where it would subtract or join.
fn is_negated(before: &str) -> bool {
    let before = before.trim_end_matches(['$', '€', '£']);
    let Some(before) = before.strip_suffix(['-', '\u{2212}']) else { return false };
    !before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ')' | ']' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_answers(text: &str, number: &str) {
        assert!(answer(text).is_some(), "{text}");
        assert_eq!(answer(text), answer(number), "{text}");
    }

    #[test]
    fn reads_numbers_as_people_write_them() {
        for (text, number) in [
            ("3 + 4 = 7\n#### 7", "7"),
            ("#### 42\nand then 99", "42"),
            ("the answer is 1,234,567.", "1234567"),
            ("It costs $2,050.50.", "2050.5"),
            ("a loss of -$5", "-5"),
            ("a loss of $-5.0", "-5"),
            ("x = \u{2212}3", "-3"),
            ("10-5", "5"),
            ("between 3-4", "4"),
            ("lists 1,2", "2"),
            ("0042", "42"),
            ("about .50", "0.5"),
            ("-0", "0"),
            ("#### $18", "18"),
            ("### 1 #### the answer is 7 dollars", "7"),
        ] {
            assert_answers(text, number);
        }
    }

    #[test]
    fn numbers_differ_by_any_digit() {
        assert_ne!(answer("9007199254740993"), answer("9007199254740992"));
        assert_ne!(answer("4.2"), answer("42"));
        assert_ne!(answer("-7"), answer("7"));
        assert_ne!(answer("12,34"), answer("1234"));
    }

    #[test]
    fn no_number_is_no_answer() {
        for text in ["", "none.", "5 apples ####", "12 #### many\n7", "日本…", "-.,$"] {
            assert_eq!(answer(text), None, "{text}");
        }
    }
}
