-- The first schema. Times are milliseconds since 1970 UTC. `code` is a thing's random name outside the database.

CREATE TABLE accounts (
    id         INTEGER PRIMARY KEY,
    code       TEXT    NOT NULL UNIQUE,
    name       TEXT    NOT NULL UNIQUE COLLATE NOCASE,
    password   TEXT,                                   -- argon2id; none: no login by password
    owner      INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    closed_at  INTEGER
) STRICT;

CREATE TABLE sessions (
    hash       BLOB    PRIMARY KEY,                    -- SHA-256 of the cookie's token
    account    INTEGER NOT NULL REFERENCES accounts(id),
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_account ON sessions(account);

CREATE TABLE projects (
    id                INTEGER PRIMARY KEY,
    code              TEXT    NOT NULL UNIQUE,
    name              TEXT    NOT NULL UNIQUE COLLATE NOCASE,
    settings          TEXT    NOT NULL,                -- JSON
    guidelines        TEXT    NOT NULL DEFAULT '',
    guideline_version INTEGER NOT NULL DEFAULT 1,
    salt              INTEGER NOT NULL,                -- of the hashes that plan overlap, gold and repeats
    created_by        INTEGER NOT NULL REFERENCES accounts(id),
    sealed_through    INTEGER NOT NULL DEFAULT 0,      -- records up to this one were given to training: never undone
    created_at        INTEGER NOT NULL,
    closed_at         INTEGER
) STRICT;

CREATE TABLE guidelines (                              -- every version that a judgment may name
    project INTEGER NOT NULL REFERENCES projects(id),
    version INTEGER NOT NULL,
    text    TEXT    NOT NULL,
    by      INTEGER NOT NULL REFERENCES accounts(id),
    at_ms   INTEGER NOT NULL,
    PRIMARY KEY (project, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE members (
    project   INTEGER NOT NULL REFERENCES projects(id),
    account   INTEGER NOT NULL REFERENCES accounts(id),
    role      TEXT    NOT NULL CHECK (role IN ('manager', 'reviewer', 'rater')),
    pseudonym TEXT    NOT NULL,                        -- in exports and on colleagues' pages
    paused    TEXT,                                    -- the reason; a person decides how it goes on
    joined_at INTEGER NOT NULL,
    left_at   INTEGER,                                 -- the row stays: exports need the pseudonym
    PRIMARY KEY (project, account)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_account ON members(account);

CREATE TABLE invitations (
    id         INTEGER PRIMARY KEY,
    code       TEXT    NOT NULL UNIQUE,
    hash       BLOB    NOT NULL UNIQUE,
    project    INTEGER REFERENCES projects(id),        -- none: to become an owner
    role       TEXT    NOT NULL,
    created_by INTEGER REFERENCES accounts(id),        -- none: by the command line
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_by    INTEGER REFERENCES accounts(id),
    used_at    INTEGER,
    revoked_at INTEGER
) STRICT;

CREATE TABLE tasks (
    id             INTEGER PRIMARY KEY,
    code           TEXT    NOT NULL UNIQUE,
    project        INTEGER NOT NULL REFERENCES projects(id),
    key            TEXT,                               -- the sender's name of it
    kind           TEXT    NOT NULL,
    policy_version INTEGER NOT NULL,
    predicted      REAL,
    role           TEXT    NOT NULL CHECK (role IN ('live', 'gold', 'calibration')),
    gold           TEXT,                               -- the right verdict in short
    author         INTEGER REFERENCES accounts(id),    -- a rater whose text is judged
    leak           TEXT,                               -- the words by which an answer names its model
    policy_a       TEXT,
    policy_b       TEXT,
    length_a       INTEGER,                            -- characters of the answers
    length_b       INTEGER,
    selection      TEXT,                               -- how it was chosen when it was first served
    propensity     REAL,                               -- with which chance, among so many candidates
    candidates     INTEGER,
    overlap        INTEGER NOT NULL,                   -- people who shall answer
    submitted      INTEGER NOT NULL DEFAULT 0,         -- current answers
    leased         INTEGER NOT NULL DEFAULT 0,         -- active leases
    state          TEXT    NOT NULL CHECK (state IN ('open', 'done', 'adjudicate', 'held', 'collapsed', 'withdrawn')),
    shuffle        INTEGER NOT NULL,                   -- a hash: its place in random orders
    created_at     INTEGER NOT NULL,
    done_at        INTEGER
) STRICT;
CREATE UNIQUE INDEX tasks_key ON tasks(project, key) WHERE key IS NOT NULL;
CREATE INDEX tasks_state ON tasks(project, state, id);
-- What the queue reads: places to give away, newest policy first. SQLite turns `submitted + leased < overlap` of a question
-- round, and then does not see that it is the condition of an index that says it so.
CREATE INDEX tasks_started ON tasks(project, policy_version DESC, id)
    WHERE state = 'open' AND role = 'live' AND submitted > 0 AND overlap > submitted + leased;
CREATE INDEX tasks_fresh ON tasks(project, policy_version DESC, id)
    WHERE state = 'open' AND role = 'live' AND submitted = 0 AND leased < overlap;
CREATE INDEX tasks_fresh_shuffled ON tasks(project, policy_version DESC, shuffle)
    WHERE state = 'open' AND role = 'live' AND submitted = 0 AND leased < overlap;
CREATE INDEX tasks_gold ON tasks(project, role, shuffle) WHERE state = 'open' AND role <> 'live';

CREATE TABLE task_counts (
    project INTEGER NOT NULL,
    role    TEXT    NOT NULL,
    state   TEXT    NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (project, role, state)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER tasks_count_insert AFTER INSERT ON tasks BEGIN
    INSERT INTO task_counts VALUES (new.project, new.role, new.state, 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER tasks_count_update AFTER UPDATE OF state, role ON tasks
    WHEN old.state <> new.state OR old.role <> new.role BEGIN
    UPDATE task_counts SET n = n - 1 WHERE project = old.project AND role = old.role AND state = old.state;
    INSERT INTO task_counts VALUES (new.project, new.role, new.state, 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER tasks_stay BEFORE DELETE ON tasks BEGIN SELECT RAISE(ABORT, 'tasks are never deleted'); END;

-- Apart from `tasks`, whose rows change with every lease: long texts would be written again each time.
CREATE TABLE words (
    task        INTEGER PRIMARY KEY REFERENCES tasks(id),
    prompt      TEXT NOT NULL,                         -- JSON
    responses   TEXT NOT NULL,                         -- JSON
    gold        TEXT,                                  -- JSON of the right answer
    explanation TEXT
) STRICT;
CREATE TRIGGER words_never_change BEFORE UPDATE ON words
    BEGIN SELECT RAISE(ABORT, 'the words of a task never change'); END;
CREATE TRIGGER words_stay BEFORE DELETE ON words BEGIN SELECT RAISE(ABORT, 'tasks are never deleted'); END;

CREATE TABLE leases (
    id         INTEGER PRIMARY KEY,
    code       TEXT    NOT NULL UNIQUE,
    project    INTEGER NOT NULL REFERENCES projects(id),
    task       INTEGER NOT NULL REFERENCES tasks(id),
    account    INTEGER NOT NULL REFERENCES accounts(id),
    pass       INTEGER NOT NULL,                       -- 0; 1: the swapped repeat
    shown      TEXT,                                   -- letters of the answers from left to right, as 'ba'
    counted    INTEGER NOT NULL,                       -- whether it takes one of the task's places
    opened_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_at   INTEGER                                 -- expired; a late answer still finds its order on the screen
) STRICT;
CREATE UNIQUE INDEX leases_task ON leases(task, account) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX leases_account ON leases(project, account) WHERE ended_at IS NULL;
CREATE INDEX leases_expiry ON leases(expires_at) WHERE ended_at IS NULL;
CREATE INDEX leases_ended ON leases(ended_at) WHERE ended_at IS NOT NULL;

-- The log: what people said, in the order they said it. The truth; all else about answers follows from it.
CREATE TABLE judgments (
    seq               INTEGER PRIMARY KEY AUTOINCREMENT,
    id                TEXT    NOT NULL,
    project           INTEGER NOT NULL REFERENCES projects(id),
    task              INTEGER NOT NULL REFERENCES tasks(id),
    rater             INTEGER NOT NULL REFERENCES accounts(id),
    pass              INTEGER NOT NULL,
    record            TEXT    NOT NULL CHECK
        (record IN ('judgment', 'correction', 'undo', 'retraction', 'skip', 'adjudication')),
    first             INTEGER,                         -- the first record of the same answer; none: this one
    supersedes        INTEGER REFERENCES judgments(seq),
    restores          INTEGER REFERENCES judgments(seq), -- of an undone correction: the record that holds again
    payload           TEXT,                            -- JSON of the answer; of a skip or retraction the reason
    shown             TEXT,
    selection         TEXT,
    propensity        REAL,
    candidates        INTEGER,
    idempotency_key   TEXT    NOT NULL,
    at_ms             INTEGER NOT NULL,
    seals_at_ms       INTEGER NOT NULL,                -- grows with seq within a project
    guideline_version INTEGER NOT NULL,
    active_ms         INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX judgments_key ON judgments(rater, idempotency_key);
CREATE UNIQUE INDEX judgments_chain ON judgments(supersedes) WHERE supersedes IS NOT NULL;
CREATE INDEX judgments_project ON judgments(project, seq);
CREATE INDEX judgments_task ON judgments(task, rater);
CREATE INDEX judgments_rater ON judgments(project, rater, seq);
CREATE TRIGGER judgments_never_change BEFORE UPDATE ON judgments
    BEGIN SELECT RAISE(ABORT, 'the log of judgments is append-only'); END;
CREATE TRIGGER judgments_stay BEFORE DELETE ON judgments
    BEGIN SELECT RAISE(ABORT, 'the log of judgments is append-only'); END;

-- What holds now, kept beside the log in the same transaction: one row for each answer or skip that was not undone.
CREATE TABLE answers (
    task    INTEGER NOT NULL REFERENCES tasks(id),
    rater   INTEGER NOT NULL REFERENCES accounts(id),
    pass    INTEGER NOT NULL,                          -- 0; 1: a swapped repeat; 2: a reviewer's decision
    project INTEGER NOT NULL,
    first   INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    standing TEXT   NOT NULL CHECK (standing IN ('answered', 'skipped', 'retracted')),
    role    TEXT    NOT NULL,                          -- of the task: live, gold, calibration
    said    TEXT    NOT NULL,                          -- the verdict in short, to tell agreement
    PRIMARY KEY (task, rater, pass)
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_rater ON answers(project, rater, role, seq);

CREATE TABLE tallies (
    project   INTEGER NOT NULL,
    rater     INTEGER NOT NULL,
    answered  INTEGER NOT NULL DEFAULT 0,              -- current answers, gold and repeats included
    skipped   INTEGER NOT NULL DEFAULT 0,
    active_ms INTEGER NOT NULL DEFAULT 0,
    last_at   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (project, rater)
) STRICT, WITHOUT ROWID;

CREATE TABLE minutes (                                 -- answers as they came, for throughput
    project INTEGER NOT NULL,
    minute  INTEGER NOT NULL,                          -- since 1970 UTC
    n       INTEGER NOT NULL,
    PRIMARY KEY (project, minute)
) STRICT, WITHOUT ROWID;

CREATE TABLE drafts (
    account    INTEGER NOT NULL REFERENCES accounts(id),
    task       INTEGER NOT NULL REFERENCES tasks(id),
    revision   INTEGER NOT NULL,
    body       TEXT    NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (account, task)
) STRICT, WITHOUT ROWID;

CREATE TABLE strengths (                               -- of policies, for the choice of pairs
    project INTEGER NOT NULL REFERENCES projects(id),
    policy  TEXT    NOT NULL,
    theta   REAL    NOT NULL,
    PRIMARY KEY (project, policy)
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    id         INTEGER PRIMARY KEY,
    code       TEXT    NOT NULL UNIQUE,
    hash       BLOB    NOT NULL UNIQUE,
    name       TEXT    NOT NULL,
    account    INTEGER REFERENCES accounts(id),        -- whom it acts for; none: a service
    project    INTEGER REFERENCES projects(id),        -- none: every project of the account, or all
    scopes     TEXT,                                   -- JSON; none: all that its holder may
    created_by INTEGER REFERENCES accounts(id),        -- none: by the command line
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT;

CREATE TABLE webhooks (
    id         INTEGER PRIMARY KEY,
    code       TEXT    NOT NULL UNIQUE,
    project    INTEGER NOT NULL REFERENCES projects(id),
    url        TEXT    NOT NULL,
    secret     TEXT    NOT NULL,                       -- signs; so it cannot be a hash
    cursor     INTEGER NOT NULL DEFAULT 0,             -- the last sealed record that was put into deliveries
    created_by INTEGER NOT NULL REFERENCES accounts(id),
    created_at INTEGER NOT NULL,
    removed_at INTEGER
) STRICT;

CREATE TABLE deliveries (
    id           INTEGER PRIMARY KEY,
    webhook      INTEGER NOT NULL REFERENCES webhooks(id),
    body         TEXT    NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_at      INTEGER NOT NULL,
    delivered_at INTEGER,
    dead_at      INTEGER,
    error        TEXT
) STRICT;
CREATE INDEX deliveries_due ON deliveries(next_at) WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX deliveries_webhook ON deliveries(webhook, id);

CREATE TABLE exclusions (                              -- from statistics and training; never without a reason
    id        INTEGER PRIMARY KEY,
    code      TEXT    NOT NULL UNIQUE,
    project   INTEGER NOT NULL REFERENCES projects(id),
    rater     INTEGER NOT NULL REFERENCES accounts(id),
    seq       INTEGER REFERENCES judgments(seq),       -- one answer; none: all of the rater's
    reason    TEXT    NOT NULL CHECK (length(reason) > 0),
    by        INTEGER NOT NULL REFERENCES accounts(id),
    at_ms     INTEGER NOT NULL,
    lifted_by INTEGER REFERENCES accounts(id),
    lifted_at INTEGER
) STRICT;
CREATE INDEX exclusions_project ON exclusions(project, rater);

CREATE TABLE audit (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms   INTEGER NOT NULL,
    project INTEGER,
    actor   TEXT    NOT NULL,                          -- an account's or token's code, or 'command line'
    action  TEXT    NOT NULL,
    object  TEXT    NOT NULL,
    detail  TEXT    NOT NULL                           -- JSON
) STRICT;
CREATE INDEX audit_project ON audit(project, seq);
CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_stays BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
