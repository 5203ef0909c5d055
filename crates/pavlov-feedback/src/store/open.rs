//! Opening the file and bringing it up to date.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::styles;
use crate::clock::Clock;
use crate::error::{Error, Result};

/// Pages of a connection at hand: 64 MiB.
pub(super) const CACHE: &str = "PRAGMA cache_size = -65536";

/// Brings the database to the next version.
struct Migration {
    sql: &'static str,
    /// What SQL cannot say.
    then: Option<fn(&Connection) -> Result<()>>,
}

/// Each brings the database from one version, its place here, to the next.
const MIGRATIONS: [Migration; 4] = [
    Migration { sql: include_str!("migrations/0001.sql"), then: None },
    Migration { sql: include_str!("migrations/0002.sql"), then: None },
    Migration { sql: include_str!("migrations/0003.sql"), then: None },
    Migration { sql: include_str!("migrations/0004.sql"), then: Some(styles::count_all) },
];

/// The connection that writes, of a database that is up to date.
pub(super) fn writer(path: &Path, clock: &Clock) -> Result<Connection> {
    let mut db = Connection::open(path)?;
    // A write is answered when it is on the disk, so FULL; the log is written ahead, so readers never wait.
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let what = "the file system does not take SQLite's write-ahead log; move it to a local disk";
        return Err(Error::Conflict(what.into()));
    }
    configure(&db)?;
    db.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")?;
    migrate(&mut db)?;
    let latest = "SELECT max(coalesce((SELECT at_ms FROM judgments ORDER BY seq DESC LIMIT 1), 0),
                             coalesce((SELECT at_ms FROM audit ORDER BY seq DESC LIMIT 1), 0))";
    clock.not_before(db.query_row(latest, [], |row| row.get(0))?);
    Ok(db)
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    configure(&db)?;
    // What is sorted needs no file. Not so for the writer: SQLite walks a savepoint's journal in memory from its start after every
    // statement, so that the time of a large change grows with its square, and everybody waits for it.
    db.execute_batch("PRAGMA temp_store = MEMORY")?;
    Ok(db)
}

fn configure(db: &Connection) -> Result<()> {
    db.busy_timeout(Duration::from_secs(10))?;
    db.set_prepared_statement_cache_capacity(256);
    // Else a statement is planned anew for each value that is bound, as soon as the tables have statistics.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.execute_batch(CACHE)?;
    Ok(())
}

fn migrate(db: &mut Connection) -> Result<()> {
    let newest = MIGRATIONS.len() as u32;
    // Nothing is written where nothing is to be done: a backup is what one makes of a database whose disk is full.
    if version(db)? == newest {
        return Ok(());
    }
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version = version(&transaction)?;
    if version > newest {
        let what = format!(
            "the database has version {version} and this program knows {newest}; use the newer program"
        );
        return Err(Error::Conflict(what));
    }
    for migration in &MIGRATIONS[version as usize..] {
        transaction.execute_batch(migration.sql)?;
        if let Some(then) = migration.then {
            then(&transaction)?;
        }
    }
    transaction.pragma_update(None, "user_version", newest)?;
    transaction.commit()?;
    Ok(())
}

fn version(db: &Connection) -> Result<u32> {
    Ok(db.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}
