//! A module that is packed in a container image: one file of its layers.

use std::{
    fs::File,
    io::{Read, Seek as _, SeekFrom},
    path::{Component, Path, PathBuf},
};

/// The most of a layer that is looked through.
const MAX_UNPACKED: u64 = 4 << 30;

/// Reads the file at `path` of the image out of one layer, a tar archive, plain, with gzip or with zstd. `None` if
/// the layer does not have it.
pub(super) fn find(
    layer: &mut File,
    path: &str,
    max_bytes: u64,
) -> Result<Option<Vec<u8>>, String> {
    let in_words = |error: std::io::Error| format!("a layer cannot be read: {error}");
    let mut magic = Vec::new();
    layer.rewind().map_err(in_words)?;
    layer.take(4).read_to_end(&mut magic).map_err(in_words)?;
    layer.seek(SeekFrom::Start(0)).map_err(in_words)?;
    match magic.as_slice() {
        [0x1f, 0x8b, ..] => search(flate2::read::GzDecoder::new(layer), path, max_bytes),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let unpacked = zstd::Decoder::new(layer).map_err(in_words)?;
            search(unpacked, path, max_bytes)
        }
        _ => search(layer, path, max_bytes),
    }
}

fn search(archive: impl Read, path: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, String> {
    let in_words = |error: std::io::Error| format!("a layer cannot be read: {error}");
    let wanted = normal(Path::new(path));
    // What a layer unpacks to is bounded too: a small one may hold very many zeros.
    let bounded = archive.take(MAX_UNPACKED);
    let mut archive = tar::Archive::new(bounded);
    for entry in archive.entries().map_err(in_words)? {
        let mut entry = entry.map_err(in_words)?;
        let is_wanted = entry.path().is_ok_and(|own| normal(&own) == wanted);
        if !is_wanted || !entry.header().entry_type().is_file() {
            continue;
        }
        if entry.size() > max_bytes {
            return Err(super::too_big(entry.size(), max_bytes));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(in_words)?;
        return Ok(Some(bytes));
    }
    Ok(None)
}

/// A path within the image, from its root.
fn normal(path: &Path) -> PathBuf {
    let parts = path.components();
    parts
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn archive() -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, text) in [("./etc/motd", "hello"), ("app/main.wasm", "module")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_cksum();
            archive
                .append_data(&mut header, path, text.as_bytes())
                .unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[track_caller]
    fn check(bytes: &[u8], path: &str, want: Result<Option<&str>, &str>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let found = find(&mut file, path, 100);
        let found = found.map(|found| found.map(|bytes| String::from_utf8(bytes).unwrap()));
        match want {
            Ok(want) => assert_eq!(found.unwrap().as_deref(), want),
            Err(want) => assert!(
                found.clone().is_err_and(|why| why.contains(want)),
                "{found:?}"
            ),
        }
    }

    #[test]
    fn a_file_is_found_by_its_path_however_it_is_written_and_packed() {
        let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zip.write_all(&archive()[..]).unwrap();
        let zip = zip.finish().unwrap();
        check(&archive(), "/etc/motd", Ok(Some("hello")));
        check(&zip, "etc/motd", Ok(Some("hello")));
        let zstd = zstd::encode_all(&archive()[..], 1).unwrap();
        check(&zstd, "etc/motd", Ok(Some("hello")));
        check(&archive(), "absent.wasm", Ok(None));
        check(b"no archive at all", "a", Err("a layer cannot be read"));
    }
}
