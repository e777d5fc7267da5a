//! The recipe's own script, csv and plotly, reads what we print as it is.

use crate::act::{Folder, Run, skip};
use crate::leakers::Churn;
use std::fs;
use std::process::Command;

/// Plots a log as the recipe did, and says how many points it has and what the last one is.
const SCRIPT: &str = r#"
import csv
import datetime
import sys

import plotly.graph_objects as go
import plotly.offline

times, counts = [], []
with open(sys.argv[1], newline="") as log:
    for time, count in csv.reader(log):
        times.append(datetime.datetime.fromtimestamp(float(time)))
        counts.append(int(count))

figure = go.Figure(go.Scatter(x=times, y=counts, mode="lines"))
plotly.offline.plot(figure, filename=sys.argv[2], auto_open=False)
print(len(times), counts[-1])
"#;

#[test]
fn the_recipes_script_plots_our_lines() {
    let python = std::env::var("UNCLOSED_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !Command::new(&python).args(["-c", "import plotly"]).output().is_ok_and(|it| it.status.success()) {
        skip!("there is no Python with plotly");
    }
    let folder = Folder::new();
    let script = folder.with("plot.py", SCRIPT);
    let churn = Churn::with("--leak-per-second 5");
    let recording = folder.file("w.unclosed");
    // The recipe's way: `>> tracking.log`.
    let every = format!("watch -p {} -o csv --every 1s --for 4s", churn.pid);
    let log = Run::it(every).output(&recording).done().ok();
    let series = Run::it("show -o csv --series connections").file(&recording).done().ok();
    for (name, printed) in [("tracking", &log), ("series", &series)] {
        let file = folder.with(&format!("{name}.log"), &printed.out);
        let page = folder.file(&format!("{name}.html"));
        let plotted = Run::program(&python, [&script, &file, &page]).done().ok();
        let points = printed.points();
        assert_eq!(plotted.out.trim(), format!("{} {}", points.len(), points.last().unwrap().1));
        assert!(points.len() >= 2, "{}", printed.out);
        assert!(fs::metadata(page).unwrap().len() > 10_000);
    }
}
