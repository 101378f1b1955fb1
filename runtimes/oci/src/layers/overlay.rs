//! A container's root file system: an overlay of its image's layers and a directory of its own to write to.
//!
//! In the container's directory: `upper` is what the container wrote, `work` is the kernel's, `root` is where
//! the whole is mounted. Options:
//! - `index=off`: layers are lower directories of many overlays at once, and may be copied with their
//!   node; the index that keeps hard links whole over a copy-up would be refused then.
//! - `metacopy=off`: what a container changes is copied up whole, so `upper` alone says what it uses.
//! - `redirect_dir` is as the kernel is configured, as Docker and containerd leave it.
//!
//! A layer may imply a directory whose attributes only a lower layer knows (it has `tmp/x`, and `tmp` itself is
//! below it); an overlay would show what the unpacking made up. So `upper` starts with those directories, with the
//! attributes that the uppermost layer that does speak of them gives. The root is such a directory for most images.

use std::{
    collections::BTreeSet,
    ffi::CString,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
    mount::{MountFlags, UnmountFlags},
};

use super::{
    failure::Failure,
    removal,
    tree::OPAQUE,
    unpack::{TREE, read_implied},
};

/// The kernel takes the options of a mount in one page.
const OPTIONS_BYTES: usize = 4095;

/// So long is a busy mount waited for before it is only detached.
const BUSY: Duration = Duration::from_secs(2);

/// Where a container's root file system is.
pub(super) fn root(container: &Path) -> PathBuf {
    container.join("root")
}

/// What a container has written.
pub(super) fn upper(container: &Path) -> PathBuf {
    container.join("upper")
}

/// Mounts a container's root of these layers, the lowest first, unless it is mounted.
pub(super) fn mount(layers: &[PathBuf], container: &Path) -> Result<PathBuf, Failure> {
    let root = root(container);
    for dir in [&root, &container.join("work")] {
        std::fs::create_dir_all(dir).map_err(|error| Failure::node("make", dir, error))?;
    }
    make_private(container).map_err(|error| Failure::node("chmod", container, error))?;
    if is_mounted(&root).map_err(|error| Failure::node("look at", &root, error))? {
        return Ok(root);
    }
    let mut trees: Vec<PathBuf> = layers.iter().map(|layer| layer.join(TREE)).collect();
    let mut lower = Lower::open(layers)?;
    let shown = lower.cut_below_opaque_root();
    trees.drain(..trees.len() - shown);
    trees.reverse();
    make_upper(&lower, container)?;
    mount_overlay(&trees, container, &root)?;
    Ok(root)
}

/// Unmounts a container's root; `Ok` if it is not mounted.
pub(super) fn unmount(container: &Path) -> Result<(), Failure> {
    let root = root(container);
    let failed = |error| Failure::node("unmount", &root, error);
    let since = Instant::now();
    loop {
        match rustix::mount::unmount(&root, UnmountFlags::NOFOLLOW) {
            // Once more: it might be mounted twice.
            Ok(()) | Err(Errno::INTR) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if since.elapsed() < BUSY => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(Errno::BUSY) => {
                tracing::warn!(path = %root.display(), "a container's root is in use: detached");
                let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
                return rustix::mount::unmount(&root, flags).map_err(failed);
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Leaves a directory to its owner: a set-user-ID program of an image is not for the node's users.
pub(super) fn make_private(dir: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

/// Whether something is mounted there: it is on another device than its directory. `false` if it is not there.
pub(super) fn is_mounted(root: &Path) -> std::io::Result<bool> {
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|metadata| metadata.dev());
    let parent = root.parent().unwrap_or(Path::new("/"));
    match device(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        mounted => Ok(mounted? != device(parent)?),
    }
}

/// The layers of an image, the uppermost first.
struct Lower(Vec<LowerLayer>);

struct LowerLayer {
    tree: OwnedFd,
    implied: BTreeSet<PathBuf>,
}

impl Lower {
    fn open(layers: &[PathBuf]) -> Result<Lower, Failure> {
        let open = |layer: &PathBuf| -> std::io::Result<LowerLayer> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(LowerLayer {
                tree: rustix::fs::openat(CWD, layer.join(TREE), flags, Mode::empty())?,
                implied: read_implied(layer)?,
            })
        };
        let layers = layers.iter().rev();
        let layers = layers
            .map(|layer| open(layer).map_err(|error| Failure::node("open layer", layer, error)));
        Ok(Lower(layers.collect::<Result<_, _>>()?))
    }

    /// The kernel does not look whether a layer's root is opaque: what is below such a one is left out.
    /// Answers how many are left.
    fn cut_below_opaque_root(&mut self) -> usize {
        if let Some(opaque) = self.0.iter().position(|layer| is_opaque(&layer.tree)) {
            self.0.truncate(opaque + 1);
        }
        self.0.len()
    }

    /// What a directory of the image is like: as the uppermost layer says that does not merely imply it.
    /// `None` if the image has no such directory.
    fn find_directory(&self, path: &Path) -> Option<Stat> {
        let mut found = None;
        for layer in &self.0 {
            match layer.look(path) {
                Look::Directory(stat) if !layer.implied.contains(path) => return Some(stat),
                Look::Directory(stat) => found = found.or(Some(stat)),
                Look::Hidden => break,
                Look::Absent => {}
            }
            if layer.hides_below(path) {
                break;
            }
        }
        found
    }
}

enum Look {
    Directory(Stat),
    /// Something else has the name, or one on the way to it.
    Hidden,
    Absent,
}

impl LowerLayer {
    fn look(&self, path: &Path) -> Look {
        match self.open(path).and_then(rustix::fs::fstat) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                Look::Directory(stat)
            }
            Err(Errno::NOENT) => Look::Absent,
            _ => Look::Hidden,
        }
    }

    /// Whether the directory, or one that it is in, is opaque here.
    fn hides_below(&self, path: &Path) -> bool {
        let readable = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.open_with(path, flags)
        };
        path.ancestors()
            .any(|path| readable(path).is_ok_and(|fd| is_opaque(&fd)))
    }

    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open_with(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)
    }

    fn open_with(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.tree, path, flags, Mode::empty(), resolve)
    }
}

fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 1];
    rustix::fs::fgetxattr(directory, OPAQUE, &mut value[..]).is_ok_and(|_| &value == b"y")
}

/// Makes `upper`, unless it is there, with the directories whose attributes the image's layers disagree on.
fn make_upper(lower: &Lower, container: &Path) -> Result<(), Failure> {
    let path = upper(container);
    if path.exists() {
        return Ok(());
    }
    let unfinished = container.join("upper.new");
    let failed = |error| Failure::node("make", &unfinished, error);
    removal::remove(&unfinished).map_err(failed)?;
    std::fs::create_dir(&unfinished).map_err(failed)?;
    make_directory(lower, &unfinished, Path::new("")).map_err(failed)?;
    let implied: BTreeSet<&PathBuf> = lower.0.iter().flat_map(|layer| &layer.implied).collect();
    for implied in implied {
        if !lower.shows_as_implied(implied) {
            continue;
        }
        // Each with what it is in: the shortest first.
        let mut ancestors: Vec<&Path> = implied.ancestors().collect();
        ancestors.reverse();
        for path in ancestors {
            make_directory(lower, &unfinished, path).map_err(failed)?;
        }
    }
    std::fs::rename(&unfinished, &path).map_err(|error| Failure::node("make", &path, error))
}

impl Lower {
    /// Whether an overlay would show the made-up attributes of an implied directory in place of those that a
    /// layer below gives it.
    fn shows_as_implied(&self, path: &Path) -> bool {
        let first = self.0.iter().find_map(|layer| match layer.look(path) {
            Look::Directory(stat) => Some(Some(stat)),
            Look::Hidden => Some(None),
            Look::Absent => layer.hides_below(path).then_some(None),
        });
        let Some(Some(shown)) = first else {
            return false;
        };
        let attributes = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
        self.find_directory(path)
            .is_some_and(|right| attributes(&right) != attributes(&shown))
    }
}

fn make_directory(lower: &Lower, upper: &Path, path: &Path) -> std::io::Result<()> {
    let target = upper.join(path);
    match std::fs::create_dir(&target) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let (mode, uid, gid) = match lower.find_directory(path) {
        Some(stat) => (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid),
        None => (0o755, 0, 0),
    };
    std::os::unix::fs::chown(&target, Some(uid), Some(gid))?;
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode))
}

/// `trees` are the uppermost first.
fn mount_overlay(trees: &[PathBuf], container: &Path, root: &Path) -> Result<(), Failure> {
    let paths = trees
        .iter()
        .cloned()
        .chain([upper(container), container.join("work")]);
    let paths: Vec<PathBuf> = paths.collect();
    // Held until the kernel has looked them up.
    let mut held = Vec::new();
    let mut options = options(&paths);
    if options.len() > OPTIONS_BYTES || paths.iter().any(|path| is_special(path)) {
        let mut short = Vec::new();
        for path in &paths {
            let fd = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            let fd = fd.map_err(|error| Failure::node("open", path, error))?;
            short.push(PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())));
            held.push(fd);
        }
        options = self::options(&short);
    }
    if options.len() > OPTIONS_BYTES {
        return Err(Failure::Image(format!(
            "it has {} layers, more than can be mounted",
            trees.len()
        )));
    }
    let options = CString::new(options).map_err(|error| Failure::node("mount", root, error))?;
    rustix::mount::mount("overlay", root, "overlay", MountFlags::empty(), &*options).map_err(
        |error| {
            let hint = match error {
                Errno::NODEV => " (the kernel has no overlay file system)",
                Errno::PERM => " (mounting takes CAP_SYS_ADMIN)",
                Errno::INVAL => " (the directory's own file system may not carry an overlay)",
                _ => "",
            };
            Failure::node("mount an overlay on", root, format!("{error}{hint}"))
        },
    )
}

/// `paths` are the lower directories, then upper and work.
fn options(paths: &[PathBuf]) -> Vec<u8> {
    let bytes = |path: &PathBuf| path.as_os_str().as_encoded_bytes().to_vec();
    let (lower, own) = paths.split_at(paths.len() - 2);
    let lower: Vec<Vec<u8>> = lower.iter().map(bytes).collect();
    [
        b"lowerdir=".to_vec(),
        lower.join(&b':'),
        b",upperdir=".to_vec(),
        bytes(&own[0]),
        b",workdir=".to_vec(),
        bytes(&own[1]),
        b",index=off,metacopy=off".to_vec(),
    ]
    .concat()
}

/// Whether a path has a character that parts options, or escapes one.
fn is_special(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().any(|byte| matches!(byte, b':' | b',' | b'\\'))
}
