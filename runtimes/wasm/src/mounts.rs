//! A container's mounts as WASI has them: directories that an instance finds open.
//!
//! A mounted directory is one of these roots. A mounted file is a point in the innermost root that its
//! destination lies in, or else in a root of its parent's name that stands for no directory of the host:
//! it holds its points and can hold nothing more. So a file is reached at its source itself, whatever
//! file system that is on, writes are seen there at once, and nothing has to be cleaned up.
//! A mounted directory within another is a root of its own and a point in the other.
//!
//! Reads what kind of file each source is. Never follows a symbolic link on the way to a source, and
//! never offers anything but the mounts: without any, a container has no files.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
};
use runtimes::{ContainerSpec, Mount, RuntimeError};

/// All that a container sees.
#[derive(Default)]
pub(crate) struct Mounts {
    pub(crate) roots: Vec<Root>,
    /// The root that the working directory lies in, and where in it.
    pub(crate) working_dir: Option<(usize, String)>,
}

/// A directory that an instance finds open.
pub(crate) struct Root {
    /// Its absolute path in the container.
    pub(crate) name: String,
    /// `None` where it holds nothing but its points.
    pub(crate) source: Option<PathBuf>,
    pub(crate) read_only: bool,
    /// By path in the root.
    points: BTreeMap<String, Point>,
}

/// What a path in a root leads to in place of what the root's directory has there.
enum Point {
    File(MountedFile),
    /// Another root.
    Root(usize),
}

/// A file of the host in the container.
#[derive(Clone)]
pub(crate) struct MountedFile {
    pub(crate) source: PathBuf,
    pub(crate) read_only: bool,
}

/// What a path in a root leads to.
pub(crate) enum Place<'a> {
    /// Nothing of another mount.
    Here,
    /// A path in another root; empty for the root itself.
    Root(usize, String),
    File(&'a MountedFile),
    /// A path below a file.
    BelowFile,
}

/// Where something in the container is.
pub(crate) enum Located<'a> {
    /// A path in a root; empty for the root itself.
    Root(usize, String),
    File(&'a MountedFile),
}

impl Mounts {
    /// Looks at the sources of a container's mounts.
    pub(crate) fn plan(spec: &ContainerSpec) -> Result<Mounts, RuntimeError> {
        let mut mounts = Mounts::default();
        let mut files = Vec::new();
        let mut sorted: Vec<&Mount> = spec.mounts.iter().collect();
        sorted.sort_by(|one, other| one.destination.cmp(&other.destination));
        for pair in sorted.windows(2) {
            if pair[0].destination == pair[1].destination {
                return Err(RuntimeError::Invalid(format!(
                    "container {}: both {} and {} are mounted at {}",
                    spec.name,
                    pair[0].source.display(),
                    pair[1].source.display(),
                    pair[1].destination.display()
                )));
            }
        }
        for mount in sorted {
            let name = guest_path(&mount.destination)?;
            match kind(mount)? {
                Kind::Directory => mounts.roots.push(Root {
                    name,
                    source: Some(mount.source.clone()),
                    read_only: mount.read_only,
                    points: BTreeMap::new(),
                }),
                Kind::File => files.push((
                    name,
                    MountedFile {
                        source: mount.source.clone(),
                        read_only: mount.read_only,
                    },
                )),
            }
        }
        for (name, file) in files {
            mounts.add_file(&name, file);
        }
        for inner in 0..mounts.roots.len() {
            let name = mounts.roots[inner].name.clone();
            if let Some((outer, path)) = mounts.root_of(&name, Some(inner)) {
                let points = &mut mounts.roots[outer].points;
                points.insert(path, Point::Root(inner));
            }
        }
        if let Some(dir) = &spec.working_dir {
            mounts.working_dir = mounts.root_of(&guest_path(Path::new(dir))?, None);
        }
        Ok(mounts)
    }

    fn add_file(&mut self, name: &str, file: MountedFile) {
        let (root, path) = self.root_of(name, None).unwrap_or_else(|| {
            let (parent, file) = name.rsplit_once('/').unwrap_or_default();
            let parent = if parent.is_empty() { "/" } else { parent };
            self.roots.push(Root {
                name: parent.to_owned(),
                source: None,
                read_only: true,
                points: BTreeMap::new(),
            });
            (self.roots.len() - 1, file.to_owned())
        });
        let points = &mut self.roots[root].points;
        points.insert(path, Point::File(file));
    }

    /// The innermost root, other than `except`, that a path of the container lies in, and where in it.
    /// Only a file's own parent is a root that holds nothing but points.
    fn root_of(&self, name: &str, except: Option<usize>) -> Option<(usize, String)> {
        let roots = self.roots.iter().enumerate();
        let within = roots.filter(|(number, _)| Some(*number) != except);
        let within = within.filter_map(|(number, root)| {
            let rest = below(name, root.name.trim_end_matches('/'))?;
            let holds = root.source.is_some() || except.is_some() || !rest.contains('/');
            holds.then(|| (root.name.len(), number, rest.to_owned()))
        });
        let innermost = within.max_by_key(|(depth, ..)| *depth)?;
        Some((innermost.1, innermost.2))
    }

    /// What an absolute path of the container leads to; `None` where nothing is mounted.
    pub(crate) fn locate(&self, path: &str) -> Option<Located<'_>> {
        let (root, rest) = self.root_of(path, None)?;
        match self.find(root, "", &rest) {
            Place::Here => Some(Located::Root(root, rest)),
            Place::Root(root, path) => Some(Located::Root(root, path)),
            Place::File(file) => Some(Located::File(file)),
            Place::BelowFile => None,
        }
    }

    /// The names in a directory that nothing is mounted at, on the way to mounts.
    pub(crate) fn names_towards(&self, path: &str) -> impl Iterator<Item = &str> {
        let path = path.trim_end_matches('/');
        let below = self
            .roots
            .iter()
            .filter_map(move |root| below(&root.name, path));
        below.filter_map(|rest| rest.split('/').next().filter(|name| !name.is_empty()))
    }

    /// What `path`, seen from `dir` in a root, leads to. Never leaves the root by `..`: that is for the
    /// root's own directory to refuse.
    pub(crate) fn find(&self, mut root: usize, dir: &str, path: &str) -> Place<'_> {
        let Some(mut path) = join(dir, path) else {
            return Place::Here;
        };
        let mut moved = false;
        loop {
            let points = self.roots[root].points.iter();
            let met = points.filter_map(|(at, point)| Some((at.len(), point, below(&path, at)?)));
            match met.max_by_key(|(depth, ..)| *depth) {
                None if moved => return Place::Root(root, path),
                None => return Place::Here,
                Some((_, Point::File(file), "")) => return Place::File(file),
                Some((_, Point::File(_), _)) => return Place::BelowFile,
                Some((_, Point::Root(inner), rest)) => {
                    (root, path, moved) = (*inner, rest.to_owned(), true);
                }
            }
        }
    }

    /// The names of the points that lie directly in `dir` of a root, and whether each is a directory.
    pub(crate) fn points_in(&self, root: usize, dir: &str) -> impl Iterator<Item = (&str, bool)> {
        self.points_below(root, dir)
            .filter(|(path, _)| !path.contains('/'))
            .map(|(name, point)| (name, matches!(point, Point::Root(_))))
    }

    /// Whether `dir` of a root has points at any depth.
    pub(crate) fn has_points(&self, root: usize, dir: &str) -> bool {
        self.points_below(root, dir).next().is_some()
    }

    fn points_below(&self, root: usize, dir: &str) -> impl Iterator<Item = (&str, &Point)> {
        let points = self.roots[root].points.iter();
        points.filter_map(move |(path, point)| {
            let path = below(path, dir).filter(|path| !path.is_empty())?;
            Some((path, point))
        })
    }
}

enum Kind {
    File,
    Directory,
}

fn kind(mount: &Mount) -> Result<Kind, RuntimeError> {
    let file = open(&mount.source, OFlag::O_PATH).and_then(|file| file.metadata());
    let metadata = file.map_err(|source| RuntimeError::Unavailable {
        message: format!(
            "mount {} at {}: {source}",
            mount.source.display(),
            mount.destination.display()
        ),
        source: None,
    })?;
    if metadata.is_dir() {
        Ok(Kind::Directory)
    } else if metadata.is_file() {
        Ok(Kind::File)
    } else {
        Err(RuntimeError::Invalid(format!(
            "mount {} at {}: a component can open directories and regular files, not devices, sockets or pipes",
            mount.source.display(),
            mount.destination.display()
        )))
    }
}

/// Opens a file of the host, following no symbolic link on any part of the way: whoever can write to a
/// volume could put one there between a check and this.
pub(crate) fn open(path: &Path, flags: OFlag) -> io::Result<File> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    match openat2(AT_FDCWD, path, how) {
        Ok(file) => Ok(File::from(file)),
        Err(Errno::ELOOP) => Err(io::Error::other(format!(
            "{} leads through a symbolic link",
            path.display()
        ))),
        Err(error) => Err(error.into()),
    }
}

/// An absolute path of the container in its plainest form.
pub(crate) fn guest_path(path: &Path) -> Result<String, RuntimeError> {
    let text = path.to_str().ok_or_else(|| {
        RuntimeError::Invalid(format!("path {} is not valid UTF-8", path.display()))
    })?;
    let path = join("", text.trim_start_matches('/')).unwrap_or_default();
    Ok(format!("/{path}"))
}

/// `path` as seen from `dir`, without `.` and `..`; `None` if it is absolute, leads out or is empty.
pub(crate) fn join(dir: &str, path: &str) -> Option<String> {
    if path.is_empty() && !dir.is_empty() {
        return None;
    }
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// The rest of `path` if it is `dir` or lies in it.
fn below<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    if dir.is_empty() {
        return Some(path.trim_start_matches('/'));
    }
    let rest = path.strip_prefix(dir)?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('/')
    }
}
