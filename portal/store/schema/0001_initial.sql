-- Times are Unix milliseconds; 0 means never where a column allows it. Every table but tokens is
-- keyed by account first, so that a query without one cannot use an index.

-- counts holds the number of rows (and of bytes, where bounded) per account, kept by triggers, so
-- that a bound costs one look-up.
CREATE TABLE counts (
  account TEXT NOT NULL,
  subject TEXT NOT NULL,
  n       INTEGER NOT NULL,
  PRIMARY KEY (account, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
  account TEXT NOT NULL,
  name    TEXT NOT NULL,
  value   BLOB NOT NULL,
  PRIMARY KEY (account, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
  account     TEXT NOT NULL,
  id          TEXT NOT NULL,
  kind        INTEGER NOT NULL,
  owner       TEXT NOT NULL,
  external_id TEXT NOT NULL,
  name        TEXT NOT NULL,
  public_key  BLOB NOT NULL,
  psk_base    BLOB NOT NULL,
  ipv4        TEXT NOT NULL,
  ipv6        TEXT NOT NULL,
  verified    INTEGER NOT NULL DEFAULT 0,
  attributes  TEXT NOT NULL,
  created     INTEGER NOT NULL,
  seen        INTEGER NOT NULL,
  PRIMARY KEY (account, id),
  UNIQUE (account, kind, owner, external_id),
  UNIQUE (account, ipv4),
  UNIQUE (account, ipv6)
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
  id         TEXT PRIMARY KEY,
  account    TEXT NOT NULL,
  kind       INTEGER NOT NULL,
  subject    TEXT NOT NULL,
  name       TEXT NOT NULL,
  provider   TEXT NOT NULL,
  salt       BLOB NOT NULL,
  hash       BLOB NOT NULL,
  created    INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  expires    INTEGER NOT NULL,
  revoked    INTEGER NOT NULL DEFAULT 0,
  used       INTEGER NOT NULL DEFAULT 0,
  UNIQUE (account, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE authorizations (
  account  TEXT NOT NULL,
  id       TEXT NOT NULL,
  client   TEXT NOT NULL,
  gateway  TEXT NOT NULL,
  resource TEXT NOT NULL,
  policy   TEXT NOT NULL,
  token    TEXT,
  created  INTEGER NOT NULL,
  expires  INTEGER NOT NULL,
  PRIMARY KEY (account, id),
  UNIQUE (account, gateway, client, resource),
  FOREIGN KEY (account, client)  REFERENCES devices (account, id) ON DELETE CASCADE,
  FOREIGN KEY (account, gateway) REFERENCES devices (account, id) ON DELETE CASCADE,
  FOREIGN KEY (account, token)   REFERENCES tokens (account, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX authorizations_client ON authorizations (account, client);
CREATE INDEX authorizations_resource ON authorizations (account, resource);
CREATE INDEX authorizations_policy ON authorizations (account, policy);
CREATE INDEX authorizations_token ON authorizations (account, token);
CREATE INDEX authorizations_expires ON authorizations (account, expires);

CREATE TABLE people (
  account  TEXT NOT NULL,
  id       TEXT NOT NULL,
  issuer   TEXT NOT NULL,
  subject  TEXT NOT NULL,
  provider TEXT NOT NULL,
  email    TEXT NOT NULL,
  name     TEXT NOT NULL,
  groups   TEXT NOT NULL,
  disabled INTEGER NOT NULL DEFAULT 0,
  created  INTEGER NOT NULL,
  seen     INTEGER NOT NULL,
  PRIMARY KEY (account, id),
  UNIQUE (account, issuer, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE sign_ins (
  state   BLOB NOT NULL PRIMARY KEY,
  account TEXT NOT NULL,
  data    BLOB NOT NULL,
  expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_ins_expires ON sign_ins (account, expires);

-- flow_logs is a ring: seq only grows, the smallest one goes first.
CREATE TABLE flow_logs (
  seq       INTEGER PRIMARY KEY AUTOINCREMENT,
  account   TEXT NOT NULL,
  key       BLOB NOT NULL,
  initiator TEXT NOT NULL,
  resource  TEXT NOT NULL,
  start     INTEGER NOT NULL,
  closed    INTEGER NOT NULL,
  body      BLOB NOT NULL,
  UNIQUE (account, key)
) STRICT;
CREATE INDEX flow_logs_oldest ON flow_logs (account, seq);

CREATE TRIGGER devices_in AFTER INSERT ON devices BEGIN
  INSERT INTO counts VALUES (NEW.account, 'devices', 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER devices_out AFTER DELETE ON devices BEGIN
  UPDATE counts SET n = n - 1 WHERE account = OLD.account AND subject = 'devices';
END;
CREATE TRIGGER tokens_in AFTER INSERT ON tokens BEGIN
  INSERT INTO counts VALUES (NEW.account, 'tokens', 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER tokens_out AFTER DELETE ON tokens BEGIN
  UPDATE counts SET n = n - 1 WHERE account = OLD.account AND subject = 'tokens';
END;
CREATE TRIGGER authorizations_in AFTER INSERT ON authorizations BEGIN
  INSERT INTO counts VALUES (NEW.account, 'authorizations', 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER authorizations_out AFTER DELETE ON authorizations BEGIN
  UPDATE counts SET n = n - 1 WHERE account = OLD.account AND subject = 'authorizations';
END;
CREATE TRIGGER people_in AFTER INSERT ON people BEGIN
  INSERT INTO counts VALUES (NEW.account, 'people', 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER people_out AFTER DELETE ON people BEGIN
  UPDATE counts SET n = n - 1 WHERE account = OLD.account AND subject = 'people';
END;
CREATE TRIGGER sign_ins_in AFTER INSERT ON sign_ins BEGIN
  INSERT INTO counts VALUES (NEW.account, 'sign_ins', 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER sign_ins_out AFTER DELETE ON sign_ins BEGIN
  UPDATE counts SET n = n - 1 WHERE account = OLD.account AND subject = 'sign_ins';
END;
CREATE TRIGGER flow_logs_in AFTER INSERT ON flow_logs BEGIN
  INSERT INTO counts VALUES (NEW.account, 'flow_logs', 1) ON CONFLICT DO UPDATE SET n = n + 1;
  INSERT INTO counts VALUES (NEW.account, 'flow_log_bytes', length(NEW.body))
    ON CONFLICT DO UPDATE SET n = n + length(NEW.body);
END;
CREATE TRIGGER flow_logs_change AFTER UPDATE OF body ON flow_logs BEGIN
  UPDATE counts SET n = n + length(NEW.body) - length(OLD.body)
    WHERE account = NEW.account AND subject = 'flow_log_bytes';
END;
CREATE TRIGGER flow_logs_out AFTER DELETE ON flow_logs BEGIN
  UPDATE counts SET n = n - 1 WHERE account = OLD.account AND subject = 'flow_logs';
  UPDATE counts SET n = n - length(OLD.body) WHERE account = OLD.account AND subject = 'flow_log_bytes';
END;
