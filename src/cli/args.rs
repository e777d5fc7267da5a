//! Flags as typed. What they mean is settled in `options`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Finds what a running process opened and never closed.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "`unclosed` alone is short for `top`, `unclosed PID` and `unclosed NAME` for `watch`. Nothing leaves this machine.\n\
                  Exit codes: 0 fine, 1 error, 2 usage, 3 leak or plateau and 4 undecided (with --fail-on-leak), 5 no such target."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Every process of the machine, ranked by what it may be leaking
    Top(TopArgs),
    /// One look at what a process has open, as `lsof -i -a -p PID` and more
    List(ListArgs),
    /// Live view and verdict of a running process; records too
    Watch(WatchArgs),
    /// The same without a view
    Record(RecordArgs),
    /// Starts a command, follows its children, judges at its end
    Run(RunArgs),
    /// The verdict, the leaked resources and the series of a recording or a log
    Show(ShowArgs),
    /// The same as a page in the browser, one offline HTML file
    View(ViewArgs),
    /// Makes a recording out of a log of `unix_time,value` or a CSV of connections
    Import(ImportArgs),
    /// What can and can't be seen here, and the least privilege that mends each
    Doctor(DoctorArgs),
    /// A built-in program that leaks: the whole hunt in under a minute
    Demo(DemoArgs),
    /// The server and the client that `demo` watches
    #[command(hide = true)]
    DemoProgram(DemoProgramArgs),
}

/// The heading of the selectors in the help.
const PROCESSES: &str = "Which processes (kinds are ANDed, several of one kind ORed)";

/// Which processes. Kinds of selectors are ANDed, several of one kind ORed.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Selector {
    /// Process ids
    #[arg(short, long, help_heading = PROCESSES, value_name = "PID[,PID]", value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
    /// The name begins with NAME; or /REGEX/ is found in the name or the command line, with /REGEX/i in either case; ^ before
    /// it: all but those
    #[arg(short, long, help_heading = PROCESSES, value_name = "NAME|/REGEX/")]
    pub(crate) command: Vec<String>,
    /// User names or ids; ^USER: all but that user's
    #[arg(short, long, help_heading = PROCESSES, value_name = "USER[,USER]", value_delimiter = ',')]
    pub(crate) user: Vec<String>,
    /// A systemd unit: a service (NAME alone will do), a scope, or a slice with all in it
    #[arg(long, help_heading = PROCESSES, value_name = "UNIT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) unit: Vec<String>,
    /// A cgroup with all below it, /sys/fs/cgroup before it or not
    #[arg(long, help_heading = PROCESSES, value_name = "PATH", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) cgroup: Vec<String>,
    /// A container of docker, podman, containerd or CRI-O, or a pod: its id or the first 4 or more digits
    #[arg(long, help_heading = PROCESSES, value_name = "ID")]
    pub(crate) container: Vec<String>,
    /// Their descendants too
    #[arg(long, help_heading = PROCESSES)]
    pub(crate) children: bool,
    /// Accepted for lsof's sake: selectors are ANDed anyway
    #[arg(short = 'a', hide = true)]
    pub(crate) and: bool,
    /// Accepted for lsof's sake: numbers are the default
    #[arg(short = 'n', hide = true)]
    pub(crate) no_host_names: bool,
    /// Accepted for lsof's sake: numbers are the default
    #[arg(short = 'P', hide = true)]
    pub(crate) no_port_names: bool,
}

impl Selector {
    /// True where no process was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.pid.is_empty() && self.names_no_more_than_pids()
    }

    /// True where pids are all that was given.
    pub(crate) fn names_no_more_than_pids(&self) -> bool {
        [&self.command, &self.user, &self.unit, &self.cgroup, &self.container].into_iter().all(Vec::is_empty)
    }
}

/// How descriptors are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReadBy {
    /// The fastest that is allowed
    #[default]
    Auto,
    /// BPF's iterator over files
    Bpf,
    /// /proc/PID/fd joined to the kernel's socket tables
    SockDiag,
    /// /proc alone
    Proc,
}

#[derive(Args, Debug)]
#[command(
    after_help = "On a terminal the table is drawn anew until q or Ctrl-C. Elsewhere it is printed once, or again and \
    again with --every or --for."
)]
pub(crate) struct TopArgs {
    /// A connection that carried nothing for so long is silent
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(crate) silent: String,
    /// The interval between looks, 50ms at least [default: 5s]
    #[arg(short = 'r', long, value_name = "INTERVAL")]
    pub(crate) every: Option<String>,
    /// Stop after this long
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) duration: Option<String>,
    /// Processes to show [default: 20, on a terminal what fits, as JSON and CSV all]
    #[arg(long, value_name = "N")]
    pub(crate) rows: Option<usize>,
    /// The form of the output
    #[arg(short = 'o', long, value_enum, default_value_t = ListForm::Table)]
    pub(crate) format: ListForm,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) selector: Selector,
    /// How descriptors are read
    #[arg(long, value_enum, value_name = "HOW", default_value_t = ReadBy::Auto)]
    pub(crate) source: ReadBy,
    /// Internet sockets only
    #[arg(short = 'i', long)]
    pub(crate) internet: bool,
    /// Unix sockets only (with -i: both)
    #[arg(short = 'U', long)]
    pub(crate) unix: bool,
    /// Every kind of descriptor, not only sockets
    #[arg(long)]
    pub(crate) all: bool,
    /// Print host and service names in place of numbers
    #[arg(long)]
    pub(crate) resolve: bool,
    /// The form of the output
    #[arg(short = 'o', long, value_enum, default_value_t = ListForm::Table)]
    pub(crate) format: ListForm,
    /// Only the pids that match
    #[arg(short = 't', long)]
    pub(crate) terse: bool,
    /// Only how many descriptors they have, each by one stat of its /proc/PID/fd: for anyone, of any process
    #[arg(long, conflicts_with_all = ["terse", "format"])]
    pub(crate) count: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListForm {
    Table,
    Json,
    Jsonl,
    Csv,
}

/// How a target is sampled and recorded.
#[derive(Args, Clone, Debug)]
pub(crate) struct Sampling {
    /// The interval between ticks, 50ms at least [default: 5s; of `run` 250ms]
    #[arg(short = 'r', long, value_name = "INTERVAL")]
    pub(crate) every: Option<String>,
    /// A further series: disk:PATH (a folder's size) or command:'CMD' (the number that it prints)
    #[arg(long, value_name = "METRIC")]
    pub(crate) metric: Vec<String>,
    /// Drop samples and closed resources older than this
    #[arg(long, value_name = "TIME", default_value = "31d")]
    pub(crate) keep: String,
    /// Drop the oldest when the recording grows beyond this (kB, MB, GB)
    #[arg(long, value_name = "SIZE", default_value = "1GB")]
    pub(crate) max_size: String,
    /// Lengthen the interval, to ten times at most, where watching takes more than this share of one core, as 1%
    #[arg(long, value_name = "SHARE")]
    pub(crate) max_cost: Option<String>,
    /// Run CMD once for each change of the verdict from or to a leak: no shell, the finding as JSON on its stdin, 10 s
    #[arg(long, value_name = "CMD")]
    pub(crate) on_leak: Option<String>,
    /// How descriptors are read
    #[arg(long, value_enum, value_name = "HOW", default_value_t = ReadBy::Auto)]
    pub(crate) source: ReadBy,
    /// Whose openers are kept: of all descriptors, at about 25 ns for each system call on this machine, or of connections alone
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = Openers::All)]
    pub(crate) openers: Openers,
    /// Leave out who opened what and who used it last
    #[arg(long)]
    pub(crate) no_ledger: bool,
    /// Keep what stands in statements and requests: without it literals, keys and passwords are masked
    #[arg(long)]
    pub(crate) show_literals: bool,
    /// How writes are seen: by the socket layer's own hook where the kernel has it, or by system calls
    #[arg(long, value_enum, value_name = "HOW", default_value_t = SendsBy::Auto, hide = true)]
    pub(crate) sends_by: SendsBy,
    /// Where the recording goes [default: NAME-PID-TIME.unclosed in the state folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Openers {
    All,
    Connections,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SendsBy {
    Auto,
    Calls,
}

#[derive(Args, Debug)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) selector: Selector,
    #[command(flatten)]
    pub(crate) sampling: Sampling,
    /// Stop after this long. Without it a watch by -p ends with its processes; any other waits for the next that fits, for a
    /// service is restarted, until Ctrl-C
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) duration: Option<String>,
    /// Print `unix_time,value` lines as they come (csv)
    #[arg(short = 'o', long, value_enum)]
    pub(crate) format: Option<WatchForm>,
    /// The series that `-o csv` prints [default: internet, what lsof -i counts; or the only --metric]
    #[arg(long, value_name = "NAME")]
    pub(crate) series: Option<String>,
    /// Names of hosts and services on the screen, as they become known
    #[arg(long)]
    pub(crate) resolve: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WatchForm {
    Csv,
}

#[derive(Args, Debug)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    pub(crate) selector: Selector,
    #[command(flatten)]
    pub(crate) sampling: Sampling,
    /// Stop after this long. Without it a watch by -p ends with its processes; any other waits for the next that fits, for a
    /// service is restarted, until Ctrl-C
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) duration: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) sampling: Sampling,
    /// Exit with 3 where it leaks, with 4 where that is undecided
    #[arg(long)]
    pub(crate) fail_on_leak: bool,
    /// Look again so long after the end at what outlives the command, with --fail-on-leak
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub(crate) settle: String,
    /// A known pool that may be open at the end: KIND[:PORT, :ADDRESS:PORT or :PATH]<=N, as tcp:5432<=5
    #[arg(long, value_name = "POOL<=N")]
    pub(crate) allow: Vec<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<std::ffi::OsString>,
}

/// How a log is read, where the file is one.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct LogReading {
    /// The log counts the heading of `lsof | wc -l`: subtract it
    #[arg(long)]
    pub(crate) lsof_header: bool,
}

/// Whose code is whose.
#[derive(Args, Clone, Debug)]
pub(crate) struct FrameRules {
    /// Rules for whose code a frame is, asked before ours: lines as `own file /srv/app/**` or `library module **/libfoo.so*`
    #[arg(long, value_name = "FILE")]
    pub(crate) frames: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// Recordings, logs of `unix_time,value`, or CSVs of connections with the header
    /// conn_id,opened_ts,closed_ts,remote,bytes_sent,last_activity_ts (also .gz)
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Only what leaked, all of it
    #[arg(long)]
    pub(crate) leaked: bool,
    /// The sampled closed resources too
    #[arg(long)]
    pub(crate) closed: bool,
    /// Groups in place of single resources; as JSON beside them
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) by: Option<By>,
    /// Judge only what came after this: 10m (before the end), 20:06, 2026-11-23T20:06:04 or Unix seconds
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Judge only what came before this
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// The steps that led to the verdict
    #[arg(long)]
    pub(crate) explain: bool,
    /// The form of the output
    #[arg(short = 'o', long, value_enum, default_value_t = ShowForm::Text)]
    pub(crate) format: ShowForm,
    /// The series that `-o csv` prints [default: connections; of a log its own]
    #[arg(long, value_name = "NAME")]
    pub(crate) series: Option<String>,
    #[command(flatten)]
    pub(crate) rules: FrameRules,
    #[command(flatten)]
    pub(crate) log: LogReading,
    /// Exit with 3 where it leaks, with 4 where that is undecided
    #[arg(long)]
    pub(crate) fail_on_leak: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Opener,
    LastUse,
    Endpoint,
    Query,
    State,
    Age,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShowForm {
    #[value(alias = "table")]
    Text,
    Json,
    Jsonl,
    Csv,
}

#[derive(Args, Debug)]
pub(crate) struct ViewArgs {
    /// A recording, a log of `unix_time,value` or a CSV of connections (also .gz)
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Only write the page there
    #[arg(long, value_name = "OUT")]
    pub(crate) html: Option<PathBuf>,
    /// Print the page's path, open no browser
    #[arg(long)]
    pub(crate) no_open: bool,
    #[command(flatten)]
    pub(crate) rules: FrameRules,
    #[command(flatten)]
    pub(crate) log: LogReading,
}

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// A log of `unix_time,value`, or a CSV of connections (also .gz)
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The recording to make
    #[arg(long, value_name = "REC")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) log: LogReading,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// The process to tell of; without it, of this user's processes in general
    #[arg(value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// The form of the output
    #[arg(short = 'o', long, value_enum, default_value_t = DoctorForm::Text)]
    pub(crate) format: DoctorForm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DoctorForm {
    #[value(alias = "table")]
    Text,
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// How long to watch
    #[arg(long = "for", value_name = "TIME", default_value = "40s")]
    pub(crate) duration: String,
    /// Where the recording goes [default: NAME-PID-TIME.unclosed in the state folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct DemoProgramArgs {
    /// The server's port; without one it is the server itself
    #[arg(long)]
    pub(crate) connect: Option<u16>,
}
