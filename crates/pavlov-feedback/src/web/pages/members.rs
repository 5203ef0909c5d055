//! People of a project: who is what, invitations, pauses.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{Html, IntoResponse, Response};
use minijinja::context;

use super::{back, inside, long, when};
use crate::error::Error;
use crate::manage::manage;
use crate::roles::{Action, Role};
use crate::web::App;
use crate::web::failure::Result;
use crate::web::fields::Form;
use crate::web::session::{Inside, Viewer};

const ROLES: [&str; 3] = ["rater", "reviewer", "manager"];
const DAY_MS: i64 = 86_400_000;

pub(super) async fn page(
    State(app): State<App>,
    Path(project): Path<String>,
    viewer: Viewer,
) -> Result<Html<String>> {
    let here = viewer.enter(&app, &project, Action::SeeMembers).await?;
    list(&app, &here, None).await
}

async fn list(app: &App, here: &Inside, link: Option<(String, u64)>) -> Result<Html<String>> {
    let (id, manage) = (here.project.id, here.may(Action::ManageMembers));
    let read = app.store().read(move |r| {
        let members = r.members(id)?.into_iter().map(|member| Ok((r.tally(id, member.account)?, member)));
        let members = members.collect::<crate::Result<Vec<_>>>()?;
        let invitations = if manage { r.invitations(id)? } else { Vec::new() };
        Ok((members, invitations, r.now()))
    });
    let (members, invitations, now) = read.await?;
    let members = members.into_iter().map(|(tally, member)| {
        let each = tally.active_ms.checked_div(tally.answered).map_or_else(|| "–".into(), long);
        let last = if tally.last_at == 0 { "–".into() } else { when(tally.last_at) };
        context! { name => member.name, code => member.code, pseudonym => member.pseudonym, role => member.role.name(), paused => member.paused,
                   answered => tally.answered, skipped => tally.skipped, each, last }
    });
    let invitations = invitations.into_iter().map(|one| {
        let state = match (one.used_by, one.revoked_at) {
            (Some(_), _) => "used",
            (_, Some(_)) => "revoked",
            _ if one.expires_at <= now => "run out",
            _ => "open",
        };
        context! { code => one.code, role => one.role.name(), made => when(one.created_at), ends => when(one.expires_at), state }
    });
    let (link, days) = link.unzip();
    let more = context! { members => members.collect::<Vec<_>>(), invitations => invitations.collect::<Vec<_>>(), roles => ROLES,
    may_manage => manage, link, days };
    Ok(inside(here, "members.html", "People", "members", more))
}

/// The address of this server as the visitor knows it.
fn base(app: &App, headers: &HeaderMap) -> String {
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let public = app.config().public_url.as_deref().map(|url| url.trim_end_matches('/').to_owned());
    public.unwrap_or_else(|| format!("http://{host}"))
}

pub(super) async fn invite(
    State(app): State<App>,
    Path(project): Path<String>,
    headers: HeaderMap,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::ManageMembers).await?;
    let role = role(fields.get("role"))?;
    let days = fields.number("days").unwrap_or(7).clamp(1, 90);
    let token = manage(app.store(), here.actor(), move |m| m.invite(role, days as i64 * DAY_MS));
    let link = format!("{}/join/{}", base(&app, &headers), token.await?);
    Ok(list(&app, &here, Some((link, days))).await?.into_response())
}

fn role(name: &str) -> Result<Role, Error> {
    let role = Role::named(name).filter(|role| ROLES.contains(&role.name()));
    role.ok_or_else(|| Error::invalid("there is no such role; choose rater, reviewer or manager"))
}

pub(super) async fn revoke(
    State(app): State<App>,
    Path((project, code)): Path<(String, String)>,
    Form { viewer, .. }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::ManageMembers).await?;
    manage(app.store(), here.actor(), move |m| m.revoke_invitation(&code)).await?;
    Ok(back(&here, "/members"))
}

pub(super) async fn change(
    State(app): State<App>,
    Path((project, member)): Path<(String, String)>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::ManageMembers).await?;
    let id = here.project.id;
    manage(app.store(), here.actor(), move |m| match fields.get("do") {
        "role" => {
            let role = role(fields.get("role"))?;
            let account = m.read().account_by_code(&member)?.id;
            // Whoever is no member comes by invitation.
            m.read().member(id, account)?.ok_or(Error::NotFound("member"))?;
            m.set_role(&member, role).map(drop)
        }
        "pause" => m.pause(&member, Some(fields.get("reason").trim())),
        "resume" => m.pause(&member, None),
        "remove" => m.remove(&member),
        _ => Err(Error::invalid("say what to do: role, pause, resume or remove")),
    })
    .await?;
    Ok(back(&here, "/members"))
}
