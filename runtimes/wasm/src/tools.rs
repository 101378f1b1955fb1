//! The tools that `kubectl cp` runs in a container, where a component has none: `tar` and `test -d`.
//!
//! They work on the container's mounts alone (see `tree`), in the forms that kubectl uses:
//! `tar cf - PATH`, the same through `sh -c '… | tail -c+N'` when it tries again,
//! `tar [--no-same-permissions] [--no-same-owner] -xmf - [-C DIR]`, and `test -d PATH`.
//! An archive holds directories, files and symbolic links that stay within it; anything else is left out
//! with a word on stderr and makes the exit code 2, as GNU tar does.

use std::{
    io::{self, BufWriter, Read, Write},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Component, Path},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tar::{Archive, Builder, EntryType, Header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Handle,
};

use crate::{
    mounts::{self, Mounts},
    pipe::{Reader, Writer},
    process::Streams,
    tree::Node,
};

/// How deep directories are packed: a loop of mounts or links cannot make more.
const MAX_DEPTH: usize = 256;

/// What to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Tool {
    /// Packs files into an archive, and leaves out its first bytes.
    Pack {
        dir: Option<String>,
        paths: Vec<String>,
        skip: u64,
    },
    Unpack {
        dir: Option<String>,
        keep_times: bool,
        keep_modes: bool,
    },
    IsDirectory(String),
    /// Says that it cannot be done.
    Refuse(String),
}

impl Tool {
    /// The tool that a command is; `None` if it is for the component.
    pub(crate) fn parse(command: &[String]) -> Option<Tool> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["tar", options @ ..] => Some(parse_tar(options).unwrap_or_else(Tool::Refuse)),
            ["test", "-d", path] => Some(Tool::IsDirectory((*path).to_owned())),
            ["sh", "-c", line] => {
                let (path, skip) = line.strip_prefix("tar cf - ")?.split_once(" | tail -c+")?;
                let skip: u64 = skip.trim().parse().ok()?;
                Some(Tool::Pack {
                    dir: None,
                    paths: vec![path.to_owned()],
                    // The first byte is number 1, and 0 is the same.
                    skip: skip.saturating_sub(1),
                })
            }
            _ => None,
        }
    }
}

fn parse_tar(options: &[&str]) -> Result<Tool, String> {
    let (mut action, mut dir, mut archive, mut paths) = (None, None, None, Vec::new());
    let (mut keep_times, mut keep_modes) = (true, true);
    let mut words = options.iter();
    let mut first = true;
    while let Some(word) = words.next() {
        let bundle = word.strip_prefix('-').filter(|rest| !rest.is_empty());
        match bundle {
            Some("-no-same-permissions") => keep_modes = false,
            Some("-no-same-owner" | "-same-owner") => {}
            Some(long) if long.starts_with('-') => {
                return Err(format!("tar: option -{long} is not offered here"));
            }
            None if !first => paths.push((*word).to_owned()),
            bundle => {
                for letter in bundle.unwrap_or(word).chars() {
                    let mut value = || {
                        let value = words.next().map(|value| (*value).to_owned());
                        value.ok_or_else(|| format!("tar: option -{letter} needs a value"))
                    };
                    match letter {
                        'c' | 'x' => action = Some(letter),
                        'f' => archive = Some(value()?),
                        'C' => dir = Some(value()?),
                        'm' => keep_times = false,
                        'o' | 'p' | 'v' | 'k' => {}
                        _ => return Err(format!("tar: option -{letter} is not offered here")),
                    }
                }
            }
        }
        first = false;
    }
    if archive.is_some_and(|archive| archive != "-") {
        return Err("tar: the archive can only be - here".to_owned());
    }
    match action {
        Some('c') if paths.is_empty() => Err("tar: there is nothing to pack".to_owned()),
        Some('c') => Ok(Tool::Pack {
            dir,
            paths,
            skip: 0,
        }),
        Some(_) if paths.is_empty() => Ok(Tool::Unpack {
            dir,
            keep_times,
            keep_modes,
        }),
        Some(_) => Err("tar: only whole archives are unpacked here".to_owned()),
        None => Err("tar: say -c or -x".to_owned()),
    }
}

/// Does it, over the container's mounts, and answers the exit code.
pub(crate) async fn run(
    tool: Tool,
    mounts: Arc<Mounts>,
    working_dir: Option<String>,
    streams: Streams,
) -> i32 {
    let handle = Handle::current();
    let work = move || {
        let mut job = Job {
            mounts,
            working_dir: working_dir.unwrap_or_default(),
            errors: Blocking(handle.clone(), streams.stderr),
            code: 0,
        };
        let input = Blocking(handle.clone(), streams.stdin);
        let output = Blocking(handle, streams.stdout);
        let done = match tool {
            Tool::Pack { dir, paths, skip } => job.pack(dir, &paths, Skip { skip, output }),
            Tool::Unpack {
                dir,
                keep_times,
                keep_modes,
            } => job.unpack(dir, keep_times, keep_modes, input),
            Tool::IsDirectory(path) => {
                let path = job.absolute("", &path);
                let found = matches!(job.mounts.node(&path), Ok(Node::Directory));
                job.code = i32::from(!found);
                Ok(())
            }
            Tool::Refuse(reason) => Err(io::Error::other(reason)),
        };
        if let Err(error) = done {
            job.complain(&error.to_string());
        }
        job.code
    };
    // It ends soon after its streams do.
    tokio::task::spawn_blocking(work).await.unwrap_or(2)
}

struct Job {
    mounts: Arc<Mounts>,
    working_dir: String,
    errors: Blocking<Writer>,
    code: i32,
}

impl Job {
    fn complain(&mut self, text: &str) {
        self.code = 2;
        let text = text.strip_prefix("tar: ").unwrap_or(text);
        // Nobody may be listening.
        let _ = self.errors.write_all(format!("tar: {text}\n").as_bytes());
    }

    /// A path as the container's, seen from a directory seen from its working directory.
    fn absolute(&self, dir: &str, path: &str) -> String {
        let path = Path::new("/").join(&self.working_dir).join(dir).join(path);
        mounts::guest_path(&path).unwrap_or_else(|_| "/".to_owned())
    }

    fn pack(
        &mut self,
        dir: Option<String>,
        paths: &[String],
        output: Skip<Blocking<Writer>>,
    ) -> io::Result<()> {
        let mut archive = Builder::new(BufWriter::with_capacity(64 << 10, output));
        for path in paths {
            let at = self.absolute(dir.as_deref().unwrap_or_default(), path);
            let name = path.trim_start_matches('/').trim_end_matches('/');
            let name = if name.is_empty() { "." } else { name };
            if Path::new(name)
                .components()
                .any(|part| part == Component::ParentDir)
            {
                self.complain(&format!("{path}: a name must not contain '..'"));
                continue;
            }
            self.pack_node(&mut archive, &at, name, 0)?;
        }
        archive.into_inner()?.flush()
    }

    /// Packs what is at a path. What cannot be read is left out; only the archive's own end is an error.
    fn pack_node(
        &mut self,
        archive: &mut Builder<impl Write>,
        path: &str,
        name: &str,
        depth: usize,
    ) -> io::Result<()> {
        let node = match self.mounts.node(path) {
            Ok(node) if depth < MAX_DEPTH => node,
            Ok(_) => {
                self.complain(&format!("{path}: too deep"));
                return Ok(());
            }
            Err(error) => {
                self.complain(&format!("{path}: Cannot open: {error}"));
                return Ok(());
            }
        };
        let mut header = Header::new_gnu();
        header.set_size(0);
        header.set_mtime(seconds(SystemTime::now()));
        match node {
            Node::Directory => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o755);
                archive.append_data(&mut header, format!("{name}/"), io::empty())?;
                let names = match self.mounts.names(path) {
                    Ok(names) => names,
                    Err(error) => {
                        self.complain(&format!("{path}: Cannot open: {error}"));
                        return Ok(());
                    }
                };
                for child in names {
                    let below = format!("{}/{child}", path.trim_end_matches('/'));
                    self.pack_node(archive, &below, &format!("{name}/{child}"), depth + 1)?;
                }
                Ok(())
            }
            Node::File(file) => {
                let metadata = file.metadata()?;
                header.set_mode(metadata.permissions().mode() & 0o7777);
                header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
                header.set_size(metadata.len());
                // A file that shrinks meanwhile is filled up: the header has been written.
                let bytes = file.take(metadata.len()).chain(io::repeat(0));
                archive.append_data(&mut header, name, bytes.take(metadata.len()))
            }
            Node::Link(to) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                archive.append_link(&mut header, name, to)
            }
            Node::Other => {
                self.complain(&format!(
                    "{path}: neither file, directory nor symbolic link"
                ));
                Ok(())
            }
        }
    }

    fn unpack(
        &mut self,
        dir: Option<String>,
        keep_times: bool,
        keep_modes: bool,
        input: Blocking<Reader>,
    ) -> io::Result<()> {
        let dir = self.absolute("", dir.as_deref().unwrap_or_default());
        if !matches!(self.mounts.node(&dir), Ok(Node::Directory)) {
            return Err(io::Error::other(format!(
                "{dir}: Cannot open: no such directory is mounted in this container"
            )));
        }
        let mut archive = Archive::new(input);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some(within) = mounts::join("", name.trim_start_matches('/')) else {
                self.complain(&format!("{name}: a name must not contain '..'"));
                continue;
            };
            let path = self.absolute(&dir, &within);
            let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
            let mode = if keep_modes { mode } else { mode & !0o022 };
            let made = match entry.header().entry_type() {
                EntryType::Directory => self.mounts.make_dirs(&path),
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                    let modified = entry.header().mtime().ok().filter(|_| keep_times);
                    self.unpack_file(&mut entry, &path, mode, modified)
                }
                EntryType::Symlink => match entry.link_name()? {
                    Some(to) if stays(&within, &to) => self.mounts.link(&path, &to),
                    _ => Err(io::Error::other(
                        "a symbolic link must not lead out of the archive",
                    )),
                },
                EntryType::XGlobalHeader => Ok(()),
                _ => Err(io::Error::other(
                    "neither file, directory nor symbolic link",
                )),
            };
            if let Err(error) = made {
                self.complain(&format!("{name}: {error}"));
            }
        }
        Ok(())
    }

    fn unpack_file(
        &self,
        bytes: &mut impl Read,
        path: &str,
        mode: u32,
        modified: Option<u64>,
    ) -> io::Result<()> {
        let mut file = self.mounts.create(path, mode)?;
        io::copy(bytes, &mut file)?;
        if let Some(modified) = modified {
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(modified))?;
        }
        Ok(())
    }
}

/// Whether a link at a path of the archive leads to another.
fn stays(path: &str, to: &Path) -> bool {
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    to.to_str()
        .is_some_and(|to| !to.is_empty() && mounts::join(dir, to).is_some())
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A stream for code that blocks; without one it is empty, or takes everything.
struct Blocking<T>(Handle, Option<T>);

impl Read for Blocking<Reader> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.1 {
            Some(reader) => self.0.block_on(reader.read(buffer)),
            None => Ok(0),
        }
    }
}

impl Write for Blocking<Writer> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.1 {
            Some(writer) => self.0.block_on(writer.write(bytes)),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Leaves out the first bytes.
struct Skip<T> {
    skip: u64,
    output: T,
}

impl<T: Write> Write for Skip<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.skip == 0 {
            return self.output.write(bytes);
        }
        let left_out = usize::try_from(self.skip)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        self.skip -= left_out as u64;
        Ok(left_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(command: &[&str], want: Expect) {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        want.assert_eq(&format!("{:?}", Tool::parse(&command)));
    }

    #[test]
    fn kubectls_own_forms_are_understood() {
        check(
            &["tar", "cf", "-", "/data/x"],
            expect![[r#"Some(Pack { dir: None, paths: ["/data/x"], skip: 0 })"#]],
        );
        check(
            &["tar", "-xmf", "-", "-C", "/data"],
            expect![[
                r#"Some(Unpack { dir: Some("/data"), keep_times: false, keep_modes: true })"#
            ]],
        );
        check(
            &[
                "tar",
                "--no-same-permissions",
                "--no-same-owner",
                "-xmf",
                "-",
                "-C",
                "/d",
            ],
            expect![[r#"Some(Unpack { dir: Some("/d"), keep_times: false, keep_modes: false })"#]],
        );
        check(
            &["sh", "-c", "tar cf - /data/x | tail -c+513"],
            expect![[r#"Some(Pack { dir: None, paths: ["/data/x"], skip: 512 })"#]],
        );
        check(
            &["test", "-d", "/d"],
            expect![[r#"Some(IsDirectory("/d"))"#]],
        );
        check(&["sh", "-c", "ls"], expect!["None"]);
        check(&["serve", "tar"], expect!["None"]);
    }

    #[test]
    fn what_is_not_offered_says_so() {
        check(
            &["tar", "czf", "-", "x"],
            expect![[r#"Some(Refuse("tar: option -z is not offered here"))"#]],
        );
        check(
            &["tar", "cf", "x.tar", "x"],
            expect![[r#"Some(Refuse("tar: the archive can only be - here"))"#]],
        );
        check(
            &["tar", "xf"],
            expect![[r#"Some(Refuse("tar: option -f needs a value"))"#]],
        );
        check(&["tar"], expect![[r#"Some(Refuse("tar: say -c or -x"))"#]]);
    }
}
