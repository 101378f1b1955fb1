//! `wkctl cp`: files to and from containers, by the `tar` in them (every component has one).

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::mpsc as blocking,
};

use anyhow::{Result, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use tokio::sync::mpsc;

use crate::{
    archive, pods,
    remote::{self, Streams, Wanted},
    session::{Exit, Session},
};

/// Pieces of an archive on their way; then who makes them waits.
const WAITING: usize = 16;
/// Bytes of one piece.
const PIECE: usize = 32 * 1024;

/// Copy files to and from containers
#[derive(Args)]
pub(crate) struct Cp {
    /// What to copy: PATH, or [NAMESPACE/]POD:PATH
    source: String,
    /// Where to: PATH, or [NAMESPACE/]POD:PATH
    destination: String,
    /// Container of the pod; by default the first
    #[arg(short, long)]
    container: Option<String>,
    /// Leave owners and permissions in the container to its tar
    #[arg(long)]
    no_preserve: bool,
    /// For scripts written for kubectl; a copy that breaks off is an error at once
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, hide = true)]
    retries: i64,
}

/// One side of a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    Here(PathBuf),
    There {
        namespace: Option<String>,
        pod: String,
        path: String,
    },
}

fn parse(text: &str) -> Result<Place> {
    let here = || Ok(Place::Here(PathBuf::from(text)));
    let Some((pod, path)) = text.split_once(':') else {
        return here();
    };
    if pod.starts_with(['.', '/']) {
        return here();
    }
    let (namespace, pod) = match pod.split('/').collect::<Vec<_>>()[..] {
        [pod] => (None, pod),
        [namespace, pod] => (Some(namespace.to_owned()), pod),
        _ => bail!("{text:?} is neither a path nor [NAMESPACE/]POD:PATH"),
    };
    if pod.is_empty() || path.is_empty() {
        bail!("filepath can not be empty");
    }
    Ok(Place::There {
        namespace,
        pod: pod.to_owned(),
        path: path.to_owned(),
    })
}

/// A container that files are copied to or from.
struct Container<'a> {
    session: &'a Session,
    namespace: String,
    pod: String,
    name: String,
}

impl Cp {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        match (parse(&self.source)?, parse(&self.destination)?) {
            (Place::Here(_), Place::Here(_)) => {
                bail!("one of src or dest must be a remote file specification")
            }
            (Place::There { .. }, Place::There { .. }) => {
                bail!("one of src or dest must be a local file specification")
            }
            (
                Place::There {
                    namespace,
                    pod,
                    path,
                },
                Place::Here(target),
            ) => {
                let container = self.container(session, namespace, &pod).await?;
                container.fetch(&path, &target).await
            }
            (
                Place::Here(source),
                Place::There {
                    namespace,
                    pod,
                    path,
                },
            ) => {
                if !source.exists() {
                    bail!("{} doesn't exist in local filesystem", source.display());
                }
                let container = self.container(session, namespace, &pod).await?;
                container.put(&source, &path, self.no_preserve).await
            }
        }
    }

    async fn container<'a>(
        &self,
        session: &'a Session,
        namespace: Option<String>,
        pod: &str,
    ) -> Result<Container<'a>> {
        let namespace = match namespace {
            Some(namespace) => namespace,
            None => session.namespace().await?,
        };
        let pod = pods::first(session, &namespace, pod, "copy to and from").await?;
        Ok(Container {
            session,
            namespace,
            name: pods::container(session, &pod, self.container.as_deref(), false)?,
            pod: pods::name(&pod).to_owned(),
        })
    }
}

impl Container<'_> {
    /// Copies from the container.
    async fn fetch(&self, path: &str, target: &Path) -> Result<()> {
        let prefix = Path::new(path).to_owned();
        let target = match prefix.file_name() {
            // A file goes into a directory that is there; a directory's contents go where the user says.
            Some(name) if target.is_dir() && !self.is_directory(path).await => target.join(name),
            _ => target.to_owned(),
        };
        let (pieces, archive) = blocking::sync_channel::<Bytes>(WAITING);
        let unpacking = tokio::task::spawn_blocking(move || {
            let mut warnings = Vec::new();
            let mut archive = Pieces::new(archive);
            let unpacked =
                archive::unpack(&mut archive, &prefix, &target, |line| warnings.push(line));
            // The rest of what comes is no part of the archive: the other side must not wait for it to be read.
            let _ = io::copy(&mut archive, &mut io::sink());
            (unpacked, warnings)
        });
        let command = ["tar", "cf", "-", path].map(str::to_owned);
        let code = self
            .exec(&command, None, &mut |bytes| {
                let piece = Bytes::copy_from_slice(bytes);
                pieces
                    .send(piece)
                    .map_err(|_| anyhow!("unpacking ended early"))
            })
            .await;
        drop(pieces);
        let (unpacked, warnings) = unpacking.await?;
        for line in warnings {
            self.session.note(format_args!("{line}"));
        }
        // What the container's tar said is told already, and is the cause.
        Exit::of_command(code?)?;
        unpacked
    }

    /// Copies to the container.
    async fn put(&self, source: &Path, path: &str, no_preserve: bool) -> Result<()> {
        let named = Path::new(path);
        let own_name = source
            .canonicalize()?
            .file_name()
            .map(PathBuf::from)
            .unwrap_or_default();
        let into = path.ends_with('/') || self.is_directory(path).await;
        let (directory, name) = if into {
            (named, own_name)
        } else {
            let name = named.file_name().map(PathBuf::from);
            (
                named.parent().unwrap_or(Path::new("")),
                name.unwrap_or(own_name),
            )
        };
        let mut command = vec!["tar"];
        if no_preserve {
            command.extend(["--no-same-permissions", "--no-same-owner"]);
        }
        command.extend(["-xmf", "-"]);
        let directory = directory.to_string_lossy();
        if !directory.is_empty() {
            command.extend(["-C", &directory]);
        }
        let command: Vec<String> = command.into_iter().map(str::to_owned).collect();
        let (pieces, archive) = mpsc::channel(WAITING);
        let source = source.to_owned();
        let packing = tokio::task::spawn_blocking(move || {
            let mut into = io::BufWriter::with_capacity(PIECE, Sent(pieces));
            archive::pack(&source, &name, &mut into)?;
            into.flush().map_err(anyhow::Error::from)
        });
        let code = self.exec(&command, Some(archive), &mut |_| Ok(())).await;
        let packed = packing.await?;
        Exit::of_command(code?)?;
        packed
    }

    /// True if the container says that a path is a directory. One that cannot say has files only.
    async fn is_directory(&self, path: &str) -> bool {
        let command = ["test", "-d", path].map(str::to_owned);
        let wanted = Wanted {
            stdout: true,
            ..Wanted::default()
        };
        let path = remote::path(
            &self.namespace,
            &self.pod,
            "exec",
            &self.name,
            wanted,
            &command,
        );
        let Ok((socket, closes)) = remote::open(self.session, &path).await else {
            return false;
        };
        let streams = Streams {
            stdin: None,
            sizes: None,
            stdout: &mut |_| Ok(()),
            stderr: &mut |_| Ok(()),
        };
        matches!(remote::run(socket, closes, streams).await, Ok(0))
    }

    async fn exec(
        &self,
        command: &[String],
        stdin: Option<mpsc::Receiver<Bytes>>,
        stdout: &mut remote::Take<'_>,
    ) -> Result<i32> {
        let wanted = Wanted {
            stdin: stdin.is_some(),
            stdout: true,
            stderr: true,
            tty: false,
        };
        let path = remote::path(
            &self.namespace,
            &self.pod,
            "exec",
            &self.name,
            wanted,
            command,
        );
        let (socket, closes) = remote::open(self.session, &path).await?;
        let streams = Streams {
            stdin,
            sizes: None,
            stdout: &mut |bytes| stdout(bytes),
            stderr: &mut |bytes| {
                self.session.note_bytes(bytes);
                Ok(())
            },
        };
        remote::run(socket, closes, streams).await
    }
}

/// Pieces of an archive, read as one.
struct Pieces {
    from: blocking::Receiver<Bytes>,
    next: Bytes,
}

impl Pieces {
    fn new(from: blocking::Receiver<Bytes>) -> Self {
        Self {
            from,
            next: Bytes::new(),
        }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.next.is_empty() {
            match self.from.recv() {
                Ok(piece) => self.next = piece,
                Err(_) => return Ok(0),
            }
        }
        let length = buffer.len().min(self.next.len());
        buffer[..length].copy_from_slice(&self.next.split_to(length));
        Ok(length)
    }
}

/// An archive as it is made.
struct Sent(mpsc::Sender<Bytes>);

impl Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::session::fake::Server;

    #[track_caller]
    fn check(text: &str, expected: Expect) {
        expected.assert_eq(&match parse(text) {
            Ok(Place::Here(path)) => format!("here {}", path.display()),
            Ok(Place::There {
                namespace,
                pod,
                path,
            }) => {
                format!("{} {pod} {path}", namespace.as_deref().unwrap_or("-"))
            }
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn a_place_is_a_path_here_or_in_a_pod() {
        check("/tmp/a", expect!["here /tmp/a"]);
        check("./a:b", expect!["here ./a:b"]);
        check("web:/tmp/a", expect!["- web /tmp/a"]);
        check("prod/web:a", expect!["prod web a"]);
        check("web:", expect!["filepath can not be empty"]);
        check(
            "a/b/c:d",
            expect![[r#""a/b/c:d" is neither a path nor [NAMESPACE/]POD:PATH"#]],
        );
    }

    #[tokio::test]
    async fn one_side_is_here_and_one_is_there() {
        let server = Server::new();
        assert_eq!(
            server.run("cp a b").await,
            "! error: one of src or dest must be a remote file specification\nexit 1\n"
        );
        assert_eq!(
            server.run("cp a:b c:d").await,
            "! error: one of src or dest must be a local file specification\nexit 1\n"
        );
        assert_eq!(
            server.run("cp /no/such/file a:b").await,
            "! error: /no/such/file doesn't exist in local filesystem\nexit 1\n"
        );
    }

    #[test]
    fn pieces_are_read_as_one() {
        let (sender, receiver) = blocking::sync_channel(4);
        for piece in ["ab", "", "cde"] {
            sender.send(Bytes::from_static(piece.as_bytes())).unwrap();
        }
        drop(sender);
        let mut text = String::new();
        Pieces::new(receiver).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");
    }
}
