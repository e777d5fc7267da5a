//! SQL without its literals, for PostgreSQL and MySQL, also where the text is cut in the middle.

use super::useful;
use std::iter::Peekable;
use std::str::CharIndices;

/// Whose SQL it is: they differ in what a quote means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Double quotes hold identifiers; a backslash escapes in `E''` only; `$tag$` quotes.
    PostgreSql,
    /// Both quotes hold strings, in which a backslash escapes; backticks hold identifiers.
    MySql,
}

/// What a piece of SQL is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword or a name.
    Word,
    /// A name in quotes.
    Quoted,
    /// A string or a number.
    Literal,
    /// A place for a value that is sent beside the text: `$1`.
    Parameter,
    /// White space or a comment.
    Space,
    /// Any other character.
    Sign,
}

/// A piece of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
}

impl Token<'_> {
    /// True for a keyword or name, in any case of letters.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// True for this character, where it is none of the others.
    pub(super) fn is_sign(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }

    fn is_value(&self) -> bool {
        matches!(self.kind, Kind::Literal | Kind::Parameter) || ["-", "?"].contains(&self.text)
    }
}

/// A text of SQL, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Sql<'a> {
    tokens: Vec<Token<'a>>,
    is_cut: bool,
}

/// Before a literal, these make it one that is never shown; a part of the word is enough.
const SECRETS: [&str; 6] = ["password", "passwd", "pwd", "secret", "token", "identified"];

/// How many pieces before a literal are asked whether it is a secret: `IDENTIFIED WITH plugin AS 'hash'`.
const SECRET_REACH: usize = 4;

impl<'a> Sql<'a> {
    /// Takes a text apart; `is_cut` where it goes on beyond what is known.
    pub(super) fn read(text: &'a str, dialect: Dialect, is_cut: bool) -> Self {
        let mut scanner = Scanner { text, dialect, letters: text.char_indices().peekable() };
        let mut tokens = Vec::new();
        while let Some(token) = scanner.next_token() {
            tokens.push(token);
        }
        Sql { tokens, is_cut }
    }

    /// On one line, without comments; literals as `?`, lists of them as `…`. With `show_literals` they stand there, except for
    /// passwords.
    pub(super) fn line(&self, show_literals: bool) -> String {
        let mut line = String::new();
        let mut before: Vec<&Token> = Vec::new();
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            at += 1;
            match token.kind {
                Kind::Space if line.is_empty() || line.ends_with(' ') => {}
                Kind::Space => line.push(' '),
                Kind::Literal if !show_literals || is_secret(token, &before) => line.push('?'),
                _ if token.is_sign("(") && !show_literals && before.last().is_some_and(|last| last.is_word("in")) => {
                    match self.list_end(at) {
                        Some(end) => {
                            line.push_str("(…)");
                            at = end;
                        }
                        None => line.push('('),
                    }
                }
                _ if token.is_sign(",") && !show_literals && before.last().is_some_and(|last| last.is_sign(")")) => {
                    match self.rows_end(at - 1) {
                        Some(end) => {
                            line.push_str(", …");
                            at = end;
                        }
                        None => line.push(','),
                    }
                }
                _ => line.push_str(token.text),
            }
            if token.kind != Kind::Space {
                before.push(token);
            }
        }
        line.truncate(line.trim_end().len());
        if self.is_cut && !line.ends_with('…') {
            line.push('…');
        }
        line
    }

    /// True where it says what the connection is for, see `useful`.
    pub(super) fn is_useful(&self) -> bool {
        let tokens: Vec<Token> = self.tokens.iter().filter(|token| token.kind != Kind::Space).copied().collect();
        let mut statements = tokens.split(|token| token.is_sign(";")).peekable();
        while let Some(statement) = statements.next() {
            if useful::of_statement(statement, self.is_cut && statements.peek().is_none()) {
                return true;
            }
        }
        false
    }

    /// Behind the closing bracket of a list that holds only values; `at` is behind its opening one.
    fn list_end(&self, at: usize) -> Option<usize> {
        let inside = |token: &Token| token.kind == Kind::Space || token.is_sign(",") || token.is_value();
        let end = at + self.tokens.get(at..)?.iter().take_while(|token| inside(token)).count();
        match self.tokens.get(end) {
            Some(token) => token.is_sign(")").then_some(end + 1),
            None => self.is_cut.then_some(end),
        }
    }

    /// Behind further rows of values, `, (1, 2), (3, 4)`; `at` is the comma before the first.
    fn rows_end(&self, mut at: usize) -> Option<usize> {
        let mut end = None;
        loop {
            let mut ahead = (at..self.tokens.len()).filter(|index| self.tokens[*index].kind != Kind::Space);
            let comma = ahead.next().filter(|index| self.tokens[*index].is_sign(","));
            let open = ahead.next().filter(|index| self.tokens[*index].is_sign("("));
            let row = comma.and(open).and_then(|open| self.list_end(open + 1));
            match row {
                Some(behind) => (at, end) = (behind, Some(behind)),
                None => return end,
            }
        }
    }
}

/// True for a literal that stands by a word for a secret, or holds one itself, as a connection string does.
fn is_secret(literal: &Token, before: &[&Token]) -> bool {
    let tells = |text: &str| SECRETS.iter().any(|secret| text.to_ascii_lowercase().contains(secret));
    let with_password = literal.text.contains("://") && literal.text.contains('@');
    let near = before.iter().rev().take(SECRET_REACH).any(|token| token.kind != Kind::Literal && tells(token.text));
    near || with_password || tells(literal.text)
}

/// Walks along a text.
struct Scanner<'a> {
    text: &'a str,
    dialect: Dialect,
    letters: Peekable<CharIndices<'a>>,
}

impl<'a> Scanner<'a> {
    fn next_token(&mut self) -> Option<Token<'a>> {
        let (start, first) = self.letters.next()?;
        let rest = &self.text[start..];
        let is_mysql = self.dialect == Dialect::MySql;
        let (kind, length) = match first {
            _ if first.is_whitespace() || first.is_control() => {
                (Kind::Space, length_while(rest, |it| it.is_whitespace() || it.is_control()))
            }
            '-' if rest.starts_with("--") => (Kind::Space, length_while(rest, |it| it != '\n')),
            '#' if is_mysql => (Kind::Space, length_while(rest, |it| it != '\n')),
            '/' if rest.starts_with("/*") => (Kind::Space, comment_length(rest, is_mysql)),
            '\'' => (Kind::Literal, quoted_length(rest, '\'', is_mysql)),
            '"' if is_mysql => (Kind::Literal, quoted_length(rest, '"', true)),
            '"' => (Kind::Quoted, quoted_length(rest, '"', false)),
            '`' => (Kind::Quoted, quoted_length(rest, '`', false)),
            '$' if !is_mysql => dollar(rest),
            '0'..='9' => (Kind::Literal, number_length(rest)),
            '.' if rest[1..].starts_with(|it: char| it.is_ascii_digit()) => (Kind::Literal, number_length(rest)),
            _ if first.is_alphabetic() || first == '_' => self.word(rest),
            _ => (Kind::Sign, first.len_utf8()),
        };
        while self.letters.next_if(|(at, _)| *at < start + length).is_some() {}
        Some(Token { kind, text: &rest[..length] })
    }

    /// A word, or the letter before a string that belongs to it: `E'it\'s'`, `X'1f'`.
    fn word(&self, rest: &str) -> (Kind, usize) {
        let length = length_while(rest, |it| it.is_alphanumeric() || it == '_' || it == '$');
        let prefix = ["e", "b", "x", "n"].iter().find(|prefix| rest[..length].eq_ignore_ascii_case(prefix));
        match prefix {
            Some(prefix) if rest[length..].starts_with('\'') => {
                let escapes = *prefix == "e" || self.dialect == Dialect::MySql;
                (Kind::Literal, length + quoted_length(&rest[length..], '\'', escapes))
            }
            _ => (Kind::Word, length),
        }
    }
}

fn length_while(text: &str, inside: impl Fn(char) -> bool) -> usize {
    text.find(|letter| !inside(letter)).unwrap_or(text.len())
}

/// Up to the closing quote; a doubled one stands for itself. Without one, up to the end.
fn quoted_length(text: &str, quote: char, escapes: bool) -> usize {
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' && escapes {
            letters.next();
        } else if letter == quote && letters.next_if(|(_, next)| *next == quote).is_none() {
            return at + quote.len_utf8();
        }
    }
    text.len()
}

/// Up to the end of a comment; PostgreSQL's stand in one another.
fn comment_length(text: &str, is_mysql: bool) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        match text.as_bytes().get(at..at + 2) {
            Some(b"/*") => (depth, at) = (if is_mysql { 1 } else { depth + 1 }, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// `$1`, or a string in `$tag$`; otherwise the sign alone.
fn dollar(text: &str) -> (Kind, usize) {
    let tag = 1 + length_while(&text[1..], |it| it.is_alphanumeric() || it == '_');
    if text[1..].starts_with(|it: char| it.is_ascii_digit()) {
        return (Kind::Parameter, 1 + length_while(&text[1..], |it| it.is_ascii_digit()));
    }
    match text[tag..].starts_with('$') {
        true => {
            let quote = &text[..=tag];
            let end = text[quote.len()..].find(quote).map_or(text.len(), |at| 2 * quote.len() + at);
            (Kind::Literal, end)
        }
        // The tag itself may have been cut.
        false if tag == text.len() => (Kind::Literal, tag),
        false => (Kind::Sign, 1),
    }
}

fn number_length(text: &str) -> usize {
    let length = length_while(text, |it| it.is_ascii_alphanumeric() || it == '.' || it == '_');
    let exponent = text[..length].ends_with(['e', 'E']) && text[length..].starts_with(['+', '-']);
    if exponent { length + 1 + length_while(&text[length + 1..], |it| it.is_ascii_digit()) } else { length }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dialect::{MySql, PostgreSql};
    use proptest::prelude::*;

    fn masked(text: &str, dialect: Dialect) -> String {
        Sql::read(text, dialect, false).line(false)
    }

    #[test]
    fn literals_are_masked_and_names_are_kept() {
        let cases = [
            ("SELECT * FROM t1 WHERE id = 42 AND name = 'O''Brien'", "SELECT * FROM t1 WHERE id = ? AND name = ?"),
            (r"SELECT E'it\'s', 'C:\', x", "SELECT ?, ?, x"),
            (r#"SELECT "Total 7" FROM "a""b" WHERE x = $1"#, r#"SELECT "Total 7" FROM "a""b" WHERE x = $1"#),
            ("DO $body$ BEGIN PERFORM 'x'; $$ END $body$;", "DO ?;"),
            ("SELECT $$it's$$, 1.5e-3, .5, 0xFF, -7", "SELECT ?, ?, ?, ?, -?"),
            ("UPDATE o SET at = DATE '2026-01-02', b = B'01'", "UPDATE o SET at = DATE ?, b = ?"),
            ("SELECT a -- of 7\n  , b /* x /* 'y' */ 3 */ FROM t", "SELECT a , b FROM t"),
            ("SELECT * FROM t WHERE id IN (1, 2,3) AND k in ('a')", "SELECT * FROM t WHERE id IN (…) AND k in (…)"),
            ("SELECT * FROM t WHERE id IN (SELECT 1)", "SELECT * FROM t WHERE id IN (SELECT ?)"),
            (
                "INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y'), (3, 'z') RETURNING a",
                "INSERT INTO t (a, b) VALUES (?, ?), … RETURNING a",
            ),
            ("SELECT data->>'key', tags[1], a::int4 FROM t", "SELECT data->>?, tags[?], a::int4 FROM t"),
        ];
        for (text, expected) in cases {
            assert_eq!(masked(text, PostgreSql), expected);
        }
    }

    #[test]
    fn mysql_has_quotes_of_its_own() {
        let cases = [
            (r#"SELECT host FROM p WHERE user='o\'brien' AND n<7"#, "SELECT host FROM p WHERE user=? AND n<?"),
            (r#"SELECT `a 1` FROM t WHERE s = "x\"y" # 5"#, "SELECT `a 1` FROM t WHERE s = ?"),
            ("SELECT /* one */ a FROM t WHERE s = _utf8mb4'x'", "SELECT a FROM t WHERE s = _utf8mb4?"),
        ];
        for (text, expected) in cases {
            assert_eq!(masked(text, MySql), expected);
        }
    }

    #[test]
    fn a_text_that_was_cut_hides_the_rest_of_its_literal() {
        for (text, expected) in [
            ("SELECT * FROM t WHERE name = 'O''Bri", "SELECT * FROM t WHERE name = ?…"),
            ("SELECT * FROM t WHERE id IN (1, 2, 3", "SELECT * FROM t WHERE id IN (…)…"),
            ("SELECT $bo", "SELECT ?…"),
            ("SELECT a, ", "SELECT a,…"),
            ("INSERT INTO t VALUES (1), (2), (", "INSERT INTO t VALUES (?), …"),
        ] {
            assert_eq!(Sql::read(text, PostgreSql, true).line(false), expected);
        }
    }

    #[test]
    fn asked_for_literals_stand_there_but_for_passwords() {
        let shown = |text, dialect| Sql::read(text, dialect, false).line(true);
        assert_eq!(shown("SELECT  'a  b', 7", PostgreSql), "SELECT 'a  b', 7");
        assert_eq!(
            shown("ALTER ROLE app VALID UNTIL 'x' PASSWORD 'geheim'", PostgreSql),
            "ALTER ROLE app VALID UNTIL 'x' PASSWORD ?"
        );
        assert_eq!(shown("CREATE USER a IDENTIFIED WITH p AS 'hash'", MySql), "CREATE USER a IDENTIFIED WITH p AS ?");
        assert_eq!(shown("SELECT dblink('host=a password=b')", PostgreSql), "SELECT dblink(?)");
    }

    proptest! {
        /// Whatever surrounds it and wherever it is cut, what stands in a string never comes out.
        #[test]
        fn a_string_never_comes_out(before in "[a-z =,()]{0,12}", secret in "[QZ]{1,9}('')?[QZ]{0,3}", after in "[ a-z,;)]{0,9}", cut in 0..40usize) {
            let text: String = format!("{before} '{secret}'{after}").chars().take(cut).collect();
            for dialect in [PostgreSql, MySql] {
                let line = Sql::read(&text, dialect, true).line(false);
                prop_assert!(!line.contains(['Q', 'Z']), "{line}");
            }
        }

        #[test]
        fn any_text_is_taken_apart_whole(text in any::<String>()) {
            for dialect in [PostgreSql, MySql] {
                let sql = Sql::read(&text, dialect, true);
                let whole: String = sql.tokens.iter().map(|token| token.text).collect();
                prop_assert_eq!(&whole, &text);
                let _ = (sql.line(false), sql.line(true), sql.is_useful());
            }
        }
    }
}
