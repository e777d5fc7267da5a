//! What clients wrote to real servers, taken down between the two: how many bytes, and the first 512 of them.

/// psycopg2 2.9: simple statements.
pub(super) const PSYCOPG2: [(u64, &[u8]); 5] = [
    (36, b"\0\0\0$\0\x03\0\0user\0app\0database\0postgres\0\0"),
    (11, b"Q\0\0\0\nBEGIN\0"),
    (78, b"Q\0\0\0MSELECT relname FROM pg_class WHERE relname = 'o''brien' AND relpages > 7\0"),
    (12, b"Q\0\0\0\x0bCOMMIT\0"),
    (5, b"X\0\0\0\x04"),
];

/// psycopg 3.3 by libpq: a named statement, prepared once, run twice.
pub(super) const PSYCOPG3: [(u64, &[u8]); 7] = [
    (36, b"\0\0\0$\0\x03\0\0user\0app\0database\0postgres\0\0"),
    (11, b"Q\0\0\0\nBEGIN\0"),
    (93, b"P\0\0\0W_pg3_0\0SELECT relname FROM pg_class WHERE relname = $1 AND relpages > $2\0\0\x02\0\0\0\0\0\0\0\x15S\0\0\0\x04"),
    (64, b"B\0\0\0)\0_pg3_0\0\0\x02\0\0\0\x01\0\x02\0\0\0\x07o'brien\0\0\0\x02\0\x07\0\x01\0\0D\0\0\0\x06P\0E\0\0\0\t\0\0\0\0\0S\0\0\0\x04"),
    (64, b"B\0\0\0)\0_pg3_0\0\0\x02\0\0\0\x01\0\x02\0\0\0\x07o'brien\0\0\0\x02\0\x07\0\x01\0\0D\0\0\0\x06P\0E\0\0\0\t\0\0\0\0\0S\0\0\0\x04"),
    (12, b"Q\0\0\0\x0bCOMMIT\0"),
    (5, b"X\0\0\0\x04"),
];

/// asyncpg 0.32: as before; a transaction; a look-up of types, cut; the reset on giving back.
pub(super) const ASYNCPG: [(u64, &[u8]); 9] = [
    (60, b"\0\0\0<\0\x03\0\0client_encoding\0'utf-8'\0user\0app\0database\0postgres\0\0"),
    (122, b"P\0\0\0[__asyncpg_stmt_1__\0SELECT relname FROM pg_class WHERE relname = $1 AND relpages > $2\0\0\0D\0\0\0\x18S__asyncpg_stmt_1__\0H\0\0\0\x04"),
    (71, b"B\0\0\x007\0__asyncpg_stmt_1__\0\0\x02\0\x01\0\x01\0\x02\0\0\0\x07o'brien\0\0\0\x04\0\0\0\x07\0\x01\0\x01E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"),
    (71, b"B\0\0\x007\0__asyncpg_stmt_1__\0\0\x02\0\x01\0\x01\0\x02\0\0\0\x07o'brien\0\0\0\x04\0\0\0\x07\0\x01\0\x01E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"),
    (12, b"Q\0\0\0\x0bBEGIN;\0"),
    (27, b"Q\0\0\0\x1aSELECT pg_sleep(0.01)\0"),
    (6870, b"P\0\0\x1a\xb7__asyncpg_stmt_4__\0WITH RECURSIVE typeinfo_tree(\n    oid, ns, name, kind, basetype, elemtype, elemdelim,\n    range_subtype, attrtypoids, attrnames, depth)\nAS (\n    SELECT\n        ti.oid, ti.ns, ti.name, ti.kind, ti.basetype,\n        ti.elemtype, ti.elemdelim, ti.range_subtype,\n        ti.attrtypoids, ti.attrnames, 0\n    FROM\n            (\n        SELECT\n            t.oid                           AS oid,\n            ns.nspname                      AS ns,\n            t.typname                       AS n"),
    (72, b"Q\0\0\0GSELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;\0"),
    (5, b"X\0\0\0\x04"),
];

/// pg8000 1.31: the unnamed statement, prepared and run by writes of their own.
pub(super) const PG8000: [(u64, &[u8]); 10] = [
    (8, b"\0\0\0\x08\x04\xd2\x16/"),
    (36, b"\0\0\0$\0\x03\0\0user\0app\0database\0postgres\0\0"),
    (23, b"Q\0\0\0\x16begin transaction\0"),
    (66, b"P\0\0\x007\0SELECT relname FROM pg_class WHERE relname = $1\0\0\0H\0\0\0\x04S\0\0\0\x04"),
    (17, b"D\0\0\0\x06S\0H\0\0\0\x04S\0\0\0\x04"),
    (43, b"B\0\0\0\x11\0\0\0\0\0\x01\0\0\0\x01x\0\0H\0\0\0\x04E\0\0\0\t\0\0\0\0\0H\0\0\0\x04S\0\0\0\x04"),
    (25, b"P\0\0\0\x0e\0commit\0\0\0H\0\0\0\x04S\0\0\0\x04"),
    (17, b"D\0\0\0\x06S\0H\0\0\0\x04S\0\0\0\x04"),
    (38, b"B\0\0\0\x0c\0\0\0\0\0\0\0\0H\0\0\0\x04E\0\0\0\t\0\0\0\0\0H\0\0\0\x04S\0\0\0\x04"),
    (5, b"X\0\0\0\x04"),
];

/// libpq's `PQprepare`, by pgbench.
pub(super) const PGBENCH: [(u64, &[u8]); 6] = [
    (8, b"\0\0\0\x08\x04\xd2\x16/"),
    (61, b"\0\0\0=\0\x03\0\0user\0app\0database\0postgres\0application_name\0pgbench\0\0"),
    (83, b"P\0\0\0MP_0\0SELECT relname FROM pg_class WHERE relpages > 7 AND relname = 'x';\0\0\0S\0\0\0\x04"),
    (40, b"B\0\0\0\x11\0P_0\0\0\0\0\0\0\x01\0\0D\0\0\0\x06P\0E\0\0\0\t\0\0\0\0\0S\0\0\0\x04"),
    (40, b"B\0\0\0\x11\0P_0\0\0\0\0\0\0\x01\0\0D\0\0\0\x06P\0E\0\0\0\t\0\0\0\0\0S\0\0\0\x04"),
    (5, b"X\0\0\0\x04"),
];

/// PyMySQL 1.2 to MariaDB 10.11.
pub(super) const PYMYSQL: [(u64, &[u8]); 8] = [
    (157, b"\x99\0\0\x01\r\xa2:\0\xff\xff\xff\0-\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0app\0\x14\x81\xc2\xb0\"\xdaG\xd7t\xb4\xc1qq\xe9'\x86]\x1d6C2information_schema\0mysql_native_password\x006\x0c_client_name\x07pymysql\x0f_client_version\x051.2.4\x04_pid\x0525896"),
    (22, b"\x12\0\0\0\x03SET NAMES utf8mb4"),
    (23, b"\x13\0\0\0\x03SET AUTOCOMMIT = 0"),
    (63, b";\0\0\0\x03SELECT host FROM processlist WHERE user='o\\'brien' AND 1<7"),
    (11, b"\x07\0\0\0\x03COMMIT"),
    (5, b"\x01\0\0\0\x0e"),
    (23, b"\x13\0\0\0\x02information_schema"),
    (5, b"\x01\0\0\0\x01"),
];

/// MySQL's own connector for Python: two statements, prepared by the server.
pub(super) const CONNECTOR: [(u64, &[u8]); 15] = [
    (245, b"\xf1\0\0\x01\r\xa2;\0\0\0\0@-\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0app\0\x14\xd4I\xe4\x93T\x84\xc3\x8c\x89f\xba\xc9<\xc4\xf3\x8fz\xf0|\x1dinformation_schema\0mysql_native_password\0\x8e\x04_pid\x0525952\t_platform\x06x86_64\x0c_source_host\x02vm\x0c_client_name\x16mysql-connector-python\x0f_client_license\x07GPL-2.0\x0f_client_version\x0726.10.0\x03_os\tDebian-12"),
    (53, b"1\0\0\0\x03SET NAMES 'utf8mb4' COLLATE 'utf8mb4_general_ci'"),
    (35, b"\x1f\0\0\0\x03SET @@session.autocommit = OFF"),
    (5, b"\x01\0\0\0\x0e"),
    (54, b"2\0\0\0\x16SELECT host FROM processlist WHERE user=? AND 1<?"),
    (9, b"\x05\0\0\0\x1a\x01\0\0\0"),
    (29, b"\x19\0\0\0\x17\x01\0\0\0\0\x01\0\0\0\0\x01\xfe\0\x01\x80\x07o'brien\x07"),
    (9, b"\x05\0\0\0\x1a\x01\0\0\0"),
    (29, b"\x19\0\0\0\x17\x01\0\0\0\0\x01\0\0\0\0\x01\xfe\0\x01\x80\x07o'brien\x08"),
    (5, b"\x01\0\0\0\x0e"),
    (44, b"(\0\0\0\x16SELECT db FROM processlist WHERE user=?"),
    (9, b"\x05\0\0\0\x1a\x02\0\0\0"),
    (20, b"\x10\0\0\0\x17\x02\0\0\0\0\x01\0\0\0\0\x01\xfe\0\x01z"),
    (11, b"\x07\0\0\0\x03COMMIT"),
    (5, b"\x01\0\0\0\x01"),
];

/// redis-py 8.1.
pub(super) const REDIS_PY: [(u64, &[u8]); 14] = [
    (57, b"*4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$8\r\nLIB-NAME\r\n$8\r\nredis-py\r\n"),
    (53, b"*4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$7\r\nLIB-VER\r\n$5\r\n8.1.0\r\n"),
    (53, b"*5\r\n$3\r\nSET\r\n$6\r\ncart:7\r\n$6\r\nsecret\r\n$2\r\nEX\r\n$2\r\n60\r\n"),
    (25, b"*2\r\n$3\r\nGET\r\n$6\r\ncart:7\r\n"),
    (28, b"*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n"),
    (35, b"*4\r\n$4\r\nHSET\r\n$1\r\nh\r\n$1\r\nf\r\n$1\r\nv\r\n"),
    (88, b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$2\r\nk1\r\n$2\r\nv1\r\n*3\r\n$6\r\nINCRBY\r\n$1\r\nn\r\n$1\r\n1\r\n*1\r\n$4\r\nEXEC\r\n"),
    (23, b"*2\r\n$5\r\nWATCH\r\n$2\r\nk1\r\n"),
    (17, b"*1\r\n$7\r\nUNWATCH\r\n"),
    (57, b"*4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$8\r\nLIB-NAME\r\n$8\r\nredis-py\r\n"),
    (53, b"*4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$7\r\nLIB-VER\r\n$5\r\n8.1.0\r\n"),
    (14, b"*1\r\n$4\r\nPING\r\n"),
    (53, b"*5\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n1\r\n$3\r\nkey\r\n$3\r\narg\r\n"),
    (36, b"*3\r\n$7\r\nPUBLISH\r\n$2\r\nch\r\n$5\r\nhello\r\n"),
];

/// The same with a password.
pub(super) const REDIS_PY_AUTH: [(u64, &[u8]); 3] = [
    (57, b"*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$6\r\ngeheim\r\n"),
    (23, b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"),
    (20, b"*2\r\n$3\r\nGET\r\n$1\r\nx\r\n"),
];

/// pgjdbc 42.5: what prepared named statements, the last of them behind a `BEGIN`; the last writes.
pub(super) const PGJDBC: [(u64, &[u8]); 6] = [
    (49, b"P\0\0\0\x11S_1\0COMMIT\0\0\0B\0\0\0\x0f\0S_1\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\x01S\0\0\0\x04"),
    (174, b"P\0\0\0\x10S_2\0BEGIN\0\0\0B\0\0\0\x0f\0S_2\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0P\0\0\0OS_3\0SELECT relname FROM pg_class WHERE relname = $1 AND relpages > 7\0\0\x01\0\0\x04\x13B\0\0\0\x1c\0S_3\0\0\x01\0\0\0\x01\0\0\0\x07o'brien\0\0D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"),
    (130, b"B\0\0\0\x0f\0S_2\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0P\0\0\0:S_4\0SELECT oid FROM pg_class WHERE relkind = $1\0\0\x01\0\0\x04\x13B\0\0\0\x16\0S_4\0\0\x01\0\0\0\x01\0\0\0\x01r\0\0D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"),
    (64, b"B\0\0\0\x0f\0S_2\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0B\0\0\0\x16\0S_4\0\0\x01\0\0\0\x01\0\0\0\x01r\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"),
    (31, b"B\0\0\0\x0f\0S_1\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\x01S\0\0\0\x04"),
    (5, b"X\0\0\0\x04"),
];

/// Go's lib/pq: the unnamed statement, by writes of its own.
pub(super) const LIB_PQ: [(u64, &[u8]); 6] = [
    (97, b"\0\0\0a\0\x03\0\0database\0postgres\0client_encoding\0UTF8\0datestyle\0ISO, MDY\0extra_float_digits\x002\0user\0app\0\0"),
    (22, b"Q\0\0\0\x15BEGIN READ WRITE\0"),
    (85, b"P\0\0\0H\0SELECT relname FROM pg_class WHERE relname = $1 AND relpages > 7\0\0\0D\0\0\0\x06S\0S\0\0\0\x04"),
    (39, b"B\0\0\0\x17\0\0\0\0\0\x01\0\0\0\x07o'brien\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"),
    (12, b"Q\0\0\0\x0bCOMMIT\0"),
    (5, b"X\0\0\0\x04"),
];
