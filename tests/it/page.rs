//! The page in a real browser: the cases under `tests/page`, and a page that the binary made of a real recording.

use crate::act::{Folder, Run, has, leak_in, leaked_of, shown, skip};
use crate::leakers::Churn;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

fn cases() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page"))
}

/// Why no browser can be driven here.
fn missing() -> Option<&'static str> {
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    match () {
        () if !has("node") => Some("there is no node"),
        () if !cases().join("node_modules/playwright-core").exists() => Some("npm ci was not run in tests/page"),
        () if !PathBuf::from(chromium).exists() => Some("there is no Chromium"),
        () => None,
    }
}

/// Opens a page and prints what a reader sees of it, and what the browser complains of, as JSON.
const LOOK: &str = "
import { launch, open, settled } from './browser.mjs';
const browser = await launch();
try {
  const { page, trouble } = await open(browser, process.argv[1]);
  await settled(page);
  const rows = await page.locator('#resources tr.leaked').allInnerTexts();
  console.log(JSON.stringify({ trouble, rows, verdict: await page.locator('#verdict').innerText() }));
} finally {
  await browser.close();
}
";

#[test]
fn the_page_of_a_real_recording_has_what_leaked() {
    if let Some(why) = missing() {
        skip!("{why}");
    }
    let folder = Folder::new();
    let churn = Churn::with("--leak-per-second 3");
    let recording = folder.file("w.unclosed");
    let page = folder.file("page.html");
    let mut record = Run::it(format!("record -p {} --every 250ms", churn.pid)).output(&recording).start();
    record.complaint("Recording to ");
    leak_in(&recording, 20);
    record.interrupt().ok();
    let view = Run::it(format!("view --html {}", page.display())).file(&recording);
    view.done().ok().complains(&["opens offline"]);
    let report = shown(&recording);
    let leaked = leaked_of(&report).len();

    let look = Run::program("node", ["--input-type=module", "-e", LOOK]).file(&page).within(&cases());
    let seen = look.done().ok().json();
    assert_eq!(seen["trouble"].as_array().unwrap().len(), 0, "{}", seen["trouble"]);
    assert!(seen["verdict"].as_str().unwrap().contains("Leak"), "{}", seen["verdict"]);
    let rows = seen["rows"].as_array().unwrap();
    assert_eq!(rows.len(), leaked);
    assert!(leaked >= 20 && rows.iter().all(|row| row.as_str().unwrap().contains(&churn.endpoint())), "{rows:?}");
}

/// Half an hour of a log.
fn log(folder: &Folder) -> PathBuf {
    let log: String = (0..500).map(|tick| format!("{},{}\n", 1_487_279_164 + 5 * tick, tick % 9)).collect();
    folder.with("tracking.log", log)
}

fn names(folder: &Folder) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(folder.path()).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_page_never_overwrites_what_it_is_made_of() {
    let folder = Folder::new();
    let recording = folder.file("rec.unclosed");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/format-1.unclosed"), &recording).unwrap();
    let bytes = fs::read(&recording).unwrap();
    symlink(&recording, folder.file("link")).unwrap();
    fs::hard_link(&recording, folder.file("other")).unwrap();
    for page in ["rec.unclosed", "./rec.unclosed", "link", "other"] {
        let view = Run::it(format!("view rec.unclosed --html {page}")).within(folder.path()).done();
        view.fails(2, &["overwrite", "--html page.html"]);
    }
    assert_eq!(fs::read(&recording).unwrap(), bytes);
    assert_eq!(names(&folder), ["link", "other", "rec.unclosed"]);
}

#[test]
fn a_page_that_can_not_be_written_leaves_the_one_before() {
    let folder = Folder::new();
    let log = log(&folder);
    let page = folder.with("page.html", "an earlier page");
    // A file may have 4 KiB here, and who writes more is told and not killed.
    let line = format!("trap '' XFSZ; ulimit -f 8; exec $unclosed view --html page.html {}", log.display());
    Run::shell(&line).within(folder.path()).done().fails(1, &["cannot write the page page.html", "df -h"]);
    assert_eq!(fs::read_to_string(&page).unwrap(), "an earlier page");
    assert_eq!(names(&folder), ["page.html", "tracking.log"]);
    Run::it("view --html page.html tracking.log").within(folder.path()).done().ok();
    assert!(fs::read_to_string(&page).unwrap().starts_with("<!doctype html>"));
    assert_eq!(fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o600, "as private as a recording");
    let piped = Run::it("view --html /dev/stdout tracking.log").within(folder.path()).done().ok();
    assert!(piped.out.starts_with("<!doctype html>") && piped.out.trim_end().ends_with("</html>"));
}

#[test]
fn a_page_nobody_named_takes_the_place_of_nothing_but_a_page() {
    let folder = Folder::new();
    let log = log(&folder);
    let view = || {
        let view = Run::it("view --no-open").file(&log).within(folder.path()).done().ok();
        Path::new(view.out.trim()).file_name().unwrap().to_owned()
    };
    assert_eq!(view(), "tracking.unclosed.html");
    assert_eq!(view(), "tracking.unclosed.html", "an earlier page is replaced");
    let theirs = folder.with("tracking.unclosed.html", "<!doctype html>\n<title>unclosed</title>");
    let elsewhere = folder.with("elsewhere", "precious");
    symlink(&elsewhere, folder.file("tracking.unclosed-2.html")).unwrap();
    assert_eq!(view(), "tracking.unclosed-3.html");
    assert_eq!(fs::read_to_string(theirs).unwrap(), "<!doctype html>\n<title>unclosed</title>");
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "precious");
}

#[test]
fn the_demo_keeps_its_recording_and_its_page_apart() {
    let folder = Folder::new();
    let file = folder.file("demo.html");
    Run::it("demo --for 2s").output(&file).done().ok().says(&["demo-2.html"]);
    assert_eq!(shown(&file)["schema"], "unclosed/1");
    assert!(fs::read_to_string(folder.file("demo-2.html")).unwrap().starts_with("<!doctype html>"));
}

#[test]
fn view_writes_the_page_where_we_are_and_prints_its_path() {
    let folder = Folder::new();
    let log = log(&folder);
    let done = Run::it("view").file(&log).within(folder.path()).env("DISPLAY", "").env("WAYLAND_DISPLAY", "");
    let done = done.done().ok().complains(&["no desktop"]);
    let page = PathBuf::from(done.out.trim());
    assert!(page.starts_with(folder.path()), "{}", page.display());
    let text = fs::read_to_string(page).unwrap();
    assert!(text.starts_with("<!doctype html>") || text.starts_with("<!DOCTYPE html>"));
}
