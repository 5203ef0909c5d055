//! Quality at a glance, and exclusions with their reasons.

mod tables;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use minijinja::context;

use super::{back, inside, long, show, waited, when};
use crate::manage::manage;
use crate::quality::plots::plots;
use crate::quality::{AtHand, EXCLUSION_ALARM, Quality};
use crate::roles::Action;
use crate::web::App;
use crate::web::failure::{Failure, Result};
use crate::web::fields::Form;
use crate::web::session::{Inside, Viewer};
use crate::web::view::safe;

pub(super) async fn page(
    State(app): State<App>,
    Path(project): Path<String>,
    viewer: Viewer,
) -> Result<Html<String>> {
    let here = viewer.enter(&app, &project, Action::SeeQuality).await?;
    let id = here.project.id;
    let known = app.quality().at_hand(app.store(), id).await?;
    let computing = computing(&known);
    // Nothing can be said of what is not computed yet.
    let quality = known.quality.unwrap_or_default();
    let disagree: Vec<_> = quality.disagreements.iter().map(|one| one.task.clone()).collect();
    let read = app.store().read(move |r| {
        let members = r.members(id)?;
        let pseudonym = |account| {
            let found = members.iter().find(|member| member.account == account);
            found.map_or_else(|| "left the project".into(), |member| member.pseudonym.clone())
        };
        let exclusions: Vec<_> =
            r.exclusions(id)?.into_iter().map(|one| (pseudonym(one.rater), one)).collect();
        let tallies =
            members.iter().map(|member| Ok((r.tally(id, member.account)?, member.pseudonym.clone())));
        let asked = disagree.into_iter().map(|code| Ok(show::brief(&r.words(r.task(id, &code)?.id)?.prompt)));
        let asked = asked.collect::<crate::Result<Vec<_>>>()?;
        Ok((r.progress(id)?, tallies.collect::<crate::Result<Vec<_>>>()?, exclusions, asked))
    });
    let (progress, members, excluded, asked) = read.await?;
    let figures = [
        ("answers", progress.answered.to_string()),
        ("in the last hour", progress.last_hour.to_string()),
        ("wait for an answer", waited(progress.latency_ms)),
        ("raters at work", progress.active_raters.to_string()),
        ("tasks done", progress.done.to_string()),
        ("open", progress.open.to_string()),
        ("to decide", progress.adjudicate.to_string()),
        ("skipped", progress.skipped.to_string()),
    ];
    let figures = figures.map(|(title, value)| context! { title, value });
    let rows = members.into_iter().map(|(tally, name)| {
        let each = tally.active_ms.checked_div(tally.answered).map_or_else(|| "–".into(), long);
        vec![name, tally.answered.to_string(), tally.skipped.to_string(), each]
    });
    let head = ["rater", "answers", "skipped", "each about"];
    let mut shown = tables::tables(&quality);
    shown.push(tables::table("Raters", "", &head, rows.collect()));
    shown.extend(tables::exclusions(excluded));
    let drawn = Arc::clone(&quality);
    let plots = tokio::task::spawn_blocking(move || plots(&drawn)).await.map_err(|e| bug(&e))?;
    let plots = plots.into_iter().map(|plot| context! { title => plot.title, svg => safe(plot.svg) });
    let disagreements = quality.disagreements.iter().zip(asked).map(|(one, prompt)| {
        let said: Vec<_> = one.said.iter().map(|(who, what)| format!("{who}: {what}")).collect();
        context! { task => &*one.task, prompt, said => said.join(" · ") }
    });
    let alarms: Vec<String> =
        computing.into_iter().chain(alarm(&quality)).chain(tables::findings(&quality)).collect();
    let more = context! { figures, alarms, tables => shown, seq => quality.seq, plots => plots.collect::<Vec<_>>(),
    disagreements => disagreements.collect::<Vec<_>>() };
    Ok(inside(&here, "quality.html", "Quality", "quality", more))
}

/// Says that the figures on the page are not those of the last record.
fn computing(known: &AtHand) -> Option<String> {
    match &known.quality {
        None => Some(
            "Agreement, biases and strengths are being computed; open this page again in a minute.".into(),
        ),
        Some(quality) if quality.seq < known.last => Some(format!(
            "The log has grown to record {} meanwhile: newer figures are being computed; open this page again in a minute.",
            known.last
        )),
        Some(_) => None,
    }
}

fn bug(error: &tokio::task::JoinError) -> crate::Error {
    crate::Error::Bug(error.to_string())
}

/// Whether a large part of what was said is excluded: honest votes may be thrown away.
fn alarm(quality: &Quality) -> Option<String> {
    let (share, all) = (quality.exclusion_rate, quality.answers + quality.excluded);
    (share > EXCLUSION_ALARM).then(|| {
        format!(
            "{} of {all} answers are excluded ({:.0}%): look whether the reasons still hold.",
            quality.excluded,
            share * 100.0
        )
    })
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
    let known = app.quality().at_hand(app.store(), here.project.id).await?;
    let alarm = known.quality.and_then(|quality| alarm(&quality));
    let more = context! { exclusions, members, error, alarm };
    Ok(inside(here, "exclusions.html", "Exclusions", "exclusions", more))
}

pub(super) async fn exclude(
    State(app): State<App>,
    Path(project): Path<String>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::ManageMembers).await?;
    let change = manage(app.store(), here.actor(), move |m| {
        m.exclude(fields.get("rater"), fields.number("seq"), fields.get("reason"))
    });
    match change.await {
        Ok(_) => Ok(back(&here, "/exclusions")),
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
    manage(app.store(), here.actor(), move |m| m.lift_exclusion(&code)).await?;
    Ok(back(&here, "/exclusions"))
}
