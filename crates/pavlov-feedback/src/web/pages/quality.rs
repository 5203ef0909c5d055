//! Quality at a glance, and exclusions with their reasons.

use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use minijinja::context;
use serde_json::json;

use super::{back, inside, long, when};
use crate::roles::Action;
use crate::web::App;
use crate::web::failure::{Failure, Result};
use crate::web::fields::Form;
use crate::web::session::{Inside, Viewer};

/// Above this share of excluded raters' answers somebody must look: honest votes were thrown away silently elsewhere.
const ALARM: f64 = 0.1;

pub(super) async fn page(
    State(app): State<App>,
    Path(project): Path<String>,
    viewer: Viewer,
) -> Result<Html<String>> {
    let here = viewer.enter(&app, &project, Action::SeeQuality).await?;
    let id = here.project.id;
    let read = app.store().read(move |r| {
        let members =
            r.members(id)?.into_iter().map(|member| Ok((r.tally(id, member.account)?, member.pseudonym)));
        Ok((r.progress(id)?, members.collect::<crate::Result<Vec<_>>>()?))
    });
    let (progress, members) = read.await?;
    let figures = [
        ("answers", progress.answered),
        ("in the last hour", progress.last_hour),
        ("raters at work", progress.active_raters),
        ("tasks done", progress.done),
        ("open", progress.open),
        ("to decide", progress.adjudicate),
        ("skipped", progress.skipped),
    ];
    let figures = figures.map(|(title, value)| context! { title, value });
    let rows = members.into_iter().map(|(tally, name)| {
        let each = tally.active_ms.checked_div(tally.answered).map_or_else(|| "–".into(), long);
        vec![name, tally.answered.to_string(), tally.skipped.to_string(), each]
    });
    let raters = context! { title => "Raters", head => ["rater", "answers", "skipped", "each about"], rows => rows.collect::<Vec<_>>() };
    let more = context! { figures, alarms => alarm(&app, &here).await?, tables => [raters] };
    Ok(inside(&here, "quality.html", "Quality", "quality", more))
}

/// Whether a large part of what was said is excluded.
async fn alarm(app: &App, here: &Inside) -> Result<Option<String>> {
    let id = here.project.id;
    let read = app.store().read(move |r| {
        let (mut all, mut excluded) = (0_u64, 0_u64);
        r.current_answers(id, 0, |answer| {
            all += 1;
            excluded += u64::from(answer.excluded);
        })?;
        Ok((all, excluded))
    });
    let (all, excluded) = read.await?;
    let share = excluded as f64 / all.max(1) as f64;
    Ok((share > ALARM).then(|| {
        format!(
            "{excluded} of {all} answers are excluded ({:.0}%): look whether the reasons still hold.",
            share * 100.0
        )
    }))
}

pub(super) async fn exclusions(
    State(app): State<App>,
    Path(project): Path<String>,
    viewer: Viewer,
) -> Result<Html<String>> {
    let here = viewer.enter(&app, &project, Action::ManageMembers).await?;
    exclusions_page(&app, &here, None).await
}

async fn exclusions_page(app: &App, here: &Inside, error: Option<String>) -> Result<Html<String>> {
    let id = here.project.id;
    let read = app.store().read(move |r| {
        let name = |account| Ok::<_, crate::Error>(r.account(account)?.name);
        let rows = r.exclusions(id)?.into_iter().map(|one| {
            let what = one.seq.map_or("all answers".into(), |seq| format!("record {seq}"));
            Ok(context! { code => one.code, rater => name(one.rater)?, by => name(one.by)?, what, reason => one.reason, at => when(one.at_ms),
                          lifted => one.lifted_at.map(when) })
        });
        let members = r.members(id)?.into_iter().map(|member| context! { code => member.code, name => member.name });
        Ok((rows.collect::<crate::Result<Vec<_>>>()?, members.collect::<Vec<_>>()))
    });
    let (exclusions, members) = read.await?;
    let more = context! { exclusions, members, error, alarm => alarm(app, here).await? };
    Ok(inside(here, "exclusions.html", "Exclusions", "exclusions", more))
}

pub(super) async fn exclude(
    State(app): State<App>,
    Path(project): Path<String>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::ManageMembers).await?;
    let (id, by, actor) = (here.project.id, here.viewer.account.id, here.viewer.account.code.clone());
    let change = app.store().write(move |w| {
        let rater = w.account_by_code(fields.get("rater"))?;
        let (seq, reason) = (fields.number("seq"), fields.get("reason"));
        w.exclude(id, rater.id, seq, reason, by)?;
        w.audit(
            Some(id),
            &actor,
            "exclusion.create",
            &rater.code,
            &json!({ "record": seq, "reason": reason }),
        )
    });
    match change.await {
        Ok(()) => Ok(back(&here, "/exclusions")),
        Err(error) => {
            let failure = Failure::from(error);
            let page = exclusions_page(&app, &here, Some(failure.message().to_owned())).await?;
            Ok((failure.status, page).into_response())
        }
    }
}

pub(super) async fn lift(
    State(app): State<App>,
    Path((project, code)): Path<(String, String)>,
    Form { viewer, .. }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::ManageMembers).await?;
    let (id, by, actor) = (here.project.id, here.viewer.account.id, here.viewer.account.code.clone());
    let change = app.store().write(move |w| {
        w.lift_exclusion(id, &code, by)?;
        w.audit(Some(id), &actor, "exclusion.lift", &code, &json!({}))
    });
    change.await?;
    Ok(back(&here, "/exclusions"))
}
