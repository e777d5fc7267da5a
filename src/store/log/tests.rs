use super::*;
use crate::store::input::tests::{gzip, log_of};
use proptest::prelude::*;

/// The log as `time,value ...`, then its gaps, events and notes, a line each.
fn told(log: &Log) -> String {
    let points: Vec<String> = log
        .points
        .times
        .iter()
        .zip(&log.points.values)
        .map(|(at, value)| format!("{},{value}", at.seconds()))
        .collect();
    let mut told = points.join(" ");
    for gap in &log.gaps {
        told += &format!("\ngap {} {}: {}", gap.from.seconds(), gap.to.seconds(), gap.reason);
    }
    for event in &log.events {
        told += &format!("\n{} {}: {}", event.kind.name(), event.at.seconds(), event.text);
    }
    for note in &log.notes {
        told += &format!("\nnote {note}");
    }
    told
}

fn check(input: impl AsRef<[u8]>, expect: &str) {
    let told = log_of(input.as_ref(), InputOptions::default()).map_or_else(|error| error, |log| told(&log));
    assert_eq!(told, expect);
}

#[test]
fn the_recipes_log() {
    check("1487279164,12\n1487279169,13\n1487279174,13\n", "1487279164,12 1487279169,13 1487279174,13");
    check("1487279164,12\n1487279169,13", "1487279164,12 1487279169,13");
}

#[test]
fn headers_comments_blanks_windows_and_bom() {
    check("\u{feff}# of 3136\r\ntime,count\r\n\r\n5,1\r\n10,2\r\ntime,count\r\n15,3\r\n", "5,1 10,2 15,3");
    check("\u{feff}5,1\n", "5,1");
    check("\"Unix time\",\"n\"\n\"5\",\"1\"\n", "5,1");
}

#[test]
fn what_holds_for_the_whole_log_is_noted_once() {
    check(
        "2017-02-16 20:06:04;1\n2017-02-16 20:06:09;2\n",
        "1487275564,1 1487275569,2\nnote times without a zone are taken as UTC",
    );
    check(
        "1487279164000,1,a\n1487279169000,2,b\n",
        "1487279164,1 1487279169,2\nnote times in milliseconds, by their magnitude\nnote only the first two columns are read, time and value; there are more",
    );
}

#[test]
fn a_line_that_is_not_understood_is_told_with_its_number() {
    check(
        "5,1\n10,\nlsof: WARNING\n15,NaN\n20,2\n",
        "5,1 20,2\nnote line 2 skipped: it has no value: `10,`\nnote line 3 skipped: it does not begin with a time: `lsof: WARNING`\n\
         note line 4 skipped: its value is not a number: `15,NaN`",
    );
    let many = format!("1,1\n{}2,2\n", "x\n".repeat(13));
    let log = log_of(many.as_bytes(), InputOptions::default()).expect("a log");
    assert_eq!(log.notes.len(), 11);
    assert_eq!(log.notes[9], "line 11 skipped: it does not begin with a time: `x`");
    assert_eq!(log.notes[10], "3 lines more skipped");
}

#[test]
fn a_line_of_more_than_64_kib_is_skipped_wherever_the_buffer_ends() {
    for length in [65_537, 131_067, 131_072, 3 * 131_072 + 7] {
        let long = "9".repeat(length);
        check(format!("1,1\n{long}\n2,2\n"), "1,1 2,2\nnote line 2 skipped: it is longer than 64 KiB");
        check(format!("1,1\n{long}"), "1,1\nnote line 2 skipped: it is longer than 64 KiB");
    }
}

#[test]
fn zeros_that_a_crash_left_cost_no_sample() {
    check("1,1\n2,2\n\0\0\0\x003,3\n\0\0", "1,1 2,2 3,3");
}

#[test]
fn time_that_runs_backwards_is_sorted_and_told() {
    check(
        "0,1\n5,2\n15,4\n10,3\n20,5\n",
        "0,1 5,2 10,3 15,4 20,5\nnote 1 line was out of order, by up to 5 s, and sorted in by time",
    );
    check(
        "3600,3\n3605,4\n0,1\n5,2\n",
        "0,1 5,2 3600,3 3605,4\ngap 5 3600: no line for 60 min, where one comes every 5 s\n\
         note line 3: the time steps back by 60 min, as where a clock was set back or logs were joined; all samples are kept, sorted by time",
    );
}

#[test]
fn a_time_of_a_damaged_line_does_not_stretch_the_log() {
    // Digits lost, and those of two lines run together: 1974, and 2441 as microseconds.
    check(
        "1487279164,1\n148727916,2\n1487279174,3\n14872791487279169,4\n1487279184,5\n",
        "1487279164,1 1487279174,3 1487279184,5\n\
         note line 2 skipped: its time is more than 30 days off from those around it\n\
         note line 4 skipped: its time is more than 30 days off from those around it\n\
         note times in microseconds, by their magnitude",
    );
    // A clock that is set for good is no stray.
    let told = log_of(b"5,1\n10,2\n1487279174,3\n1487279179,4\n", InputOptions::default()).map(|log| log.points.len());
    assert_eq!(told, Ok(4));
}

#[test]
fn of_one_time_the_last_counts() {
    check(
        "0,1\n5,2\n5,3\n10,4\n",
        "0,1 5,3 10,4\nnote 1 line with a time that a later line has too: the last of each time counts",
    );
}

#[test]
fn gaps_and_restarts_are_marked() {
    let climb = |from: u32| -> String { (0..12).map(|i| format!("{},{}\n", from + 5 * i, 10 + 5 * i)).collect() };
    let log = log_of(format!("{}{}", climb(0), climb(100)).as_bytes(), InputOptions::default()).expect("a log");
    assert_eq!(log.gaps.len(), 1);
    assert_eq!((log.gaps[0].from, log.gaps[0].to), (Timestamp(55_000_000), Timestamp(100_000_000)));
    assert_eq!(log.events.len(), 1);
    assert_eq!(log.events[0].at, Timestamp(100_000_000));
    assert_eq!(log.events[0].text, "the value fell from 65 to 10 in one step, as where the process was started anew");
    assert_eq!(log.interval_seconds, Some(5.0));
}

#[test]
fn the_header_that_lsof_counts_is_subtracted() {
    let log = log_of(b"0,13\n5,0\n10,1\n", InputOptions { lsof_header: true }).expect("a log");
    assert_eq!(log.points.values, [12.0, 0.0, 0.0]);
}

#[test]
fn gzip_whole_in_members_and_cut() {
    check(gzip(b"5,1\n10,2\n"), "5,1 10,2");
    check([gzip(b"5,1\n1"), gzip(b"0,2\n")].concat(), "5,1 10,2");
    let many: String =
        (0..100_000u32).map(|i| format!("{},{}\n", 5 * i, i.wrapping_mul(2_654_435_761) >> 20)).collect();
    let mut cut = gzip(many.as_bytes());
    cut.truncate(cut.len() / 2);
    let log = log_of(&cut, InputOptions::default()).expect("a log");
    assert!(log.points.len() > 20_000, "{}", log.points.len());
    assert!(log.notes.iter().any(|note| note.starts_with("unpacking failed after line")), "{:?}", log.notes);
    check(&gzip(b"5,1\n")[..9], "unpack: unexpected end of file");
    check(gzip(b""), "empty");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), packed in any::<bool>()) {
        if packed {
            bytes.splice(0..0, gzip(b"5,1\n"));
        }
        let _ = log_of(&bytes, InputOptions::default());
    }

    #[test]
    fn no_text_makes_it_panic(text in "([0-9TZ:,;. \"'/+eé\\-]{0,30}\n?){0,10}") {
        if let Ok(log) = log_of(text.as_bytes(), InputOptions { lsof_header: true }) {
            prop_assert!(log.points.times.is_sorted());
            prop_assert!(log.points.values.iter().all(|value| value.is_finite()));
            prop_assert_eq!(log.points.times.len(), log.points.values.len());
        }
    }

    #[test]
    fn what_is_printed_is_read_back(
        mut times in prop::collection::vec(prop_oneof![0i64..10_000, 1_000_000_000_000_000..2_000_000_000_000_000i64], 1..100),
        values in prop::collection::vec(any::<f64>().prop_filter("a number", |value| value.is_finite()), 100),
        packed in any::<bool>(),
    ) {
        times.sort_unstable();
        times.dedup();
        let times: Vec<Timestamp> = times.into_iter().map(Timestamp).collect();
        let values = values[..times.len()].to_vec();
        let mut text: String = times.iter().zip(&values).map(|(at, value)| format!("{},{value}\n", at.seconds())).collect();
        let bytes = if packed { gzip(text.as_bytes()) } else { std::mem::take(&mut text).into_bytes() };
        let log = log_of(&bytes, InputOptions::default()).expect("a log");
        prop_assert_eq!(log.points.times, times);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<u64>>();
        prop_assert_eq!(bits(&log.points.values), bits(&values));
    }

    #[test]
    fn lines_in_any_order_make_the_same_points(times in prop::collection::btree_set(0i64..100_000, 1..60), seed in any::<u64>()) {
        let mut lines: Vec<String> = times.iter().map(|at| format!("{at},{}\n", at % 97)).collect();
        for index in (1..lines.len()).rev() {
            lines.swap(index, (seed as usize).wrapping_mul(index + 1).wrapping_add(index * index) % (index + 1));
        }
        let log = log_of(lines.concat().as_bytes(), InputOptions::default()).expect("a log");
        prop_assert_eq!(log.points.times, times.iter().map(|at| Timestamp(at * 1_000_000)).collect::<Vec<_>>());
        prop_assert_eq!(log.points.values, times.iter().map(|at| (at % 97) as f64).collect::<Vec<_>>());
    }
}
