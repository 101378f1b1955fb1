//! Whatever an archive holds: nothing outside its layer changes, and a plain one becomes what its entries say.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{archive, tree, write_tree};

/// A path of a few short names, so that entries meet.
fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[abc]", 1..4).prop_map(|parts| parts.join("/"))
}

/// A line of a plain archive, as `super::archive` takes it.
fn plain_line() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => (path(), "[xyz]{1,3}").prop_map(|(path, contents)| format!("{path}={contents}")),
        3 => (path(), prop_oneof!["0700", "0755", "1777"]).prop_map(|(path, mode)| format!("{path}/ {mode}")),
        1 => path().prop_map(|path| match path.rsplit_once('/') {
            Some((parent, name)) => format!("{parent}/.wh.{name}"),
            None => format!(".wh.{path}"),
        }),
        1 => path().prop_map(|path| format!("{path}/.wh..wh..opq")),
    ]
}

fn hostile_path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        6 => Just("a"), 6 => Just("b"), 2 => Just(".."), 1 => Just("."), 1 => Just(""),
        1 => Just("canary"), 1 => Just("keep"), 1 => Just(".wh.a"), 1 => Just(".wh..wh..opq"),
        1 => Just(".wh.."), 1 => Just(".wh..."), 1 => Just(".wh.keep"),
    ];
    let start =
        prop_oneof![6 => Just(""), 1 => Just("/"), 1 => Just("../"), 1 => Just("DIR/canary/")];
    (start, proptest::collection::vec(part, 1..5))
        .prop_map(|(start, parts)| format!("{start}{}", parts.join("/")))
}

fn hostile_line() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => hostile_path().prop_map(|path| format!("{path}=x 0666 5:5")),
        2 => hostile_path().prop_map(|path| format!("{path}/ 0777 5:5")),
        3 => (hostile_path(), hostile_path()).prop_map(|(path, target)| format!("{path} -> {target}")),
        2 => (hostile_path(), hostile_path()).prop_map(|(path, target)| format!("{path} => {target}")),
    ]
}

/// What a plain archive's entries make one after the other: of each path, how it is listed. `None` if one
/// would be in a file.
fn model(lines: &[String]) -> Option<BTreeMap<String, String>> {
    let mut nodes = BTreeMap::new();
    let is_directory = |node: &str| node.starts_with('/');
    // A directory that takes something's place is opaque.
    let put_directory = |nodes: &mut BTreeMap<String, String>, path: &str, mode: Option<&str>| {
        let there = nodes.get(path).cloned();
        let opaque = match there.as_deref() {
            Some(there) if is_directory(there) => there.ends_with("opaque"),
            Some(_) => true,
            None => false,
        };
        let mode = match (mode, there.as_deref()) {
            (Some(mode), _) => mode,
            (None, Some(there)) if is_directory(there) => &there[2..6],
            (None, _) => "0755",
        };
        let opaque = if opaque { " opaque" } else { "" };
        nodes.insert(path.to_owned(), format!("/ {mode}{opaque}"));
    };
    let mark_opaque = |nodes: &mut BTreeMap<String, String>, path: &str| {
        if let Some(node) = nodes.get_mut(path)
            && is_directory(node)
            && !node.ends_with("opaque")
        {
            node.push_str(" opaque");
        }
    };
    for line in lines {
        let name = line.split([' ', '=']).next().unwrap().trim_end_matches('/');
        let ancestors: Vec<&str> = name.match_indices('/').map(|(at, _)| &name[..at]).collect();
        for ancestor in ancestors {
            match nodes.get(ancestor).map(String::as_str) {
                Some(there) if is_directory(there) => {}
                Some(" whiteout") | None => put_directory(&mut nodes, ancestor, None),
                Some(_) => return None,
            }
        }
        let (parent, base) = name.rsplit_once('/').unwrap_or(("", name));
        if base == ".wh..wh..opq" {
            mark_opaque(&mut nodes, parent);
        } else if let Some(hidden) = base.strip_prefix(".wh.") {
            let hidden = if parent.is_empty() {
                hidden.to_owned()
            } else {
                format!("{parent}/{hidden}")
            };
            mark_opaque(&mut nodes, &hidden);
            nodes
                .entry(hidden)
                .or_insert_with(|| " whiteout".to_owned());
        } else if let Some((_, contents)) = line.split_once('=') {
            nodes.retain(|path, _| !path.starts_with(&format!("{name}/")));
            nodes.insert(name.to_owned(), format!("={contents} 0644"));
        } else {
            let mode = line.rsplit(' ').next();
            put_directory(&mut nodes, name, mode);
        }
    }
    Some(nodes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plain_archive_becomes_what_its_entries_say(lines in proptest::collection::vec(plain_line(), 1..12)) {
        let dir = tempfile::tempdir().unwrap();
        let written = write_tree(&archive(&lines.join("\n")), dir.path());
        match model(&lines) {
            Some(nodes) => {
                written.unwrap();
                let expected: Vec<String> = nodes.iter().map(|(path, node)| format!("{path}{node}")).collect();
                let found = tree(dir.path());
                let mut found: Vec<&str> = found.lines().collect();
                found.sort_unstable();
                let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
                expected.sort_unstable();
                prop_assert_eq!(found, expected);
            }
            None => prop_assert!(written.is_err()),
        }
    }

    #[test]
    fn nothing_outside_a_layer_changes_whatever_its_archive_holds(
        lines in proptest::collection::vec(hostile_line(), 1..12),
        cut in proptest::option::of(0_usize..4000),
        damage in proptest::option::of((0_usize..4000, any::<u8>())),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let canary = dir.path().join("canary");
        std::fs::create_dir(&canary).unwrap();
        std::fs::write(canary.join("keep"), "safe").unwrap();
        let layer = dir.path().join("layer");
        std::fs::create_dir(&layer).unwrap();
        // Names of 100 bytes at most fit a header.
        let lines = lines.join("\n").replace("DIR", dir.path().to_str().unwrap());
        let mut bytes = archive(&lines);
        if let Some((at, byte)) = damage
            && let Some(there) = bytes.get_mut(at)
        {
            *there = byte;
        }
        bytes.truncate(cut.unwrap_or(bytes.len()));
        let _ = write_tree(&bytes, &layer);
        prop_assert_eq!(tree(&canary), "keep=safe 0644\n");
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
