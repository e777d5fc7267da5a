//! The tables, in SQL. What they mean is told in `docs/storage-format.md`.

/// Marks the file as ours in SQLite's header: `uncl`.
pub(super) const APPLICATION_ID: i64 = 0x756e_636c;

/// The format's version, SQLite's `user_version`. A change that an older program would misread raises it.
pub(super) const VERSION: i64 = 1;

/// Makes an empty recording. `auto_vacuum` must come before the first table, the log's mode before the first writing.
pub(super) const CREATE: &str = "
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA journal_mode = WAL;
    BEGIN;
    CREATE TABLE recording(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE process(id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, pid INTEGER NOT NULL, start_ticks INTEGER NOT NULL,
        name TEXT NOT NULL, command TEXT NOT NULL, uid INTEGER NOT NULL, user TEXT NOT NULL, started INTEGER NOT NULL, ended INTEGER);
    CREATE TABLE series(id INTEGER PRIMARY KEY, name TEXT NOT NULL, unit TEXT NOT NULL, process INTEGER);
    CREATE TABLE tick(at INTEGER PRIMARY KEY, columns BLOB NOT NULL);
    CREATE TABLE segment(first INTEGER PRIMARY KEY, last INTEGER NOT NULL, ticks INTEGER NOT NULL, columns BLOB NOT NULL);
    CREATE TABLE lifetime(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, ipv6 INTEGER NOT NULL, socket_type TEXT, inode INTEGER,
        name TEXT, local TEXT, remote TEXT, peer_inode INTEGER, state TEXT, accepted_by TEXT, opened_after INTEGER,
        opened INTEGER NOT NULL, opened_exact INTEGER NOT NULL, last_seen INTEGER NOT NULL, closed INTEGER,
        ended_with_process INTEGER NOT NULL, identity_a INTEGER NOT NULL, identity_b INTEGER NOT NULL, detail TEXT, label TEXT);
    CREATE TABLE activity(lifetime INTEGER PRIMARY KEY, bytes_sent INTEGER, bytes_received INTEGER, last_active INTEGER);
    CREATE TABLE holder(lifetime INTEGER NOT NULL, process INTEGER NOT NULL, fd INTEGER NOT NULL, access TEXT,
        PRIMARY KEY(lifetime, process, fd)) WITHOUT ROWID;
    CREATE TABLE tally(kind TEXT NOT NULL, endpoint TEXT NOT NULL, opened INTEGER NOT NULL, closed INTEGER NOT NULL,
        PRIMARY KEY(kind, endpoint)) WITHOUT ROWID;
    CREATE TABLE bound(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, name TEXT NOT NULL, series TEXT NOT NULL, value REAL NOT NULL);
    CREATE TABLE gap(series TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, reason TEXT NOT NULL,
        PRIMARY KEY(series, since)) WITHOUT ROWID;
    CREATE TABLE event(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, process INTEGER, kind TEXT NOT NULL, text TEXT NOT NULL);
    CREATE TABLE verdict(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, sentence TEXT NOT NULL);
    CREATE TABLE note(text TEXT PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, ticks INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE cost(id INTEGER PRIMARY KEY CHECK (id = 1), cpu_seconds REAL, memory_bytes INTEGER, descriptors INTEGER);
    CREATE TABLE stack(key INTEGER PRIMARY KEY, frames TEXT NOT NULL, truncated TEXT);
    CREATE TABLE opener(lifetime INTEGER PRIMARY KEY, stack INTEGER, thread TEXT NOT NULL, tid INTEGER NOT NULL,
        at INTEGER NOT NULL);
    CREATE TABLE last_use(lifetime INTEGER PRIMARY KEY, stack INTEGER, thread TEXT NOT NULL, tid INTEGER NOT NULL,
        at INTEGER NOT NULL, messages TEXT, now TEXT);
    CREATE TABLE code_tally(kind TEXT NOT NULL, part TEXT NOT NULL, stack INTEGER NOT NULL, opened INTEGER NOT NULL,
        closed INTEGER NOT NULL, PRIMARY KEY(kind, part, stack)) WITHOUT ROWID;
    PRAGMA application_id = 1970168684;
    PRAGMA user_version = 1;
    COMMIT;
";

/// Whether lifetimes have a column, for the first recordings of this version lack `detail` and `label`.
pub(super) const HAS_COLUMN: &str = "SELECT count(*) FROM pragma_table_info('lifetime') WHERE name = ?";

/// The tables that every recording has.
pub(super) const TABLES: [&str; 15] = [
    "recording",
    "process",
    "series",
    "tick",
    "segment",
    "lifetime",
    "activity",
    "holder",
    "tally",
    "bound",
    "gap",
    "event",
    "verdict",
    "note",
    "cost",
];

/// Those that the first recordings of this version lack.
pub(super) const LATER_TABLES: [&str; 4] = ["stack", "opener", "last_use", "code_tally"];

/// For every connection that writes. Without `FULL` a power failure may lose the last ticks, never the file.
pub(super) const WRITER: &str = "
    PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = 256;
    PRAGMA journal_size_limit = 4194304;
";

const _: () = assert!(APPLICATION_ID == 1_970_168_684 && VERSION == 1, "CREATE writes these numbers out");
