//! Builds what `init` writes, for each language whose tool is there; says of the others that they were left out.

use std::process::Command;

use super::*;
use crate::commands::function::{code, init};

#[test]
fn a_language_is_told_by_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let told = || Language::of(dir.path());
    let error = told().unwrap_err().to_string();
    assert!(error.contains("wkctl fn init begins a project"), "{error}");
    for name in ["function.wasm", "main.c", "app.py", "package.json"] {
        std::fs::write(dir.path().join(name), "").unwrap();
        let expected = match name {
            "function.wasm" => None,
            "main.c" => Some(Language::C),
            "app.py" => Some(Language::Python),
            _ => Some(Language::JavaScript),
        };
        assert_eq!(told().unwrap(), expected);
    }
}

#[test]
fn what_is_begun_is_told_and_is_not_begun_twice() {
    for language in Language::value_variants() {
        let dir = tempfile::tempdir().unwrap();
        init::begin("hello", *language, dir.path()).unwrap();
        assert_eq!(Language::of(dir.path()).unwrap(), Some(*language));
        let manifest = std::fs::read_to_string(dir.path().join("function.yaml")).unwrap();
        assert!(manifest.contains("name: hello"), "{manifest}");
        let error = init::begin("hello", *language, dir.path()).unwrap_err();
        assert!(error.to_string().ends_with("exists already"), "{error}");
    }
}

/// Builds a new project; answers the file, or says on stderr that `tool` is not there.
#[track_caller]
fn built(language: Language, tool: &[&str]) {
    let found = Command::new(tool[0]).args(&tool[1..]).output();
    let answer = found.is_ok_and(|output| output.status.success());
    if !answer {
        eprintln!("not tried: {} is not installed", tool.join(" "));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    init::begin("hello", language, dir.path()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let directory = dir.path();
    let made = runtime.block_on(async {
        match language {
            Language::Rust => rust::build(directory).await,
            Language::JavaScript => javascript::build(directory).await,
            Language::Go => go::build(directory).await,
            Language::Python => python::build(directory).await,
            Language::C => c::build(directory).await,
        }
    });
    let made = match made {
        // The same words that a user reads; other failures are ours.
        Err(error) if lacks(&error.to_string()) => {
            eprintln!("not tried: {error:#}");
            return;
        }
        made => made.unwrap(),
    };
    code::check(&std::fs::read(made).unwrap()).unwrap();
}

/// Whether a part is missing, or too old.
fn lacks(error: &str) -> bool {
    ["is not installed", "is installed, which makes"]
        .iter()
        .any(|words| error.contains(words))
}

#[test]
fn a_new_project_in_rust_is_a_function() {
    built(Language::Rust, &["cargo", "--version"]);
}

#[test]
fn a_new_project_in_c_is_a_function() {
    built(Language::C, &["clang", "--version"]);
}

#[test]
fn a_new_project_in_go_is_a_function() {
    built(Language::Go, &["go", "version"]);
}

#[test]
fn a_new_project_in_python_is_a_function() {
    built(Language::Python, &["componentize-py", "--version"]);
}
