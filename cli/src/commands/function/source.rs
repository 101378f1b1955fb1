//! What `deploy` is given: a project, a file, an archive, or the name of an image.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Where a function's code comes from.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// A directory with a project that is built.
    Project(PathBuf),
    /// A component (binary or text), or an archive of a container image.
    File(PathBuf),
    /// An image in a registry.
    Image(String),
}

impl Source {
    /// Reads the argument: what is there as a file is one; what looks like a path must be there.
    ///
    /// # Errors
    /// It looks like a path and is not there.
    pub(super) fn of(argument: &str) -> Result<Source> {
        let path = Path::new(argument);
        if path.is_dir() {
            return Ok(Source::Project(path.to_owned()));
        }
        if path.is_file() {
            return Ok(Source::File(path.to_owned()));
        }
        let prefixes = ["./", "../", "/", "~"];
        let suffixes = [".wasm", ".wat", ".tar", ".tgz", ".tar.gz"];
        if prefixes.iter().any(|prefix| argument.starts_with(prefix))
            || suffixes.iter().any(|suffix| argument.ends_with(suffix))
            || argument == "."
        {
            bail!("the path {argument:?} does not exist");
        }
        Ok(Source::Image(argument.to_owned()))
    }
}
