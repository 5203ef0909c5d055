//! Members: who is what in a project.

use rusqlite::{Row, params};

use super::{AccountId, Project, ProjectId, Read, Write};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::roles::Role;
use crate::secret;

/// An account in a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The account.
    pub account: AccountId,
    /// Its code.
    pub code: String,
    /// Its login name.
    pub name: String,
    /// What it is here.
    pub role: Role,
    /// Its name in exports and on colleagues' pages.
    pub pseudonym: String,
    /// Why no tasks are served, until a manager lifts it.
    pub paused: Option<String>,
    /// When it joined.
    pub joined_at: Millis,
}

const COLUMNS: &str = "account, code, name, role, pseudonym, paused, joined_at";

fn member(row: &Row<'_>) -> rusqlite::Result<Member> {
    Ok(Member {
        account: row.get(0)?,
        code: row.get(1)?,
        name: row.get(2)?,
        // The table's check admits no other.
        role: Role::named(row.get_ref(3)?.as_str()?).unwrap_or(Role::Rater),
        pseudonym: row.get(4)?,
        paused: row.get(5)?,
        joined_at: row.get(6)?,
    })
}

impl Read<'_> {
    /// What an account is in a project: an owner of the installation is one everywhere.
    pub fn role(&self, project: ProjectId, account: AccountId) -> Result<Option<Role>> {
        if self.account(account)?.owner {
            return Ok(Some(Role::Owner));
        }
        Ok(self.member(project, account)?.map(|member| member.role))
    }

    /// An account's membership.
    pub fn member(&self, project: ProjectId, account: AccountId) -> Result<Option<Member>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM members JOIN accounts ON accounts.id = account
             WHERE project = ?1 AND account = ?2 AND left_at IS NULL"
        );
        self.one(&sql, params![project, account], member)
    }

    /// The members of a project, by name.
    pub fn members(&self, project: ProjectId) -> Result<Vec<Member>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM members JOIN accounts ON accounts.id = account
             WHERE project = ?1 AND left_at IS NULL ORDER BY name"
        );
        self.list(&sql, [project], member)
    }

    /// Whether a project has a rater.
    pub fn has_raters(&self, project: ProjectId) -> Result<bool> {
        let sql = "SELECT 1 FROM members WHERE project = ?1 AND role = 'rater' AND left_at IS NULL";
        self.exists(sql, [project])
    }

    /// The projects an account is in, with its role; all of them for an owner. The newest first.
    pub fn projects_of(&self, account: AccountId) -> Result<Vec<(Project, Role)>> {
        let mut found = Vec::new();
        for project in self.projects()? {
            if let Some(role) = self.role(project.id, account)? {
                found.push((project, role));
            }
        }
        Ok(found)
    }
}

impl Write<'_> {
    /// Makes an account a member, or changes its role.
    pub fn set_member(&mut self, project: ProjectId, account: AccountId, role: Role) -> Result<Member> {
        if !matches!(role, Role::Manager | Role::Reviewer | Role::Rater) {
            return Err(Error::invalid("a member is a manager, a reviewer or a rater"));
        }
        self.project(project)?;
        self.account(account)?;
        let pseudonym = format!("rater-{}", &secret::code()?[..8]);
        let sql =
            "INSERT INTO members (project, account, role, pseudonym, joined_at) VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT DO UPDATE SET role = excluded.role, left_at = NULL";
        self.execute(sql, params![project, account, role.name(), pseudonym, self.now])?;
        self.member(project, account)?.ok_or(Error::NotFound("member"))
    }

    /// Pauses a member with a reason, or lets it go on. Nothing said before is lost or excluded by it.
    pub fn set_paused(&mut self, project: ProjectId, account: AccountId, reason: Option<&str>) -> Result<()> {
        if reason.is_some_and(|reason| reason.trim().is_empty()) {
            return Err(Error::invalid("a pause needs a reason"));
        }
        let sql = "UPDATE members SET paused = ?3 WHERE project = ?1 AND account = ?2 AND left_at IS NULL";
        self.change_one(sql, params![project, account, reason], "member")
    }

    /// Removes a member; what it said stays, its held task is given back.
    pub fn remove_member(&mut self, project: ProjectId, account: AccountId) -> Result<()> {
        self.give_back_leases(account)?;
        let sql = "UPDATE members SET left_at = ?3 WHERE project = ?1 AND account = ?2 AND left_at IS NULL";
        self.change_one(sql, params![project, account, self.now], "member")
    }

    /// The name of an account in a project's exports. Owners rate without being members, so it is made when needed.
    pub(super) fn ensure_member(&mut self, project: ProjectId, account: AccountId) -> Result<Member> {
        match self.member(project, account)? {
            Some(member) => Ok(member),
            None => self.set_member(project, account, Role::Manager),
        }
    }
}
