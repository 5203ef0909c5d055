//! A sign-in provider on a port of this machine, by a name that makes it another site than `127.0.0.1`, which keeps to the specifications where it is not told otherwise. What it signs, it
//! signs with ring and by hand: nothing of the code that checks it is used here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use pavlov_feedback::{oidc, secret};
use ring::rand::SystemRandom;
use ring::signature::{self as sign, KeyPair};
use serde_json::{Value, json};

pub(crate) const CLIENT: &str = "pavlov";
/// With what a form must escape, and a name and password too.
pub(crate) const SECRET: &str = "s3cret: 100% & more";

/// Made for these tests with `openssl genpkey -algorithm RSA`; it opens nothing.
const RSA: &[u8] = include_bytes!("rsa.der");

/// A key, with its private half.
#[derive(Clone)]
pub(crate) enum Key {
    Rs256(Arc<sign::RsaKeyPair>),
    Ps256(Arc<sign::RsaKeyPair>),
    Es256(Arc<sign::EcdsaKeyPair>),
    Ed25519(Arc<sign::Ed25519KeyPair>),
    /// Signs by HMAC under these bytes.
    Hs256(Vec<u8>),
    /// Does not sign.
    Plain,
}

impl Key {
    pub(crate) fn rs256() -> Key {
        Key::Rs256(Arc::new(sign::RsaKeyPair::from_pkcs8(RSA).unwrap()))
    }

    pub(crate) fn ps256() -> Key {
        Key::Ps256(Arc::new(sign::RsaKeyPair::from_pkcs8(RSA).unwrap()))
    }

    pub(crate) fn es256() -> Key {
        let (kind, random) = (&sign::ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let made = sign::EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Key::Es256(Arc::new(sign::EcdsaKeyPair::from_pkcs8(kind, made.as_ref(), &random).unwrap()))
    }

    pub(crate) fn ed25519() -> Key {
        let made = sign::Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Key::Ed25519(Arc::new(sign::Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap()))
    }

    /// Its public half as bytes, of RSA in DER.
    pub(crate) fn public(&self) -> Vec<u8> {
        match self {
            Key::Rs256(pair) | Key::Ps256(pair) => pair.public_key().as_ref().to_vec(),
            Key::Es256(pair) => pair.public_key().as_ref().to_vec(),
            Key::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Key::Hs256(_) | Key::Plain => Vec::new(),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Key::Rs256(_) => "RS256",
            Key::Ps256(_) => "PS256",
            Key::Es256(_) => "ES256",
            Key::Ed25519(_) => "EdDSA",
            Key::Hs256(_) => "HS256",
            Key::Plain => "none",
        }
    }

    /// Its public half as a provider lists it.
    pub(crate) fn listed(&self, kid: &str) -> Value {
        let mut key = match self {
            Key::Rs256(pair) | Key::Ps256(pair) => {
                let public = sign::RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({ "kty": "RSA", "n": secret::spell(&public.n), "e": secret::spell(&public.e) })
            }
            Key::Es256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": secret::spell(x), "y": secret::spell(y) })
            }
            Key::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": secret::spell(pair.public_key().as_ref()) })
            }
            Key::Hs256(bytes) => json!({ "kty": "oct", "k": secret::spell(bytes) }),
            Key::Plain => json!({ "kty": "unheard of" }),
        };
        (key["kid"], key["use"], key["alg"]) = (json!(kid), json!("sig"), json!(self.algorithm()));
        key
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |pair: &sign::RsaKeyPair, padding: &'static dyn sign::RsaEncoding| {
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(padding, &random, message, &mut signature).unwrap();
            signature
        };
        match self {
            Key::Rs256(pair) => rsa(pair, &sign::RSA_PKCS1_SHA256),
            Key::Ps256(pair) => rsa(pair, &sign::RSA_PSS_SHA256),
            Key::Es256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Key::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Key::Hs256(bytes) => secret::sign(bytes, message).to_vec(),
            Key::Plain => Vec::new(),
        }
    }
}

/// How the provider answers where a code is traded in.
#[derive(Clone, Default)]
pub(crate) enum Answers {
    /// As it should.
    #[default]
    Well,
    /// With this status and text.
    So(StatusCode, String),
    /// By sending us elsewhere.
    Elsewhere(String),
    /// With bytes that do not end.
    Endlessly,
    /// Not in time.
    Late(Duration),
}

/// What the provider does, to be changed by a test at any time.
pub(crate) struct Ways {
    /// Its keys, by name, as it lists them.
    pub(crate) keys: BTreeMap<String, Key>,
    /// What it signs with: the name it tells, and the key.
    pub(crate) signs: (Option<String>, Key),
    /// What its tokens say beside or instead of what they should; null leaves a claim out.
    pub(crate) claims: Value,
    /// What their headers say beside.
    pub(crate) header: Value,
    /// Who is there.
    pub(crate) subject: String,
    /// What it says of itself beside or instead of what it should.
    pub(crate) about: Value,
    pub(crate) answers: Answers,
    /// Whether it answers at all.
    pub(crate) down: bool,
    /// Seconds since 1970 as it believes.
    pub(crate) now_s: i64,
    /// How often it was asked for its keys, and to trade a code in.
    pub(crate) asked_for_keys: usize,
    pub(crate) asked_for_tokens: usize,
    /// Codes that were given out, with what was asked then.
    codes: BTreeMap<String, BTreeMap<String, String>>,
}

type Shared = Arc<(String, Mutex<Ways>)>;

/// The provider; it serves while this lives.
pub(crate) struct FakeProvider {
    shared: Shared,
    _runtime: tokio::runtime::Runtime,
}

impl FakeProvider {
    pub(crate) fn start(now_s: i64) -> FakeProvider {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let ways = Ways {
            keys: BTreeMap::from([("one".to_owned(), Key::rs256())]),
            signs: (Some("one".into()), Key::rs256()),
            claims: json!({}),
            header: json!({}),
            subject: "sub-1".into(),
            about: json!({}),
            answers: Answers::Well,
            down: false,
            now_s,
            asked_for_keys: 0,
            asked_for_tokens: 0,
            codes: BTreeMap::new(),
        };
        let shared: Shared = Arc::new((format!("http://localhost:{port}"), Mutex::new(ways)));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(about))
            .route("/keys", get(keys))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .with_state(Arc::clone(&shared));
        runtime.spawn(async { axum::serve(listener, router).await });
        FakeProvider { shared, _runtime: runtime }
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.shared.0
    }

    pub(crate) fn set<T>(&self, change: impl FnOnce(&mut Ways) -> T) -> T {
        change(&mut self.shared.1.lock().unwrap())
    }

    /// What an owner of `public_url` sets up for it.
    pub(crate) fn settings(&self, public_url: &str) -> oidc::Settings {
        oidc::Settings {
            issuer: self.issuer().to_owned(),
            client_id: CLIENT.into(),
            client_secret: SECRET.into(),
            name: "Company".into(),
            public_url: public_url.into(),
            patience: Duration::from_millis(500),
        }
    }

    /// A code for a browser that came with these fields.
    pub(crate) fn code(&self, asked: &BTreeMap<String, String>) -> String {
        self.set(|ways| give_code(ways, asked.clone()))
    }
}

fn give_code(ways: &mut Ways, asked: BTreeMap<String, String>) -> String {
    let code = format!("code-{}", secret::token().unwrap());
    ways.codes.insert(code.clone(), asked);
    code
}

/// Puts the fields of one object into another; null takes one away.
fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().unwrap() {
        match value {
            Value::Null => drop(into.as_object_mut().unwrap().remove(key)),
            value => into[key] = value.clone(),
        }
    }
}

async fn about(State(shared): State<Shared>) -> Response {
    let (issuer, ways) = (&shared.0, shared.1.lock().unwrap());
    if ways.down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let mut about = json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"), "response_types_supported": ["code"],
    });
    merge(&mut about, &ways.about);
    Json(about).into_response()
}

async fn keys(State(shared): State<Shared>) -> Json<Value> {
    let mut ways = shared.1.lock().unwrap();
    ways.asked_for_keys += 1;
    let keys: Vec<Value> = ways.keys.iter().map(|(kid, key)| key.listed(kid)).collect();
    Json(json!({ "keys": keys }))
}

/// Whoever comes is signed in already, and is sent back at once.
async fn authorize(
    State(shared): State<Shared>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> impl IntoResponse {
    let (back, state) = (asked["redirect_uri"].clone(), asked["state"].clone());
    let code = give_code(&mut shared.1.lock().unwrap(), asked);
    Redirect::to(&format!("{back}?code={code}&state={state}"))
}

async fn token(State(shared): State<Shared>, headers: HeaderMap, body: String) -> Response {
    let answers = {
        let mut ways = shared.1.lock().unwrap();
        ways.asked_for_tokens += 1;
        ways.answers.clone()
    };
    match answers {
        Answers::Well => {}
        Answers::So(status, text) => return (status, text).into_response(),
        Answers::Elsewhere(to) => return Redirect::temporary(&to).into_response(),
        Answers::Endlessly => return Body::from(vec![b' '; 4 << 20]).into_response(),
        Answers::Late(by) => tokio::time::sleep(by).await,
    }
    let (issuer, mut ways) = (&shared.0, shared.1.lock().unwrap());
    let fields: BTreeMap<String, String> = serde_urlencoded::from_str(&body).unwrap();
    let refuse = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    // printf 'pavlov:s3cret%%3A+100%%25+%%26+more' | base64
    let basic = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap());
    let by_form = fields.get("client_id").map(String::as_str) == Some(CLIENT)
        && fields.get("client_secret").map(String::as_str) == Some(SECRET);
    if basic != Some("Basic cGF2bG92OnMzY3JldCUzQSsxMDAlMjUrJTI2K21vcmU=") && !by_form {
        return refuse("invalid_client");
    }
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    // A code is good for one try.
    let Some(asked) = ways.codes.remove(&field("code")) else { return refuse("invalid_grant") };
    let challenge = secret::spell(&secret::hash(&field("code_verifier")));
    if asked["code_challenge"] != challenge
        || asked["redirect_uri"] != field("redirect_uri")
        || field("grant_type") != "authorization_code"
    {
        return refuse("invalid_grant");
    }
    let mut claims = json!({
        "iss": issuer, "sub": ways.subject, "aud": CLIENT, "exp": ways.now_s + 300, "iat": ways.now_s, "nonce": asked["nonce"],
    });
    merge(&mut claims, &ways.claims);
    let (kid, key) = &ways.signs;
    let mut header = json!({ "alg": key.algorithm(), "typ": "JWT", "kid": kid });
    merge(&mut header, &ways.header);
    let part = |value: &Value| secret::spell(value.to_string().as_bytes());
    let message = format!("{}.{}", part(&header), part(&claims));
    let token = format!("{message}.{}", secret::spell(&key.sign(message.as_bytes())));
    Json(json!({ "access_token": "none of ours", "token_type": "Bearer", "id_token": token })).into_response()
}
