//! Files as a tar stream, and a tar stream as files.
//!
//! What is unpacked comes from a container, which may lie: only regular files and directories are made, and
//! none outside of the place that they are meant for. Reading and writing block: run on threads of their own.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use tar::{Archive, Builder, EntryType, Header};

/// Packs a file or directory; in the archive it is called `name`. Links are packed as links.
pub(crate) fn pack(source: &Path, name: &Path, into: impl Write) -> Result<()> {
    let mut builder = Builder::new(into);
    builder.follow_symlinks(false);
    // What somebody gives on the command line is meant itself, be it a link or not.
    let source = fs::canonicalize(source).with_context(|| format!("read {}", source.display()))?;
    if source.is_dir() {
        builder.append_dir_all(name, &source)
    } else {
        builder.append_path_with_name(&source, name)
    }
    .with_context(|| format!("pack {}", source.display()))?;
    builder.finish().context("end the archive")
}

/// Unpacks what is called `prefix` in an archive, and what is below it, as `target`. Says what it leaves out.
pub(crate) fn unpack(
    from: impl Read,
    prefix: &Path,
    target: &Path,
    mut warn: impl FnMut(String),
) -> Result<()> {
    let mut archive = Archive::new(from);
    let mut found = false;
    for entry in archive.entries().context("read the archive")? {
        let mut entry = entry.context("read the archive")?;
        let name = entry.path().context("read the archive")?.into_owned();
        let Some(below) = below(&name, prefix) else {
            bail!("tar contents corrupted: it has {name:?}, which was not asked for");
        };
        let Some(below) = below else {
            warn(format!(
                "warning: file {name:?} is outside target destination, skipping"
            ));
            continue;
        };
        found = true;
        let place = if below.as_os_str().is_empty() {
            target.to_owned()
        } else {
            target.join(&below)
        };
        match entry.header().entry_type() {
            EntryType::Directory => make_directories(target, &place)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                if let Some(parent) = place.parent().filter(|_| !below.as_os_str().is_empty()) {
                    make_directories(target, parent)?;
                }
                write(&mut entry, &place)?;
            }
            EntryType::Symlink | EntryType::Link => {
                let link = entry
                    .link_name()
                    .ok()
                    .flatten()
                    .unwrap_or_default()
                    .into_owned();
                warn(format!("warning: skipping symlink: {name:?} -> {link:?}"));
            }
            EntryType::XGlobalHeader => {}
            _ => warn(format!("warning: skipping {name:?}, which is no file")),
        }
    }
    if !found {
        bail!("there is nothing at {}", prefix.display());
    }
    Ok(())
}

/// What of a name comes after the prefix: nothing if it does not begin with it, `Some(None)` if it leads out.
#[expect(
    clippy::option_option,
    reason = "a lie and a path that leads out are told apart"
)]
fn below(name: &Path, prefix: &Path) -> Option<Option<PathBuf>> {
    let plain = |path: &Path| -> PathBuf {
        let parts = path.components();
        parts
            .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
            .collect()
    };
    let name = plain(name);
    let rest = name.strip_prefix(plain(prefix)).ok()?;
    let inside = rest
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    Some(inside.then(|| rest.to_owned()))
}

/// Makes a directory below `target` and those above it; a link on the way there would lead out.
fn make_directories(target: &Path, directory: &Path) -> Result<()> {
    let mut made = target.to_owned();
    let below = directory.strip_prefix(target).unwrap_or(Path::new(""));
    fs::create_dir_all(&made).with_context(|| format!("make {}", made.display()))?;
    for part in below.components() {
        made.push(part);
        match fs::symlink_metadata(&made) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => bail!("{} is there already and is no directory", made.display()),
            Err(_) => fs::create_dir(&made).with_context(|| format!("make {}", made.display()))?,
        }
    }
    Ok(())
}

fn write(entry: &mut tar::Entry<'_, impl Read>, place: &Path) -> Result<()> {
    let context = || format!("write {}", place.display());
    let mut file = fs::File::create(place).with_context(context)?;
    io::copy(entry, &mut file).with_context(context)?;
    set_mode(entry.header(), &file).with_context(context)
}

/// Whether a file may be run, and by whom it is read; never more than that.
fn set_mode(header: &Header, file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = header.mode().unwrap_or(0o644) & 0o777;
    file.set_permissions(fs::Permissions::from_mode(mode | 0o600))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Everything below a directory, in order.
    fn list(directory: &Path) -> String {
        let mut lines = Vec::new();
        let mut open = vec![directory.to_owned()];
        while let Some(next) = open.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(directory).unwrap().display().to_string();
                if path.is_dir() {
                    lines.push(format!("{name}/"));
                    open.push(path);
                } else {
                    lines.push(format!("{name}: {}", fs::read_to_string(&path).unwrap()));
                }
            }
        }
        lines.sort();
        lines.join("\n")
    }

    /// An archive of `name: text`, `name/` and `name -> link`; names are written as they are.
    fn archive(entries: &[&str]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for entry in entries {
            let mut header = Header::new_gnu();
            header.set_mode(0o644);
            let (name, text) = match (entry.split_once(": "), entry.split_once(" -> ")) {
                (Some((name, text)), _) => (name, text),
                (_, Some((name, link))) => {
                    header.set_entry_type(EntryType::Symlink);
                    header.set_link_name(link).unwrap();
                    (name, "")
                }
                _ => {
                    header.set_entry_type(EntryType::Directory);
                    (*entry, "")
                }
            };
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(text.len() as u64);
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[track_caller]
    fn check(entries: &[&str], prefix: &str, expected: Expect) {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("in/here");
        fs::create_dir(directory.path().join("in")).unwrap();
        let mut warnings = Vec::new();
        let bytes = archive(entries);
        let result = unpack(&bytes[..], Path::new(prefix), &target, |line| {
            warnings.push(line);
        });
        let mut text = list(directory.path());
        for line in warnings
            .into_iter()
            .chain(result.err().map(|error| format!("{error:#}")))
        {
            text.push_str(&format!("\n! {line}"));
        }
        let own = directory.path().display().to_string();
        expected.assert_eq(&text.replace(&own, "DIR"));
    }

    #[test]
    fn a_file_or_a_directory_gets_the_name_that_it_is_to_have() {
        check(
            &["tmp/a: one"],
            "/tmp/a",
            expect![[r#"
            in/
            in/here: one"#]],
        );
        check(
            &["tmp/d", "tmp/d/a: one", "tmp/d/e/b: two"],
            "/tmp/d",
            expect![[r#"
                in/
                in/here/
                in/here/a: one
                in/here/e/
                in/here/e/b: two"#]],
        );
    }

    #[test]
    fn nothing_is_made_outside_of_the_target() {
        check(
            &[
                "d/../../x: out",
                "d/a: one",
                "d/l -> /etc",
                "d/l/passwd: out",
            ],
            "d",
            expect![[r#"
                in/
                in/here/
                in/here/a: one
                in/here/l/
                in/here/l/passwd: out
                ! warning: file "d/../../x" is outside target destination, skipping
                ! warning: skipping symlink: "d/l" -> "/etc""#]],
        );
        check(
            &["/etc/passwd: out"],
            "d",
            expect![[r#"
            in/
            ! tar contents corrupted: it has "/etc/passwd", which was not asked for"#]],
        );
        check(
            &[],
            "d",
            expect![[r#"
            in/
            ! there is nothing at d"#]],
        );
    }

    #[test]
    fn what_is_packed_unpacks() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        fs::create_dir_all(source.join("deep/empty")).unwrap();
        fs::write(source.join("deep/a"), "one").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", source.join("link")).unwrap();
        let mut bytes = Vec::new();
        pack(&source, Path::new("other"), &mut bytes).unwrap();
        let target = directory.path().join("target");
        let mut warnings = Vec::new();
        unpack(&bytes[..], Path::new("other"), &target, |line| {
            warnings.push(line);
        })
        .unwrap();
        expect![[r#"
            deep/
            deep/a: one
            deep/empty/"#]]
        .assert_eq(&list(&target));
        assert_eq!(
            warnings,
            [r#"warning: skipping symlink: "other/link" -> "/etc/passwd""#]
        );
    }

    #[test]
    fn a_link_that_is_there_already_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink("/tmp", target.join("l")).unwrap();
        let bytes = archive(&["d/l/x: out"]);
        let error = unpack(&bytes[..], Path::new("d"), &target, |_| {}).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("is there already and is no directory"),
            "{error}"
        );
    }
}
