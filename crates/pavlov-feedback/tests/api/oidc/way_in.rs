//! The way in: joining, signing in, connecting and disconnecting, and a provider that is down.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use pavlov_feedback::oidc::Identity;
use pavlov_feedback::{secret, web};
use serde_json::json;

use super::site::{Browser, HERE, PASSWORD, Site, answer, asked};
use crate::provider::Answers;

#[test]
fn an_invited_person_joins_leaves_and_comes_back() {
    let site = Site::new();
    let link = format!("/join/{}", site.invitation());
    let mut ana = Browser::new();
    assert!(ana.get(&site, &link).text.contains("Continue with Company"));
    let asked = ana.leave(&site, &format!("{link}/provider"), &[("name", "Ana"), ("password", "")]);
    assert_eq!(
        (&*asked["response_type"], &*asked["scope"], &*asked["code_challenge_method"], &*asked["client_id"]),
        ("code", "openid", "S256", "pavlov")
    );
    assert_eq!(asked["redirect_uri"], format!("{HERE}/login/provider/callback"));
    assert!(
        ["state", "nonce", "code_challenge"].iter().all(|secret| asked[*secret].len() == 43),
        "{asked:?}"
    );
    let before = ana.cookie.clone();
    let joined = ana.come_back(&site, &asked);
    assert_eq!(joined.status, 303, "{joined:?}");
    assert!(joined.location.starts_with("/p/"), "{joined:?}");
    assert_ne!(ana.cookie, before, "a session that nobody can have planted");
    assert!(ana.get(&site, &format!("{}/rate", joined.location)).status == 200 && ana.is_in(&site));
    let account = site.place.store.read_now(|r| r.account_named("Ana")).unwrap().unwrap();
    let id = account.id;
    assert_eq!(site.place.store.read_now(move |r| r.password_hash(id)).unwrap(), None);
    let issuer = json!({ "issuer": site.company.issuer() });
    assert_eq!(site.audited().pop().unwrap(), ("invitation.accept".into(), issuer));

    ana.post(&site, "/logout", &[]);
    assert!(!ana.is_in(&site));
    let mut ana = Browser::new();
    let page = ana.get(&site, "/login?next=/account");
    assert!(
        page.text.contains("Continue with Company") && page.text.contains("value=\"&#x2f;account\""),
        "{page:?}"
    );
    let asked = ana.leave(&site, "/login/provider", &[("next", "/account")]);
    let back = ana.come_back(&site, &asked);
    assert_eq!((back.status, &*back.location), (303, "/account"), "{back:?}");
    let page = ana.get(&site, "/account").text;
    assert!(page.contains("<strong>Ana</strong>") && page.contains("It is the only way in"), "{page}");
    assert!(page.contains("Set a password") && !page.contains("Disconnect</button>"), "{page}");
    // Another invitation is used by the account there is, whatever name is given.
    let accounts = site.accounts();
    let asked =
        ana.leave(&site, &format!("/join/{}/provider", site.invitation()), &[("name", "Somebody else")]);
    assert_eq!(ana.come_back(&site, &asked).status, 303);
    assert_eq!(site.accounts(), accounts);
}

#[test]
fn what_is_wrong_with_an_invitation_is_said_on_its_page() {
    let site = Site::new();
    let secret = site.invitation();
    let path = format!("/join/{secret}/provider");
    let mut ana = Browser::new();
    for (name, wrong) in [("rater", "is taken"), ("", "1 to 64 characters")] {
        let page = ana.post(&site, &path, &[("name", name)]);
        assert!(page.text.contains(wrong) && page.text.contains("Welcome to worlds"), "{page:?}");
    }
    assert_eq!(ana.post(&site, "/join/none/provider", &[("name", "Ana")]).status, 404);
    // Taken, or used up, while she was away.
    let first = ana.leave(&site, &path, &[("name", "Ana")]);
    let second = ana.leave(&site, &path, &[("name", "Ana")]);
    let third = ana.leave(&site, &path, &[("name", "Anna")]);
    site.place.store.write_now(|w| w.create_account("ana", None, false)).unwrap();
    let page = ana.come_back(&site, &first);
    assert!(page.status == 409 && page.text.contains("is taken") && page.text.contains(&secret), "{page:?}");
    let used = secret.clone();
    let other = site.place.accounts[4];
    site.place.store.write_now(move |w| w.accept_invitation(&used, other)).unwrap();
    for asked in [second, third] {
        let page = ana.come_back(&site, &asked);
        assert!(page.status == 404 && page.text.contains("no such invitation"), "{page:?}");
    }
    assert!(!ana.is_in(&site));
}

#[test]
fn an_account_is_connected_and_disconnected_but_keeps_a_way_in() {
    let site = Site::new();
    let rater = site.place.accounts[3];
    site.set_password(rater);
    let mut here = Browser::of(&site, rater);
    assert!(here.get(&site, "/account").text.contains("Connect Company"));
    let wrong = here.post(&site, "/account/connect", &[("password", "a wrong password")]);
    assert!(wrong.status == 422 && wrong.text.contains("The password now is another one"), "{wrong:?}");
    let asked = here.leave(&site, "/account/connect", &[("password", PASSWORD)]);
    let back = here.come_back(&site, &asked);
    assert_eq!((back.status, &*back.location), (303, "/account"), "{back:?}");
    assert!(here.get(&site, "/account").text.contains("You can sign in with Company"));
    let mut elsewhere = Browser::new();
    assert_eq!(elsewhere.sign_in(&site).status, 303);
    assert!(elsewhere.get(&site, "/account").text.contains("<strong>rater</strong>"));
    // Nobody else has it, too.
    let outsider = site.place.accounts[4];
    let mut other = Browser::of(&site, outsider);
    let asked = other.leave(&site, "/account/connect", &[]);
    let page = other.come_back(&site, &asked);
    assert!(page.status == 409 && page.text.contains("another account"), "{page:?}");

    assert_eq!(here.post(&site, "/account/disconnect", &[]).status, 303);
    assert_eq!(Browser::new().sign_in(&site).status, 403);
    let actions: Vec<String> = site.audited().into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions, ["account.connect", "account.disconnect"]);

    // An account without a password: connecting needs a session that has just begun, and so does a first password.
    site.pass(601);
    let late = other.post(&site, "/account/connect", &[]);
    assert!(late.status == 422 && late.text.contains("sign in again"), "{late:?}");
    let mut other = Browser::of(&site, outsider);
    let asked = other.leave(&site, "/account/connect", &[]);
    assert_eq!(other.come_back(&site, &asked).status, 303);
    let only = other.post(&site, "/account/disconnect", &[]);
    assert!(only.status == 409 && only.text.contains("only way in"), "{only:?}");
    site.pass(601);
    let late = other.post(&site, "/account/password", &[("new_password", PASSWORD)]);
    assert!(late.status == 422 && late.text.contains("sign in again"), "{late:?}");
    assert_eq!(other.sign_in(&site).status, 303);
    let set = other.post(&site, "/account/password", &[("new_password", PASSWORD)]);
    assert!(set.status == 200 && set.text.contains("Your password is changed"), "{set:?}");
    assert_eq!(other.post(&site, "/account/disconnect", &[]).status, 303);
    let fields = [("name", "outsider"), ("password", PASSWORD)];
    assert_eq!(Browser::new().post(&site, "/login", &fields).status, 303);
}

#[test]
fn a_provider_that_is_down_or_odd_harms_nobody() {
    let site = Site::with(|company| company.set(|ways| ways.down = true), web::Config::default(), HERE);
    let owner = site.connected_owner();
    site.set_password(owner);
    let began = |site: &Site| Browser::new().post(site, "/login/provider", &[("next", "/")]);
    let page = began(&site);
    assert!(page.status == 503 && page.text.contains("Company cannot be reached"), "{page:?}");
    let mut by_password = Browser::new();
    assert_eq!(by_password.post(&site, "/login", &[("name", "owner"), ("password", PASSWORD)]).status, 303);
    assert!(by_password.is_in(&site));
    // It is asked again, but not at once.
    site.company.set(|ways| ways.down = false);
    assert_eq!(began(&site).status, 503);
    site.pass(5);
    let mut owner = Browser::new();
    assert_eq!(owner.sign_in(&site).status, 303);

    let html = "<script>alert(1)</script>".to_owned();
    let evil = format!("{}/keys", site.company.issuer());
    for (answers, status, wanted) in [
        (Answers::So(StatusCode::OK, html.clone()), 503, "no `id_token`"),
        (Answers::So(StatusCode::OK, "{}".into()), 503, "no `id_token`"),
        (Answers::So(StatusCode::OK, r#"{"id_token": "a.b"}"#.into()), 403, "no signed ID token"),
        (Answers::So(StatusCode::INTERNAL_SERVER_ERROR, html), 403, "500"),
        (
            Answers::So(StatusCode::UNAUTHORIZED, r#"{"error": "invalid_client"}"#.into()),
            403,
            "whoever runs this server must check its client id",
        ),
        (
            Answers::So(StatusCode::BAD_REQUEST, r#"{"error": "<b>invalid</b>\u202e"}"#.into()),
            403,
            "&lt;b&gt;invalid&lt;&#x2f;b&gt;)",
        ),
        (Answers::Elsewhere(evil), 403, "307"),
        (Answers::Endlessly, 503, "cannot be reached"),
        (Answers::Late(Duration::from_secs(5)), 503, "cannot be reached"),
    ] {
        let asked = site.company.set(|ways| (ways.answers = answers, ways.asked_for_keys)).1;
        let start = Instant::now();
        let mut browser = Browser::new();
        let page = browser.sign_in(&site);
        assert!(page.status == status && page.text.contains(wanted), "{wanted}: {page:?}");
        assert!(!page.text.contains("<script>") && !page.text.contains('\u{202e}'), "{page:?}");
        assert!(start.elapsed() < Duration::from_secs(4), "{wanted}: {:?}", start.elapsed());
        assert!(!browser.is_in(&site));
        assert_eq!(site.company.set(|ways| ways.asked_for_keys), asked, "nobody was followed anywhere");
    }
}

#[test]
fn only_who_is_connected_with_an_open_account_gets_in() {
    let site = Site::new();
    let accounts = site.accounts();
    // Whatever else the provider knows of a person: an account's name, an address that it says is theirs.
    let known =
        json!({ "email": "owner", "email_verified": true, "preferred_username": "owner", "name": "owner" });
    site.company.set(|ways| ways.claims = known);
    let mut stranger = Browser::new();
    let page = stranger.sign_in(&site);
    assert_eq!(page.status, 403, "{page:?}");
    assert!(
        page.text.contains("no account here is connected") && page.text.contains("invitation"),
        "{page:?}"
    );
    assert!(!stranger.is_in(&site));
    assert_eq!(site.accounts(), accounts, "nobody gets an account by signing in");

    let rater = site.place.accounts[3];
    let identity = Identity { issuer: site.company.issuer().into(), subject: "sub-1".into() };
    // The same subject of another provider is another person.
    let other = Identity { issuer: "https://other.example".into(), ..identity.clone() };
    site.place.store.write_now(move |w| w.connect(rater, &other)).unwrap();
    assert_eq!(Browser::new().sign_in(&site).status, 403);
    site.place.store.write_now(move |w| w.connect(rater, &identity)).unwrap();
    site.company.set(|ways| ways.subject = "SUB-1".into());
    assert_eq!(Browser::new().sign_in(&site).status, 403, "subjects differ by case, too");
    site.company.set(|ways| ways.subject = "sub-1".into());
    let mut browser = Browser::new();
    assert_eq!(browser.sign_in(&site).status, 303);
    // A token of the API has nothing to do with it, and the page's cookie is none.
    let token = site.place.token("rater").unwrap();
    assert_eq!(site.place.get(&token, "/me").status, 200);
    assert_eq!(site.place.get(&browser.cookie, "/me").status, 401);

    site.place.store.write_now(move |w| w.close_account(rater)).unwrap();
    assert!(!browser.is_in(&site));
    let page = Browser::new().sign_in(&site);
    assert!(page.status == 403 && page.text.contains("is closed"), "{page:?}");
    let mut again = Browser::new();
    let asked = again.leave(&site, &format!("/join/{}/provider", site.invitation()), &[("name", "new")]);
    let page = again.come_back(&site, &asked);
    assert!(page.status == 403 && page.text.contains("is closed"), "{page:?}");
    assert!(!again.is_in(&site));
}

#[test]
fn behind_a_proxy_and_with_a_provider_that_wants_the_secret_in_the_form() {
    let url = "https://rate.example.org";
    let config = web::Config { public_url: Some(url.into()), ..web::Config::default() };
    let about = json!({ "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"] });
    let site = Site::with(|company| company.set(|ways| ways.about = about), config, url);
    site.connected_owner();
    let cookie = secret::token().unwrap();
    let send = |request: axum::http::request::Builder, body: String| {
        let request =
            request.header("host", "rate.example.org").header("cookie", format!("__Host-pavlov={cookie}"));
        answer(&site.router, request.body(Body::from(body)).unwrap())
    };
    let token = secret::hex(&secret::sign(cookie.as_bytes(), b"pavlov form"));
    let form = Request::post("/login/provider").header("content-type", "application/x-www-form-urlencoded");
    let asked = asked(&site, &send(form, format!("form_token={token}")).0);
    assert_eq!(asked["redirect_uri"], format!("{url}/login/provider/callback"));
    let code = site.company.code(&asked);
    // As a browser sends it that comes from another site.
    let back = Request::get(format!("/login/provider/callback?code={code}&state={}", asked["state"]))
        .header("sec-fetch-site", "cross-site")
        .header("referer", site.company.issuer());
    let (page, set) = send(back, String::new());
    assert_eq!((page.status, &*page.location), (303, "/"), "{page:?}");
    let set = set.unwrap();
    assert!(set.starts_with("__Host-pavlov=") && set.contains("; Secure"), "{set}");
    assert!(set.contains("; HttpOnly") && set.contains("; SameSite=Lax"), "{set}");
}
