use super::*;
use crate::model::{Address, Kind, Lifetime};
use crate::store::input::tests::{gzip, input_of};
use crate::store::input::{Input, InputOptions};
use proptest::prelude::*;

fn read(text: impl AsRef<[u8]>) -> Result<Lifetimes, String> {
    match input_of(text.as_ref(), InputOptions::default())? {
        Input::Lifetimes(lifetimes) => Ok(lifetimes),
        Input::Log(_) => Err("a log".to_owned()),
    }
}

/// `id=opened-closed remote` of each, then its notes, a line each.
fn told(lifetimes: &Lifetimes) -> String {
    let seconds = |at: Option<Timestamp>| at.map(|at| at.seconds().to_string()).unwrap_or_default();
    let one = |it: &Lifetime| {
        let remote = it.resource.remote.as_ref().map(ToString::to_string).unwrap_or_default();
        let label = it.resource.label.as_deref().unwrap_or("?");
        format!("{label}={}-{} {remote}", it.opened.seconds(), seconds(it.closed))
    };
    let all = lifetimes.population.open.values().chain(lifetimes.population.closed.values());
    all.map(one).chain(lifetimes.notes.iter().map(|note| format!("note {note}"))).collect::<Vec<_>>().join("\n")
}

fn check(text: impl AsRef<[u8]>, expect: &str) {
    assert_eq!(read(text).map_or_else(|error| error, |lifetimes| told(&lifetimes)), expect);
}

const HEAD: &str = "conn_id,opened_ts,closed_ts,remote,bytes_sent,last_activity_ts\n";

#[test]
fn each_line_is_a_lifetime() {
    let lifetimes = read(format!("{HEAD}7,100.5,160,10.2.64.1:80,312,150\nb-9,110,,[::1]:5432,,\n")).expect("two");
    assert_eq!(told(&lifetimes), "b-9=110- [::1]:5432\n7=100.5-160 10.2.64.1:80");
    let closed = lifetimes.population.closed.values().next().expect("one");
    assert_eq!((closed.resource.activity.bytes_sent, closed.last_active), (Some(312), Some(Timestamp(150_000_000))));
    let open = lifetimes.population.open.values().next().expect("one");
    assert_eq!((open.resource.activity.bytes_sent, open.last_active, open.resource.ipv6), (None, None, true));
    assert!(open.opened_exact && !open.is_older_than_recording());
    let tallies: Vec<_> =
        lifetimes.population.tallies.groups.iter().map(|(group, tally)| (&*group.endpoint, *tally)).collect();
    assert_eq!(tallies.len(), 2);
    assert_eq!((tallies[0].0, tallies[0].1.opened, tallies[0].1.closed), ("10.2.64.1:80", 1, 1));
    // The latest time is that of a closing.
    assert_eq!(lifetimes.times.last(), Some(&Timestamp(160_000_000)));
    let names: Vec<&str> = lifetimes.series.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(names, ["connections", "connections:10.2.64.1:80", "connections:[::1]:5432"]);
    let last: Vec<f64> = lifetimes.columns.iter().map(|column| column[column.len() - 1]).collect();
    assert_eq!(last, [1.0, 0.0, 1.0]);
}

#[test]
fn remotes_tell_the_kind() {
    let lines = "conn_id,opened_ts,closed_ts,remote,kind\n1,1,,/run/pg/.s.PGSQL.5432,\n2,1,,db.example.com:5432,\n3,1,,10.0.0.1:53,UDP\n\
                 4,1,,[::ffff:10.0.0.1]:80,\n5,1,,10.0.0.1:80,\n6,1,,,\n";
    let lifetimes = read(lines).expect("six");
    let kinds: Vec<(Kind, String)> = (lifetimes.population.open.values())
        .map(|it| (it.resource.kind, it.resource.remote.as_ref().map(Address::to_string).unwrap_or_default()))
        .collect();
    let expected = [
        (Kind::Unix, "/run/pg/.s.PGSQL.5432"),
        (Kind::Tcp, "db.example.com:5432"),
        (Kind::Udp, "10.0.0.1:53"),
        (Kind::Tcp, "10.0.0.1:80"),
        (Kind::Tcp, "10.0.0.1:80"),
        (Kind::Tcp, ""),
    ];
    assert_eq!(kinds, expected.map(|(kind, remote)| (kind, remote.to_owned())));
    // Lifetimes and tallies call a group the same.
    let groups: std::collections::BTreeSet<_> = lifetimes.population.open.values().map(Lifetime::group).collect();
    assert!(groups.iter().eq(lifetimes.population.tallies.groups.keys()));
}

#[test]
fn headers_comments_blanks_windows_and_bom() {
    let text = format!(
        "\u{feff}# of orders\r\n\r\n{}a,1,2,x:1,0,1\r\n{}\"b\",\"1\",\"\",x:1,0,1\r\n",
        HEAD.replace('\n', "\r\n"),
        HEAD.replace('\n', "\r\n")
    );
    check(&text, "b=1- x:1\na=1-2 x:1");
    check(gzip(text.as_bytes()), "b=1- x:1\na=1-2 x:1");
    check(
        "closed_ts;opened_ts;conn_id\n2026-11-23 20:00:00;2026-11-23T19:00:00Z;x\n",
        "x=1795460400-1795464000 \nnote times without a zone are taken as UTC",
    );
    for none in ["", "0", "9999-12-31T00:00:00Z", "NULL", "None", "-", "\\N"] {
        check(format!("{HEAD}a,1,{none},x:1,0,1\n"), "a=1- x:1");
    }
}

#[test]
fn what_can_not_be_true_is_skipped_and_told() {
    check(
        format!(
            "{HEAD}1,10,20,x:1,1,1000\n2,30,20,x:1\n,30,40\n3\n4,soon,\n5,,40\n6,40,late,x:1\n7,41,,x:1,many,never\n"
        ),
        "7=41- x:1\n1=10-20 x:1\n\
         note line 3 skipped: it was closed before it was opened: `2,30,20,x:1`\n\
         note line 4 skipped: it has no conn_id: `,30,40`\n\
         note line 5 skipped: it ends too soon: `3`\n\
         note line 6 skipped: its opened_ts is not a time: `4,soon,`\n\
         note line 7 skipped: it has no opened_ts: `5,,40`\n\
         note line 8 skipped: its closed_ts is not a time: `6,40,late,x:1`\n\
         note 2 lines with a number or a time of last activity that is not understood: unknown",
    );
    check(
        format!("{HEAD}1,10,,x:1,1,4\n"),
        "1=10- x:1\nnote 1 line with a last activity before the opening: silent from the opening on",
    );
    check("conn_id,opened_ts,closed_ts,pool\n1,10,,a\n", "1=10- \nnote columns that are not read: pool");
    check(HEAD, "1 line, all blank, comments or a header");
    check("conn_id,remote\n1,x:1\n", "it has no column opened_ts and no column closed_ts");
    check(format!("{HEAD}x\n"), "line 2 skipped: it ends too soon: `x`");
}

#[test]
fn a_connection_that_is_told_twice_counts_once() {
    let note =
        "note 2 lines with the conn_id and the opened_ts of another: the one that closes it counts, else the last";
    let lifetimes = read(format!("{HEAD}a,1,,x:1,5,3\na,1,,y:1,6,4\na,1,9,y:1,7,8\n")).expect("one");
    assert_eq!(told(&lifetimes), format!("a=1-9 y:1\n{note}"));
    assert_eq!(lifetimes.population.closed_total, 1);
    assert!(lifetimes.columns.iter().all(|column| column[column.len() - 1] == 0.0));
    check(format!("{HEAD}a,1,9,x:1\na,1,9,x:1\na,1,,x:1\n"), &format!("a=1-9 x:1\n{note}"));
    // The number was given out anew.
    check(format!("{HEAD}a,1,9,x:1\na,10,,x:1\n"), "a=10- x:1\na=1-9 x:1");
}

#[test]
fn what_was_closed_is_a_bounded_sample_and_all_are_counted() {
    let line = |n: u32| format!("c{n},{n},{},10.0.{}.{}:80,1,{n}\n", n + 3, n % 30, n % 200);
    let lifetimes = read(format!("{HEAD}{}", (0..40_000).map(line).collect::<String>())).expect("many");
    assert_eq!((lifetimes.population.closed.len(), lifetimes.population.closed_total), (10_000, 40_000));
    // Each quarter has a quarter of the sample, give or take 5 standard deviations (43 each).
    for quarter in 0..4 {
        let opened = |it: &&Lifetime| it.opened.0 / 10_000_000_000 == quarter;
        let count = lifetimes.population.closed.values().filter(opened).count();
        assert!((2_285..=2_715).contains(&count), "quarter {quarter} has {count}");
    }
    assert_eq!(lifetimes.series.len(), 257);
    assert!(
        lifetimes.times.len() <= 4_096 && lifetimes.columns.iter().all(|column| column.len() == lifetimes.times.len())
    );
    assert_eq!(lifetimes.notes, ["344 remotes beyond the first 256 have no series of their own"]);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "([0-9a:,;\"é.\\-]{0,30}\n?){0,10}") {
        let _ = read(format!("{HEAD}{text}"));
    }

    #[test]
    fn the_order_of_lines_does_not_matter(
        lives in prop::collection::vec((0i64..10_000, prop::option::of(0i64..5_000)), 1..40),
        turn in 0usize..40,
    ) {
        let lines: Vec<String> = lives.iter().enumerate().map(|(id, (opened, life))| {
            let closed = life.map(|life| (opened + life).to_string()).unwrap_or_default();
            format!("{id},{},{closed},10.0.0.{}:80,1,\n", opened + 1, id % 3).replace("+ 1", "")
        }).filter(|line| {
            let fields: Vec<i64> = line.split(',').take(3).filter_map(|field| field.parse().ok()).collect();
            fields.get(2).is_none_or(|closed| *closed >= fields[1])
        }).collect();
        prop_assume!(!lines.is_empty());
        let mut turned = lines.clone();
        turned.rotate_left(turn % lines.len());
        let (one, other) = (read(format!("{HEAD}{}", lines.concat())), read(format!("{HEAD}{}", turned.concat())));
        let (one, other) = (one.expect("some"), other.expect("some"));
        prop_assert_eq!(&one.times, &other.times);
        prop_assert_eq!(&one.population.tallies, &other.population.tallies);
        prop_assert_eq!(&one.columns[0], &other.columns[0]);
    }
}
