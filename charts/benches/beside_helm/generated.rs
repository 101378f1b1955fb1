//! Charts of the size that public ones have: those of the library, and parents of many copies of them.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

const LIBRARY: &[&str] = &["function", "nginx", "postgresql", "prometheus", "redis"];
/// How many subcharts the parents have.
const PARENTS: &[usize] = &[5, 10, 15, 20, 40];

/// Writes the charts to a directory.
pub(crate) fn charts(directory: &Path) -> Vec<PathBuf> {
    let parents = PARENTS.iter().rev().map(|count| parent(directory, *count));
    let library = LIBRARY.iter().map(|name| {
        let chart = directory.join(name);
        copy(name, name, &chart);
        chart
    });
    parents.chain(library).collect()
}

/// A chart without templates of its own.
fn parent(directory: &Path, count: usize) -> PathBuf {
    let chart = directory.join(format!("of-{count}-subcharts"));
    fs::create_dir_all(chart.join("charts")).unwrap();
    let mut definition =
        format!("apiVersion: v2\nname: of-{count}\nversion: 1.0.0\ndependencies:\n");
    for (number, name) in (0..count).zip(LIBRARY.iter().cycle()) {
        let alias = format!("{name}-{number}");
        copy(name, &alias, &chart.join("charts").join(&alias));
        writeln!(
            definition,
            "- {{name: {alias}, version: 1.0.0, repository: ''}}"
        )
        .unwrap();
    }
    fs::write(chart.join("Chart.yaml"), definition).unwrap();
    chart
}

/// Copies a chart of the library under another name; a function gets the image that it must have.
fn copy(name: &str, alias: &str, to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("library")
        .join(name);
    copy_tree(&from, to);
    let change = |file: &str, from: String, into: String| {
        let path = to.join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen(&from, &into, 1)).unwrap();
    };
    change(
        "Chart.yaml",
        format!("\nname: {name}\n"),
        format!("\nname: {alias}\n"),
    );
    if name == "function" {
        change(
            "values.yaml",
            r#"image: """#.to_owned(),
            "image: hello:1".to_owned(),
        );
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
