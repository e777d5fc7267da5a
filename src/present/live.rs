//! What `watch` shows while it watches: one screen that is drawn anew, plain lines, or `unix_time,value`.

use super::canvas::Canvas;
use super::text;
use crate::model::{Address, Lifetime, LifetimeId, Report, Timestamp, duration_words};
use std::collections::VecDeque;
use std::io::{self, Write};

/// Values that the screen's chart remembers: more than a terminal is wide.
const CHART_MAX: usize = 400;

/// Where a live view puts what it shows.
pub trait Live {
    /// Called after each tick, when it is in the recording.
    fn tick(&mut self, report: &Report, value: Option<f64>) -> io::Result<()>;
    /// Something that the person should know now.
    fn message(&mut self, text: &str) {
        // Where nobody reads it there is nobody to tell.
        let _ = writeln!(io::stderr(), "unclosed: {text}");
    }
    /// Called once, before anything else is printed.
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Shows nothing: `record`, `run`.
#[derive(Debug)]
pub struct Silent;

impl Live for Silent {
    fn tick(&mut self, _report: &Report, _value: Option<f64>) -> io::Result<()> {
        Ok(())
    }
}

/// The recipe's log: a line `unix_time,value` a tick, whole seconds where the interval has whole seconds.
#[derive(Debug)]
pub struct CsvLines<W> {
    /// Where to.
    pub out: W,
    /// True where ticks are closer together than a second.
    pub fractions: bool,
}

impl<W: Write> Live for CsvLines<W> {
    fn tick(&mut self, report: &Report, value: Option<f64>) -> io::Result<()> {
        let Some(value) = value else { return Ok(()) };
        writeln!(self.out, "{}", csv_line(report.to, value, self.fractions))?;
        self.out.flush()
    }
}

/// A line of the recipe's log.
pub fn csv_line(at: Timestamp, value: f64, fractions: bool) -> String {
    if fractions { format!("{},{value}", at.seconds()) } else { format!("{},{value}", at.0.div_euclid(1_000_000)) }
}

/// A line a tick, and the verdict each time it changes: for a pipe or a log file.
#[derive(Debug)]
pub struct PlainLines<W> {
    out: W,
    said: Option<String>,
}

impl<W: Write> PlainLines<W> {
    /// Lines to `out`.
    pub fn new(out: W) -> Self {
        PlainLines { out, said: None }
    }
}

impl<W: Write> Live for PlainLines<W> {
    fn tick(&mut self, report: &Report, _value: Option<f64>) -> io::Result<()> {
        // What ended with a process a moment ago is no connection any more.
        let is_held = |id: &LifetimeId| report.population.open.get(id).is_some_and(|it| !it.ended_with_process);
        let leaked =
            report.judged.leak_probability.keys().filter(|id| report.judged.is_leaked(**id) && is_held(id)).count();
        let own = text::own_cost(report).map(|own| format!(" (unclosed: {own})")).unwrap_or_default();
        writeln!(self.out, "{} {} leaked {leaked}{own}", text::moment(report.to), numbers(report, " "))?;
        if let Some(finding) = report.verdict() {
            let word = finding.kind.word().to_owned();
            if self.said.as_ref() != Some(&word) {
                writeln!(self.out, "{}", text::headline(finding))?;
                text::code_of(finding).map_or(Ok(()), |code| writeln!(self.out, "{code}"))?;
                self.said = Some(word);
            }
        }
        self.out.flush()
    }
}

/// The numbers that stand at the head of a view: the latest value of each series, and how many processes there are of
/// several.
fn numbers(report: &Report, between: &str) -> String {
    let processes = report.target.iter().flat_map(|target| target.processes.values());
    let (all, running) = processes.fold((0, 0), |(all, run), it| (all + 1, run + usize::from(it.ended.is_none())));
    if all > 0 && running == 0 {
        // The latest values are of those that have ended.
        return "no process runs".to_owned();
    }
    let wanted = |name: &str| {
        matches!(name, "connections" | "descriptors" | "memory")
            || name.starts_with("disk:")
            || name.starts_with("command:")
    };
    let processes = (running > 1).then(|| format!("processes {running}"));
    let series = report.judged.series.iter().filter(|it| wanted(&it.series.name)).filter_map(|it| {
        let last = it.last?;
        Some(format!("{} {}", it.series.name, text::measure(last, it.series.unit)))
    });
    processes.into_iter().chain(series).collect::<Vec<_>>().join(between)
}

/// One screen, drawn anew at each tick on the terminal's other screen, so that what was there before comes back.
pub struct Screen<W: Write> {
    canvas: Canvas<W>,
    size: Box<dyn Fn() -> (usize, usize)>,
    recording: String,
    /// How an address is written: as numbers, or by name as soon as that is known.
    address: Box<dyn FnMut(&Address) -> String>,
    chart: VecDeque<Option<f64>>,
    messages: Vec<String>,
}

impl<W: Write> Screen<W> {
    /// A screen of `size()` columns and rows. `recording` is named in its last line.
    pub fn new(
        out: W,
        size: Box<dyn Fn() -> (usize, usize)>,
        recording: String,
        address: Box<dyn FnMut(&Address) -> String>,
    ) -> Self {
        Screen { canvas: Canvas::new(out), size, recording, address, chart: VecDeque::new(), messages: Vec::new() }
    }

    fn lines(&mut self, report: &Report, width: usize, height: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let name = report.target.as_ref().map_or("", |target| target.name.as_str());
        let pids = report
            .target
            .as_ref()
            .map_or(0, |target| target.processes.values().filter(|it| it.ended.is_none()).count());
        let span = duration_words(report.to.seconds_since(report.from));
        lines.push(format!("{name}  {pids} running, watched for {span}, {} ticks", report.ticks));
        if let Some(finding) = report.verdict() {
            lines.extend(wrap(&text::headline(finding), width, 3));
            if let Some(end) = &finding.exhausts {
                let limit = format!("  {} ({}) is reached {}", end.name, text::figure(end.limit), text::moment(end.at));
                lines.push(limit);
            }
            lines.extend(text::code_of(finding));
        }
        lines.push(String::new());
        let own = text::own_cost(report).map(|own| format!("   unclosed: {own}")).unwrap_or_default();
        lines.push(format!("{}{own}", numbers(report, "   ")));
        lines.extend(chart(&self.chart, width, 6.min(height / 4)));
        lines.push(String::new());
        let room = height.saturating_sub(lines.len() + 3);
        lines.extend(open_rows(report, room, &mut self.address));
        lines.truncate(height.saturating_sub(2));
        lines.push(String::new());
        lines.push(match self.messages.last() {
            Some(message) => message.clone(),
            None => format!("recording {}   Ctrl-C ends it and prints the summary", self.recording),
        });
        lines
    }
}

impl<W: Write> Live for Screen<W> {
    fn tick(&mut self, report: &Report, value: Option<f64>) -> io::Result<()> {
        self.chart.push_back(value);
        if self.chart.len() > CHART_MAX {
            self.chart.pop_front();
        }
        let (width, height) = (self.size)();
        let lines = self.lines(report, width, height);
        self.canvas.draw(&lines, width, height)
    }

    fn message(&mut self, text: &str) {
        self.messages.push(text.to_owned());
    }

    fn end(&mut self) -> io::Result<()> {
        if self.canvas.end()? {
            for message in self.messages.drain(..) {
                let _ = writeln!(io::stderr(), "unclosed: {message}");
            }
        }
        Ok(())
    }
}

impl<W: Write> Drop for Screen<W> {
    /// Gives the terminal back however the watch ends.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// The leaked ones, else the oldest, as many as there is room for.
fn open_rows(report: &Report, room: usize, address: &mut dyn FnMut(&Address) -> String) -> Vec<String> {
    let leaked = |it: &Lifetime| report.judged.is_leaked(it.id);
    let mut open: Vec<&Lifetime> = report.population.open.values().filter(|it| it.resource.is_connection()).collect();
    open.sort_by_key(|it| (!leaked(it), it.opened, it.id));
    let mut lines = vec![format!("{:>8} {:>6} {:<8} {:>11} {:>11}  PEER", "", "FD", "KIND", "AGE", "SILENT")];
    for it in open.iter().take(room.saturating_sub(1)) {
        let peer = it.resource.remote.as_ref().map(&mut *address).or_else(|| it.resource.name.clone());
        let silent = it.silent_seconds(report.to).map(duration_words).unwrap_or_default();
        lines.push(format!(
            "{:>8} {:>6} {:<8} {:>11} {silent:>11}  {}",
            if leaked(it) { "leaked" } else { "" },
            it.holders.first().map_or(-1, |holder| holder.fd),
            it.resource.kind,
            duration_words(it.age_seconds(report.to)),
            peer.unwrap_or_default(),
        ));
    }
    lines
}

/// Eighths of a block, one column a tick, the latest at the right; a hole stays empty.
fn chart(values: &VecDeque<Option<f64>>, width: usize, height: usize) -> Vec<String> {
    const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns = width.saturating_sub(10).max(1);
    let shown: Vec<Option<f64>> = values.iter().skip(values.len().saturating_sub(columns)).copied().collect();
    let top = shown.iter().flatten().copied().fold(1.0, f64::max);
    (0..height)
        .rev()
        .map(|row| {
            let label = if row + 1 == height {
                text::figure(top)
            } else if row == 0 {
                "0".to_owned()
            } else {
                String::new()
            };
            let cell = |value: &Option<f64>| {
                let eighths = value.map_or(0.0, |value| value.max(0.0) / top * (height * 8) as f64) - (row * 8) as f64;
                BLOCKS[eighths.round().clamp(0.0, 8.0) as usize]
            };
            format!("{label:>8} {}", shown.iter().map(cell).collect::<String>())
        })
        .collect()
}

/// Words on lines of at most `width` columns, at most `most` of them.
fn wrap(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last =
            lines.last_mut().filter(|line| line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width);
        match last {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => line.extend([" ", word]),
            None => lines.push(format!("  {word}")),
        }
    }
    lines.truncate(most);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_line_is_what_the_recipe_wrote() {
        assert_eq!(csv_line(Timestamp(1_487_279_164_000_000), 61.0, false), "1487279164,61");
        assert_eq!(csv_line(Timestamp(1_487_279_164_250_000), 61.0, false), "1487279164,61");
        assert_eq!(csv_line(Timestamp(1_487_279_164_250_000), 0.5, true), "1487279164.25,0.5");
    }

    #[test]
    fn a_chart_reaches_its_top_and_leaves_holes() {
        let values = VecDeque::from([Some(0.0), None, Some(4.0), Some(8.0)]);
        assert_eq!(chart(&values, 14, 2), ["       8    █", "       0   ██"]);
    }

    #[test]
    fn the_screen_is_given_back() {
        let mut out = Vec::new();
        {
            let mut screen = Screen::new(&mut out, Box::new(|| (80, 24)), "x".into(), Box::new(ToString::to_string));
            screen.tick(&Report::default(), Some(1.0)).expect("to memory");
        }
        let text = String::from_utf8_lossy(&out).into_owned();
        assert!(text.starts_with("\x1b[?1049h") && text.ends_with("\x1b[?1049l"));
    }
}
