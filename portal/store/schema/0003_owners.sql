-- owners holds the number of devices per owner, kept by triggers as counts is.
CREATE TABLE owners (
  account TEXT NOT NULL,
  kind    INTEGER NOT NULL,
  owner   TEXT NOT NULL,
  n       INTEGER NOT NULL,
  PRIMARY KEY (account, kind, owner)
) STRICT, WITHOUT ROWID;
INSERT INTO owners SELECT account, kind, owner, count(*) FROM devices GROUP BY account, kind, owner;
CREATE TRIGGER devices_owner_in AFTER INSERT ON devices BEGIN
  INSERT INTO owners VALUES (NEW.account, NEW.kind, NEW.owner, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER devices_owner_out AFTER DELETE ON devices BEGIN
  UPDATE owners SET n = n - 1 WHERE account = OLD.account AND kind = OLD.kind AND owner = OLD.owner;
  DELETE FROM owners WHERE account = OLD.account AND kind = OLD.kind AND owner = OLD.owner AND n = 0;
END;

-- A person's sessions are looked up at every sign-in.
CREATE INDEX tokens_subject ON tokens (account, subject);
