//! Scopes: a token may be given less than its holder may.

use serde::{Deserialize, Serialize};

use crate::roles::Action;

/// A part of what a token's holder may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// See the project, its progress and figures.
    Read,
    /// Send and withdraw tasks.
    Tasks,
    /// Read sealed records; export; tell what was learned of them.
    Judgments,
    /// Claim tasks and answer them.
    Rate,
    /// Decide between raters, retract others' answers.
    Review,
    /// Settings, members, tokens, webhooks, the audit log.
    Manage,
    /// The installation: projects and accounts.
    Administer,
}

impl Scope {
    /// The scope that an action belongs to.
    pub fn of(action: Action) -> Self {
        match action {
            Action::SeeProject | Action::SeeQuality => Self::Read,
            Action::SendTasks => Self::Tasks,
            Action::ReadJudgments | Action::TellLessons => Self::Judgments,
            Action::Rate => Self::Rate,
            Action::Adjudicate | Action::RetractOthers => Self::Review,
            Action::ChangeProject
            | Action::SeeMembers
            | Action::ManageMembers
            | Action::ManageTokens
            | Action::SeeAudit => Self::Manage,
            Action::Administer => Self::Administer,
        }
    }

    /// The name in the API and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Tasks => "tasks",
            Self::Judgments => "judgments",
            Self::Rate => "rate",
            Self::Review => "review",
            Self::Manage => "manage",
            Self::Administer => "administer",
        }
    }
}
