//! Who calls: a bearer token, the account or service behind it, and what that is in the project of the address.

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::failure::{Failure, Result};
use super::{Api, Scope, Who};
use crate::error::Error;
use crate::limit::Limit;
use crate::roles::{Action, Role, may};
use crate::store::{Account, AccountId, Project, Read, Token};

/// Whoever holds a token.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) token: Token,
    /// None for a service.
    pub(super) account: Option<Account>,
}

/// A caller in the project of the address, allowed what the route needs.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    pub(super) caller: Caller,
    pub(super) project: Project,
    pub(super) role: Role,
}

impl Caller {
    /// The account; only routes that need one ask.
    pub(super) fn account(&self) -> Result<&Account> {
        self.account
            .as_ref()
            .ok_or_else(|| Failure::forbidden("a service token has no account; use a person's token"))
    }

    /// Its name in the audit log.
    pub(super) fn name(&self) -> String {
        self.account
            .as_ref()
            .map_or_else(|| format!("token/{}", self.token.code), |account| account.code.clone())
    }

    fn has(&self, scope: Scope) -> bool {
        self.token.scopes.as_ref().is_none_or(|scopes| scopes.contains(&scope))
    }

    fn needs(&self, scope: Scope) -> Result<()> {
        if self.has(scope) {
            return Ok(());
        }
        Err(Failure::forbidden(format!(
            "this token lacks the scope `{}`; make one that has it",
            scope.name()
        )))
    }
}

impl Inside {
    /// The account that rates, decides or manages.
    pub(super) fn account(&self) -> Result<AccountId> {
        self.caller.account().map(|account| account.id)
    }

    /// Whether this is permitted, too.
    pub(super) fn may(&self, action: Action) -> bool {
        may(self.role, action) && self.caller.has(Scope::of(action))
    }
}

/// Lets a request through to its handler, or says why not.
pub(super) async fn check(
    State((api, who)): State<(Api, Who)>,
    names: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let Ok(names) = names else {
        return Failure::bad_request("a name in the address is not UTF-8; correct it").into_response();
    };
    match admit(&api, who, &names, &mut request).await {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

async fn admit(api: &Api, who: Who, names: &RawPathParams, request: &mut Request) -> Result<()> {
    let secret = bearer(request.headers())?.to_owned();
    let name = match who {
        Who::In(_) => names.iter().find(|(key, _)| *key == "project").map(|(_, name)| name.to_owned()),
        Who::Public | Who::Holder | Who::Person | Who::Owner => None,
    };
    // One question for all: each is a way to another thread and back.
    let found = api.store().read(move |r| {
        let Some(caller) = caller(r, &secret)? else { return Ok(None) };
        let place = name.map(|name| place(r, &caller, &name)).transpose()?.flatten();
        Ok(Some((caller, place)))
    });
    let (caller, place) = found.await?.ok_or_else(|| {
        Failure::unauthorized("the token is unknown, revoked or has run out; make a new one")
    })?;
    let limit = Limit { times: api.inner.config.requests_a_minute, window_ms: 60_000 };
    api.count(&format!("api/{}", caller.name()), limit)?;
    match who {
        Who::Public | Who::Holder => {}
        Who::Person => drop(caller.account()?),
        Who::Owner => {
            if !caller.account()?.owner {
                return Err(Failure::forbidden("only an owner of the installation may do this; ask one"));
            }
            caller.needs(Scope::Administer)?;
        }
        Who::In(action) => {
            let inside = enter(caller.clone(), place, action)?;
            request.extensions_mut().insert(inside);
        }
    }
    request.extensions_mut().insert(caller);
    Ok(())
}

/// The token in the header. One in the address would stand in logs, so it is never read there.
fn bearer(headers: &HeaderMap) -> Result<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Failure::unauthorized(
            "a token is needed; send the header `authorization: Bearer TOKEN`",
        ));
    };
    let text = value.to_str().ok().and_then(|text| text.split_once(' '));
    text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| {
            Failure::unauthorized("the authorization is no bearer token; send `authorization: Bearer TOKEN`")
        })
}

fn caller(r: &Read<'_>, secret: &str) -> crate::Result<Option<Caller>> {
    let Some(token) = r.token(secret)? else { return Ok(None) };
    let account = token.account.map(|id| r.account(id)).transpose()?;
    if account.as_ref().is_some_and(|account| account.closed_at.is_some()) {
        return Ok(None);
    }
    Ok(Some(Caller { token, account }))
}

/// The project of a name and what the caller is there; none where there is no such project, or the caller is not in it.
fn place(r: &Read<'_>, caller: &Caller, name: &str) -> crate::Result<Option<(Project, Role)>> {
    let project = match r.project_called(name) {
        Err(Error::NotFound(_)) => return Ok(None),
        found => found?,
    };
    let role = match &caller.account {
        _ if caller.token.project.is_some_and(|only| only != project.id) => None,
        Some(account) => r.role(project.id, account.id)?,
        None => Some(Role::Service),
    };
    Ok(role.map(|role| (project, role)))
}

/// Enters a project. Who is not in it does not learn that it exists.
fn enter(caller: Caller, place: Option<(Project, Role)>, action: Action) -> Result<Inside> {
    let (project, role) = place.ok_or(Error::NotFound("project"))?;
    if !may(role, action) {
        let role = role.name();
        return Err(Failure::forbidden(format!(
            "a {role} may not do this in {}; ask a manager",
            project.name
        )));
    }
    caller.needs(Scope::of(action))?;
    Ok(Inside { caller, project, role })
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get().cloned().ok_or_else(unchecked)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Inside {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get().cloned().ok_or_else(unchecked)
    }
}

/// Only a route whose [`Who`] does not fit its handler comes here; the test of roles calls every route.
fn unchecked() -> Failure {
    Error::Bug("a route without its check".into()).into()
}
