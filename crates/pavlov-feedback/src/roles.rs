//! Who may do what: one function that pages and the API ask.

use serde::{Deserialize, Serialize};

/// What a person or a service token is in a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the installation: every project and every account.
    Owner,
    /// Runs a project: its settings, tasks, people and figures.
    Manager,
    /// Decides between raters, and rates.
    Reviewer,
    /// Rates.
    Rater,
    /// A trainer's token: sends tasks, reads sealed records, tells what was learned.
    Service,
}

/// What can be asked for. An action in a project is asked of the role there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make a project; see all accounts; close accounts; make owners.
    Administer,
    /// See that the project exists, its name and guidelines.
    SeeProject,
    /// Claim, answer, skip, undo, correct and retract one's own answers.
    Rate,
    /// Decide between raters, see a task's answers.
    Adjudicate,
    /// Retract another's answer.
    RetractOthers,
    /// See figures, agreement, raters' pages.
    SeeQuality,
    /// Change the project's settings and guidelines.
    ChangeProject,
    /// Send, withdraw and promote tasks.
    SendTasks,
    /// Read sealed records; export.
    ReadJudgments,
    /// Tell what a model learned of them.
    TellLessons,
    /// See who is a member. Seeing does not imply managing.
    SeeMembers,
    /// Invite, change roles, pause, remove; exclude answers.
    ManageMembers,
    /// Make and revoke tokens and webhooks.
    ManageTokens,
    /// Read the audit log.
    SeeAudit,
}

impl Action {
    /// All of them, for tests of the whole matrix.
    pub const ALL: [Self; 14] = [
        Self::Administer,
        Self::SeeProject,
        Self::Rate,
        Self::Adjudicate,
        Self::RetractOthers,
        Self::SeeQuality,
        Self::ChangeProject,
        Self::SendTasks,
        Self::ReadJudgments,
        Self::TellLessons,
        Self::SeeMembers,
        Self::ManageMembers,
        Self::ManageTokens,
        Self::SeeAudit,
    ];
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Owner, Self::Manager, Self::Reviewer, Self::Rater, Self::Service];

    /// The name in the database, files and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Manager => "manager",
            Self::Reviewer => "reviewer",
            Self::Rater => "rater",
            Self::Service => "service",
        }
    }

    /// The role of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Whether a role permits an action.
pub fn may(role: Role, action: Action) -> bool {
    match role {
        Role::Owner => true,
        Role::Manager => action != Action::Administer,
        Role::Reviewer => matches!(
            action,
            Action::SeeProject
                | Action::Rate
                | Action::Adjudicate
                | Action::RetractOthers
                | Action::SeeQuality
                | Action::SeeMembers
        ),
        Role::Rater => matches!(action, Action::SeeProject | Action::Rate),
        Role::Service => {
            matches!(
                action,
                Action::SeeProject
                    | Action::SendTasks
                    | Action::ReadJudgments
                    | Action::TellLessons
                    | Action::SeeQuality
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_what_it_is_for() {
        let count = |role| Action::ALL.into_iter().filter(|&action| may(role, action)).count();
        assert_eq!(Role::ALL.map(count), [14, 13, 6, 2, 5]);
        assert!(!may(Role::Service, Action::Rate) && !may(Role::Rater, Action::SeeQuality));
        assert!(!may(Role::Reviewer, Action::ManageMembers) && !may(Role::Manager, Action::Administer));
        assert!(Role::ALL.into_iter().all(|role| Role::named(role.name()) == Some(role)));
    }
}
