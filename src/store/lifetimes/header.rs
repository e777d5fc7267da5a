//! The header of a CSV of lifetimes, and the fields of a line by it (RFC 4180, but for line breaks within quotes).

use std::borrow::Cow;

/// The header as it is usual; columns may come in any order, and others beside them.
pub const HEADER: &str = "conn_id,opened_ts,closed_ts,remote,bytes_sent,last_activity_ts";

/// What a column tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Id,
    Opened,
    Closed,
    Remote,
    Kind,
    BytesSent,
    BytesReceived,
    LastActivity,
}

impl Column {
    const COUNT: usize = 8;
    const NAMES: [(Column, &'static str); Column::COUNT] = [
        (Column::Id, "conn_id"),
        (Column::Opened, "opened_ts"),
        (Column::Closed, "closed_ts"),
        (Column::Remote, "remote"),
        (Column::Kind, "kind"),
        (Column::BytesSent, "bytes_sent"),
        (Column::BytesReceived, "bytes_received"),
        (Column::LastActivity, "last_activity_ts"),
    ];
    const REQUIRED: [usize; 3] = [Column::Id as usize, Column::Opened as usize, Column::Closed as usize];
}

/// Which column tells what.
#[derive(Debug)]
pub(in crate::store) struct Header {
    line: String,
    separator: char,
    columns: Vec<Option<Column>>,
    /// The columns that tell nothing that is known.
    pub(super) others: Vec<String>,
}

impl Header {
    /// Reads a text's first line: `None` where it heads no lifetimes, or what it lacks.
    pub(in crate::store) fn read(line: &str) -> Option<Result<Header, String>> {
        let separator = [',', ';', '\t'].into_iter().find(|it| line.contains(*it)).unwrap_or(',');
        let mut names = Vec::new();
        let mut rest = Some(line);
        while let Some(text) = rest {
            let (name, after) = field(text, separator).ok()?;
            names.push(name.to_ascii_lowercase());
            rest = after;
        }
        let known = |name: &String| Column::NAMES.iter().find(|(_, known)| known == name).map(|(column, _)| *column);
        let mut columns: Vec<Option<Column>> = names.iter().map(known).collect();
        if !columns.contains(&Some(Column::Id)) {
            return None;
        }
        // Of two columns of one name the first counts.
        for place in 1..columns.len() {
            if columns[..place].contains(&columns[place]) {
                columns[place] = None;
            }
        }
        let lacking = Column::REQUIRED.iter().map(|column| Column::NAMES[*column]);
        let lacking = lacking.filter(|(column, _)| !columns.contains(&Some(*column))).map(|(_, name)| name);
        let lacking: Vec<&str> = lacking.collect();
        if !lacking.is_empty() {
            return Some(Err(format!("it has no column {}", lacking.join(" and no column "))));
        }
        let others = names.iter().zip(&columns).filter(|(_, column)| column.is_none()).map(|(name, _)| name.clone());
        Some(Ok(Header { others: others.collect(), line: line.to_owned(), separator, columns }))
    }

    /// True of the header itself, come again where files were joined.
    pub(super) fn is(&self, line: &str) -> bool {
        self.line == line
    }

    /// The fields of a line, or what is wrong with it. What a short line lacks at its end is empty, but for what every line
    /// must have.
    pub(super) fn fields<'a>(&self, line: &'a str) -> Result<Fields<'a>, &'static str> {
        let mut fields = Fields::default();
        let mut rest = Some(line);
        for (place, column) in self.columns.iter().enumerate() {
            let Some(text) = rest else {
                let is_lacking =
                    |column: &Option<Column>| column.is_some_and(|it| Column::REQUIRED.contains(&(it as usize)));
                return if self.columns[place..].iter().any(is_lacking) { Err("it ends too soon") } else { Ok(fields) };
            };
            let (value, after) = field(text, self.separator)?;
            if let Some(column) = column {
                fields.0[*column as usize] = value;
            }
            rest = after;
        }
        if rest.is_some_and(|rest| !rest.trim_matches([' ', self.separator]).is_empty()) {
            return Err("it has more fields than the header");
        }
        Ok(fields)
    }
}

/// What a line says, by column; empty where it says nothing.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>([Cow<'a, str>; Column::COUNT]);

impl Fields<'_> {
    pub(super) fn get(&self, column: Column) -> &str {
        &self.0[column as usize]
    }
}

/// The field that `text` begins with, and what comes after its separator, if there is one.
fn field(text: &str, separator: char) -> Result<(Cow<'_, str>, Option<&str>), &'static str> {
    let near = text.trim_start_matches(' ');
    let Some(quoted) = near.strip_prefix('"') else {
        return Ok(match text.split_once(separator) {
            Some((value, after)) => (value.trim().into(), Some(after)),
            None => (text.trim().into(), None),
        });
    };
    let mut end = 0;
    loop {
        end += quoted[end..].find('"').ok_or("a quote is not closed")?;
        // A quote within quotes is written twice.
        if !quoted[end + 1..].starts_with('"') {
            break;
        }
        end += 2;
    }
    let value = &quoted[..end];
    let value = if value.contains('"') { value.replace("\"\"", "\"").into() } else { value.into() };
    match quoted[end + 1..].trim_start_matches(' ') {
        "" => Ok((value, None)),
        after => Ok((value, Some(after.strip_prefix(separator).ok_or("a field goes on after its quote")?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(line: &str) -> Header {
        Header::read(line).expect("a header").expect("a whole one")
    }

    #[test]
    fn the_header_may_be_in_any_order_and_dress() {
        let lines = [
            "\"conn_id\",\"opened_ts\",\"closed_ts\"",
            "Conn_ID; Opened_ts; closed_TS",
            "x\tclosed_ts\topened_ts\tconn_id",
        ];
        for line in lines {
            assert_eq!(header(line).columns.iter().flatten().count(), 3, "{line}");
        }
        assert_eq!(header("conn_id,opened_ts,closed_ts,pool,conn_id").others, ["pool", "conn_id"]);
        assert!(Header::read("unix_time,value").is_none() && Header::read("1487279164,12").is_none());
        let lacking = Header::read("conn_id,remote").expect("of lifetimes").expect_err("not whole");
        assert_eq!(lacking, "it has no column opened_ts and no column closed_ts");
    }

    #[test]
    fn fields_are_told_apart_by_the_rules_of_csv() {
        let header = header("remote,conn_id,opened_ts,closed_ts,bytes_sent");
        let told = |line: &str| match header.fields(line) {
            Ok(fields) => [Column::Remote, Column::Id, Column::Opened, Column::Closed]
                .map(|it| fields.get(it).to_owned())
                .join("|"),
            Err(reason) => reason.to_owned(),
        };
        assert_eq!(told("a:1, 7 ,1.5,"), "a:1|7|1.5|");
        assert_eq!(told("\"a,b\",\"say \"\"hi\"\"\" ,\"1\",2,,"), "a,b|say \"hi\"|1|2");
        assert_eq!(told("a,7,1"), "it ends too soon");
        assert_eq!(told("a,7,1,2,3,4"), "it has more fields than the header");
        assert_eq!(told("\"a,7,1,2"), "a quote is not closed");
        assert_eq!(told("\"a\"b,7,1,2"), "a field goes on after its quote");
        assert_eq!(told("é,\"ü\",1,\"\""), "é|ü|1|");
    }
}
