-- What reward models foretold of held-out judgments, as training told it: the curve of accuracy over judgments collected.
CREATE TABLE lessons (
    id        INTEGER PRIMARY KEY,
    project   INTEGER NOT NULL REFERENCES projects(id),
    run       TEXT    NOT NULL,
    cursor    INTEGER NOT NULL,                        -- the last sealed record that was read
    judgments INTEGER NOT NULL,                        -- learned from
    held_out  INTEGER NOT NULL,
    accuracy  REAL    NOT NULL,
    low       REAL    NOT NULL,
    high      REAL    NOT NULL,
    at_ms     INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX lessons_once ON lessons(project, run, cursor);
