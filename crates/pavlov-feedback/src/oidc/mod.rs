//! Sign-in through an OpenID Connect provider: the authorization code flow with PKCE.
//!
//! What is done, in this order, and where it is written:
//!
//! 1. [`Provider::discover`]: the provider's own description of itself and its keys (OpenID Connect Discovery 1.0).
//! 2. `Provider::begin`: an address at the provider to send the browser to, with a state, a nonce and a PKCE challenge (RFC 6749,
//!    4.1.1; RFC 7636, S256), and the `Attempt` that must be kept for that browser and no other.
//! 3. `Provider::finish`: the code that the browser brings back becomes an ID token, in a request of ours to the provider
//!    (RFC 6749, 4.1.3); what the token says is checked (OpenID Connect Core 1.0, 3.1.3.7) and gives an [`Identity`].
//!
//! An identity is the pair of issuer and subject and nothing else. E-mail is not even asked for: providers let people change it, do
//! not always check it, and give the address of somebody who left to somebody who came; whoever holds an address is not therefore
//! the person of an account.
//!
//! Everything here blocks: callers are on threads that may.

mod http;
mod signature;
mod token;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use serde::Deserialize;
use ureq::Agent;

use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::secret;
use token::{Expected, Refused};

/// What a provider said is asked again when it is older.
const KEPT_MS: Millis = 3_600_000;
/// What a provider said is not asked again sooner, whatever keys tokens name.
const PAUSE_MS: Millis = 60_000;
/// A provider that was not reached is not asked again sooner.
const PAUSE_FAILED_MS: Millis = 5_000;

/// What an owner decides about a provider.
#[derive(Clone)]
pub struct Settings {
    /// The provider's name for itself, an https address (http on this machine alone).
    pub issuer: String,
    /// Our name at the provider.
    pub client_id: String,
    /// Our secret at the provider.
    pub client_secret: String,
    /// What people call the provider.
    pub name: String,
    /// Our address, `https://rate.example.org`, as people type it and as the provider knows it.
    pub public_url: String,
    /// The longest that the provider may take for one answer; usually [`PATIENCE`].
    pub patience: Duration,
}

/// The longest that a provider may usually take for one answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The path of our pages to which a provider sends the browser back.
pub const CALLBACK: &str = "/login/provider/callback";

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A provider. Clones share what is known of it.
#[derive(Clone, Debug)]
pub struct Provider {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    agent: Agent,
    /// When the provider was asked about itself, and what came of it.
    known: Mutex<Option<(Millis, Result<Arc<Known>>)>>,
}

/// What a provider says of itself.
#[derive(Debug)]
struct Known {
    endpoints: Endpoints,
    keys: JwkSet,
}

/// The part of a provider's description that we use.
#[derive(Debug, Deserialize)]
struct Endpoints {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    /// Absent is `client_secret_basic`.
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    /// RFC 9207: whether the browser brings back the issuer, too.
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// One try to sign in, kept here while the browser is at the provider. None of it is told to anybody but that browser and the
/// provider.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// Comes back with the browser.
    pub(crate) state: String,
    /// Comes back in the ID token.
    nonce: String,
    /// What the challenge was made of: whoever has the code alone cannot use it.
    verifier: String,
}

#[cfg(test)]
impl Attempt {
    /// One that nothing but its state matters of.
    pub(crate) fn of_state(state: &str) -> Attempt {
        Attempt { state: state.into(), nonce: String::new(), verifier: String::new() }
    }
}

/// What the browser brings back from the provider, beside the state.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Returned {
    #[serde(default)]
    pub(crate) state: String,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Who somebody is at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The provider.
    pub issuer: String,
    /// Its name for the person, which it never gives to another.
    pub subject: String,
}

impl Provider {
    /// A provider that was not asked yet.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the issuer is no address at which secrets may be sent.
    pub fn new(settings: Settings) -> Result<Provider> {
        http::check_address("--oidc-issuer", &settings.issuer, true)?;
        if settings.issuer.contains(['?', '#']) {
            return Err(Error::invalid("--oidc-issuer: an issuer has neither ? nor # in it; leave it out"));
        }
        let agent = http::agent(settings.patience);
        let inner = Inner { settings, agent, known: Mutex::new(None) };
        Ok(Provider { inner: Arc::new(inner) })
    }

    /// What people call the provider.
    pub fn name(&self) -> &str {
        &self.inner.settings.name
    }

    /// The provider's name for itself.
    pub fn issuer(&self) -> &str {
        &self.inner.settings.issuer
    }

    /// Where the provider must send browsers back to, as it is to be registered there.
    pub fn callback(&self) -> String {
        format!("{}{CALLBACK}", self.inner.settings.public_url.trim_end_matches('/'))
    }

    /// Asks the provider about itself, if that was not done lately.
    ///
    /// # Errors
    /// [`Error::Provider`]: it was not reached; it is asked again when somebody signs in. [`Error::Invalid`]: it is not what the
    /// settings say.
    pub fn discover(&self, now: Millis) -> Result<()> {
        self.known(now, false).map(drop)
    }

    /// Begins: what to keep for this browser, and where to send it.
    pub(crate) fn begin(&self, now: Millis) -> Result<(Attempt, String)> {
        let known = self.known(now, false)?;
        let attempt =
            Attempt { state: secret::token()?, nonce: secret::token()?, verifier: secret::token()? };
        let asked = [
            ("response_type", "code"),
            ("scope", "openid"),
            ("client_id", &self.inner.settings.client_id),
            ("redirect_uri", &self.callback()),
            ("state", &attempt.state),
            ("nonce", &attempt.nonce),
            ("code_challenge", &secret::spell(&secret::hash(&attempt.verifier))),
            ("code_challenge_method", "S256"),
        ];
        let address = &known.endpoints.authorization_endpoint;
        let joint = if address.contains('?') { '&' } else { '?' };
        let address = format!("{address}{joint}{}", http::form(&asked)?);
        Ok((attempt, address))
    }

    /// Ends: who came back. The caller has found the attempt by `returned.state`, and taken it away.
    ///
    /// # Errors
    /// [`Error::Forbidden`]: the provider did not let them in, or what it said does not hold. [`Error::Provider`]: it was not
    /// reached.
    pub(crate) fn finish(&self, attempt: &Attempt, returned: &Returned, now: Millis) -> Result<Identity> {
        let known = self.known(now, false)?;
        let name = self.name();
        let told = |given: &str| given.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
        // Before all else: whatever another provider sends must not be taken for this one's (RFC 9207).
        let silent = returned.iss.is_none() && known.endpoints.authorization_response_iss_parameter_supported;
        if silent || returned.iss.as_ref().is_some_and(|iss| iss != self.issuer()) {
            return Err(Error::Forbidden(format!("another provider than {name} answered; sign in again")));
        }
        if let Some(error) = &returned.error {
            let why = returned.error_description.as_ref().unwrap_or(error);
            let what = format!("{name} did not let you in ({}); sign in again, or by password", told(why));
            return Err(Error::Forbidden(what));
        }
        let code = returned.code.as_deref().unwrap_or_default();
        if code.is_empty() {
            return Err(Error::Forbidden(format!("{name} sent no code; sign in again")));
        }
        let token = self.exchange(&known.endpoints, attempt, code)?;
        let Settings { issuer, client_id, .. } = &self.inner.settings;
        let expected = Expected { issuer, client_id, nonce: &attempt.nonce, now_s: now as f64 / 1000.0 };
        let subject = match token::subject(&token, &known.keys, &expected) {
            // The provider has new keys since, or so the token says.
            Err(Refused::UnknownKey) => token::subject(&token, &self.known(now, true)?.keys, &expected),
            other => other,
        };
        let subject =
            subject.map_err(|why| Error::Forbidden(format!("what {name} said does not hold: {why}")))?;
        Ok(Identity { issuer: issuer.clone(), subject })
    }

    /// Trades the code for an ID token.
    fn exchange(&self, endpoints: &Endpoints, attempt: &Attempt, code: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Tokens {
            id_token: String,
        }
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
        }
        let Settings { client_id, client_secret, .. } = &self.inner.settings;
        let callback = self.callback();
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &*callback),
            ("code_verifier", &*attempt.verifier),
        ];
        let methods = &endpoints.token_endpoint_auth_methods_supported;
        let basic = methods.is_empty() || methods.iter().any(|method| method == "client_secret_basic");
        if !basic {
            fields.extend([("client_id", &**client_id), ("client_secret", &**client_secret)]);
        }
        let credentials = basic.then(|| http::basic(client_id, client_secret)).transpose()?;
        let (status, body) =
            http::post(&self.inner.agent, &endpoints.token_endpoint, &fields, credentials.as_deref())
                .map_err(|why| self.unreachable(&why))?;
        if !status.is_success() {
            let why = serde_json::from_slice::<Refusal>(&body).map_or(status.to_string(), |said| said.error);
            let why: String = why.chars().filter(char::is_ascii_graphic).take(100).collect();
            // RFC 6749, 5.2: it is us that it does not know, and nobody who signs in can mend that.
            let what = if why == "invalid_client" {
                let mend = "whoever runs this server must check its client id, its secret, and how it was registered there";
                format!("{} does not know this server ({why}); {mend}", self.name())
            } else {
                format!("{} does not take the code ({why}); sign in again", self.name())
            };
            return Err(Error::Forbidden(what));
        }
        let tokens = serde_json::from_slice::<Tokens>(&body);
        Ok(tokens.map_err(|_| self.unreachable("its answer has no `id_token`"))?.id_token)
    }

    /// What the provider says of itself: what is known, or asked anew where that is old or, `afresh`, does not do. Others wait while
    /// one asks.
    fn known(&self, now: Millis, afresh: bool) -> Result<Arc<Known>> {
        let mut known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, outcome)) = &*known {
            let keeps = match outcome {
                Ok(_) if afresh => PAUSE_MS,
                Ok(_) => KEPT_MS,
                Err(_) => PAUSE_FAILED_MS,
            };
            if now < at + keeps {
                return outcome.clone();
            }
        }
        let outcome = self.ask().map(Arc::new);
        *known = Some((now, outcome.clone()));
        outcome
    }

    fn ask(&self) -> Result<Known> {
        let issuer = self.issuer();
        let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let endpoints: Endpoints = self.read(&address)?;
        if endpoints.issuer != *issuer {
            let what =
                format!("--oidc-issuer: it calls itself {}, not {issuer}; give that", endpoints.issuer);
            return Err(Error::Invalid(what));
        }
        for (key, address) in [
            ("authorization_endpoint", &endpoints.authorization_endpoint),
            ("token_endpoint", &endpoints.token_endpoint),
            ("jwks_uri", &endpoints.jwks_uri),
        ] {
            http::check_address(key, address, issuer.starts_with("http://"))?;
        }
        let keys = self.read(&endpoints.jwks_uri)?;
        Ok(Known { endpoints, keys })
    }

    /// Reads JSON of the provider.
    fn read<T: for<'a> Deserialize<'a>>(&self, address: &str) -> Result<T> {
        let (status, body) = http::get(&self.inner.agent, address).map_err(|why| self.unreachable(&why))?;
        if !status.is_success() {
            return Err(self.unreachable(&format!("{address} answered {status}")));
        }
        serde_json::from_slice(&body)
            .map_err(|error| self.unreachable(&format!("{address} is not as expected: {error}")))
    }

    fn unreachable(&self, why: &str) -> Error {
        Error::Provider { name: self.name().to_owned(), what: why.to_owned() }
    }
}
