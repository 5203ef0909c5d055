//! Every way round it that is known: a state, a code or a token that is wrong, old, used or another's.

use axum::body::Body;
use axum::http::Request;
use pavlov_feedback::Error;
use pavlov_feedback::oidc::Provider;
use serde_json::{Value, json};

use super::site::{Browser, HERE, PASSWORD, START_S, Site, answer};
use crate::provider::{FakeProvider, Key};

#[test]
fn a_return_counts_once_in_time_and_in_the_browser_that_left() {
    let site = Site::new();
    site.connected_owner();
    let refused = |browser: &mut Browser, path: &str| {
        let page = browser.get(&site, path);
        assert_eq!(page.status, 400, "{path}: {page:?}");
        assert!(page.text.contains("not begun in this browser"), "{page:?}");
        assert!(!browser.is_in(&site));
    };
    let mut victim = Browser::new();
    let asked = victim.leave(&site, "/login/provider", &[]);
    let path =
        |state: &str| format!("/login/provider/callback?code={}&state={state}", site.company.code(&asked));
    let right = path(&asked["state"]);
    // No state, another's, half of it, twice; as another browser, as one without a cookie.
    for wrong in ["", "x", &asked["state"][1..], &format!("{0}&state={0}", asked["state"])] {
        refused(&mut victim, &path(wrong));
    }
    refused(&mut victim, "/login/provider/callback");
    refused(&mut Browser::new(), &right);
    let bare = Request::get(&right).header("host", "127.0.0.1:8080").body(Body::empty()).unwrap();
    assert_eq!(answer(&site.router, bare).0.status, 400);
    assert_eq!(site.company.set(|ways| ways.asked_for_tokens), 0, "none of them was worth a request");
    // Nobody else has used it up.
    assert_eq!(victim.get(&site, &right).status, 303);
    assert!(victim.is_in(&site));
    // Again: by whoever reads the address afterwards, and by the browser with its old cookie.
    refused(&mut Browser::new(), &right);
    let mut early = Browser::new();
    let asked = early.leave(&site, "/login/provider", &[]);
    let (mut same, code) = (early.clone(), site.company.code(&asked));
    let right = format!("/login/provider/callback?code={code}&state={}", asked["state"]);
    assert_eq!(early.get(&site, &right).status, 303);
    refused(&mut same, &right);
    // A code that was used up, or that is another sign-in's, is refused by the provider; the state is then used up as well.
    let mut late = Browser::new();
    let asked = late.leave(&site, "/login/provider", &[]);
    let page = late.get(&site, &format!("/login/provider/callback?code={code}&state={}", asked["state"]));
    assert!(page.status == 403 && page.text.contains("invalid_grant"), "{page:?}");
    refused(&mut late, &format!("/login/provider/callback?code={code}&state={}", asked["state"]));
    let mut attacker = Browser::new();
    let theirs = site.company.code(&attacker.leave(&site, "/login/provider", &[]));
    let asked = late.leave(&site, "/login/provider", &[]);
    let page = late.get(&site, &format!("/login/provider/callback?code={theirs}&state={}", asked["state"]));
    assert!(page.status == 403 && page.text.contains("invalid_grant"), "PKCE: {page:?}");
    // Too late.
    let asked = late.leave(&site, "/login/provider", &[]);
    site.pass(600);
    refused(&mut late, &format!("/login/provider/callback?code={code}&state={}", asked["state"]));
}

#[test]
fn connecting_needs_the_session_that_began_it() {
    let site = Site::new();
    let owner = site.place.accounts[0];
    site.set_password(owner);
    let mut thief = Browser::of(&site, owner);
    let asked = thief.leave(&site, "/account/connect", &[("password", PASSWORD)]);
    // The owner changes the password: every session ends.
    site.set_password(owner);
    let page = thief.come_back(&site, &asked);
    assert!(page.status == 401 && page.text.contains("session is over"), "{page:?}");
    assert_eq!(Browser::new().sign_in(&site).status, 403, "nobody is connected");
}

#[test]
fn a_token_is_believed_only_when_every_check_holds() {
    let site = Site::new();
    site.connected_owner();
    let now = START_S;
    let (public, own) = (Key::rs256().public(), Key::es256());
    let claims = |claims: Value| (claims, json!({}), Some("one"), Key::rs256());
    let signed = |kid: Option<&'static str>, key: Key| (json!({}), json!({}), kid, key);
    for (what, (claims, header, kid, key), wanted) in [
        ("as it is", claims(json!({})), None),
        ("for several", claims(json!({ "aud": ["x", "pavlov"], "azp": "pavlov" })), None),
        ("clocks differ", claims(json!({ "iat": now + 50, "nbf": now + 50 })), None),
        ("clocks differ", claims(json!({ "exp": now - 50, "iat": now - 300 })), None),
        ("a listed key is named by nothing", signed(None, Key::rs256()), None),
        ("another nonce", claims(json!({ "nonce": "x".repeat(43) })), Some("another sign-in")),
        ("no nonce", claims(json!({ "nonce": null })), Some("another sign-in")),
        ("another program's", claims(json!({ "aud": "other" })), Some("another program")),
        ("nobody's", claims(json!({ "aud": [] })), Some("another program")),
        ("for several, made for none", claims(json!({ "aud": ["pavlov", "x"] })), Some("another program")),
        ("made for another", claims(json!({ "azp": "x" })), Some("another program")),
        ("made for another", claims(json!({ "aud": ["pavlov", "x"], "azp": "x" })), Some("another program")),
        ("another issuer", claims(json!({ "iss": "https://evil.example" })), Some("another issuer")),
        (
            "a longer issuer",
            claims(json!({ "iss": format!("{}/", site.company.issuer()) })),
            Some("another issuer"),
        ),
        ("two issuers", claims(json!({ "iss": [site.company.issuer()] })), Some("no signed ID token")),
        ("run out", claims(json!({ "exp": now - 61 })), Some("run out")),
        ("made long ago", claims(json!({ "iat": now - 700 })), Some("run out")),
        ("from the future", claims(json!({ "iat": now + 61 })), Some("from the future")),
        ("not yet", claims(json!({ "nbf": now + 61 })), Some("from the future")),
        ("never ends", claims(json!({ "exp": null })), Some("no signed ID token")),
        ("a word for a time", claims(json!({ "exp": "9999999999" })), Some("no signed ID token")),
        ("a word for a time", claims(json!({ "nbf": "9999999999" })), Some("no signed ID token")),
        ("of nobody", claims(json!({ "sub": "" })), Some("names nobody")),
        ("of a long name", claims(json!({ "sub": "s".repeat(256) })), Some("names nobody")),
        ("of no name", claims(json!({ "sub": null })), Some("no signed ID token")),
        ("unsigned", signed(Some("one"), Key::Plain), Some("no signed ID token")),
        ("the public key as a secret", signed(Some("one"), Key::Hs256(public)), Some("not signed in a way")),
        ("another key", signed(Some("one"), Key::es256()), Some("a key that it does not list")),
        (
            "another algorithm of the key",
            signed(Some("one"), Key::ps256()),
            Some("a key that it does not list"),
        ),
        ("a key without a name", signed(Some("two"), Key::rs256()), Some("a key that it does not list")),
        (
            "a critical extension",
            (json!({}), json!({ "crit": ["exp"] }), Some("one"), Key::rs256()),
            Some("no signed ID token"),
        ),
        (
            "a key in the token itself",
            (json!({}), json!({ "jwk": own.listed("one") }), Some("one"), own),
            Some("a key that it does not list"),
        ),
        (
            "another header than was signed with",
            (json!({}), json!({ "alg": "RS256" }), Some("one"), Key::es256()),
            Some("signature is wrong"),
        ),
    ] {
        site.company.set(|ways| {
            (ways.claims, ways.header, ways.signs) = (claims, header, (kid.map(str::to_owned), key));
        });
        let mut browser = Browser::new();
        let page = browser.sign_in(&site);
        match wanted {
            None => assert_eq!(page.status, 303, "{what}: {page:?}"),
            Some(wanted) => {
                assert_eq!(page.status, 403, "{what}: {page:?}");
                assert!(page.text.contains(wanted), "{what}: {page:?}");
            }
        }
        assert_eq!(browser.is_in(&site), wanted.is_none(), "{what}");
    }
}

#[test]
fn every_allowed_signature_is_taken_and_keys_may_change() {
    let site = Site::new();
    site.connected_owner();
    assert_eq!(Browser::new().sign_in(&site).status, 303);
    assert_eq!(site.company.set(|ways| ways.asked_for_keys), 1);
    // An attacker's key under a new name: asked for once more, and then not for a minute whatever comes.
    site.company.set(|ways| ways.signs = (Some("evil".into()), Key::es256()));
    site.pass(61);
    for _ in 0..3 {
        let page = Browser::new().sign_in(&site);
        assert!(page.status == 403 && page.text.contains("does not list"), "{page:?}");
    }
    assert_eq!(site.company.set(|ways| ways.asked_for_keys), 2);
    // The provider changes its keys: people get in as soon as it is asked again. What is no key of a kind we know does no harm.
    for (name, key) in [("two", Key::es256()), ("three", Key::ps256()), ("four", Key::ed25519())] {
        site.company.set(|ways| {
            ways.keys = [(name.to_owned(), key.clone()), ("odd".to_owned(), Key::Plain)].into();
            ways.keys.insert("shared".into(), Key::Hs256(vec![7; 32]));
            ways.signs = (Some(name.into()), key);
        });
        site.pass(61);
        let page = Browser::new().sign_in(&site);
        assert_eq!(page.status, 303, "{name}: {page:?}");
    }
    assert_eq!(site.company.set(|ways| ways.asked_for_keys), 5);
    // A secret that the provider lists by mistake signs nothing here.
    site.company.set(|ways| ways.signs = (Some("shared".into()), Key::Hs256(vec![7; 32])));
    assert!(Browser::new().sign_in(&site).text.contains("not signed in a way"));
    // A key that was taken back is not believed for ever.
    site.company.set(|ways| {
        ways.signs = (Some("four".into()), ways.keys.remove("four").unwrap());
        ways.keys.insert("five".into(), Key::rs256());
    });
    site.pass(3600);
    assert_eq!(Browser::new().sign_in(&site).status, 403);
}

#[test]
fn what_a_provider_says_of_itself_is_checked_first() {
    let at = |about: Value| {
        let company = FakeProvider::start(START_S);
        company.set(|ways| ways.about = about);
        Provider::new(company.settings(HERE)).unwrap().discover(START_S * 1000).unwrap_err()
    };
    for (about, wanted) in [
        (json!({ "issuer": "https://evil.example" }), "calls itself https://evil.example"),
        (
            json!({ "token_endpoint": "http://evil.example/token" }),
            "token_endpoint: http://evil.example/token",
        ),
        (json!({ "jwks_uri": "file:///etc/passwd" }), "jwks_uri: "),
        (json!({ "authorization_endpoint": "javascript:alert(1)" }), "authorization_endpoint: "),
    ] {
        let error = at(about);
        assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains(wanted), "{error}");
    }
    for about in [json!({ "jwks_uri": null }), json!({ "token_endpoint": 7 })] {
        let error = at(about);
        assert!(matches!(error, Error::Provider { .. }), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    let company = FakeProvider::start(START_S);
    for issuer in ["http://id.example.org", "ldap://id.example.org", "https://id.example.org/?a=b", "company"]
    {
        let settings = pavlov_feedback::oidc::Settings { issuer: issuer.into(), ..company.settings(HERE) };
        assert!(matches!(Provider::new(settings), Err(Error::Invalid(_))), "{issuer}");
    }
    let settings = company.settings(HERE);
    assert!(!format!("{settings:?} {:?}", Provider::new(settings.clone())).contains("s3cret"));
}

#[test]
fn what_comes_back_with_a_browser_is_text_and_leads_nowhere_else() {
    let site = Site::new();
    site.connected_owner();
    // What the provider says went wrong is text, and said only to who began.
    let error = "error=access_denied&error_description=%3Cscript%3Ealert(1)%3C/script%3E%0a%1b";
    let mut browser = Browser::new();
    let asked = browser.leave(&site, "/login/provider", &[]);
    let path = format!("/login/provider/callback?{error}&state={}", asked["state"]);
    let other = Browser::new().get(&site, &path);
    assert!(other.status == 400 && !other.text.contains("alert"), "{other:?}");
    let page = browser.get(&site, &path);
    assert_eq!(page.status, 403, "{page:?}");
    assert!(page.text.contains("Company did not let you in (&lt;script&gt;"), "{page:?}");
    assert!(!page.text.contains("<script>") && !page.text.contains('\u{1b}'), "{page:?}");
    // Another provider's answer (RFC 9207), and a silent one where it said that it would name itself.
    for (promised, iss, status) in [
        (false, "&iss=https://evil.example".to_owned(), 403),
        (false, format!("&iss={}", site.company.issuer()), 303),
        (true, String::new(), 403),
        (true, format!("&iss={}", site.company.issuer()), 303),
    ] {
        let about = json!({ "authorization_response_iss_parameter_supported": promised });
        site.company.set(|ways| ways.about = about);
        site.pass(3600);
        let tokens = site.company.set(|ways| ways.asked_for_tokens);
        let mut browser = Browser::new();
        let asked = browser.leave(&site, "/login/provider", &[]);
        let code = site.company.code(&asked);
        let path = format!("/login/provider/callback?code={code}&state={}{iss}", asked["state"]);
        let page = browser.get(&site, &path);
        assert_eq!(page.status, status, "{promised} {iss}: {page:?}");
        let sent = site.company.set(|ways| ways.asked_for_tokens) - tokens;
        assert_eq!(
            sent,
            usize::from(status == 303),
            "{promised} {iss}: no code goes to another provider's attacker"
        );
    }
    // Where one goes on to is a page of ours.
    site.company.set(|ways| ways.about = json!({}));
    site.pass(3600);
    for next in ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/a?b", ""] {
        let mut browser = Browser::new();
        let asked = browser.leave(&site, "/login/provider", &[("next", next)]);
        assert!(!format!("{asked:?}").contains("evil"));
        assert_eq!(browser.come_back(&site, &asked).location, "/", "{next}");
    }
}

#[test]
fn codes_are_traded_in_at_a_bounded_rate() {
    let site = Site::new();
    site.connected_owner();
    let mut attacker = Browser::new();
    let mut sent = |code: &str| {
        let state = attacker.leave(&site, "/login/provider", &[])["state"].clone();
        attacker.get(&site, &format!("/login/provider/callback?code={code}&state={state}")).status
    };
    for i in 0..120 {
        assert_eq!(sent("guess"), 403, "{i}");
    }
    assert_eq!(sent("guess"), 429);
    assert_eq!(site.company.set(|ways| ways.asked_for_tokens), 120);
    site.pass(60);
    assert_eq!(Browser::new().sign_in(&site).status, 303);
}
