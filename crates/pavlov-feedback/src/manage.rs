//! What people change in a project besides answering, each with its line in the audit log: pages and API do the same, and log the
//! same.

use pavlov_schema::feedback::{Answer, NewTask};
use serde_json::{Map, Value, json};

use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::reply::Reply;
use crate::roles::Role;
use crate::settings::Settings;
use crate::store::{
    Account, AccountId, Added, Logged, MOST_TASKS, Member, NewProject, NewToken, Project, ProjectId, Read,
    Store, Token, Webhook, Write,
};

/// Tasks that a line of the audit log names.
const NAMED: usize = 100;

/// Who changes which project.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    /// The name in the audit log: the code of an account or token.
    pub(crate) name: String,
    /// None for a service.
    pub(crate) account: Option<AccountId>,
    pub(crate) project: ProjectId,
}

/// Changes a project in somebody's name.
pub(crate) async fn manage<T, F>(store: &Store, actor: Actor, change: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&mut Manager<'_, '_>) -> Result<T> + Send + 'static,
{
    store.write(move |w| change(&mut Manager { write: w, actor })).await
}

/// A project in the hands of somebody who may change it. What they do is logged in the same transaction.
pub(crate) struct Manager<'a, 'w> {
    write: &'a mut Write<'w>,
    actor: Actor,
}

impl<'w> Manager<'_, 'w> {
    /// The database, to read what a change hangs on.
    pub(crate) fn read(&self) -> &Read<'w> {
        self.write
    }

    /// The project as it is now: somebody else may have changed it meanwhile.
    pub(crate) fn project(&self) -> Result<Project> {
        self.write.project(self.actor.project)
    }

    fn log(&mut self, action: &str, object: &str, detail: &Value) -> Result<()> {
        self.write.audit(Some(self.actor.project), &self.actor.name, action, object, detail)
    }

    /// The account that is answerable.
    fn by(&self) -> Result<AccountId> {
        self.actor
            .account
            .ok_or_else(|| Error::Forbidden("a service token has no account; use a person's token".into()))
    }

    /// Changes settings and logs those that are new.
    pub(crate) fn set_settings(&mut self, settings: &Settings) -> Result<()> {
        let old = self.write.project(self.actor.project)?.settings;
        self.write.set_settings(self.actor.project, settings)?;
        let changed = difference(&old, settings)?;
        if changed.is_empty() {
            return Ok(());
        }
        self.log("project.settings", "settings", &Value::Object(changed))
    }

    /// Changes the guidelines, if the text is another.
    pub(crate) fn set_guidelines(&mut self, text: &str) -> Result<()> {
        let (project, by) = (self.actor.project, self.by()?);
        let old = self.write.project(project)?.guideline_version;
        let version = self.write.set_guidelines(project, text, by)?;
        if version == old {
            return Ok(());
        }
        self.log("project.guidelines", "guidelines", &json!({ "version": version }))
    }

    /// Closes the project, or opens it again.
    pub(crate) fn set_closed(&mut self, closed: bool) -> Result<()> {
        self.write.set_closed(self.actor.project, closed)?;
        self.log(if closed { "project.close" } else { "project.open" }, "project", &json!({}))
    }

    /// Makes an account a member, or changes its role.
    pub(crate) fn set_role(&mut self, account: &str, role: Role) -> Result<Member> {
        let id = self.write.account_by_code(account)?.id;
        let member = self.write.set_member(self.actor.project, id, role)?;
        self.log("member.role", account, &json!({ "role": role }))?;
        Ok(member)
    }

    /// Pauses a member with a reason, or with none lets it go on.
    pub(crate) fn pause(&mut self, account: &str, reason: Option<&str>) -> Result<()> {
        let id = self.write.account_by_code(account)?.id;
        self.write.set_paused(self.actor.project, id, reason)?;
        let action = if reason.is_some() { "member.pause" } else { "member.resume" };
        self.log(action, account, &json!({ "reason": reason }))
    }

    /// Removes a member; what it said stays.
    pub(crate) fn remove(&mut self, account: &str) -> Result<()> {
        let id = self.write.account_by_code(account)?.id;
        self.write.remove_member(self.actor.project, id)?;
        self.log("member.remove", account, &json!({}))
    }

    /// The secret of a one-time link.
    pub(crate) fn invite(&mut self, role: Role, lasts: Millis) -> Result<String> {
        let (project, by) = (self.actor.project, self.by()?);
        let secret = self.write.invite(Some(project), role, Some(by), lasts)?;
        self.log("invitation.create", role.name(), &json!({ "hours": lasts / 3_600_000 }))?;
        Ok(secret)
    }

    /// Makes a link useless.
    pub(crate) fn revoke_invitation(&mut self, code: &str) -> Result<()> {
        self.write.revoke_invitation(self.actor.project, code)?;
        self.log("invitation.revoke", code, &json!({}))
    }

    /// Excludes what an account said, or one record of it; the exclusion's code.
    pub(crate) fn exclude(&mut self, account: &str, seq: Option<u64>, reason: &str) -> Result<String> {
        let (project, by) = (self.actor.project, self.by()?);
        let rater = self.write.account_by_code(account)?.id;
        let code = self.write.exclude(project, rater, seq, reason, by)?;
        let detail = json!({ "exclusion": code, "record": seq, "reason": reason });
        self.log("exclusion.create", account, &detail)?;
        Ok(code)
    }

    /// Lifts an exclusion.
    pub(crate) fn lift_exclusion(&mut self, code: &str) -> Result<()> {
        let (project, by) = (self.actor.project, self.by()?);
        self.write.lift_exclusion(project, code, by)?;
        self.log("exclusion.lift", code, &json!({}))
    }

    /// Makes a service token of the project: its secret, and what is known of it.
    pub(crate) fn create_token(&mut self, new: NewToken) -> Result<(String, Token)> {
        let (project, by) = (Some(self.actor.project), Some(self.by()?));
        let (secret, token) = self.write.new_token(&NewToken { account: None, project, by, ..new })?;
        self.log("token.create", &token.code, &json!({ "name": token.name }))?;
        Ok((secret, token))
    }

    /// Revokes a service token of the project. One of another project or person is none of this one's.
    pub(crate) fn revoke_token(&mut self, code: &str) -> Result<()> {
        let known = self.write.tokens(Some(self.actor.project))?;
        let own = known.iter().any(|token| token.code == code && token.account.is_none());
        if !own {
            return Err(Error::NotFound("token"));
        }
        self.write.revoke_token(code)?;
        self.log("token.revoke", code, &json!({}))
    }

    /// Adds a webhook; its address was checked.
    pub(crate) fn create_webhook(&mut self, url: &str) -> Result<Webhook> {
        let (project, by) = (self.actor.project, self.by()?);
        let made = self.write.create_webhook(project, url, by)?;
        self.log("webhook.create", &made.code, &json!({ "url": made.url }))?;
        Ok(made)
    }

    /// Removes a webhook.
    pub(crate) fn remove_webhook(&mut self, code: &str) -> Result<()> {
        self.write.remove_webhook(self.actor.project, code)?;
        self.log("webhook.remove", code, &json!({}))
    }

    /// Sends a delivery of a webhook once more.
    pub(crate) fn retry_delivery(&mut self, webhook: &str, delivery: i64) -> Result<()> {
        let id = self.write.webhook(self.actor.project, webhook)?.id;
        if !self.write.deliveries(id, u32::MAX)?.iter().any(|known| known.id == delivery) {
            return Err(Error::NotFound("delivery"));
        }
        self.write.retry_delivery(delivery)?;
        self.log("webhook.retry", webhook, &json!({ "delivery": delivery }))
    }

    /// Adds tasks, all or none.
    pub(crate) fn add_tasks(&mut self, tasks: &[NewTask]) -> Result<Vec<Added>> {
        let mut added = Vec::with_capacity(tasks.len());
        for some in tasks.chunks(MOST_TASKS) {
            added.extend(self.write.add_tasks(self.actor.project, some)?);
        }
        let new = added.iter().filter(|one| !one.existed).count();
        self.log("task.import", "tasks", &json!({ "tasks": added.len(), "new": new }))?;
        Ok(added)
    }

    /// Takes tasks back; how many there were to take.
    pub(crate) fn withdraw(&mut self, codes: &[String]) -> Result<usize> {
        let n = self.write.withdraw_tasks(self.actor.project, codes)?;
        let named = &codes[..codes.len().min(NAMED)];
        self.log("task.withdraw", "tasks", &json!({ "tasks": named, "withdrawn": n }))?;
        Ok(n)
    }

    /// Shows a held task to raters.
    pub(crate) fn release_held(&mut self, code: &str) -> Result<()> {
        self.write.release_held(self.actor.project, code)?;
        self.log("task.release", code, &json!({}))
    }

    /// Makes gold of a task whose right answer is known now.
    pub(crate) fn promote(&mut self, code: &str, answer: &Answer) -> Result<Added> {
        let project = self.actor.project;
        let words = self.write.words(self.write.task(project, code)?.id)?;
        let texts: Vec<_> = words.responses.iter().map(|one| &one.response.text).collect();
        answer.validate(&texts).map_err(Error::Invalid)?;
        let added = self.write.promote_to_gold(project, code, answer)?;
        self.log("task.promote", code, &json!({ "gold": added.task }))?;
        Ok(added)
    }

    /// Decides a task.
    pub(crate) fn adjudicate(
        &mut self,
        code: &str,
        reply: Reply,
        key: &str,
        active_ms: u64,
    ) -> Result<Logged> {
        let (project, by) = (self.actor.project, self.by()?);
        let logged = self.write.adjudicate(project, by, code, reply, key, active_ms)?;
        if !logged.repeated {
            self.log("task.adjudicate", code, &json!({ "seq": logged.seq }))?;
        }
        Ok(logged)
    }

    /// Takes back what somebody else, by pseudonym, said about a task.
    pub(crate) fn retract(&mut self, code: &str, annotator: &str, reason: &str, key: &str) -> Result<Logged> {
        let project = self.actor.project;
        let task = self.write.task(project, code)?;
        let said = self.write.answers_of(task.id)?;
        let rater = said.iter().find(|one| one.pseudonym == annotator).map(|one| one.rater);
        let rater = rater.ok_or(Error::NotFound("answer"))?;
        let logged = self.write.retract(project, rater, code, reason, key)?;
        if !logged.repeated {
            let detail = json!({ "annotator": annotator, "reason": reason, "seq": logged.seq });
            self.log("answer.retract", code, &detail)?;
        }
        Ok(logged)
    }
}

/// Makes a project.
pub(crate) fn create_project(write: &mut Write<'_>, new: &NewProject, by: &Account) -> Result<Project> {
    let project = write.create_project(new, by.id)?;
    let detail = json!({ "name": project.name });
    write.audit(Some(project.id), &by.code, "project.create", &project.code, &detail)?;
    Ok(project)
}

/// The settings that are not as they were.
fn difference(old: &Settings, new: &Settings) -> Result<Map<String, Value>> {
    let keys = |settings: &Settings| match serde_json::to_value(settings) {
        Ok(Value::Object(keys)) => Ok(keys),
        _ => Err(Error::Bug("settings are no object".into())),
    };
    let old = keys(old)?;
    Ok(keys(new)?.into_iter().filter(|(key, value)| old.get(key) != Some(value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_that_changed_are_logged() {
        let new = Settings { overlap: 4, ..Settings::default() };
        let changed = difference(&Settings::default(), &new).unwrap();
        assert_eq!(Value::Object(changed), json!({ "overlap": 4 }));
        assert!(difference(&new, &new).unwrap().is_empty());
    }
}
