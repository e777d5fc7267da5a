//! The page in a real browser: the cases under `tests/page`, and a page that the binary made of a real recording.

use crate::act::{Folder, Run, has, leak_in, leaked_of, shown, skip};
use crate::leakers::Churn;
use std::path::PathBuf;

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

#[test]
fn view_writes_the_page_where_we_are_and_prints_its_path() {
    let folder = Folder::new();
    let log: String = (0..500).map(|tick| format!("{},{}\n", 1_487_279_164 + 5 * tick, tick % 9)).collect();
    let log = folder.with("tracking.log", log);
    let done = Run::it("view").file(&log).within(folder.path()).env("DISPLAY", "").env("WAYLAND_DISPLAY", "");
    let done = done.done().ok().complains(&["no desktop"]);
    let page = PathBuf::from(done.out.trim());
    assert!(page.starts_with(folder.path()), "{}", page.display());
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.starts_with("<!doctype html>") || text.starts_with("<!DOCTYPE html>"));
}
