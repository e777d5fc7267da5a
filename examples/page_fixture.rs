//! Writes a page of made-up data, for the tests of the page and for looking at it:
//! `cargo run --release --example page_fixture -- OUT.html KIND [COUNT]`.
//!
//! Kinds: `leak` (all that a page can hold), `empty`, `log` (no resources), `spike` (COUNT samples, one of them high),
//! `rows` (COUNT resources), `many` (COUNT series of a day), `blocks` (no page: encoded columns, and their values' bits, in JSON), `walk`, `gaussian` and `uniform` (COUNT samples of hard-to-compress data).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use unclosed::model::{
    Access, Address, Cost, Event, EventKind, Exhaustion, Finding, Gap, Holder, Identity, Judged, Kind, Lifetime,
    LifetimeId, Limit, Points, Population, Process, ProcessId, ProcessKey, Rate, Report, Resource, Series, SeriesKey,
    State, Target, Timestamp, Unit, Verdict, VerdictChange,
};
use unclosed::present::page::{self, PageSeries};
use unclosed::store::block;

/// 2026-11-23 18:14:28 UTC.
const START_SECONDS: f64 = 1_795_457_668.0;

/// Between two samples.
const INTERVAL_SECONDS: f64 = 5.0;

/// What a hostile process may be called.
const NASTY: &str = "</script><img src=x onerror=alert(1)>";

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = || io::Error::other("usage: page_fixture OUT.html KIND [COUNT]");
    let (out, kind) = (arguments.next().ok_or_else(usage)?, arguments.next().ok_or_else(usage)?);
    let count = arguments.next().map_or(Ok(1_000_000), |count| count.parse()).map_err(|_| usage())?;
    if kind == "blocks" {
        return std::fs::write(out, blocks());
    }
    let (report, series) = match kind.as_str() {
        "leak" => leak(),
        "empty" => (Report::default(), Vec::new()),
        "rows" => rows(count),
        "many" => many(count),
        "log" => log(&kind, 4_212),
        "spike" | "walk" | "gaussian" | "uniform" => log(&kind, count),
        _ => return Err(usage()),
    };
    let series: Vec<PageSeries> = series.iter().map(|made| made.on(&report)).collect();
    page::write(&mut File::create(out)?, &report, &series)
}

/// Blocks of all forms in hexadecimal, with the bits of the values that they hold.
fn blocks() -> String {
    let mut random = Random(11);
    let noise: Vec<f64> = (0..500).map(|_| (random.unit() - 0.5) * 1e9).collect();
    let columns: [Vec<f64>; 9] = [
        Vec::new(),
        vec![0.0, -1.0, 1.0, -2.0, 9_007_199_254_740_990.0, -9_007_199_254_740_990.0, 255.0, 256.0],
        (0..300).map(|index| at(index).0 as f64).collect(),
        (0..300).map(|index| 0.001 * f64::from(index * index) - 7.5).collect(),
        (0..300).map(|index| if index % 7 == 3 { f64::NAN } else { f64::from(index) }).collect(),
        vec![f64::NAN; 9],
        vec![-0.0, 0.1 + 0.2, f64::INFINITY, f64::MIN_POSITIVE, 1e300, f64::NAN],
        noise.iter().map(|value| value.round()).collect(),
        noise,
    ];
    let hexadecimal = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let bits = |column: &[f64]| column.iter().map(|value| format!("\"{:016x}\"", value.to_bits())).collect::<Vec<_>>();
    let one = |columns: &[&[f64]]| {
        let values: Vec<String> = columns.iter().map(|column| format!("[{}]", bits(column).join(","))).collect();
        format!("{{\"block\":\"{}\",\"bits\":[{}]}}", hexadecimal(&block::encode(columns)), values.join(","))
    };
    let mut made: Vec<String> = columns.iter().map(|column| one(&[column])).collect();
    made.push(one(&columns.each_ref().map(Vec::as_slice)));
    format!("[{}]", made.join(","))
}

/// A series that was made up, and the verdict on it.
struct Made {
    series: Series,
    points: Points,
    verdict: Finding,
}

impl Made {
    fn new(name: &str, unit: Unit, points: Points, verdict: Finding) -> Self {
        let series = Series { key: SeriesKey(0), name: name.to_owned(), unit, process: None };
        Made { series, points, verdict }
    }

    fn on<'a>(&'a self, report: &'a Report) -> PageSeries<'a> {
        PageSeries {
            series: &self.series,
            points: &self.points,
            limits: report.limits.iter().filter(|limit| limit.series == self.series.name).collect(),
            verdict: &self.verdict,
        }
    }
}

/// Numbers that look random and are the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    /// Uniform over 0 to 1.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Near enough to Gaussian, of variance 1: twelve uniform numbers.
    fn gaussian(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

fn at(index: usize) -> Timestamp {
    Timestamp::from_seconds(START_SECONDS + INTERVAL_SECONDS * index as f64)
}

fn points(count: usize, mut value: impl FnMut(usize) -> f64) -> Points {
    Points { times: (0..count).map(at).collect(), values: (0..count).map(|index| value(index).round()).collect() }
}

fn log(shape: &str, count: usize) -> (Report, Vec<Made>) {
    let mut random = Random(7);
    let mut walked = 30_000.0;
    let points = points(count, |index| match shape {
        "spike" => 20.0 + f64::from(u8::from(index == count * 2 / 3)) * 980.0 + (index % 3) as f64,
        "walk" => {
            walked += random.gaussian() * 3.0;
            walked
        }
        "gaussian" => 5_000.0 + 1_000.0 * random.gaussian(),
        "uniform" => (random.unit() * 65_536.0).floor(),
        _ => 5.0 + (index / 75) as f64 + 3.0 * random.unit(),
    });
    let sentence = "The floor of `value` rose from 5 to 63: 10.0 an hour. Counts alone can't tell which.";
    let verdict = Finding {
        since: Some(at(0)),
        series: Some("value".to_owned()),
        ..Finding::new(Verdict::Leak, "value", sentence).with_rate(Rate { per_hour: 10.0, low: 8.1, high: 12.3 })
    };
    let report = Report {
        file: "/home/someone/tracking.log".to_owned(),
        from: at(0),
        to: at(count.saturating_sub(1)),
        ticks: count as u64,
        judged: Judged { findings: vec![verdict.clone()], ..Judged::default() },
        notes: vec!["Line 88 was skipped: `1487279`, it has no value.".to_owned()],
        ..Report::default()
    };
    (report, vec![Made::new("value", Unit::Count, points, verdict)])
}

fn connection(id: u64, opened: Timestamp, port: u16) -> Lifetime {
    let inet = |text: &str| Some(Address::parse(text));
    let mut resource = Resource::new(Identity(id, 0), Kind::Tcp);
    resource.local = inet(&format!("10.0.0.1:{}", 32_768 + id % 28_000));
    resource.remote = inet(&format!("10.0.0.5:{port}"));
    resource.state = Some(State::Established);
    resource.inode = Some(219_000 + id);
    resource.activity.bytes_sent = Some(312 + id * 7);
    resource.activity.bytes_received = Some(4_410 + id * 3_001);
    Lifetime {
        id: LifetimeId(id),
        resource,
        holders: vec![Holder { process: ProcessKey(0), fd: 10 + id as i32, access: Some(Access::Both) }],
        accepted_by: None,
        opened_after: Some(opened),
        opened,
        opened_exact: false,
        last_seen: opened,
        last_active: Some(Timestamp::from_seconds(opened.seconds() + 3.0)),
        closed: None,
        ended_with_process: false,
        opener: None,
        last_use: None,
    }
}

fn target(name: &str) -> Target {
    let id = ProcessId { boot_id: Arc::from("boot"), pid: 3136, start_ticks: 1 };
    let process = Process {
        id,
        name: name.to_owned(),
        command: format!("{name} --listen 8080"),
        uid: 1000,
        user: "james".to_owned(),
        started: Timestamp::from_seconds(START_SECONDS - 7200.0),
        ended: None,
    };
    Target { name: name.to_owned(), processes: [(ProcessKey(0), process)].into() }
}

fn rows(count: usize) -> (Report, Vec<Made>) {
    let (mut report, series) = leak();
    let rows = (0..count as u64).map(|id| connection(id, at(id as usize % 700), 5432 + (id % 3) as u16)).collect();
    report.population = Population::restore(rows, Vec::new(), BTreeMap::new());
    report.judged.leak_probability = (0..count as u64).step_by(10).map(|id| (LifetimeId(id), 0.97)).collect();
    (report, series)
}

fn many(count: usize) -> (Report, Vec<Made>) {
    let (report, mut series) = leak();
    let mut random = Random(9);
    series.extend((0..count).map(|index| {
        let name = format!("connections:10.0.{}.{}:5432", index / 256, index % 256);
        let verdict = Finding::new(Verdict::Clean, name.clone(), "");
        Made::new(&name, Unit::Count, points(17_280, |_| 40.0 * random.unit()), verdict)
    }));
    (report, series)
}

/// Four hours of a service that leaks 37 connections to its database, under names that try to break out of the page.
fn leak() -> (Report, Vec<Made>) {
    const TICKS: usize = 2_880;
    let mut random = Random(3);
    let leaked_until = |index: usize| (index.saturating_sub(600) as f64 / 62.0).floor().min(37.0);
    let mut connections = points(TICKS, |index| 24.0 + leaked_until(index) + (random.unit() * 5.0).floor());
    for index in (1_500..1_560).chain([1_900]) {
        connections.values[index] = f64::NAN;
    }
    let mut calm = Random(5);
    let memory = points(TICKS, |index| 4096.0 * (60_000.0 + leaked_until(index) * 90.0 + 300.0 * calm.unit()).round());
    let descriptors = points(TICKS, |index| 41.0 + leaked_until(index) + (calm.unit() * 6.0).floor());
    let pipes = points(TICKS, |_| 6.0);
    let threads = points(TICKS, |index| 12.0 + f64::from(u8::from(index > 2_000)));

    let leak = Finding {
        since: Some(at(612)),
        confidence: Some(0.998),
        exhausts: Some(Exhaustion {
            limit: 1024.0,
            name: "RLIMIT_NOFILE".to_owned(),
            at: Timestamp::from_seconds(at(TICKS).seconds() + 250_560.0),
            earliest: Timestamp::from_seconds(at(TICKS).seconds() + 180_000.0),
            latest: Some(Timestamp::from_seconds(at(TICKS).seconds() + 400_000.0)),
        }),
        evidence: (0..37).map(|id: u64| id.to_string()).collect(),
        steps: vec![
            "37 of 61 connections to 10.0.0.5:5432 outlived 99.9% of the 4,212 that were closed (longest 41 s)."
                .to_owned(),
            "They have been silent since 3 s after they were opened.".to_owned(),
        ],
        ..Finding::new(
            Verdict::Leak,
            "tcp 10.0.0.5:5432",
            "37 of 61 connections to 10.0.0.5:5432 were opened and never closed, 14.2 more every hour.",
        )
        .with_rate(Rate { per_hour: 14.2, low: 9.8, high: 19.1 })
    };
    let of_series = Finding {
        series: Some("connections".to_owned()),
        since: Some(at(612)),
        ..Finding::new(Verdict::Leak, "connections", "`connections` rises by 14.2 an hour.").with_rate(Rate {
            per_hour: 14.2,
            low: 9.8,
            high: 19.1,
        })
    };
    let clean = |name: &str| Finding::new(Verdict::Clean, name, format!("`{name}` does not rise."));

    let mut open: Vec<Lifetime> = (0..37).map(|id| connection(id, at(612 + 61 * id as usize), 5432)).collect();
    open.extend((37..61).map(|id| connection(id, at(TICKS - 9), if id % 4 == 0 { 6379 } else { 5432 })));
    let mut file = connection(61, at(0), 1);
    file.resource = Resource::new(Identity(61, 1), Kind::File);
    file.resource.name = Some(format!("/var/log/{NASTY}.log"));
    file.opened_after = None;
    open.push(file);

    let event = |index, kind, text: &str| Event { at: at(index), process: None, kind, text: text.to_owned() };
    let mut population = Population::restore(open, Vec::new(), BTreeMap::new());
    population.closed_total = 4_212;
    let report = Report {
        file: "/home/james/orders-api-3136.unclosed".to_owned(),
        target: Some(target(&format!("orders-api {NASTY}"))),
        from: at(0),
        to: at(TICKS - 1),
        ticks: TICKS as u64,
        gaps: vec![Gap {
            from: at(1_499),
            to: at(1_560),
            series: None,
            reason: "the machine was suspended".to_owned(),
        }],
        judged: Judged {
            findings: vec![leak.clone(), of_series.clone(), clean("memory")],
            series: Vec::new(),
            own: Vec::new(),
            leak_probability: (0..37).map(|id| (LifetimeId(id), 0.997)).collect(),
        },
        history: vec![
            VerdictChange { at: at(0), kind: Verdict::Undecided, sentence: "Too early to tell.".to_owned() },
            VerdictChange { at: at(900), kind: Verdict::Leak, sentence: leak.sentence },
        ],
        stacks: BTreeMap::new(),
        labels: BTreeMap::new(),
        population,
        every_seconds: Some(5.0),
        limits: vec![
            Limit { name: "RLIMIT_NOFILE".to_owned(), series: "descriptors".to_owned(), value: 1024.0 },
            Limit { name: "memory.max".to_owned(), series: "memory".to_owned(), value: 402_653_184.0 },
        ],
        events: vec![
            event(590, EventKind::Mark, &format!("deployed 4.2 {NASTY}")),
            event(2_001, EventKind::Started, "worker 3140 started"),
        ],
        command: None,
        notes: vec![
            format!("Openers are unknown: the ledger needs CAP_BPF. {NASTY}"),
            "7 descriptors of process 3140 could not be read: permission denied.".to_owned(),
        ],
        cost: Some(Cost { cpu_seconds: 0.41, memory_bytes: Some(9_000_000), descriptors: Some(12), share: None }),
    };
    let made = vec![
        Made::new("threads", Unit::Count, threads, clean("threads")),
        Made::new("descriptors:pipe", Unit::Count, pipes, clean("descriptors:pipe")),
        Made::new(
            "descriptors",
            Unit::Count,
            descriptors,
            Finding { subject: "descriptors".to_owned(), ..of_series.clone() },
        ),
        Made::new("memory", Unit::Bytes, memory, clean("memory")),
        Made::new("connections", Unit::Count, connections, of_series),
    ];
    (report, made)
}
