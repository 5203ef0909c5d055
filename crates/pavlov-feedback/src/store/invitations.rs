//! Invitations: one-time links that make accounts and members.

use rusqlite::{Row, params};

use super::{Account, AccountId, ProjectId, Read, Write};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::roles::Role;
use crate::secret;

/// A link that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Names it in addresses and the API; not the secret of the link.
    pub code: String,
    /// The project; none makes an owner of the installation.
    pub project: Option<ProjectId>,
    /// What the invited will be.
    pub role: Role,
    /// When it was made.
    pub created_at: Millis,
    /// When it runs out.
    pub expires_at: Millis,
    /// Who used it.
    pub used_by: Option<AccountId>,
    /// When it was revoked.
    pub revoked_at: Option<Millis>,
}

const COLUMNS: &str = "code, project, role, created_at, expires_at, used_by, revoked_at";

fn invitation(row: &Row<'_>) -> rusqlite::Result<Invitation> {
    Ok(Invitation {
        code: row.get(0)?,
        project: row.get(1)?,
        // Only `invite` writes it.
        role: Role::named(row.get_ref(2)?.as_str()?).unwrap_or(Role::Rater),
        created_at: row.get(3)?,
        expires_at: row.get(4)?,
        used_by: row.get(5)?,
        revoked_at: row.get(6)?,
    })
}

impl Read<'_> {
    /// The invitation of a link's token, if it can still be used.
    pub fn invitation(&self, token: &str) -> Result<Invitation> {
        let sql = format!(
            "SELECT {COLUMNS} FROM invitations WHERE hash = ?1 AND used_by IS NULL AND revoked_at IS NULL AND expires_at > ?2"
        );
        let found = self.one(&sql, params![secret::hash(token), self.now], invitation)?;
        found.ok_or(Error::NotFound("invitation; links work once and for a limited time, ask for a new one"))
    }

    /// The invitations of a project, the newest first.
    pub fn invitations(&self, project: ProjectId) -> Result<Vec<Invitation>> {
        let sql = format!("SELECT {COLUMNS} FROM invitations WHERE project = ?1 ORDER BY id DESC");
        self.list(&sql, [project], invitation)
    }
}

impl Write<'_> {
    /// Makes a one-time link; its token, which is stored nowhere. Without a project it makes an owner.
    pub fn invite(
        &mut self,
        project: Option<ProjectId>,
        role: Role,
        by: Option<AccountId>,
        lasts_ms: Millis,
    ) -> Result<String> {
        let fits = match project {
            Some(project) => self.project(project).map(|_| role != Role::Owner && role != Role::Service)?,
            None => role == Role::Owner,
        };
        if !fits {
            return Err(Error::invalid(
                "one is invited to a project as manager, reviewer or rater, to none as owner",
            ));
        }
        let token = secret::token()?;
        let sql = "INSERT INTO invitations (code, hash, project, role, created_by, created_at, expires_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let (hash, expires) = (secret::hash(&token), self.now.saturating_add(lasts_ms));
        self.insert(sql, params![secret::code()?, hash, project, role.name(), by, self.now, expires])?;
        Ok(token)
    }

    /// Uses a link up: makes the account a member, or an owner.
    pub fn accept_invitation(&mut self, token: &str, account: AccountId) -> Result<Invitation> {
        let found = self.invitation(token)?;
        match found.project {
            // A link never lowers what somebody is already.
            Some(project) if self.member(project, account)?.is_none_or(|m| m.role == Role::Rater) => {
                self.set_member(project, account, found.role)?;
            }
            Some(_) => {}
            None => self.change_one("UPDATE accounts SET owner = 1 WHERE id = ?1", [account], "account")?,
        }
        let sql = "UPDATE invitations SET used_by = ?2, used_at = ?3 WHERE hash = ?1";
        self.execute(sql, params![secret::hash(token), account, self.now])?;
        Ok(found)
    }

    /// Makes an account with a link and uses the link up.
    pub fn join(&mut self, token: &str, name: &str, password_hash: &str) -> Result<(Account, Invitation)> {
        self.invitation(token)?;
        let account = self.create_account(name, Some(password_hash), false)?;
        let invitation = self.accept_invitation(token, account.id)?;
        Ok((self.account(account.id)?, invitation))
    }

    /// Makes a link useless.
    pub fn revoke_invitation(&mut self, project: ProjectId, code: &str) -> Result<()> {
        let sql =
            "UPDATE invitations SET revoked_at = coalesce(revoked_at, ?3) WHERE project = ?1 AND code = ?2";
        self.change_one(sql, params![project, code, self.now], "invitation")
    }
}
