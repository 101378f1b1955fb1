//! Archives that mean harm, or are broken, are refused with Helm's words and within bounds.

#![expect(clippy::unwrap_used, reason = "a test: what is missing fails it")]

use charts::chart::{Chart, archive::read, package::package};
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use std::io::Write as _;
use tar::{Builder, EntryType, Header};

/// A gzipped tarball of entries as they are given, whatever their names.
fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, kind, data) in entries {
        let mut header = Header::new_gnu();
        // Past the checks of the crate, which would refuse such names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(data.len() as u64);
        header.set_entry_type(*kind);
        header.set_cksum();
        builder.append(&header, *data).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

const CHART: &[u8] = b"apiVersion: v2\nname: c\nversion: 0.1.0\n";

#[track_caller]
fn check(entries: &[(&str, EntryType, &[u8])], expected: &str) {
    let found = match Chart::load_archive(&archive(entries)) {
        Ok(chart) => {
            let names: Vec<&str> = chart.raw.iter().map(|file| file.name.as_str()).collect();
            names.join(" ")
        }
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expected);
}

#[test]
fn names_that_lead_out_are_refused() {
    let file = EntryType::Regular;
    check(
        &[
            ("c/Chart.yaml", file, CHART),
            ("c/templates/./a.yaml", file, b""),
        ],
        "Chart.yaml templates/a.yaml",
    );
    check(
        &[("c/../../x", file, b"")],
        "chart illegally references parent directory",
    );
    check(
        &[("c//x", file, b"")],
        "chart illegally contains absolute paths",
    );
    check(
        &[("x", file, b"")],
        "chart illegally contains content outside the base directory: \"x\"",
    );
    check(
        &[("c/a:/x", file, b"")],
        "chart contains illegally named files",
    );
    check(
        &[("c\\a:\\x", file, b"")],
        "chart contains illegally named files",
    );
    check(
        &[("Chart.yaml/x", file, CHART)],
        "chart yaml not in base directory",
    );
    check(
        &[("c/", EntryType::Directory, b"")],
        "no files in chart archive",
    );
    check(&[("c/x", file, b"")], "Chart.yaml file is missing");
}

#[test]
fn links_are_not_followed() {
    let link = EntryType::Symlink;
    check(
        &[
            ("c/Chart.yaml", EntryType::Regular, CHART),
            ("c/passwd", link, b""),
        ],
        "Chart.yaml passwd",
    );
    let bytes = archive(&[
        ("c/Chart.yaml", EntryType::Regular, CHART),
        ("c/passwd", link, b""),
    ]);
    let chart = Chart::load_archive(&bytes).unwrap();
    assert!(chart.file("passwd").unwrap().data.is_empty());
}

#[test]
fn the_later_of_two_files_of_one_name_counts() {
    let file = EntryType::Regular;
    let other = b"apiVersion: v2\nname: d\nversion: 0.1.0\n";
    let bytes = archive(&[("c/Chart.yaml", file, CHART), ("c/Chart.yaml", file, other)]);
    assert_eq!(Chart::load_archive(&bytes).unwrap().name(), "d");
}

#[test]
fn bombs_are_refused() {
    let large = vec![0; (5 << 20) + 1];
    check(
        &[("c/large", EntryType::Regular, &large)],
        "decompressed chart file \"large\" is larger than the maximum file size 5242880",
    );
    let most = vec![0; 5 << 20];
    let names: Vec<String> = (0..21).map(|number| format!("c/{number}")).collect();
    let entries: Vec<(&str, EntryType, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), EntryType::Regular, &most[..]))
        .collect();
    check(
        &entries,
        "decompressed chart is larger than the maximum size 104857600",
    );
    let mut zeros = GzEncoder::new(Vec::new(), Compression::fast());
    zeros.write_all(&vec![0; 64 << 20]).unwrap();
    assert!(read(&zeros.finish().unwrap()).is_err());
}

#[test]
fn a_chart_survives_its_packaging() {
    let file = EntryType::Regular;
    let bytes = archive(&[
        ("c/Chart.yaml", file, CHART),
        ("c/values.yaml", file, b"# mine\na: 1\n"),
        ("c/templates/a.yaml", file, b"{{ .Values.a }}\n"),
        ("c/data.bin", file, b"\xff\x00"),
        (
            "c/charts/s/Chart.yaml",
            file,
            b"apiVersion: v2\nname: s\nversion: 1.0.0\n",
        ),
    ]);
    let chart = Chart::load_archive(&bytes).unwrap();
    let (name, packed) = package(&chart, 0).unwrap();
    assert_eq!(name, "c-0.1.0.tgz");
    let again = Chart::load_archive(&packed).unwrap();
    assert_eq!(again.metadata, chart.metadata);
    assert_eq!(again.templates, chart.templates);
    assert_eq!(again.values, chart.values);
    assert_eq!(again.file("values.yaml"), chart.file("values.yaml"));
    assert_eq!(again.file("data.bin"), chart.file("data.bin"));
    assert_eq!(again.subcharts[0].metadata, chart.subcharts[0].metadata);
    assert_eq!(package(&chart, 0).unwrap().1, packed);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read(&bytes);
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&bytes).unwrap();
        let _ = Chart::load_archive(&packed.finish().unwrap());
    }
}

#[test]
fn archives_within_a_chart_share_its_bounds() {
    let file = EntryType::Regular;
    let zeros = vec![0; 4 << 20];
    let names: Vec<String> = (0..9).map(|n| format!("c/f{n}")).collect();
    let mut entries = vec![("c/Chart.yaml", file, CHART)];
    entries.extend(names.iter().map(|name| (name.as_str(), file, &zeros[..])));
    let inner = archive(&entries);
    let outer = archive(&[
        ("c/Chart.yaml", file, CHART),
        ("c/charts/a.tgz", file, &inner),
        ("c/charts/b.tgz", file, &inner),
        ("c/charts/d.tgz", file, &inner),
    ]);
    let error = Chart::load_archive(&outer).unwrap_err().to_string();
    assert_eq!(
        error,
        "error unpacking subchart d.tgz in c: decompressed chart is larger than the maximum size 104857600"
    );
}
