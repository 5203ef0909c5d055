//! Who accounts are at a sign-in provider. At most one person there is an account here, and the other way round.

use rusqlite::params;

use super::{Account, AccountId, Invitation, Read, Write};
use crate::error::{Error, Result};
use crate::oidc::Identity;

impl Read<'_> {
    /// The account of somebody who signed in at a provider, if they have one that is open.
    ///
    /// # Errors
    /// [`Error::Forbidden`]: theirs was closed.
    pub fn account_of(&self, identity: &Identity) -> Result<Option<Account>> {
        let sql = "SELECT account FROM identities WHERE issuer = ?1 AND subject = ?2";
        let found: Option<AccountId> =
            self.one(sql, params![identity.issuer, identity.subject], |row| row.get(0))?;
        let account = found.map(|id| self.account(id)).transpose()?;
        if account.as_ref().is_some_and(|account| account.closed_at.is_some()) {
            return Err(Error::Forbidden(
                "your account here is closed; ask an owner of this installation".into(),
            ));
        }
        Ok(account)
    }

    /// Whether an account is connected with somebody at a provider.
    pub fn is_connected(&self, account: AccountId, issuer: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM identities WHERE account = ?1 AND issuer = ?2";
        self.exists(sql, params![account, issuer])
    }
}

impl Write<'_> {
    /// Connects an account with somebody at a provider, who from then on signs in as it.
    pub fn connect(&mut self, account: AccountId, identity: &Identity) -> Result<()> {
        let Identity { issuer, subject } = identity;
        if self.exists(
            "SELECT 1 FROM identities WHERE issuer = ?1 AND subject = ?2 AND account <> ?3",
            params![issuer, subject, account],
        )? {
            let what = "whom you signed in as there is connected with another account here; disconnect it there first";
            return Err(Error::Conflict(what.into()));
        }
        if self.is_connected(account, issuer)? {
            return Err(Error::Conflict("your account is connected already; disconnect it first".into()));
        }
        let sql = "INSERT INTO identities (issuer, subject, account, connected_at) VALUES (?1, ?2, ?3, ?4)";
        self.execute(sql, params![issuer, subject, account, self.now])?;
        Ok(())
    }

    /// Undoes [`Write::connect`], where the account can be signed in to by password, too.
    pub fn disconnect(&mut self, account: AccountId, issuer: &str) -> Result<()> {
        if self.password_hash(account)?.is_none() {
            let what = "your account has no password, so this is the only way in; it stays connected";
            return Err(Error::Conflict(what.into()));
        }
        let sql = "DELETE FROM identities WHERE account = ?1 AND issuer = ?2";
        self.change_one(sql, params![account, issuer], "connection")
    }

    /// Uses a link up in the name of somebody at a provider: with the account they have, or with a new one of this name.
    pub fn join_as(&mut self, token: &str, name: &str, identity: &Identity) -> Result<(Account, Invitation)> {
        self.invitation(token)?;
        let account = if let Some(account) = self.account_of(identity)? {
            account
        } else {
            let account = self.create_account(name, None, false)?;
            self.connect(account.id, identity)?;
            account
        };
        let invitation = self.accept_invitation(token, account.id)?;
        Ok((self.account(account.id)?, invitation))
    }
}
