//! The files of a chart's archive: a gzipped tarball with one directory at its root.
//!
//! Trusts nothing: sizes are bounded before they are believed, and no name leads out of the chart.

use std::io::Read;

use flate2::read::MultiGzDecoder;

use super::{Error, File, load::without_mark};

/// Bytes of an archive as it is fetched or found.
pub const MAX_PACKED: u64 = 100 << 20;
/// Bytes of all files of a chart.
pub const MAX_CHART: u64 = 100 << 20;
/// Bytes of one file of a chart.
pub const MAX_FILE: u64 = 5 << 20;
/// Entries of an archive; Helm has no bound here.
const MAX_ENTRIES: usize = 20_000;

/// What a chart may still unpack to: one for it and all the archives within it.
pub(super) struct Budget {
    /// Bytes of files.
    bytes: u64,
    /// Bytes of tarballs: padding and headers come on top of what the files hold.
    unpacked: u64,
    entries: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            bytes: MAX_CHART,
            unpacked: MAX_CHART * 2,
            entries: MAX_ENTRIES,
        }
    }
}

/// The files of an archive, their names without the root directory.
pub fn read(bytes: &[u8]) -> Result<Vec<File>, Error> {
    read_within(bytes, &mut Budget::default())
}

/// As [`read`], of what is left of a budget.
pub(super) fn read_within(bytes: &[u8], budget: &mut Budget) -> Result<Vec<File>, Error> {
    let unpacked = MultiGzDecoder::new(bytes).take(budget.unpacked);
    let mut archive = tar::Archive::new(unpacked);
    let broken = |error: std::io::Error| Error::Invalid(shown(&error));
    let mut files: Vec<File> = Vec::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        budget.entries = budget.entries.checked_sub(1).ok_or_else(|| {
            Error::Invalid(format!("chart archive has more than {MAX_ENTRIES} entries"))
        })?;
        let kind = entry.header().entry_type();
        let is_directory = kind.is_dir() || entry.path_bytes().ends_with(b"/");
        if is_directory || kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
            continue;
        }
        let name = name(&String::from_utf8_lossy(&entry.path_bytes()))?;
        let size = entry.size();
        if size > budget.bytes {
            return Err(Error::Invalid(format!(
                "decompressed chart is larger than the maximum size {MAX_CHART}"
            )));
        }
        if size > MAX_FILE {
            return Err(Error::Invalid(format!(
                "decompressed chart file {name:?} is larger than the maximum file size {MAX_FILE}"
            )));
        }
        // A link has no content of its own; it is not followed.
        let mut data = Vec::new();
        if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            (&mut entry)
                .take(MAX_FILE)
                .read_to_end(&mut data)
                .map_err(broken)?;
        }
        budget.bytes = budget.bytes.saturating_sub(data.len() as u64);
        let data = without_mark(data);
        files.push(File { name, data });
    }
    budget.unpacked = archive.into_inner().limit();
    match files.is_empty() {
        true => Err(Error::invalid("no files in chart archive")),
        false => Ok(files),
    }
}

/// An entry's name within the chart.
fn name(path: &str) -> Result<String, Error> {
    let separator = if path.contains('\\') { '\\' } else { '/' };
    let (root, rest) = path.split_once(separator).unwrap_or((path, ""));
    let rest = rest.replace(separator, "/");
    if rest.starts_with('/') {
        return Err(Error::invalid("chart illegally contains absolute paths"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.pop() {
                Some(_) => {}
                None => {
                    return Err(Error::invalid(
                        "chart illegally references parent directory",
                    ));
                }
            },
            part => parts.push(part),
        }
    }
    if root == "Chart.yaml" {
        return Err(Error::invalid("chart yaml not in base directory"));
    }
    if parts.is_empty() {
        return Err(Error::Invalid(format!(
            "chart illegally contains content outside the base directory: {path:?}"
        )));
    }
    let name = parts.join("/");
    let drive = matches!(name.as_bytes(), [b'a'..=b'z' | b'A'..=b'Z', b':', b'/', ..]);
    match drive || name.contains('\0') {
        true => Err(Error::invalid("chart contains illegally named files")),
        false => Ok(name),
    }
}

/// What went wrong, in Go's words where those are known.
fn shown(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
        std::io::ErrorKind::InvalidInput => "gzip: invalid header".to_owned(),
        _ => format!("read chart archive: {error}"),
    }
}
