//! Whatever bytes come from outside, reading them ends: without a panic, and soon.
//!
//! Mutations of good texts, the same each time; `WK_FUZZ_SECONDS` makes each surface go on for so long, `WK_FUZZ_SEED` begins
//! elsewhere.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests that say what they read"
)]

mod surfaces;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use surfaces::SURFACES;

/// Inputs of a surface, if nothing else is asked for.
const INPUTS: usize = 1000;

/// An input is read far faster; a machine may be slow.
const SLOWEST: Duration = Duration::from_secs(60);

/// Bytes of an input.
const LARGEST: usize = 64 << 10;

/// The tarball of a small chart.
fn tarball() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let files = [
        ("c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 0.1.0\n"),
        ("c/values.yaml", "a: 1\n"),
        ("c/templates/x.yaml", "a: {{ .Values.a }}\n"),
    ];
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, text.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// A tarball whose headers say what their checksums say: else nothing past the checksum is ever tried.
fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}

fn mutated(seeds: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = seeds.choose(random).unwrap().clone();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..24)).min(bytes.len());
        match random.random_range(0..6) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let times = random.random_range(1..300);
                let repeated = bytes[at..end].repeat(times);
                drop(bytes.splice(at..at, repeated));
            }
            2 => bytes.insert(at, random.random()),
            3 => {
                let other = seeds.choose(random).unwrap();
                let from = random.random_range(0..=other.len());
                let to = random.random_range(from..=other.len());
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
            4 => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte ^= 1 << random.random_range(0..8)),
            _ => {
                let digits = [
                    "0",
                    "-1",
                    "9223372036854775808",
                    "1e999",
                    "65536",
                    "\u{fffd}",
                    "\0",
                    "{{",
                    "}}",
                    "\"",
                    "\\",
                    "[",
                    "(",
                    "{",
                ];
                let digits = digits.choose(random).unwrap();
                drop(bytes.splice(at..end, digits.bytes()));
            }
        }
        bytes.truncate(LARGEST);
    }
    bytes
}

#[track_caller]
fn check(name: &str) {
    let surface = SURFACES
        .iter()
        .find(|surface| surface.name == name)
        .unwrap();
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let longer = number("WK_FUZZ_SECONDS").map(Duration::from_secs);
    let mut random = StdRng::seed_from_u64(number("WK_FUZZ_SEED").unwrap_or(1));
    let mut seeds: Vec<Vec<u8>> = surface
        .seeds
        .iter()
        .map(|seed| seed.as_bytes().to_vec())
        .collect();
    let packed = seeds.is_empty();
    if packed {
        seeds.push(tarball());
    }
    let (start, mut read) = (Instant::now(), 0);
    while read < INPUTS || longer.is_some_and(|longer| start.elapsed() < longer) {
        let mut bytes = mutated(&seeds, &mut random);
        if packed && random.random_bool(0.8) {
            bytes = summed(bytes);
        }
        let begin = Instant::now();
        let panicked = catch_unwind(AssertUnwindSafe(|| (surface.read)(&bytes))).is_err();
        let shown = String::from_utf8_lossy(&bytes);
        assert!(!panicked, "panics: {shown:?}");
        assert!(
            begin.elapsed() < SLOWEST,
            "takes {:?}: {shown:?}",
            begin.elapsed()
        );
        read += 1;
    }
    println!("{name}: {read} inputs");
}

macro_rules! surfaces {
    ($($test:ident $name:literal)*) => {
        $(#[test]
        fn $test() {
            check($name);
        })*

        #[test]
        fn every_surface_is_tried() {
            let names: Vec<&str> = SURFACES.iter().map(|surface| surface.name).collect();
            assert_eq!(names, [$($name),*]);
        }
    };
}

surfaces! {
    no_template_is_too_strange "template"
    no_yaml_is_too_strange "yaml"
    no_json_is_too_strange "json"
    no_argument_of_set_is_too_strange "set"
    no_archive_is_too_strange "archive"
    no_description_of_a_chart_is_too_strange "chart.yaml"
    no_index_is_too_strange "index.yaml"
    no_schema_is_too_strange "schema"
    no_release_is_too_strange "release"
    no_version_is_too_strange "semver"
    no_expression_is_too_strange "regex"
    no_rule_of_what_to_ignore_is_too_strange "ignore"
}
