//! Why a layer could not be unpacked or mounted: whose fault it is decides whether trying again helps.

use std::path::Path;

use runtimes::runtime::RuntimeError;
use rustix::io::Errno;

/// Cloned to every caller that waits for the same layer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The image is at fault: it stays so.
    #[error("{0}")]
    Image(String),
    /// The node is: a full disk, a file that is not there.
    #[error("{0}")]
    Node(String),
}

impl Failure {
    /// An archive that cannot be read as one.
    pub(super) fn broken(message: impl std::fmt::Display) -> Failure {
        Failure::Image(format!("its archive is broken: {message}"))
    }

    /// What the kernel says to an entry: of some answers the entry itself is the cause.
    pub(super) fn entry(name: &[u8], dir: &Path, error: Errno) -> Failure {
        let name = shown(name);
        match error {
            Errno::NAMETOOLONG
            | Errno::INVAL
            | Errno::ILSEQ
            | Errno::FBIG
            | Errno::LOOP
            | Errno::NOTDIR
            | Errno::ISDIR
            | Errno::MLINK
            | Errno::TOOBIG
            | Errno::RANGE => Failure::Image(format!("its entry {name} cannot be made: {error}")),
            _ => Failure::Node(format!("make {name} in {}: {error}", dir.display())),
        }
    }

    /// What the node says to a file of ours.
    pub(super) fn node(action: &str, path: &Path, error: impl std::fmt::Display) -> Failure {
        Failure::Node(format!("{action} {}: {error}", path.display()))
    }

    /// The same, and of what.
    pub(super) fn of(self, what: impl std::fmt::Display) -> Failure {
        match self {
            Failure::Image(message) => Failure::Image(format!("{what}: {message}")),
            Failure::Node(message) => Failure::Node(format!("{what}: {message}")),
        }
    }
}

impl From<Failure> for RuntimeError {
    fn from(failure: Failure) -> RuntimeError {
        match failure {
            Failure::Image(message) => RuntimeError::Invalid(message),
            Failure::Node(message) => RuntimeError::Unavailable {
                message,
                source: None,
            },
        }
    }
}

/// A name from an archive as a message shows it: quoted, and not longer than a line or two.
pub(super) fn shown(name: &[u8]) -> String {
    const LENGTH: usize = 200;
    match name.get(..LENGTH) {
        Some(start) if name.len() > LENGTH => {
            format!(
                "{:?}… ({} bytes)",
                String::from_utf8_lossy(start),
                name.len()
            )
        }
        _ => format!("{:?}", String::from_utf8_lossy(name)),
    }
}
