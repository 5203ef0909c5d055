//! `pavlov feedback import|export|stats|invite|backup`: what needs no server, and works while one runs.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use pavlov_feedback::api::Scope;
use pavlov_feedback::io::export;
use pavlov_feedback::io::import::{self, Imported};
use pavlov_feedback::io::log::{Pages, SoFar};
use pavlov_feedback::roles::Role;
use pavlov_feedback::settings::Settings;
use pavlov_feedback::store::{Added, MOST_TASKS, NewProject, NewToken, Project, TaskState};
use pavlov_feedback::{Error, Store};
use pavlov_schema::feedback::{NewTask, TaskKind};
use pavlov_schema::files;
use serde_json::json;

use super::{DbArgs, sampled, wrong};
use crate::failure::bad_input;
use crate::{screen, stdout};

/// Which project.
#[derive(Debug, Args)]
struct ProjectArgs {
    #[command(flatten)]
    db: DbArgs,
    /// The project, by its name or code
    #[arg(long, value_name = "NAME")]
    project: String,
}

impl ProjectArgs {
    fn open(&self) -> Result<(Store, Project)> {
        let store = self.db.open(false)?;
        let project = self.find(&store)?.ok_or_else(|| self.missing())?;
        Ok((store, project))
    }

    fn find(&self, store: &Store) -> Result<Option<Project>> {
        let name = self.project.clone();
        match store.read_now(move |r| r.project_called(&name)) {
            Err(Error::NotFound(_)) => Ok(None),
            other => other.map(Some).map_err(wrong),
        }
    }

    fn missing(&self) -> anyhow::Error {
        let (name, db) = (&self.project, self.db.db.display());
        bad_input(format!(
            "--project: {db} has no project {name}; make it on the pages, or import with --create"
        ))
    }
}

/// `pavlov feedback import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// The file: JSON lines, a JSON array, Parquet or .csv of prompts, prompts with answers, chosen and rejected, dialogues
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Make the project if it is not there, of this --kind
    #[arg(long)]
    create: bool,
    /// What people are asked to do [default: what the project asks]
    #[arg(long, value_enum)]
    kind: Option<KindArg>,
    /// The column of the prompt [default: prompt]
    #[arg(long, value_name = "NAME")]
    prompt_column: Option<String>,
    /// The column of the answer [default: completion]
    #[arg(long, value_name = "NAME")]
    completion_column: Option<String>,
    /// `chosen` is known to be better, or `ranks` to be right: tasks that measure raters, served like any other
    #[arg(long)]
    gold: bool,
    #[command(flatten)]
    sampled: sampled::SampledArgs,
    /// Print {"added", "existed", …} on stdout, and nothing else there
    #[arg(long)]
    json: bool,
}

/// What people are asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KindArg {
    /// Compare two answers
    Pairwise,
    /// Put 2 to 9 answers in order
    Ranking,
    /// Rate one answer
    Pointwise,
    /// Write an answer
    Demonstration,
    /// Mend an answer
    Edit,
}

impl KindArg {
    fn kind(self) -> TaskKind {
        match self {
            Self::Pairwise => TaskKind::Pairwise,
            Self::Ranking => TaskKind::Ranking,
            Self::Pointwise => TaskKind::Pointwise,
            Self::Demonstration => TaskKind::Demonstration,
            Self::Edit => TaskKind::Edit,
        }
    }
}

pub(crate) fn import(args: &ImportArgs) -> Result<()> {
    let store = args.project.db.open(args.create)?;
    let found = args.project.find(&store)?;
    if found.is_none() && !args.create {
        return Err(args.project.missing());
    }
    let asked = found.as_ref().map_or(TaskKind::Pairwise, |project| project.settings.kind);
    let kind = args.kind.map_or(asked, KindArg::kind);
    // Before the project is made: a file that cannot be read leaves nothing behind.
    let options = import::Options {
        kind,
        prompt: args.prompt_column.clone(),
        completion: args.completion_column.clone(),
        gold: args.gold,
    };
    let Imported { mut tasks, empty } = if args.sampled.model.is_empty() {
        import::file(&args.data, &options)?
    } else {
        sampled::tasks(&args.sampled, &args.data, options)?
    };
    for task in &mut tasks {
        task.kind = task.kind.or(Some(kind));
    }
    let project = match found {
        Some(project) => project,
        None => create(&store, &args.project.project, kind)?,
    };
    let added = add(&store, &project, tasks)?;
    let count = |wanted: &dyn Fn(&Added) -> bool| added.iter().filter(|one| wanted(one)).count();
    let existed = count(&|one| one.existed);
    let (held, collapsed) =
        (count(&|one| one.state == TaskState::Held), count(&|one| one.state == TaskState::Collapsed));
    let new = added.len() - existed;
    if args.json {
        return stdout::json(
            &json!({ "added": new, "existed": existed, "held": held, "collapsed": collapsed, "empty": empty }),
        );
    }
    screen::line(&format!("{new} tasks added to {}, {existed} were there already", project.name));
    if empty > 0 {
        screen::line(&format!("{empty} are left out: they would show an answer without a character"));
    }
    if collapsed > 0 {
        screen::line(&format!("{collapsed} have answers that all read the same; nobody is asked about them"));
    }
    if held > 0 {
        screen::line(&format!("{held} may name the model that wrote them; they wait for a manager's look"));
    }
    Ok(())
}

fn create(store: &Store, name: &str, kind: TaskKind) -> Result<Project> {
    let new = NewProject {
        name: name.to_owned(),
        settings: Settings { kind, ..Settings::default() },
        guidelines: String::new(),
    };
    let made = store.write_now(move |w| {
        let owner = w.accounts()?.into_iter().find(|account| account.owner && account.closed_at.is_none());
        let Some(owner) = owner else { return Ok(None) };
        let project = w.create_project(&new, owner.id)?;
        w.audit(
            Some(project.id),
            "command line",
            "project.create",
            &project.code,
            &json!({ "name": project.name }),
        )?;
        Ok(Some(project))
    });
    made.map_err(wrong)?.ok_or_else(|| {
        bad_input("--create: nobody owns this installation yet; run `pavlov feedback serve` and open the link it prints")
    })
}

fn add(store: &Store, project: &Project, tasks: Vec<NewTask>) -> Result<Vec<Added>> {
    let (id, mut all) = (project.id, Vec::with_capacity(tasks.len()));
    let mut rest = tasks.into_iter();
    loop {
        let part: Vec<NewTask> = rest.by_ref().take(MOST_TASKS).collect();
        if part.is_empty() {
            break;
        }
        let n = all.len();
        match store.write_now(move |w| w.add_tasks(id, &part)) {
            Err(full @ Error::Full { .. }) if n > 0 => {
                return Err(bad_input(format!(
                    "{full}; {n} tasks of the file are in, import it again for the rest"
                )));
            }
            added => all.extend(added.map_err(wrong)?),
        }
    }
    let n = all.len();
    let note = json!({ "tasks": n });
    store
        .write_now(move |w| w.audit(Some(id), "command line", "task.import", "file", &note))
        .map_err(wrong)?;
    Ok(all)
}

/// `pavlov feedback export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// What the rows are for
    #[arg(long, value_enum, default_value_t = FormatArg::Judgments)]
    format: FormatArg,
    /// The file to write [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// Every sealed record as it is, retractions too
    Log,
    /// What people said, as docs/formats.md has it
    Judgments,
    /// {"prompt", "chosen", "rejected", "margin"}
    Dpo,
    /// {"prompt", "completion", "label"}
    Kto,
    /// {"prompt", "completions", "ranks"}: answers that people put in order
    Ranking,
    /// {"prompt", "completion"}, or {"messages"}: answers that people wrote or mended
    Sft,
}

impl FormatArg {
    fn format(self) -> export::Format {
        match self {
            Self::Log => export::Format::Log,
            Self::Judgments => export::Format::Judgments,
            Self::Dpo => export::Format::Dpo,
            Self::Kto => export::Format::Kto,
            Self::Ranking => export::Format::Ranking,
            Self::Sft => export::Format::Sft,
        }
    }
}

pub(crate) fn export(args: &ExportArgs) -> Result<()> {
    let (store, project) = args.project.open()?;
    let mut pages = Pages::begin(&store, project.id, args.format.format()).map_err(wrong)?;
    match &args.out {
        Some(path) => files::write_atomic(path, |file| {
            pages.try_for_each(|page| file.write_all(page.map_err(io::Error::other)?.as_bytes()))
        })?,
        None => pages.try_for_each(|page| stdout::text(&page.map_err(wrong)?))?,
    }
    let SoFar { records, rows, left_out } = pages.so_far();
    screen::line(&format!("{rows} rows of {records} sealed records"));
    if store.read_now(move |r| r.last_seq(project.id)).map_err(wrong)? > pages.through() {
        let window = project.settings.undo_window_s;
        screen::line(&format!("answers of the last {window} s can still be undone; export again for these"));
    }
    for (why, n) in left_out {
        screen::line(&format!("left out: {n} {why}"));
    }
    Ok(())
}

/// `pavlov feedback stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// Print the figures on stdout, and nothing else there
    #[arg(long)]
    json: bool,
}

pub(crate) fn stats(args: &StatsArgs) -> Result<()> {
    let (store, project) = args.project.open()?;
    let id = project.id;
    let (progress, sealed, lessons) = store
        .read_now(move |r| Ok((r.progress(id)?, r.sealed_through(id)?, r.lessons(id)?)))
        .map_err(wrong)?;
    if args.json {
        return stdout::json(
            &json!({ "project": project.name, "progress": progress, "sealed_through": sealed, "lessons": lessons }),
        );
    }
    let lines = [
        (progress.open, "tasks wait for answers"),
        (progress.done, "tasks have them"),
        (progress.adjudicate, "tasks wait for a reviewer"),
        (progress.held, "tasks wait for a manager: an answer may name its model"),
        (progress.collapsed, "pairs read the same; nobody is asked"),
        (progress.withdrawn, "tasks were withdrawn"),
        (progress.gold, "tasks with a known answer"),
        (progress.answered, "answers hold"),
        (progress.skipped, "times a task was passed on"),
        (progress.active_raters, "raters hold a task now"),
        (progress.last_hour, "answers in the last hour"),
    ];
    stdout::text(&format!("{}\n", project.name))?;
    for (n, what) in lines {
        stdout::text(&format!("{n:>9}  {what}\n"))?;
    }
    for one in lessons {
        let [share, low, high] = [one.accuracy, one.low, one.high].map(|share| share * 100.0);
        let (run, judgments, held_out) = (one.run, one.judgments, one.held_out);
        stdout::text(&format!(
            "{share:>8.1}% ({low:.1}–{high:.1}%) of {held_out} held-out judgments foretold by {run} after {judgments}\n"
        ))?;
    }
    Ok(())
}

/// `pavlov feedback invite`.
#[derive(Debug, Args)]
pub(crate) struct InviteArgs {
    #[command(flatten)]
    db: DbArgs,
    /// The project, by its name or code; an owner needs none
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// What the invited will be
    #[arg(long, value_enum, default_value_t = RoleArg::Rater)]
    role: RoleArg,
    /// Days until it runs out
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=366))]
    days: u16,
    /// The address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Print {"link"} or {"token"} on stdout, and nothing else there
    #[arg(long)]
    json: bool,
}

/// What somebody is invited as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoleArg {
    /// Runs the installation
    Owner,
    /// Runs the project
    Manager,
    /// Decides between raters
    Reviewer,
    /// Answers
    Rater,
    /// A program: a token that sends tasks and reads sealed records
    Service,
}

pub(crate) fn invite(args: &InviteArgs) -> Result<()> {
    let store = args.db.open(false)?;
    let (role, lasts) = (args.role, i64::from(args.days) * 86_400_000);
    let project = args.project.clone();
    let made = store.write_now(move |w| {
        let project = project.map(|name| w.project_called(&name)).transpose()?.map(|project| project.id);
        if role == RoleArg::Service {
            let project =
                project.ok_or_else(|| Error::Invalid("--project: a service needs one; name it".into()))?;
            let new = NewToken {
                name: "command line".into(),
                project: Some(project),
                scopes: Some(vec![Scope::Read, Scope::Tasks, Scope::Judgments]),
                expires_at: Some(w.now() + lasts),
                ..NewToken::default()
            };
            let (secret, token) = w.new_token(&new)?;
            w.audit(
                Some(project),
                "command line",
                "token.create",
                &token.code,
                &json!({ "role": "service" }),
            )?;
            return Ok(secret);
        }
        let role = match role {
            RoleArg::Owner => Role::Owner,
            RoleArg::Manager => Role::Manager,
            RoleArg::Reviewer => Role::Reviewer,
            RoleArg::Rater | RoleArg::Service => Role::Rater,
        };
        let token = w.invite(project, role, None, lasts)?;
        w.audit(project, "command line", "invitation.create", role.name(), &json!({}))?;
        Ok(token)
    });
    let secret = made.map_err(wrong)?;
    let service = role == RoleArg::Service;
    let told = if service { secret } else { format!("{}/join/{secret}", args.url.trim_end_matches('/')) };
    if args.json {
        return stdout::json(&if service { json!({ "token": told }) } else { json!({ "link": told }) });
    }
    let days = args.days;
    screen::line(&if service {
        format!("a token for {days} days; it is stored nowhere, keep it:")
    } else {
        format!("a link that works once, within {days} days:")
    });
    stdout::text(&format!("{told}\n"))
}

/// `pavlov feedback backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    db: DbArgs,
    /// The file to write, which must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn backup(args: &BackupArgs) -> Result<()> {
    args.db.open(false)?.backup(&args.out).map_err(wrong)?;
    screen::line(&format!("{} copied to {}", args.db.db.display(), args.out.display()));
    Ok(())
}
