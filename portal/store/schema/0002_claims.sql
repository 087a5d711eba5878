-- claims is what each provider has said about a person at the last sign-in with it, as name=value.
CREATE TABLE claims (
  account  TEXT NOT NULL,
  person   TEXT NOT NULL,
  provider TEXT NOT NULL,
  said     TEXT NOT NULL,
  seen     INTEGER NOT NULL,
  PRIMARY KEY (account, person, provider),
  FOREIGN KEY (account, person) REFERENCES people (account, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_provider ON claims (account, provider);
INSERT INTO claims SELECT account, id, provider, groups, seen FROM people;
ALTER TABLE people DROP COLUMN groups;
