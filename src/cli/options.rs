//! Options as meant: what was typed, checked and with its defaults filled in.

use super::args::{Openers, ReadBy, Sampling, Selector, SendsBy};
use super::error::Failure;
use super::on_leak::LeakCommand;
use crate::ledger::{LedgerOptions, SendHook};
use crate::sample::{
    CgroupPath, Depth, Metric, Pattern, ProcFs, Rule, RuleError, Sampler, Source, TargetProcesses, UnitName,
};
use crate::store::Retention;
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Ticks closer together than this would measure little but ourselves.
const EVERY_MIN: Duration = Duration::from_millis(50);
/// The recipe's interval: long enough to cost nothing, short enough to see most connections.
pub(crate) const EVERY_DEFAULT: Duration = Duration::from_secs(5);
/// A longer interval is a typing error rather than a wish.
const EVERY_MAX: Duration = Duration::from_secs(86_400);

impl From<ReadBy> for Source {
    fn from(typed: ReadBy) -> Self {
        match typed {
            ReadBy::Auto => Source::Auto,
            ReadBy::Bpf => Source::Bpf,
            ReadBy::SockDiag => Source::SockDiag,
            ReadBy::Proc => Source::Proc,
        }
    }
}

/// How to sample and record.
#[derive(Clone, Debug)]
pub(crate) struct SamplingOptions {
    pub(crate) every: Duration,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) source: Source,
    pub(crate) retention: Retention,
    pub(crate) on_leak: Option<LeakCommand>,
    /// The share of one core that watching may take.
    pub(crate) max_cost: Option<f64>,
    /// How the ledger is kept; `None` where it is left out.
    pub(crate) ledger: Option<LedgerOptions>,
}

impl SamplingOptions {
    pub(crate) fn of(typed: &Sampling, default_every: Duration) -> Result<Self, Failure> {
        let every = interval(typed.every.as_deref(), default_every)?;
        let metrics = typed.metric.iter().map(|text| Metric::parse(text));
        let metrics = metrics.collect::<Result<Vec<_>, _>>().map_err(|error| Failure::usage(error.to_string()))?;
        for metric in &metrics {
            if let Metric::Disk(path) = metric
                && !path.exists()
            {
                return Err(Failure::new(format!("--metric disk:{}: there is no such folder", path.display()))
                    .hint(format!("ls -d {} shows what is there", path.parent().unwrap_or(Path::new("/")).display())));
            }
        }
        let retention =
            Retention { age: duration("--keep", &typed.keep)?, bytes: size("--max-size", &typed.max_size)? };
        let max_cost = typed.max_cost.as_deref().map(share).transpose()?;
        let on_leak = typed.on_leak.as_deref().map(LeakCommand::parse).transpose()?;
        let source = typed.source.into();
        let ledger = (!typed.no_ledger).then_some(LedgerOptions {
            by_calls: typed.openers == Openers::All,
            with_children: false,
            send_hook: if typed.sends_by == SendsBy::Calls { SendHook::Calls } else { SendHook::Auto },
            show_literals: typed.show_literals,
        });
        Ok(SamplingOptions { every, metrics, source, retention, on_leak, max_cost, ledger })
    }

    /// What reads the target.
    pub(crate) fn sampler(&self, proc: &ProcFs) -> Result<Sampler, Failure> {
        let sampler = Sampler::new(proc, self.source, Depth::Tick)?;
        Ok(sampler.and_metrics(self.metrics.clone(), self.metric_limit()))
    }

    /// How long a metric may take within a tick.
    pub(crate) fn metric_limit(&self) -> Duration {
        (self.every * 4 / 5).min(Duration::from_secs(60))
    }
}

/// The interval between two ticks, as `--every` has it.
pub(crate) fn interval(typed: Option<&str>, default: Duration) -> Result<Duration, Failure> {
    let every = typed.map_or(Ok(default), |text| duration("--every", text))?;
    if !(EVERY_MIN..=EVERY_MAX).contains(&every) {
        let hint = "5s is the default; a fast leak in a test is well seen at 200ms";
        return Err(Failure::usage(format!("--every {every:?}: it must be between 50ms and 1d")).hint(hint));
    }
    Ok(every)
}

/// The processes to follow; none where nothing was selected. Fails where none fits, and on the first pid that doesn't run.
pub(crate) fn target(proc: &ProcFs, selector: &Selector) -> Result<TargetProcesses, Failure> {
    if selector.names_no_more_than_pids() {
        return Ok(TargetProcesses::named(proc, &selector.pid, selector.children)?);
    }
    let target = TargetProcesses::by_rule(proc, rule(selector)?, selector.children)?;
    if target.is_empty() { Err(no_match(selector)) } else { Ok(target) }
}

fn rule(selector: &Selector) -> Result<Rule, RuleError> {
    Ok(Rule {
        pids: selector.pid.clone(),
        commands: selector.command.iter().map(|text| Pattern::command(text)).collect::<Result<_, _>>()?,
        users: selector.user.iter().map(|text| Pattern::user(text)).collect::<Result<_, _>>()?,
        units: selector.unit.iter().map(|text| UnitName::parse(text)).collect(),
        cgroups: selector.cgroup.iter().map(|text| CgroupPath::parse(text)).collect(),
        containers: selector.container.clone(),
    })
}

/// Nothing fits: says what was asked for, and what shows what there is.
fn no_match(selector: &Selector) -> Failure {
    let kinds = [
        ("-c", &selector.command, "pgrep -af NAME searches whole command lines"),
        ("-u", &selector.user, "ps -u USER lists a user's processes"),
        ("--unit", &selector.unit, "systemctl status UNIT tells whether it runs"),
        ("--cgroup", &selector.cgroup, "cat /proc/PID/cgroup tells the cgroups of a process"),
        ("--container", &selector.container, "docker ps, podman ps or crictl ps list the containers that run"),
    ];
    let asked: Vec<_> = kinds.into_iter().filter(|(_, texts, _)| !texts.is_empty()).collect();
    let parts: Vec<String> = asked.iter().map(|(flag, texts, _)| format!("{flag} {}", texts.join(" or "))).collect();
    let hints: Vec<&str> = asked.iter().map(|(_, _, hint)| *hint).collect();
    let pids = if selector.pid.is_empty() { "" } else { "of these pids " };
    Failure::no_target(format!("no process {pids}that we can see fits {}", parts.join(" and ")))
        .hint(format!("{}; unclosed --help lists the verbs", hints.join("; ")))
}

/// Reads `50ms`, `5s`, `10m`, `1h`, `7d`; a number alone is seconds.
pub(crate) fn duration(flag: &str, text: &str) -> Result<Duration, Failure> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => f64::NAN,
    };
    let seconds = digits.trim().parse::<f64>().unwrap_or(f64::NAN) * factor;
    if !(seconds > 0.0 && seconds < 1e10) {
        let message = format!("{flag} {text:?} is not a length of time");
        return Err(Failure::usage(message).hint("write it as 50ms, 5s, 10m, 1h or 7d"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Reads a share of one core: `1%`, `0.5%`.
fn share(text: &str) -> Result<f64, Failure> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok()).unwrap_or(f64::NAN);
    if !(percent > 0.0 && percent <= 100.0) {
        let message = format!("--max-cost {text:?} is not a share of one core");
        return Err(Failure::usage(message).hint("write it as 1% or 0.5%"));
    }
    Ok(percent / 100.0)
}

/// Reads `500kB`, `100MB`, `1GB`; a number alone is bytes.
fn size(flag: &str, text: &str) -> Result<u64, Failure> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        _ => f64::NAN,
    };
    let bytes = digits.trim().parse::<f64>().unwrap_or(f64::NAN) * factor;
    if !(1e5..1e15).contains(&bytes) {
        let message = format!("{flag} {text:?} is not a size of 100kB or more");
        return Err(Failure::usage(message).hint("write it as 500kB, 100MB or 1GB"));
    }
    Ok(bytes as u64)
}

/// Where a recording goes that was given no name: `NAME-PID-TIME.unclosed` in the state folder of XDG, which is made.
pub(crate) fn default_recording(name: &str, pid: Option<u32>) -> Result<PathBuf, Failure> {
    let folder = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")))
        .unwrap_or_else(std::env::temp_dir)
        .join("unclosed");
    std::fs::create_dir_all(&folder).map_err(|error| {
        Failure::new(format!("cannot make the folder for recordings {}: {error}", folder.display()))
            .hint("name the recording yourself: --output FILE")
    })?;
    let safe: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    let time = jiff::Timestamp::now().to_zoned_datetime(TimeZone::system()).strftime("%Y%m%d-%H%M%S").to_string();
    let pid = pid.map(|pid| format!("-{pid}")).unwrap_or_default();
    let named = |number: usize| {
        let number = if number == 0 { String::new() } else { format!("-{number}") };
        folder.join(format!("{safe}{pid}-{time}{number}.unclosed"))
    };
    Ok((0..100).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(100)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_and_nonsense_is_refused() {
        let ms = |text| duration("--every", text).ok().map(|it| it.as_millis());
        assert_eq!(
            [ms("50ms"), ms("5s"), ms("10m"), ms("1h"), ms("7d"), ms("2"), ms("0.5s")].map(Option::unwrap_or_default),
            [50, 5_000, 600_000, 3_600_000, 604_800_000, 2_000, 500]
        );
        for nonsense in ["", "s", "-5s", "0s", "5 parsecs", "1e99d", "NaN"] {
            assert_eq!(ms(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn shares_are_read_with_their_sign_alone() {
        assert_eq!((share("1%").ok(), share("0.5 %").ok()), (Some(0.01), Some(0.005)));
        for nonsense in ["1", "0%", "-1%", "101%", "%", "NaN%"] {
            assert!(share(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("--max-size", "100MB").ok(), Some(100_000_000));
        assert!(size("--max-size", "10").is_err());
    }
}
