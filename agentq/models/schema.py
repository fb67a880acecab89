"""The tables of the book. Amounts are whole numbers: tokens, requests, billionths of a dollar (`nano`)."""

APPLICATION = 0x61677142  # "agqB" in the file's header
VERSION = 1

SCHEMA = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};

-- The line of time: at = offset + the monotonic clock of `boot`; `at` and `wall` as last written down.
CREATE TABLE clock (
  one INTEGER PRIMARY KEY CHECK (one = 1), boot TEXT NOT NULL, offset REAL NOT NULL, at REAL NOT NULL,
  wall REAL NOT NULL);

-- The ledger: each request as it was charged. `request` is its id at the provider, so that none counts twice.
CREATE TABLE prices (id INTEGER PRIMARY KEY, price TEXT NOT NULL UNIQUE);
CREATE TABLE spent (
  id INTEGER PRIMARY KEY, at REAL NOT NULL, wall TEXT NOT NULL, run INTEGER NOT NULL, repo TEXT NOT NULL,
  spec TEXT NOT NULL, type TEXT NOT NULL, stage TEXT NOT NULL, bucket TEXT NOT NULL, tier TEXT NOT NULL,
  model TEXT NOT NULL, request TEXT NOT NULL, price INTEGER NOT NULL REFERENCES prices (id),
  input INTEGER NOT NULL, output INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL,
  requests INTEGER NOT NULL, nano INTEGER NOT NULL);
CREATE UNIQUE INDEX spent_once ON spent (bucket, request) WHERE request <> '';
CREATE INDEX spent_run ON spent (run);

-- Running totals by key: what was used since any moment is the difference of two rows.
CREATE TABLE tally (
  key TEXT NOT NULL, at REAL NOT NULL, requests INTEGER NOT NULL, tokens INTEGER NOT NULL, nano INTEGER NOT NULL,
  PRIMARY KEY (key, at)) WITHOUT ROWID;

-- Days and months as they lie on the line of time. begin: of the calendar, seconds since 1970.
CREATE TABLE spans (name TEXT PRIMARY KEY, begin REAL NOT NULL, start REAL NOT NULL, stop REAL NOT NULL)
  WITHOUT ROWID;

-- Open reservations. hold_*: what they hold for what comes. used: fresh tokens; cap: their limit, 0: none.
-- step: what the dearest request took so far, or may take.
CREATE TABLE reserved (
  id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, owner TEXT NOT NULL, repo TEXT NOT NULL,
  spec TEXT NOT NULL, type TEXT NOT NULL, stage TEXT NOT NULL, bucket TEXT NOT NULL, tier TEXT NOT NULL,
  cap INTEGER NOT NULL, used INTEGER NOT NULL, step INTEGER NOT NULL, hold_nano INTEGER NOT NULL,
  hold_tokens INTEGER NOT NULL, hold_requests INTEGER NOT NULL);

-- Places at servers: one request, or one run. arrived: its request is in the tally. prepaid: no charge has it yet.
CREATE TABLE seats (
  id INTEGER PRIMARY KEY AUTOINCREMENT, bucket TEXT NOT NULL, server TEXT NOT NULL, owner TEXT NOT NULL,
  at REAL NOT NULL, tokens INTEGER NOT NULL, arrived INTEGER NOT NULL, prepaid INTEGER NOT NULL);
-- Who waits for a place within the limits of a minute. due: when it was told to ask again.
CREATE TABLE waiting (
  id INTEGER PRIMARY KEY AUTOINCREMENT, bucket TEXT NOT NULL, who TEXT NOT NULL, owner TEXT NOT NULL,
  tokens INTEGER NOT NULL, due REAL NOT NULL, UNIQUE (bucket, who));
CREATE TABLE servers (
  bucket TEXT NOT NULL, url TEXT NOT NULL, used REAL NOT NULL, failures INTEGER NOT NULL, until REAL NOT NULL,
  PRIMARY KEY (bucket, url)) WITHOUT ROWID;

-- Buckets that sleep; without `until`: until a person wakes them. wall: the same moment on the wall clock.
CREATE TABLE asleep (bucket TEXT PRIMARY KEY, since REAL NOT NULL, until REAL, wall REAL, why TEXT NOT NULL)
  WITHOUT ROWID;
CREATE TABLE turns (bucket TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
-- What providers said about their windows. resets: seconds since 1970; free: the same on the line of time.
CREATE TABLE windows (
  bucket TEXT NOT NULL, name TEXT NOT NULL, at REAL NOT NULL, utilization REAL NOT NULL, resets REAL NOT NULL,
  free REAL NOT NULL, status TEXT NOT NULL, PRIMARY KEY (bucket, name)) WITHOUT ROWID;

CREATE TABLE breakers (
  tier TEXT PRIMARY KEY, state TEXT NOT NULL, failures INTEGER NOT NULL, since REAL NOT NULL,
  next_at REAL NOT NULL, prober TEXT NOT NULL, cause TEXT NOT NULL, turn INTEGER NOT NULL) WITHOUT ROWID;
"""
