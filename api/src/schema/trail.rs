//! Where a walk through a value stands, kept on the stack and spelled out only when needed.

use std::fmt;

use crate::field::Path;

/// A step below another one.
#[derive(Clone, Copy)]
pub(crate) enum Trail<'a> {
    /// The object itself.
    Root,
    /// A field of a structure.
    Field(&'a Trail<'a>, &'a str),
    /// An entry of a map.
    Key(&'a Trail<'a>, &'a str),
    /// An item of a list.
    Index(&'a Trail<'a>, usize),
}

impl Trail<'_> {
    /// As field errors spell it: `metadata.labels[app]`.
    pub(crate) fn path(&self) -> Path {
        match self {
            Self::Root => Path::default(),
            Self::Field(parent, name) => parent.path().field(name),
            Self::Key(parent, key) => parent.path().key(key),
            Self::Index(parent, index) => parent.path().index(*index),
        }
    }
}

/// As strict decoding spells it: `metadata.labels.app`.
impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) | Self::Key(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) | Self::Key(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// How many findings of one sort are told of one object, as in Kubernetes' strict decoding.
pub(crate) const MOST_FINDINGS: usize = 100;

/// How many bytes of paths are told: a hostile object cannot make its answer larger than itself.
const MOST_BYTES: usize = 64 * 1024;

/// Paths, each once, as many as it makes sense to tell.
#[derive(Default)]
pub(crate) struct Findings {
    paths: Vec<String>,
    bytes: usize,
}

impl Findings {
    /// Adds one, unless it is known or there are too many.
    pub(crate) fn push(&mut self, trail: &Trail<'_>) {
        if self.paths.len() >= MOST_FINDINGS || self.bytes >= MOST_BYTES {
            return;
        }
        let path = trail.to_string();
        if !self.paths.contains(&path) {
            self.bytes += path.len();
            self.paths.push(path);
        }
    }

    /// In the order they were found.
    pub(crate) fn into_paths(self) -> Vec<String> {
        self.paths
    }
}
