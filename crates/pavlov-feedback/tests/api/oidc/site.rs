//! A server with a sign-in provider beside it, and the browsers of people.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use pavlov_feedback::oidc::{Identity, Provider};
use pavlov_feedback::quality::Cache;
use pavlov_feedback::roles::Role;
use pavlov_feedback::store::AccountId;
use pavlov_feedback::web::{self, App};
use pavlov_feedback::{api, secret};
use serde_json::Value;
use tower::ServiceExt;

use crate::provider::FakeProvider;
use crate::setup::{Place, plain};

pub(crate) const START_S: i64 = 1_800_000_000;
pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const HERE: &str = "http://127.0.0.1:8080";

/// A server with a provider beside it.
pub(crate) struct Site {
    pub(crate) place: Place,
    pub(crate) company: FakeProvider,
    pub(crate) router: Router,
}

/// What a page answered.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) location: String,
    pub(crate) text: String,
}

/// Somebody's browser: their cookie.
#[derive(Clone, Debug)]
pub(crate) struct Browser {
    pub(crate) cookie: String,
}

impl Site {
    pub(crate) fn new() -> Site {
        Site::with(|_| {}, web::Config::default(), HERE)
    }

    pub(crate) fn with(set: impl FnOnce(&FakeProvider), config: web::Config, url: &str) -> Site {
        let place = Place::new(plain());
        let company = FakeProvider::start(START_S);
        set(&company);
        let provider = Some(Provider::new(company.settings(url)).unwrap());
        let quality = Cache::default();
        let api = api::router(place.store.clone(), api::Config::default(), quality.clone());
        let config = web::Config { provider, ..config };
        let router = web::router(App::new(place.store.clone(), config, quality), api);
        Site { place, company, router }
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.place.pass(seconds);
        self.company.set(|ways| ways.now_s += seconds);
    }

    /// The owner's account, connected with whom the provider sees.
    pub(crate) fn connected_owner(&self) -> AccountId {
        let owner = self.place.accounts[0];
        let identity = Identity { issuer: self.company.issuer().into(), subject: "sub-1".into() };
        self.place.store.write_now(move |w| w.connect(owner, &identity)).unwrap();
        owner
    }

    pub(crate) fn set_password(&self, account: AccountId) {
        let hash = secret::hash_password(PASSWORD).unwrap();
        self.place.store.write_now(move |w| w.set_password(account, &hash, None)).unwrap();
    }

    pub(crate) fn audited(&self) -> Vec<(String, Value)> {
        let entries = self.place.store.read_now(|r| r.audit_entries(None, u64::MAX, 100)).unwrap();
        entries.into_iter().rev().map(|entry| (entry.action, entry.detail)).collect()
    }

    pub(crate) fn accounts(&self) -> usize {
        self.place.store.read_now(|r| Ok(r.accounts()?.len())).unwrap()
    }

    pub(crate) fn invitation(&self) -> String {
        let project = self.place.project;
        self.place.store.write_now(move |w| w.invite(Some(project), Role::Rater, None, 3_600_000)).unwrap()
    }
}

impl Browser {
    /// One that has the cookie of somebody who has seen a page.
    pub(crate) fn new() -> Browser {
        Browser { cookie: secret::token().unwrap() }
    }

    /// One in which somebody is signed in.
    pub(crate) fn of(site: &Site, account: AccountId) -> Browser {
        Browser { cookie: site.place.store.write_now(move |w| w.start_session(account)).unwrap() }
    }

    pub(crate) fn send(&mut self, site: &Site, request: axum::http::request::Builder, body: Body) -> Page {
        let request =
            request.header("host", "127.0.0.1:8080").header("cookie", format!("pavlov={}", self.cookie));
        let page = answer(&site.router, request.body(body).unwrap());
        if let Some(set) = page.1.and_then(|set| set.strip_prefix("pavlov=").map(str::to_owned)) {
            set.split(';').next().unwrap().clone_into(&mut self.cookie);
        }
        page.0
    }

    pub(crate) fn get(&mut self, site: &Site, path: &str) -> Page {
        self.send(site, Request::get(path), Body::empty())
    }

    pub(crate) fn post(&mut self, site: &Site, path: &str, fields: &[(&str, &str)]) -> Page {
        let token = secret::hex(&secret::sign(self.cookie.as_bytes(), b"pavlov form"));
        let fields = [&[("form_token", &*token)], fields].concat();
        let body = serde_urlencoded::to_string(fields).unwrap();
        let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        self.send(site, request, Body::from(body))
    }

    /// Leaves for the provider with a form; what it is asked there.
    pub(crate) fn leave(
        &mut self,
        site: &Site,
        path: &str,
        fields: &[(&str, &str)],
    ) -> BTreeMap<String, String> {
        let page = self.post(site, path, fields);
        assert_eq!(page.status, 200, "{page:?}");
        asked(site, &page)
    }

    /// Comes back with a code for what was asked.
    pub(crate) fn come_back(&mut self, site: &Site, asked: &BTreeMap<String, String>) -> Page {
        let code = site.company.code(asked);
        self.get(site, &format!("/login/provider/callback?code={code}&state={}", asked["state"]))
    }

    /// Signs in, there and back.
    pub(crate) fn sign_in(&mut self, site: &Site) -> Page {
        let asked = self.leave(site, "/login/provider", &[]);
        self.come_back(site, &asked)
    }

    pub(crate) fn is_in(&mut self, site: &Site) -> bool {
        self.get(site, "/account").status == 200
    }
}

pub(crate) fn answer(router: &Router, request: Request<Body>) -> (Page, Option<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = router.clone().oneshot(request).await.unwrap();
        let header = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned)
        };
        let (status, cookie) = (response.status().as_u16(), header("set-cookie"));
        let location = header("location").unwrap_or_default();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (Page { status, location, text: String::from_utf8_lossy(&bytes).into_owned() }, cookie)
    })
}

/// Where a page leads at the provider: what is asked there.
pub(crate) fn asked(site: &Site, page: &Page) -> BTreeMap<String, String> {
    let (_, rest) = page.text.split_once("content=\"0;url=").unwrap_or_else(|| panic!("{page:?}"));
    let address = rest.split('"').next().unwrap().replace("&#x2f;", "/").replace("&amp;", "&");
    let (address, query) = address.split_once('?').unwrap();
    assert_eq!(address, format!("{}/authorize", site.company.issuer()));
    serde_urlencoded::from_str(query).unwrap()
}
