//! Secrets: random tokens of which only hashes are stored, and passwords.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::{Error, Result};

/// The fewest characters of a password.
pub const SHORTEST_PASSWORD: usize = 10;

/// Digits of names and tokens: base64's URL alphabet.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Random bytes of the system.
pub fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|what| Error::Conflict(format!("the system gives no random numbers ({what}); try again")))?;
    Ok(bytes)
}

/// A random number of the system, uniform over 64 bits.
pub fn random_u64() -> Result<u64> {
    random_bytes().map(u64::from_le_bytes)
}

/// A token of 256 random bits, 43 characters that need no escaping in an address.
pub fn token() -> Result<String> {
    Ok(spell(&random_bytes::<32>()?))
}

/// A name of 96 random bits, 16 characters: not secret, but nothing can be read from it.
pub fn code() -> Result<String> {
    Ok(spell(&random_bytes::<12>()?))
}

/// Base64 in the alphabet for addresses, without padding: six bits a character.
pub fn spell(bytes: &[u8]) -> String {
    let (mut bits, mut held) = (0_u32, 0);
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 1);
    for &byte in bytes {
        bits = bits << 8 | u32::from(byte);
        held += 8;
        while held >= 6 {
            held -= 6;
            text.push(char::from(DIGITS[(bits >> held) as usize & 63]));
        }
    }
    if held > 0 {
        text.push(char::from(DIGITS[(bits << (6 - held)) as usize & 63]));
    }
    text
}

/// What is stored of a token: its SHA-256. A token has 256 random bits, so nothing slower is needed.
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// HMAC-SHA256 of a message under a key.
pub fn sign(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Lowercase hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Whether two secrets are equal, in a time that depends on their length alone.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// The stored form of a password: argon2id with a salt of its own. Takes tens of milliseconds and 19 MiB: keep it off the
/// threads that serve requests.
pub fn hash_password(password: &str) -> Result<String> {
    if password.chars().count() < SHORTEST_PASSWORD {
        return Err(Error::invalid(format!("a password needs at least {SHORTEST_PASSWORD} characters")));
    }
    if password.len() > 1024 {
        return Err(Error::invalid("a password may have at most 1024 bytes"));
    }
    let hash = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(|what| Error::Conflict(format!("the password cannot be stored ({what}); try again")))?;
    Ok(hash.to_string())
}

/// Whether a password is the one stored. Without a stored one it takes as long and is false, so that nobody learns from the
/// time which accounts there are.
pub fn password_is(password: &str, stored: Option<&str>) -> bool {
    // Made once with `hash_password`, of a password nobody knows.
    const NOBODY: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBzYWx0IG9mIG91cnM$kzOFJ5Ra5lD5dYcXBPtW2cY8lGUFlcj0bZ0nKvyJl6Y";
    let check = |hash: &str| {
        PasswordHash::new(hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    };
    check(stored.unwrap_or(NOBODY)) && stored.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_differ() {
        let (a, b) = (token().unwrap(), token().unwrap());
        assert_eq!((a.len(), code().unwrap().len()), (43, 16));
        assert!(a != b && a.bytes().all(|digit| DIGITS.contains(&digit)));
        assert_eq!(spell(&[0, 0, 0]), "AAAA");
        assert_eq!(spell(&[0xFF, 0xFF]), "__8");
    }

    #[test]
    fn known_digests() {
        // FIPS 180-4's "abc"; RFC 4231, test case 2.
        assert_eq!(hex(&hash("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(
            hex(&sign(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn passwords() {
        let stored = hash_password("correct horse").unwrap();
        assert!(stored.starts_with("$argon2id$"));
        assert!(password_is("correct horse", Some(&stored)));
        assert!(!password_is("correct hors", Some(&stored)));
        assert!(!password_is("correct horse", None));
        assert!(!password_is("correct horse", Some("not a hash")));
        assert_ne!(hash_password("correct horse").unwrap(), stored);
        assert!(hash_password("short").is_err() && hash_password(&"x".repeat(1025)).is_err());
        assert!(equal(b"ab", b"ab") && !equal(b"ab", b"ac") && !equal(b"ab", b"abc"));
    }
}
