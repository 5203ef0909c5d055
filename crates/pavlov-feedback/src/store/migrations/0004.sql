-- The style of the two answers beside their length: strengths are told at equal style. Of tasks that are there already it is counted
-- when the database is opened; none where an answer has no such thing.
ALTER TABLE tasks ADD COLUMN headers_a INTEGER;
ALTER TABLE tasks ADD COLUMN headers_b INTEGER;
ALTER TABLE tasks ADD COLUMN lists_a   INTEGER;        -- items
ALTER TABLE tasks ADD COLUMN lists_b   INTEGER;
ALTER TABLE tasks ADD COLUMN bold_a    INTEGER;        -- stretches
ALTER TABLE tasks ADD COLUMN bold_b    INTEGER;
