//! Projects, their settings and the versions of their guidelines.

use rusqlite::{Row, params};

use super::{AccountId, ProjectId, Read, Write};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::secret;
use crate::settings::Settings;

/// The longest guidelines, in bytes.
const LONGEST_GUIDELINES: usize = 200_000;

/// A project.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// The row.
    pub id: ProjectId,
    /// Names the project in addresses and the API.
    pub code: String,
    /// Names it for people and in `feedback:PROJECT`: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// What its manager decided.
    pub settings: Settings,
    /// Markdown, shown beside the form.
    pub guidelines: String,
    /// Counts changes of the guidelines; stamped on judgments.
    pub guideline_version: u32,
    /// When it was made.
    pub created_at: Millis,
    /// When it was closed: no more tasks are served.
    pub closed_at: Option<Millis>,
    /// Of the hashes that plan overlap, gold and repeats.
    pub(crate) salt: u64,
}

/// A project to be made.
#[derive(Clone, Debug, Default)]
pub struct NewProject {
    /// Letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Its settings.
    pub settings: Settings,
    /// Markdown.
    pub guidelines: String,
}

const COLUMNS: &str = "id, code, name, settings, guidelines, guideline_version, created_at, closed_at, salt";

fn project(row: &Row<'_>) -> rusqlite::Result<Project> {
    Ok(Project {
        id: row.get(0)?,
        code: row.get(1)?,
        name: row.get(2)?,
        settings: json(row, 3)?,
        guidelines: row.get(4)?,
        guideline_version: row.get(5)?,
        created_at: row.get(6)?,
        closed_at: row.get(7)?,
        salt: row.get::<_, i64>(8)? as u64,
    })
}

/// A column of JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// JSON of what always has one.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Bug(error.to_string()))
}

impl Read<'_> {
    /// The project of a row.
    pub fn project(&self, id: ProjectId) -> Result<Project> {
        let sql = format!("SELECT {COLUMNS} FROM projects WHERE id = ?1");
        self.one(&sql, [id], project)?.ok_or(Error::NotFound("project"))
    }

    /// The project of a code or a name.
    pub fn project_called(&self, code_or_name: &str) -> Result<Project> {
        let by = |column| format!("SELECT {COLUMNS} FROM projects WHERE {column} = ?1");
        let found = match self.one(&by("code"), [code_or_name], project)? {
            None => self.one(&by("name"), [code_or_name], project)?,
            found => found,
        };
        found.ok_or(Error::NotFound("project"))
    }

    /// All projects, the newest first.
    pub fn projects(&self) -> Result<Vec<Project>> {
        self.list(&format!("SELECT {COLUMNS} FROM projects ORDER BY id DESC"), [], project)
    }

    /// The guidelines as they were in a version.
    pub fn guidelines(&self, id: ProjectId, version: u32) -> Result<String> {
        let sql = "SELECT text FROM guidelines WHERE project = ?1 AND version = ?2";
        self.one(sql, params![id, version], |row| row.get(0))?.ok_or(Error::NotFound("version"))
    }
}

impl Write<'_> {
    /// Makes a project.
    pub fn create_project(&mut self, new: &NewProject, by: AccountId) -> Result<Project> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let name = new.name.trim();
        if !((1..=64).contains(&name.len()) && name.bytes().all(plain)) {
            return Err(Error::invalid("a project's name needs 1 to 64 letters, digits, -, _ or ."));
        }
        if self.exists("SELECT 1 FROM projects WHERE name = ?1 OR code = ?1", [name])? {
            return Err(Error::Conflict(format!(
                "a project is named \"{name}\" already; choose another name"
            )));
        }
        new.settings.validate()?;
        check_guidelines(&new.guidelines)?;
        let salt = secret::random_u64()? as i64;
        let sql = "INSERT INTO projects (code, name, settings, guidelines, salt, created_by, created_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let settings = to_json(&new.settings)?;
        let row = params![secret::code()?, name, settings, new.guidelines, salt, by, self.now];
        let id = ProjectId(self.insert(sql, row)?);
        self.keep_guidelines(id, 1, &new.guidelines, by)?;
        self.project(id)
    }

    /// Changes settings. They hold for what comes: records that exist keep the window they were written under.
    pub fn set_settings(&mut self, id: ProjectId, settings: &Settings) -> Result<()> {
        settings.validate()?;
        self.memory.queues.remove(&id);
        let sql = "UPDATE projects SET settings = ?2 WHERE id = ?1";
        self.change_one(sql, params![id, to_json(settings)?], "project")
    }

    /// Changes the guidelines; the new version.
    pub fn set_guidelines(&mut self, id: ProjectId, text: &str, by: AccountId) -> Result<u32> {
        check_guidelines(text)?;
        let project = self.project(id)?;
        if project.guidelines == text {
            return Ok(project.guideline_version);
        }
        let version = project.guideline_version + 1;
        self.memory.queues.remove(&id);
        self.execute(
            "UPDATE projects SET guidelines = ?2, guideline_version = ?3 WHERE id = ?1",
            params![id, text, version],
        )?;
        self.keep_guidelines(id, version, text, by)?;
        Ok(version)
    }

    /// Closes a project or opens it again. A closed one serves no tasks and takes none; answers under way still count.
    pub fn set_closed(&mut self, id: ProjectId, closed: bool) -> Result<()> {
        let at = closed.then_some(self.now);
        self.memory.queues.remove(&id);
        self.change_one("UPDATE projects SET closed_at = ?2 WHERE id = ?1", params![id, at], "project")
    }

    fn keep_guidelines(&self, id: ProjectId, version: u32, text: &str, by: AccountId) -> Result<()> {
        let sql = "INSERT INTO guidelines (project, version, text, by, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.execute(sql, params![id, version, text, by, self.now])?;
        Ok(())
    }
}

fn check_guidelines(text: &str) -> Result<()> {
    if text.len() > LONGEST_GUIDELINES {
        let what = format!("guidelines may have {LONGEST_GUIDELINES} bytes, these have {}", text.len());
        return Err(Error::invalid(format!("{what}; shorten them")));
    }
    Ok(())
}
