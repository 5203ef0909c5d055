//! People in a project: members, invitations, and answers that are excluded with a reason.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::account::{Link, hours};
use super::caller::Inside;
use super::failure::{Body, Named, Result};
use super::route::{Method, Route, Routes, Who};
use super::view::{DONE, Done, ExclusionView, InvitationView, MemberView};
use crate::clock::Millis;
use crate::manage::manage;
use crate::roles::{Action, Role};

pub(super) fn add(routes: &mut Routes) {
    use Method::{Delete, Get, Post, Put};
    let (see, manage) = (Who::In(Action::SeeMembers), Who::In(Action::ManageMembers));
    Route::new(Get, "/projects/{project}/members", see, "Who is in the project")
        .answer::<Members>()
        .to(routes, members);
    Route::new(
        Put,
        "/projects/{project}/members/{account}",
        manage,
        "Makes an account a member, or changes its role",
    )
    .body::<NewRole>()
    .answer::<MemberView>()
    .to(routes, set);
    Route::new(
        Delete,
        "/projects/{project}/members/{account}",
        manage,
        "Removes a member; what it said stays",
    )
    .answer::<Done>()
    .to(routes, remove);
    Route::new(
        Post,
        "/projects/{project}/members/{account}/pause",
        manage,
        "Pauses a member with a reason, or lets it go on",
    )
    .body::<Pause>()
    .answer::<Done>()
    .to(routes, pause);
    Route::new(Get, "/projects/{project}/invitations", manage, "The project's invitations")
        .answer::<Invitations>()
        .to(routes, invitations);
    Route::new(Post, "/projects/{project}/invitations", manage, "Makes a one-time link into the project")
        .body::<NewInvitation>()
        .answer::<Link>()
        .to(routes, invite);
    Route::new(Delete, "/projects/{project}/invitations/{invitation}", manage, "Makes a link useless")
        .answer::<Done>()
        .to(routes, revoke);
    Route::new(
        Get,
        "/projects/{project}/exclusions",
        Who::In(Action::SeeQuality),
        "Answers that nothing uses, and why",
    )
    .answer::<Exclusions>()
    .to(routes, exclusions);
    Route::new(
        Post,
        "/projects/{project}/exclusions",
        manage,
        "Excludes a rater's answers, or one of them, with a reason",
    )
    .body::<NewExclusion>()
    .answer::<Excluded>()
    .to(routes, exclude);
    Route::new(Delete, "/projects/{project}/exclusions/{exclusion}", manage, "Lifts an exclusion")
        .answer::<Done>()
        .to(routes, lift);
}

#[derive(Debug, Serialize, ToSchema)]
struct Members {
    members: Vec<MemberView>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Invitations {
    invitations: Vec<InvitationView>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Exclusions {
    exclusions: Vec<ExclusionView>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRole {
    /// `manager`, `reviewer` or `rater`.
    role: Role,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Pause {
    /// Why; absent lets the member go on.
    reason: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewInvitation {
    /// `manager`, `reviewer` or `rater`.
    role: Role,
    /// Hours until the link runs out.
    #[serde(default = "hours")]
    #[schema(minimum = 1, maximum = 2160)]
    hours: u16,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewExclusion {
    /// The rater's account.
    account: String,
    /// The one record meant; absent means all of the rater's.
    seq: Option<u64>,
    reason: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Excluded {
    exclusion: String,
}

async fn members(State(api): State<Api>, inside: Inside) -> Result<Json<Members>> {
    let members = api.store().read(move |r| r.members(inside.project.id)).await?;
    Ok(Json(Members { members: members.into_iter().map(MemberView::from).collect() }))
}

async fn set(
    State(api): State<Api>,
    inside: Inside,
    Named((_, account)): Named<(String, String)>,
    Body(body): Body<NewRole>,
) -> Result<Json<MemberView>> {
    let member = manage(api.store(), inside.actor(), move |m| m.set_role(&account, body.role));
    Ok(Json(member.await?.into()))
}

async fn remove(
    State(api): State<Api>,
    inside: Inside,
    Named((_, account)): Named<(String, String)>,
) -> Result<Json<Done>> {
    manage(api.store(), inside.actor(), move |m| m.remove(&account)).await?;
    Ok(DONE)
}

async fn pause(
    State(api): State<Api>,
    inside: Inside,
    Named((_, account)): Named<(String, String)>,
    Body(body): Body<Pause>,
) -> Result<Json<Done>> {
    manage(api.store(), inside.actor(), move |m| m.pause(&account, body.reason.as_deref())).await?;
    Ok(DONE)
}

async fn invitations(State(api): State<Api>, inside: Inside) -> Result<Json<Invitations>> {
    let invitations = api.store().read(move |r| r.invitations(inside.project.id)).await?;
    Ok(Json(Invitations { invitations: invitations.into_iter().map(InvitationView::from).collect() }))
}

async fn invite(
    State(api): State<Api>,
    inside: Inside,
    Body(body): Body<NewInvitation>,
) -> Result<Json<Link>> {
    let lasts = Millis::from(body.hours.clamp(1, 2160)) * 3_600_000;
    let made = manage(api.store(), inside.actor(), move |m| m.invite(body.role, lasts));
    Ok(Json(Link::new(made.await?)))
}

async fn revoke(
    State(api): State<Api>,
    inside: Inside,
    Named((_, code)): Named<(String, String)>,
) -> Result<Json<Done>> {
    manage(api.store(), inside.actor(), move |m| m.revoke_invitation(&code)).await?;
    Ok(DONE)
}

async fn exclusions(State(api): State<Api>, inside: Inside) -> Result<Json<Exclusions>> {
    let exclusions = api.store().read(move |r| r.exclusions(inside.project.id)).await?;
    Ok(Json(Exclusions { exclusions: exclusions.into_iter().map(ExclusionView::from).collect() }))
}

async fn exclude(
    State(api): State<Api>,
    inside: Inside,
    Body(body): Body<NewExclusion>,
) -> Result<Json<Excluded>> {
    let made = manage(api.store(), inside.actor(), move |m| m.exclude(&body.account, body.seq, &body.reason));
    Ok(Json(Excluded { exclusion: made.await? }))
}

async fn lift(
    State(api): State<Api>,
    inside: Inside,
    Named((_, code)): Named<(String, String)>,
) -> Result<Json<Done>> {
    manage(api.store(), inside.actor(), move |m| m.lift_exclusion(&code)).await?;
    Ok(DONE)
}
