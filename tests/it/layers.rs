//! The folders of `src` hold what ARCHITECTURE.md says they hold, and the layers look one way only.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each layer may name of the others. The noun layer names none.
const MAY_SEE: [(&str, &[&str]); 8] = [
    ("model", &[]),
    ("bpf", &[]),
    ("sample", &["model", "bpf"]),
    ("ledger", &["model", "bpf"]),
    ("source", &["model"]),
    ("store", &["model"]),
    ("analyse", &["model"]),
    ("present", &["model", "analyse", "store"]),
];

/// The longest that a file may be.
const LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of `src` with its text, by its path under `src`.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root().join("src")).unwrap().display().to_string();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(found.len() > 40, "{found:?}");
    found
}

/// The code of a file: without comments, and without unit tests, which may use what they like.
fn code(file: &str, text: &str) -> String {
    if file.ends_with("/tests.rs") {
        return String::new();
    }
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The layer that a file belongs to.
fn layer(file: &str) -> &str {
    file.split('/').next().unwrap()
}

/// Files that name one of these words, among those wanted.
fn naming(words: &[&str], wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let names = |file: &str, text: &str| words.iter().copied().find(|word| code(file, text).contains(word));
    let files = sources().into_iter().filter(|(file, _)| wanted(file));
    files.filter_map(|(file, text)| Some(format!("{file} names {}", names(&file, &text)?))).collect()
}

#[test]
fn layers_see_only_what_is_below_them() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Some((_, may_see)) = MAY_SEE.iter().find(|(name, _)| *name == layer(&file)) else { continue };
        let code = code(&file, &text);
        // `crate::{a, b}` would hide its layers from this look.
        assert!(!code.contains("crate::{"), "{file}: one `use` for each layer, please");
        for named in code.split("crate::").skip(1) {
            let named: String = named.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            if named != layer(&file) && !may_see.contains(&named.as_str()) {
                wrong.push(format!("{file} sees {named}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn analyse_is_pure() {
    let impure = ["SystemTime", "Instant", "std::fs", "std::io", "std::net", "std::process", "std::thread", "std::env"];
    let wrong = naming(&impure, |file| layer(file) == "analyse");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_store_opens_sqlite() {
    let wrong = naming(&["rusqlite"], |file| layer(file) != "store");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_is_kept_in_few_places() {
    let allowed = |file: &str| ["bpf/sys.rs", "sample/descriptors/same_file.rs"].contains(&file);
    let wrong = naming(&["unsafe ", "unsafe_code"], |file| !allowed(file));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_outgrows_its_idea() {
    let long = sources().into_iter().map(|(file, text)| (text.lines().count(), file));
    let long: Vec<_> = long.filter(|(lines, _)| *lines > LINES_MAX).collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn nothing_is_left_to_do_in_the_code() {
    let wrong = naming(&["todo!", "unimplemented!", "dbg!"], |_| true);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (mut section, mut explained) = (String::new(), false);
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.to_owned();
        }
        let dependency = section.contains("dependencies") && line.contains(" = ");
        assert!(!dependency || explained, "{line} has no comment above it");
        // One comment may stand above a few that belong together.
        explained = line.starts_with('#') || (dependency && explained);
    }
}

#[test]
fn no_path_of_a_developers_machine_is_tracked() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    // The folder that this very copy stands in, and the home of whoever runs this.
    let home = std::env::var("HOME").unwrap_or_default();
    let here = root().display().to_string();
    let private: Vec<String> =
        [here, home].into_iter().filter(|path| path.len() > 1).map(|path| format!("{path}/")).collect();
    let mut wrong = Vec::new();
    for file in String::from_utf8_lossy(&listed.stdout).split('\0').filter(|file| !file.is_empty()) {
        let text = fs::read(root().join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let registry = file.ends_with("package-lock.json") && text.contains("\"resolved\"");
        if registry || private.iter().any(|path| text.contains(path.as_str())) {
            wrong.push(file.to_owned());
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
