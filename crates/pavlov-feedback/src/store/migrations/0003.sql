-- Who people are at a sign-in provider, by what the provider never gives to somebody else: its name and the subject.
CREATE TABLE identities (
    issuer       TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    account      INTEGER NOT NULL REFERENCES accounts(id),
    connected_at INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX identities_account ON identities(account, issuer);
