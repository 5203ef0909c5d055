//! What an ID token says, believed only when every check holds (OpenID Connect Core 1.0, 3.1.3.7).

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::Deserialize;

use super::signature;
use crate::secret;

/// Seconds by which two machines' clocks may differ.
const LEEWAY_S: f64 = 60.0;
/// Seconds since a token was made: one sign-in takes less.
const OLDEST_S: f64 = 600.0;

/// What a token must be about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    /// Seconds since 1970 UTC.
    pub(super) now_s: f64,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("its token is no signed ID token")]
    Form,
    #[error("its token is not signed in a way that is taken here (RS256, PS256, ES256, ES384, EdDSA)")]
    Algorithm,
    #[error(
        "its token is signed with a key that it does not list; if it has new ones, sign in again in a minute"
    )]
    UnknownKey,
    #[error("its token's signature is wrong")]
    Signature,
    #[error("its token is another issuer's")]
    Issuer,
    #[error("its token is meant for another program")]
    Audience,
    #[error("its token has run out or is too old; sign in again, or set the clocks right")]
    Old,
    #[error("its token is from the future; set the clocks right")]
    Early,
    #[error("its token is of another sign-in")]
    Nonce,
    #[error("its token names nobody")]
    Subject,
}

/// The claims that are read. One of a wrong type makes the token unreadable.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
    nonce: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// The subject of a token that is signed with one of these keys and is about what is expected.
pub(super) fn subject(token: &str, keys: &JwkSet, expected: &Expected<'_>) -> Result<String, Refused> {
    let claims = signed(token, keys)?;
    if claims.iss != expected.issuer {
        return Err(Refused::Issuer);
    }
    let audience = match &claims.aud {
        Audience::One(one) => std::slice::from_ref(one),
        Audience::Many(many) => many,
    };
    // Where others may read the token, too, it says whom it was made for.
    let ours = audience.iter().any(|one| one == expected.client_id);
    let made_for = claims.azp.as_deref().or((audience.len() == 1).then_some(expected.client_id));
    if !ours || made_for != Some(expected.client_id) {
        return Err(Refused::Audience);
    }
    let now = expected.now_s;
    if claims.exp <= now - LEEWAY_S || claims.iat < now - OLDEST_S - LEEWAY_S {
        return Err(Refused::Old);
    }
    if claims.iat > now + LEEWAY_S || claims.nbf.is_some_and(|nbf| nbf > now + LEEWAY_S) {
        return Err(Refused::Early);
    }
    if !claims.nonce.is_some_and(|nonce| secret::equal(nonce.as_bytes(), expected.nonce.as_bytes())) {
        return Err(Refused::Nonce);
    }
    if claims.sub.is_empty() || claims.sub.len() > 255 {
        return Err(Refused::Subject);
    }
    Ok(claims.sub)
}

/// The claims of a token whose signature holds.
fn signed(token: &str, keys: &JwkSet) -> Result<Claims, Refused> {
    signature::install();
    // `alg` names one of the algorithms that the library knows, which `none` is not, or the header cannot be read.
    let header = decode_header(token).map_err(|_| Refused::Form)?;
    if !signature::ALLOWED.contains(&header.alg) {
        return Err(Refused::Algorithm);
    }
    // Extensions that must be understood: we understand none (RFC 7515, 4.1.11).
    if header.crit.is_some() {
        return Err(Refused::Form);
    }
    let key = DecodingKey::from_jwk(key(&header, keys)?).map_err(|_| Refused::Signature)?;
    let mut validation = Validation::new(header.alg);
    // Claims are checked by `subject`: by the store's clock, and against types that leave no room.
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let decoded = decode::<Claims>(token, &key, &validation).map_err(|error| match error.kind() {
        jsonwebtoken::errors::ErrorKind::Json(_) => Refused::Form,
        _ => Refused::Signature,
    })?;
    Ok(decoded.claims)
}

/// The key that a header names, or the only one that fits where it names none.
fn key<'a>(header: &Header, keys: &'a JwkSet) -> Result<&'a Jwk, Refused> {
    let fits = |key: &&Jwk| {
        let common = &key.common;
        let family = DecodingKey::from_jwk(key).is_ok_and(|key| key.family() == header.alg.family());
        let named = header.kid.as_ref().is_none_or(|kid| common.key_id.as_ref() == Some(kid));
        let signs = common.public_key_use.as_ref().is_none_or(|what| *what == PublicKeyUse::Signature);
        let algorithm =
            common.key_algorithm.is_none_or(|of| Algorithm::try_from(of).ok() == Some(header.alg));
        family && named && signs && algorithm
    };
    let mut found = keys.keys.iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(key), None) => Ok(key),
        _ => Err(Refused::UnknownKey),
    }
}
