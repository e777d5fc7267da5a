//! Which SQL says what a connection is for, and which any pool or driver says.

use super::sql::{Kind, Token};

/// Statements about the session or the transaction itself.
const OF_SESSION: [&str; 17] = [
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "release",
    "set",
    "reset",
    "discard",
    "deallocate",
    "show",
    "unlisten",
    "close",
    "use",
    "xa",
];

/// What a `SELECT` without a table may call and still say nothing: facts of the session, and what is no function.
const FACTS: [&str; 37] = [
    "version",
    "current_schema",
    "current_schemas",
    "current_database",
    "current_setting",
    "set_config",
    "current_user",
    "session_user",
    "database",
    "schema",
    "user",
    "pg_backend_pid",
    "pg_is_in_recovery",
    "pg_advisory_unlock_all",
    "connection_id",
    "last_insert_id",
    "row_count",
    "found_rows",
    "now",
    "sysdate",
    "inet_server_addr",
    "inet_client_addr",
    "cast",
    "convert",
    "coalesce",
    "concat",
    "if",
    "any",
    "all",
    "in",
    "as",
    "row",
    "array",
    "varchar",
    "char",
    "numeric",
    "decimal",
];

/// Tables by which drivers look up types. Those of the first line alone make it such a look-up.
const TYPES: [&str; 3] = ["pg_type", "pg_range", "pg_enum"];
const BESIDE_TYPES: [&str; 8] = [
    "pg_namespace",
    "pg_class",
    "pg_attribute",
    "pg_proc",
    "pg_index",
    "pg_constraint",
    "pg_collation",
    "pg_description",
];

/// A look-up of types whose tables lie beyond what is kept of its text (asyncpg).
const LOOK_UP_OF_TYPES: &str = "typeinfo_tree";

/// True where a statement says what the connection is for; `is_cut` where it goes on beyond what is known.
pub(super) fn of_statement(statement: &[Token], is_cut: bool) -> bool {
    let inner = statement.iter().position(|token| !token.is_sign("(")).map_or(&[][..], |start| &statement[start..]);
    let Some(first) = inner.first() else { return false };
    if OF_SESSION.iter().any(|word| first.is_word(word)) {
        return false;
    }
    let reads = ["select", "with", "values"].iter().any(|word| first.is_word(word));
    if !reads {
        return true;
    }
    if inner.iter().any(|token| token.is_word(LOOK_UP_OF_TYPES)) {
        return false;
    }
    let tables = tables(inner);
    if tables.is_empty() {
        // Where it was cut, its tables may come later.
        return is_cut || calls(inner);
    }
    !is_look_up_of_types(&tables)
}

/// The tables after `FROM` and `JOIN`, without their schema; `dual` is none.
fn tables<'a>(statement: &[Token<'a>]) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, token) in statement.iter().enumerate() {
        if !token.is_word("from") && !token.is_word("join") {
            continue;
        }
        let mut ahead =
            statement[at + 1..].iter().skip_while(|token| token.is_word("only") || token.is_word("lateral"));
        let mut name = None;
        while let Some(part) = ahead.next() {
            name = matches!(part.kind, Kind::Word | Kind::Quoted).then_some(part.text.trim_matches(['"', '`']));
            if !ahead.next().is_some_and(|next| next.is_sign(".")) {
                break;
            }
        }
        found.extend(name.filter(|name| !name.eq_ignore_ascii_case("dual")));
    }
    found
}

/// True where it calls a function that is more than a fact of the session.
fn calls(statement: &[Token]) -> bool {
    let is_call = |pair: &[Token]| pair[0].kind == Kind::Word && pair[1].is_sign("(");
    let is_fact = |token: &Token| FACTS.iter().any(|fact| token.is_word(fact));
    statement.windows(2).any(|pair| is_call(pair) && !is_fact(&pair[0]) && !pair[0].is_word("select"))
}

fn is_look_up_of_types(tables: &[&str]) -> bool {
    let is = |names: &[&str], table: &str| names.iter().any(|name| table.eq_ignore_ascii_case(name));
    let all = tables.iter().all(|table| is(&TYPES, table) || is(&BESIDE_TYPES, table));
    all && tables.iter().any(|table| is(&TYPES, table))
}

#[cfg(test)]
mod tests {
    use crate::ledger::message::sql::{Dialect, Sql};

    fn is_useful(text: &str) -> bool {
        Sql::read(text, Dialect::PostgreSql, false).is_useful()
    }

    #[test]
    fn what_any_pool_says_is_not_useful() {
        for text in [
            "",
            " ; ",
            "COMMIT",
            "begin;",
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "START TRANSACTION",
            "ROLLBACK TO x",
            "SET search_path TO app",
            "DISCARD ALL",
            "RESET ALL",
            "DEALLOCATE ALL",
            "SHOW server_version",
            "SELECT 1",
            "select 1;",
            "SELECT 1 AS one",
            "SELECT 'x'",
            "SELECT 1 FROM DUAL",
            "/* ping */ SELECT 1",
            "SELECT version()",
            "select pg_catalog.version()",
            "SELECT current_schema(), session_user",
            "SELECT @@transaction_isolation",
            "SELECT CAST('test plain returns' AS VARCHAR(60)) AS anon_1",
            "(SELECT 1)",
            "SELECT $1::int4[]",
            "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
            "SELECT set_config('jit', $1, false)",
            "SELECT t.oid, typarray FROM pg_type t JOIN pg_namespace ns ON typnamespace = ns.oid WHERE typname = $1",
            "SELECT t.oid FROM pg_catalog.pg_type AS t LEFT JOIN \"pg_range\" r ON oid = rngtypid",
        ] {
            assert!(!is_useful(text), "{text}");
        }
    }

    #[test]
    fn what_names_a_purpose_is_useful() {
        for text in [
            "BEGIN; SELECT * FROM orders",
            "SELECT id FROM orders WHERE id = 1",
            "select 1 from orders",
            "DELETE FROM t",
            "SELECT pg_sleep(5)",
            "SELECT reserve_seat($1)",
            "CALL nightly()",
            "COPY t FROM STDIN",
            "FETCH 100 FROM c",
            "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
            "SELECT relname FROM pg_class WHERE relpages > 7",
            "SELECT * FROM pg_stat_activity",
            "SELECT a FROM ONLY orders",
            "LISTEN jobs",
            "INSERT INTO t VALUES (1)",
        ] {
            assert!(is_useful(text), "{text}");
        }
    }
}
