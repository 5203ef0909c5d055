//! Accounts: logging in and joining, tokens of one's own, the installation.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::failure::{Asked, Body, Failure, Named, Result};
use super::route::{Method, Route, Routes, Who};
use super::view::{AccountView, AuditView, DONE, Done, NewSecret, ProjectView, TokenView};
use super::{Api, Scope};
use crate::clock::Millis;
use crate::error::Error;
use crate::limit::Limit;
use crate::roles::Role;
use crate::secret;
use crate::store::NewToken;

/// Wrong passwords of one name, in a window.
const PASSWORDS: Limit = Limit { times: 10, window_ms: 15 * 60_000 };
const DAY_MS: Millis = 86_400_000;

pub(super) fn add(routes: &mut Routes) {
    use Method::{Delete, Get, Post};
    Route::new(Post, "/login", Who::Public, "Makes a token of the account with this name and password")
        .body::<Login>()
        .answer::<NewSecret>()
        .to(routes, login);
    Route::new(Post, "/join", Who::Public, "Makes an account by a one-time invitation, and a token of it")
        .body::<Join>()
        .answer::<NewSecret>()
        .to(routes, join);
    Route::new(Get, "/me", Who::Holder, "Who holds this token, and the projects it is good for")
        .answer::<Me>()
        .to(routes, me);
    Route::new(Post, "/logout", Who::Holder, "Revokes this token").answer::<Done>().to(routes, logout);
    Route::new(Post, "/me/password", Who::Person, "Changes the password; every session ends")
        .body::<NewPassword>()
        .answer::<Done>()
        .to(routes, password);
    Route::new(Post, "/me/invitations", Who::Person, "Uses an invitation with this account")
        .body::<Invited>()
        .answer::<Done>()
        .to(routes, accept);
    Route::new(Get, "/me/tokens", Who::Person, "The account's tokens").answer::<Tokens>().to(routes, tokens);
    Route::new(
        Post,
        "/me/tokens",
        Who::Person,
        "Makes a token of the account, with no more than this one may",
    )
    .body::<NewTokenBody>()
    .answer::<NewSecret>()
    .to(routes, new_token);
    Route::new(Delete, "/me/tokens/{token}", Who::Person, "Revokes a token of the account")
        .answer::<Done>()
        .to(routes, revoke);
    Route::new(Get, "/accounts", Who::Owner, "All accounts").answer::<Accounts>().to(routes, accounts);
    Route::new(Post, "/accounts/{account}/close", Who::Owner, "Closes an account; what it said stays")
        .answer::<Done>()
        .to(routes, close);
    Route::new(Post, "/owner-invitations", Who::Owner, "Makes a one-time link that makes an owner")
        .body::<Lasting>()
        .answer::<Link>()
        .to(routes, invite_owner);
    Route::new(Get, "/audit", Who::Owner, "The audit log of the installation, the newest first")
        .query::<Before>()
        .answer::<Audit>()
        .to(routes, audit);
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    name: String,
    password: String,
    /// What the token is limited to; absent is all that the account may.
    scopes: Option<Vec<Scope>>,
    /// Days until it runs out.
    #[serde(default = "days")]
    #[schema(minimum = 1, maximum = 366)]
    days: u16,
}

fn days() -> u16 {
    30
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Join {
    /// The last part of the link.
    invitation: String,
    name: String,
    password: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Invited {
    /// The last part of the link.
    invitation: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    old: String,
    new: String,
}

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewToken)]
pub(super) struct NewTokenBody {
    /// What it is for.
    pub(super) name: String,
    /// What it is limited to; absent is all that its holder may.
    pub(super) scopes: Option<Vec<Scope>>,
    /// Days until it runs out; absent is never.
    pub(super) days: Option<u16>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Me {
    /// Absent for a service.
    account: Option<AccountView>,
    token: TokenView,
    projects: Vec<ProjectView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tokens {
    pub(super) tokens: Vec<TokenView>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Accounts {
    accounts: Vec<AccountView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Audit {
    pub(super) entries: Vec<AuditView>,
}

/// How long a link works.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Lasting {
    /// Hours until the link runs out.
    #[serde(default = "hours")]
    #[schema(minimum = 1, maximum = 2160)]
    hours: u16,
}

pub(super) fn hours() -> u16 {
    168
}

/// A link that is told once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Link {
    /// The secret, to be used with `/join` or `/me/invitations`.
    pub(super) invitation: String,
    /// Where it leads on the pages, behind the server's address.
    pub(super) path: String,
}

impl Link {
    pub(super) fn new(invitation: String) -> Self {
        let path = format!("/join/{invitation}");
        Self { invitation, path }
    }
}

/// Where a list goes on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Before {
    /// Only what is older than this `seq`.
    pub(super) before: Option<u64>,
    /// At most so many, up to 1000.
    #[serde(default = "page")]
    #[param(minimum = 1, maximum = 1000)]
    pub(super) limit: u32,
}

pub(super) fn page() -> u32 {
    100
}

/// A page's length within bounds.
pub(super) fn bounded(limit: u32) -> u32 {
    limit.clamp(1, 1000)
}

pub(super) async fn wrong_password(api: &Api, password: String, hash: Option<String>) -> Result<bool> {
    let _place = api.inner.passwords.acquire().await.map_err(|_| Error::Closed)?;
    let check = move || secret::password_is(&password, hash.as_deref());
    let right = tokio::task::spawn_blocking(check).await;
    Ok(!right.map_err(|error| Error::Bug(error.to_string()))?)
}

async fn hashed(api: &Api, password: String) -> Result<String> {
    let _place = api.inner.passwords.acquire().await.map_err(|_| Error::Closed)?;
    let hash = tokio::task::spawn_blocking(move || secret::hash_password(&password)).await;
    Ok(hash.map_err(|error| Error::Bug(error.to_string()))??)
}

async fn login(State(api): State<Api>, Body(login): Body<Login>) -> Result<Json<NewSecret>> {
    let name = login.name.trim().to_lowercase();
    // Per name: whoever guesses at one is stopped, from wherever they do.
    api.count(&format!("login/{}", &secret::hex(&secret::hash(&name)[..16])), PASSWORDS)?;
    let found = api.store().read(move |r| match r.account_named(&name)? {
        Some(account) => Ok((r.password_hash(account.id)?, Some(account))),
        None => Ok((None, None)),
    });
    let (hash, account) = found.await?;
    let wrong = wrong_password(&api, login.password, hash).await?;
    let Some(account) = account.filter(|_| !wrong) else {
        return Err(Failure::unauthorized(
            "the name or the password is wrong; try again, or ask for a new invitation",
        ));
    };
    let expires_at = Some(api.store().clock().now() + Millis::from(login.days.clamp(1, 366)) * DAY_MS);
    let new = NewToken {
        name: "login".into(),
        account: Some(account.id),
        scopes: login.scopes,
        by: Some(account.id),
        expires_at,
        ..NewToken::default()
    };
    let (token, about) = api.store().write(move |w| w.new_token(&new)).await?;
    Ok(Json(NewSecret { token, about: about.into() }))
}

async fn join(State(api): State<Api>, Body(join): Body<Join>) -> Result<Json<NewSecret>> {
    let Join { invitation, name, password } = join;
    // Before the password: it takes a core for a while, and anybody can send one.
    let known = invitation.clone();
    api.store().read(move |r| r.invitation(&known)).await?;
    let hash = hashed(&api, password).await?;
    let joined = api.store().write(move |w| {
        let (account, used) = w.join(&invitation, &name, &hash)?;
        w.audit(used.project, &account.code, "invitation.use", &used.code, &json!({ "role": used.role }))?;
        let new = NewToken {
            name: "join".into(),
            account: Some(account.id),
            by: Some(account.id),
            expires_at: Some(w.now() + 30 * DAY_MS),
            ..NewToken::default()
        };
        w.new_token(&new)
    });
    let (token, about) = joined.await?;
    Ok(Json(NewSecret { token, about: about.into() }))
}

async fn me(State(api): State<Api>, caller: Caller) -> Result<Json<Me>> {
    let (account, only) = (caller.account.as_ref().map(|account| account.id), caller.token.project);
    let found = api.store().read(move |r| match account {
        Some(account) => r.projects_of(account),
        None => Ok(r.projects()?.into_iter().map(|project| (project, Role::Service)).collect()),
    });
    let projects = found.await?.into_iter().filter(|(project, _)| only.is_none_or(|only| only == project.id));
    let projects = projects.map(|(project, role)| ProjectView::new(project, role, false)).collect();
    Ok(Json(Me { account: caller.account.map(AccountView::from), token: caller.token.into(), projects }))
}

async fn logout(State(api): State<Api>, caller: Caller) -> Result<Json<Done>> {
    api.store().write(move |w| w.revoke_token(&caller.token.code)).await?;
    Ok(DONE)
}

async fn password(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<NewPassword>,
) -> Result<Json<Done>> {
    let account = caller.account()?.clone();
    api.count(&format!("password/{}", account.code), PASSWORDS)?;
    let id = account.id;
    let hash = api.store().read(move |r| r.password_hash(id)).await?;
    if wrong_password(&api, body.old, hash).await? {
        return Err(Failure::forbidden("`old` is not the password; correct it"));
    }
    let hash = hashed(&api, body.new).await?;
    api.store()
        .write(move |w| {
            w.set_password(account.id, &hash, None)?;
            w.audit(None, &account.code, "password.change", &account.code, &json!({}))
        })
        .await?;
    Ok(DONE)
}

async fn accept(State(api): State<Api>, caller: Caller, Body(body): Body<Invited>) -> Result<Json<Done>> {
    let account = caller.account()?.clone();
    if caller.token.project.is_some() || caller.token.scopes.is_some() {
        return Err(Failure::forbidden("a limited token cannot take on new roles; use an unlimited one"));
    }
    api.store()
        .write(move |w| {
            let used = w.accept_invitation(&body.invitation, account.id)?;
            w.audit(used.project, &account.code, "invitation.use", &used.code, &json!({ "role": used.role }))
        })
        .await?;
    Ok(DONE)
}

async fn tokens(State(api): State<Api>, caller: Caller) -> Result<Json<Tokens>> {
    let account = caller.account()?.id;
    let tokens = api.store().read(move |r| r.tokens_of(account)).await?;
    Ok(Json(Tokens { tokens: tokens.into_iter().map(TokenView::from).collect() }))
}

async fn new_token(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<NewTokenBody>,
) -> Result<Json<NewSecret>> {
    let account = caller.account()?.clone();
    let scopes = no_more_than(caller.token.scopes.as_deref(), body.scopes)?;
    let new = NewToken {
        name: body.name,
        account: Some(account.id),
        project: caller.token.project,
        scopes,
        by: Some(account.id),
        expires_at: expiry(
            &api,
            body.days,
            caller.token.expires_at.filter(|_| caller.token.scopes.is_some()),
        ),
    };
    let made = api.store().write(move |w| {
        let (secret, token) = w.new_token(&new)?;
        w.audit(None, &account.code, "token.create", &token.code, &json!({ "name": token.name }))?;
        Ok((secret, token))
    });
    let (token, about) = made.await?;
    Ok(Json(NewSecret { token, about: about.into() }))
}

/// A token never makes one that may more than itself.
fn no_more_than(own: Option<&[Scope]>, wanted: Option<Vec<Scope>>) -> Result<Option<Vec<Scope>>> {
    let Some(own) = own else { return Ok(wanted) };
    let wanted = wanted.unwrap_or_else(|| own.to_vec());
    match wanted.iter().find(|scope| !own.contains(scope)) {
        Some(scope) => {
            Err(Failure::forbidden(format!("this token lacks the scope `{}` itself", scope.name())))
        }
        None => Ok(Some(wanted)),
    }
}

/// When a token of so many days runs out.
pub(super) fn expiry(api: &Api, days: Option<u16>, latest: Option<Millis>) -> Option<Millis> {
    let wanted = days.map(|days| api.store().clock().now() + Millis::from(days.max(1)) * DAY_MS);
    match (wanted, latest) {
        (Some(wanted), Some(latest)) => Some(wanted.min(latest)),
        (wanted, latest) => wanted.or(latest),
    }
}

async fn revoke(State(api): State<Api>, caller: Caller, Named(code): Named<String>) -> Result<Json<Done>> {
    let account = caller.account()?.clone();
    api.store()
        .write(move |w| {
            if !w.tokens_of(account.id)?.iter().any(|token| token.code == code) {
                return Err(Error::NotFound("token"));
            }
            w.revoke_token(&code)?;
            w.audit(None, &account.code, "token.revoke", &code, &json!({}))
        })
        .await?;
    Ok(DONE)
}

async fn accounts(State(api): State<Api>) -> Result<Json<Accounts>> {
    let accounts = api.store().read(|r| Ok(r.accounts()?.into_iter().map(AccountView::from).collect()));
    Ok(Json(Accounts { accounts: accounts.await? }))
}

async fn close(State(api): State<Api>, caller: Caller, Named(code): Named<String>) -> Result<Json<Done>> {
    api.store()
        .write(move |w| {
            let account = w.account_by_code(&code)?;
            w.close_account(account.id)?;
            w.audit(None, &caller.name(), "account.close", &code, &json!({ "name": account.name }))
        })
        .await?;
    Ok(DONE)
}

async fn invite_owner(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<Lasting>,
) -> Result<Json<Link>> {
    let by = caller.account()?.clone();
    let made = api.store().write(move |w| {
        let link =
            w.invite(None, Role::Owner, Some(by.id), Millis::from(body.hours.clamp(1, 2160)) * 3_600_000)?;
        w.audit(None, &by.code, "invitation.create", "owner", &json!({ "hours": body.hours }))?;
        Ok(link)
    });
    Ok(Json(Link::new(made.await?)))
}

async fn audit(State(api): State<Api>, Asked(page): Asked<Before>) -> Result<Json<Audit>> {
    let (before, limit) = (page.before.unwrap_or(u64::MAX), bounded(page.limit));
    let entries = api.store().read(move |r| r.audit_entries(None, before, limit)).await?;
    Ok(Json(Audit { entries: entries.into_iter().map(AuditView::from).collect() }))
}
