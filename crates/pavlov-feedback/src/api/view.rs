//! What the API tells of the store's things. Nothing here names a policy, a seed or a score to a rater.

use pavlov_schema::feedback::{Answer, NewTask, TaskKind};
use pavlov_schema::ranking::Order;
use pavlov_schema::text::Text;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Scope;
use crate::clock::Millis;
use crate::roles::Role;
use crate::settings::{Question, Settings};
use crate::store::{self, Idle, LogKind, Served, Standing, TaskRole, TaskState};

/// Nothing but success.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// Always true.
    pub(super) done: bool,
}

pub(super) const DONE: axum::Json<Done> = axum::Json(Done { done: true });

/// A secret that is told once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewSecret {
    /// The secret; it is stored nowhere.
    pub(super) token: String,
    /// What is known of it.
    pub(super) about: TokenView,
}

/// A token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct TokenView {
    code: String,
    name: String,
    /// What it is limited to; absent is all that its holder may.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<Scope>>,
    service: bool,
    created_at: Millis,
    expires_at: Option<Millis>,
    revoked_at: Option<Millis>,
}

impl From<store::Token> for TokenView {
    fn from(token: store::Token) -> Self {
        let store::Token { code, name, account, scopes, created_at, expires_at, revoked_at, .. } = token;
        Self { code, name, scopes, service: account.is_none(), created_at, expires_at, revoked_at }
    }
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Account)]
pub(super) struct AccountView {
    code: String,
    name: String,
    owner: bool,
    created_at: Millis,
    closed_at: Option<Millis>,
}

impl From<store::Account> for AccountView {
    fn from(account: store::Account) -> Self {
        let store::Account { code, name, owner, created_at, closed_at, .. } = account;
        Self { code, name, owner, created_at, closed_at }
    }
}

/// A project, as far as the caller may see it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Project)]
pub(super) struct ProjectView {
    code: String,
    name: String,
    /// What the caller is in it.
    role: Role,
    guidelines: String,
    guideline_version: u32,
    /// What a rater's form has.
    form: Form,
    /// Everything a manager decides; for those who may.
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Settings>,
    created_at: Millis,
    closed_at: Option<Millis>,
}

/// What a rater's form has.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a part of the form, independent of the others")]
pub(super) struct Form {
    kind: TaskKind,
    questions: Vec<Question>,
    strength: bool,
    rationale: bool,
    marks: bool,
    edits: bool,
    undo_window_s: u32,
}

impl ProjectView {
    pub(super) fn new(project: store::Project, role: Role, whole: bool) -> Self {
        let s = &project.settings;
        let form = Form {
            kind: s.kind,
            questions: s.questions.clone(),
            strength: s.strength,
            rationale: s.rationale,
            marks: s.marks,
            edits: s.edits,
            undo_window_s: s.undo_window_s,
        };
        let store::Project {
            code, name, settings, guidelines, guideline_version, created_at, closed_at, ..
        } = project;
        let settings = whole.then_some(settings);
        Self { code, name, role, guidelines, guideline_version, form, settings, created_at, closed_at }
    }
}

/// A member of a project.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
pub(super) struct MemberView {
    /// The account.
    code: String,
    name: String,
    role: Role,
    /// Its name in exports.
    pseudonym: String,
    paused: Option<String>,
    joined_at: Millis,
}

impl From<store::Member> for MemberView {
    fn from(member: store::Member) -> Self {
        let store::Member { code, name, role, pseudonym, paused, joined_at, .. } = member;
        Self { code, name, role, pseudonym, paused, joined_at }
    }
}

/// An invitation, without its link.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invitation)]
pub(super) struct InvitationView {
    code: String,
    role: Role,
    created_at: Millis,
    expires_at: Millis,
    used: bool,
    revoked_at: Option<Millis>,
}

impl From<store::Invitation> for InvitationView {
    fn from(invitation: store::Invitation) -> Self {
        let store::Invitation { code, role, created_at, expires_at, used_by, revoked_at, .. } = invitation;
        Self { code, role, created_at, expires_at, used: used_by.is_some(), revoked_at }
    }
}

/// A task as managers and trainers see it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Task)]
pub(super) struct TaskView {
    task: String,
    key: Option<String>,
    kind: TaskKind,
    role: TaskRole,
    state: TaskState,
    policy_version: u64,
    /// The sentence in which an answer names its model.
    leak: Option<String>,
    /// People who shall answer.
    overlap: u32,
    /// People who have.
    submitted: u32,
    /// People who are at it.
    leased: u32,
    created_at: Millis,
    done_at: Option<Millis>,
}

impl From<store::Task> for TaskView {
    fn from(task: store::Task) -> Self {
        Self {
            task: task.code,
            key: task.key,
            kind: task.kind,
            role: task.role,
            state: task.state,
            policy_version: task.policy_version,
            leak: task.leak,
            overlap: task.overlap,
            submitted: task.submitted,
            leased: task.leased,
            created_at: task.created_at,
            done_at: task.done_at,
        }
    }
}

/// An answer with its name, for reviewers: the texts alone.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Shown)]
pub(super) struct ShownView {
    /// Opaque and random: replies name the answer by it.
    id: String,
    text: Text,
}

impl ShownView {
    pub(super) fn new(id: String, text: Text) -> Self {
        Self { id, text }
    }
}

/// What one person said about a task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskAnswer)]
pub(super) struct TaskAnswerView {
    seq: u64,
    pseudonym: String,
    /// 0: the first look, 1: the swapped repeat, 2: a reviewer's decision.
    pass: u8,
    standing: Standing,
    answer: Option<Answer>,
    at_ms: Millis,
    active_ms: u64,
}

impl From<store::TaskAnswer> for TaskAnswerView {
    fn from(one: store::TaskAnswer) -> Self {
        let store::TaskAnswer { seq, pseudonym, pass, standing, answer, at_ms, active_ms, .. } = one;
        Self { seq, pseudonym, pass, standing, answer, at_ms, active_ms }
    }
}

/// A task with its words and what was said about it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskDetail {
    pub(super) about: TaskView,
    pub(super) prompt: Text,
    /// In the task's own order: the first one is `left` in an adjudication.
    pub(super) responses: Vec<ShownView>,
    pub(super) answers: Vec<TaskAnswerView>,
}

/// A task as a rater holds it; or why there is none.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Claimed)]
pub(super) enum ServedView {
    /// A task.
    Task(LeaseView),
    /// None: `done`, `not_now`, `paused` (with the reason), `closed`.
    Idle(IdleView),
}

/// Why there is no task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Idle)]
pub(super) struct IdleView {
    why: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// A task that a rater holds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lease)]
pub(super) struct LeaseView {
    lease: String,
    task: String,
    kind: TaskKind,
    prompt: Text,
    /// In the order of the screen, from left to right.
    responses: Vec<ShownView>,
    /// Of the calibration round: the right answer is told afterwards.
    calibration: bool,
    expires_at: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    draft: Option<DraftView>,
}

/// What was begun.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Draft)]
pub(super) struct DraftView {
    /// Counts the changes; an older one never overwrites a newer one.
    pub(super) revision: u64,
    /// Whatever is wanted back.
    pub(super) body: String,
}

impl From<store::Lease> for LeaseView {
    fn from(lease: store::Lease) -> Self {
        Self {
            lease: lease.code,
            task: lease.task,
            kind: lease.kind,
            prompt: lease.prompt,
            responses: lease.responses.into_iter().map(|one| ShownView::new(one.id, one.text)).collect(),
            calibration: lease.calibration,
            expires_at: lease.expires_at,
            draft: lease.draft.map(|draft| DraftView { revision: draft.revision, body: draft.body }),
        }
    }
}

impl From<Served> for ServedView {
    fn from(served: Served) -> Self {
        let idle = |why, reason| Self::Idle(IdleView { why, reason });
        match served {
            Served::Task(lease) => Self::Task((*lease).into()),
            Served::Nothing(Idle::Done) => idle("done", None),
            Served::Nothing(Idle::NotNow) => idle("not_now", None),
            Served::Nothing(Idle::Paused(reason)) => idle("paused", Some(reason)),
            Served::Nothing(Idle::Closed) => idle("closed", None),
        }
    }
}

/// What the log knows of something that was said.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Logged)]
pub(super) struct LoggedView {
    /// Place in the log.
    seq: u64,
    id: String,
    record: LogKind,
    task: String,
    /// When it can no longer be undone.
    seals_at: Millis,
    /// It had arrived before under the same key; nothing was added.
    repeated: bool,
}

impl From<store::Logged> for LoggedView {
    fn from(logged: store::Logged) -> Self {
        let store::Logged { seq, id, kind, task, seals_at, repeated } = logged;
        Self { seq, id, record: kind, task, seals_at, repeated }
    }
}

/// What a submission gives back.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Submitted)]
pub(super) struct SubmittedView {
    pub(super) logged: LoggedView,
    /// After a task of the calibration round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lesson: Option<LessonView>,
    /// The next task, where `next=true` asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<ServedView>,
}

/// What the calibration round teaches.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lesson)]
pub(super) struct LessonView {
    right: bool,
    gold: Answer,
    explanation: Option<String>,
}

impl From<store::Lesson> for LessonView {
    fn from(lesson: store::Lesson) -> Self {
        let store::Lesson { right, gold, explanation } = lesson;
        Self { right, gold, explanation }
    }
}

/// What an undo gives back.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Undone)]
pub(super) struct UndoneView {
    logged: LoggedView,
    /// The task, held again; absent where an earlier version of the answer holds again.
    lease: Option<LeaseView>,
    /// What was taken back.
    answer: Option<Answer>,
}

impl From<store::Undone> for UndoneView {
    fn from(undone: store::Undone) -> Self {
        Self { logged: undone.logged.into(), lease: undone.lease.map(LeaseView::from), answer: undone.answer }
    }
}

/// One of the caller's own answers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MyAnswer)]
pub(super) struct MyAnswerView {
    seq: u64,
    task: String,
    kind: TaskKind,
    standing: Standing,
    answer: Option<Answer>,
    shown: Option<Order>,
    at_ms: Millis,
    seals_at: Millis,
}

impl From<store::MyAnswer> for MyAnswerView {
    fn from(mine: store::MyAnswer) -> Self {
        let store::MyAnswer { seq, task, kind, standing, answer, shown, at_ms, seals_at } = mine;
        Self { seq, task, kind, standing, answer, shown, at_ms, seals_at }
    }
}

/// An exclusion of answers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Exclusion)]
pub(super) struct ExclusionView {
    code: String,
    seq: Option<u64>,
    reason: String,
    at_ms: Millis,
    lifted_at: Option<Millis>,
}

impl From<store::Exclusion> for ExclusionView {
    fn from(exclusion: store::Exclusion) -> Self {
        let store::Exclusion { code, seq, reason, at_ms, lifted_at, .. } = exclusion;
        Self { code, seq, reason, at_ms, lifted_at }
    }
}

/// An entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(super) struct AuditView {
    seq: u64,
    at_ms: Millis,
    actor: String,
    action: String,
    object: String,
    #[schema(value_type = Object)]
    detail: serde_json::Value,
}

impl From<store::AuditEntry> for AuditView {
    fn from(entry: store::AuditEntry) -> Self {
        let store::AuditEntry { seq, at_ms, actor, action, object, detail, .. } = entry;
        Self { seq, at_ms, actor, action, object, detail }
    }
}

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(super) struct WebhookView {
    code: String,
    url: String,
    /// The key of its signatures; managers alone see it.
    secret: String,
    cursor: u64,
}

impl From<store::Webhook> for WebhookView {
    fn from(webhook: store::Webhook) -> Self {
        let store::Webhook { code, url, secret, cursor, .. } = webhook;
        Self { code, url, secret, cursor }
    }
}

/// One announcement.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(super) struct DeliveryView {
    id: i64,
    attempts: u32,
    next_at: Millis,
    delivered_at: Option<Millis>,
    dead_at: Option<Millis>,
    error: Option<String>,
}

impl From<store::Delivery> for DeliveryView {
    fn from(delivery: store::Delivery) -> Self {
        let store::Delivery { id, attempts, next_at, delivered_at, dead_at, error, .. } = delivery;
        Self { id, attempts, next_at, delivered_at, dead_at, error }
    }
}

/// Tasks to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTasks {
    /// All of them are taken, or none.
    pub(super) tasks: Vec<NewTask>,
}
