//! `wasi:filesystem` over a container's mounts.
//!
//! wasmtime's own implementation stands below and keeps every path within its root. What takes a path is
//! replaced by a function that first asks whether the path leads to another mount (see `mounts`): a file
//! is then opened at its source, a path below a directory goes to that directory's root. A mount itself
//! can be neither removed nor renamed nor replaced: `busy`, as on Linux.
//!
//! Roots are opened when an instance first asks for them; one that never does costs nothing.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    sync::{Arc, OnceLock, Weak},
};

use nix::fcntl::OFlag;
use wasmtime::{
    Result, StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{
    FsPerms, OpenMode,
    filesystem::{self, Descriptor, Dir, WasiFilesystemView as _},
    p2::{
        FsError, FsResult, ReaddirIterator,
        bindings::filesystem::types::{
            DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode,
            HostDescriptor as _, HostDirectoryEntryStream as _, MetadataHashValue, NewTimestamp,
            OpenFlags, PathFlags,
        },
    },
};

use crate::{
    guest::Guest,
    mounts::{self, MountedFile, Mounts, Place, Root},
};

const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";
const TYPES: &str = "wasi:filesystem/types@0.2.12";

type Fd = Resource<Descriptor>;
type Store<'a> = StoreContextMut<'a, Guest>;

/// One instance's view of its container's mounts.
pub(crate) struct Files {
    mounts: Arc<Mounts>,
    /// One for each root; empty until they are asked for.
    roots: Vec<OpenRoot>,
    /// The open directories that have mounts below them.
    dirs: Vec<KnownDir>,
    /// By the stream that lists a directory: what is added to it.
    listings: HashMap<u32, Listing>,
}

struct OpenRoot {
    dir: Dir,
    /// Our own in the instance's table.
    fd: u32,
}

/// Where an open directory is.
struct KnownDir {
    dir: Weak<File>,
    root: usize,
    path: String,
}

#[derive(Default)]
struct Listing {
    names: Vec<String>,
    /// Those that have not been read.
    entries: VecDeque<DirectoryEntry>,
}

impl Files {
    pub(crate) fn new(mounts: Arc<Mounts>) -> Files {
        Files {
            mounts,
            roots: Vec::new(),
            dirs: Vec::new(),
            listings: HashMap::new(),
        }
    }

    /// The root and path of an open directory that has mounts below it.
    fn find(&self, dir: &Dir) -> Option<(usize, &str)> {
        let file = Arc::as_ptr(&dir.dir);
        let known = self.dirs.iter().find(|known| known.dir.as_ptr() == file)?;
        Some((known.root, &known.path))
    }

    /// Remembers where a directory is, if there are mounts below it.
    fn note(&mut self, dir: &Dir, root: usize, path: String) {
        if self.mounts.has_points(root, &path) {
            self.dirs.retain(|known| known.dir.strong_count() > 0);
            self.dirs.push(KnownDir {
                dir: Arc::downgrade(&dir.dir),
                root,
                path,
            });
        }
    }
}

/// Replaces what opens a root or takes a path.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    linker
        .instance(PREOPENS)?
        .func_wrap_async("get-directories", |store: Store<'_>, (): ()| {
            Box::new(async move { Ok((get_directories(store).await?,)) })
        })?;
    let mut types = linker.instance(TYPES)?;
    macro_rules! replace {
        ($name:literal, $function:ident) => {
            types.func_wrap_async($name, |store: Store<'_>, params| {
                Box::new(async move { Ok((answer($function(store, params).await)?,)) })
            })?;
        };
    }
    replace!("[method]descriptor.open-at", open_at);
    replace!("[method]descriptor.stat-at", stat_at);
    replace!("[method]descriptor.metadata-hash-at", metadata_hash_at);
    replace!("[method]descriptor.set-times-at", set_times_at);
    replace!("[method]descriptor.readlink-at", readlink_at);
    replace!(
        "[method]descriptor.create-directory-at",
        create_directory_at
    );
    replace!("[method]descriptor.symlink-at", symlink_at);
    replace!("[method]descriptor.unlink-file-at", unlink_file_at);
    replace!(
        "[method]descriptor.remove-directory-at",
        remove_directory_at
    );
    replace!("[method]descriptor.rename-at", rename_at);
    replace!("[method]descriptor.link-at", link_at);
    replace!("[method]descriptor.read-directory", read_directory);
    replace!(
        "[method]directory-entry-stream.read-directory-entry",
        read_directory_entry
    );
    Ok(())
}

/// An error of the file system is the guest's to handle; any other is a trap.
fn answer<T>(result: FsResult<T>) -> Result<std::result::Result<T, ErrorCode>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => Ok(Err(error.downcast()?)),
    }
}

async fn get_directories(mut store: Store<'_>) -> Result<Vec<(Fd, String)>> {
    let guest = store.data_mut();
    if guest.files.roots.is_empty() {
        open_roots(guest).await?;
    }
    let mounts = guest.files.mounts.clone();
    let dirs = guest.files.roots.iter().map(|root| root.dir.clone());
    let mut found: Vec<(Dir, String)> = dirs
        .zip(&mounts.roots)
        .map(|(dir, root)| (dir, root.name.clone()))
        .collect();
    if let Some((root, path)) = &mounts.working_dir
        && let Some(dir) = open_working_dir(guest, *root, path).await?
    {
        found.push((dir, ".".to_owned()));
    }
    let table = guest.filesystem();
    let push = |(dir, name)| Ok((table.table.push(Descriptor::Dir(dir))?, name));
    found.into_iter().map(push).collect()
}

async fn open_roots(guest: &mut Guest) -> Result<()> {
    let mounts = guest.files.mounts.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let open = |root: &Root| Ok((open_root(root)?, perms(root.read_only)));
        mounts.roots.iter().map(open).collect::<Result<Vec<_>>>()
    });
    for (number, (file, perms)) in opened.await??.into_iter().enumerate() {
        let mode = match perms {
            FsPerms::ReadOnly => OpenMode::READ,
            FsPerms::ReadWrite => OpenMode::READ | OpenMode::WRITE,
        };
        let dir = Dir::new(file, perms, mode, false);
        let fd = guest
            .filesystem()
            .table
            .push(Descriptor::Dir(dir.clone()))?;
        guest.files.note(&dir, number, String::new());
        guest.files.roots.push(OpenRoot { dir, fd: fd.rep() });
    }
    Ok(())
}

fn perms(read_only: bool) -> FsPerms {
    if read_only {
        FsPerms::ReadOnly
    } else {
        FsPerms::ReadWrite
    }
}

fn open_root(root: &Root) -> Result<File> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    match &root.source {
        Some(source) => mounts::open(source, flags).map_err(|error| {
            let source = source.display();
            wasmtime::format_err!("mount {source} at {}: {error}", root.name)
        }),
        None => Ok(nothing()?),
    }
}

/// A directory that has been removed: it is empty, and nothing can be made in it.
fn nothing() -> std::io::Result<File> {
    static NOTHING: OnceLock<File> = OnceLock::new();
    if let Some(nothing) = NOTHING.get() {
        return nothing.try_clone();
    }
    let dir = tempfile::tempdir()?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let nothing = mounts::open(&dir.path().canonicalize()?, flags)?;
    dir.close()?;
    NOTHING.get_or_init(|| nothing).try_clone()
}

/// `None` where the container has no such directory: nothing is then relative to it.
async fn open_working_dir(guest: &mut Guest, root: usize, path: &str) -> Result<Option<Dir>> {
    let files = &guest.files.roots[root];
    if path.is_empty() {
        return Ok(Some(files.dir.clone()));
    }
    let (follow, open) = (PathFlags::SYMLINK_FOLLOW, OpenFlags::DIRECTORY);
    let fd = Resource::new_borrow(files.fd);
    let flags = DescriptorFlags::READ;
    let mut view = guest.filesystem();
    match view.open_at(fd, follow, path.to_owned(), open, flags).await {
        Ok(fd) => match view.table.delete(fd)? {
            Descriptor::Dir(mut dir) => {
                dir.open_mode = guest.files.roots[root].dir.open_mode;
                guest.files.note(&dir, root, path.to_owned());
                Ok(Some(dir))
            }
            Descriptor::File(_) => Ok(None),
        },
        Err(error) => error.downcast().map(|_: ErrorCode| None),
    }
}

/// What a path leads to, seen from an open directory.
enum Target {
    /// A path in a directory, which may be the root of another mount.
    Path { dir: Fd, path: String },
    /// The root of another mount.
    Root(Dir),
    /// A file of another mount.
    File(MountedFile),
}

fn target(guest: &mut Guest, dir: &Fd, path: String) -> FsResult<Target> {
    let here = |path| Target::Path {
        dir: Resource::new_borrow(dir.rep()),
        path,
    };
    let Descriptor::Dir(open) = guest.filesystem().table.get(dir)?.clone() else {
        return Ok(here(path));
    };
    let files = &guest.files;
    let Some((root, at)) = files.find(&open) else {
        return Ok(here(path));
    };
    Ok(match files.mounts.find(root, at, &path) {
        Place::Here => here(path),
        Place::Root(root, path) if path.is_empty() => Target::Root(files.roots[root].dir.clone()),
        Place::Root(root, path) => Target::Path {
            dir: Resource::new_borrow(files.roots[root].fd),
            path,
        },
        Place::File(file) => Target::File(file.clone()),
        Place::BelowFile => return Err(ErrorCode::NotDirectory.into()),
    })
}

/// A path that is to be made, moved or removed: a mount is none of these.
fn changed(guest: &mut Guest, dir: &Fd, path: String, mount: ErrorCode) -> FsResult<(Fd, String)> {
    match target(guest, dir, path)? {
        Target::Path { dir, path } => Ok((dir, path)),
        Target::Root(_) | Target::File(_) => Err(mount.into()),
    }
}

async fn open_at(
    mut store: Store<'_>,
    (dir, follow, path, how, flags): (Fd, PathFlags, String, OpenFlags, DescriptorFlags),
) -> FsResult<Fd> {
    let guest = store.data_mut();
    let opened = match target(guest, &dir, path)? {
        Target::Path { dir, path } => return open_path(guest, dir, follow, path, how, flags).await,
        Target::Root(_) | Target::File(_)
            if how.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE) =>
        {
            return Err(ErrorCode::Exist.into());
        }
        Target::Root(_) if flags.contains(DescriptorFlags::WRITE) => {
            return Err(ErrorCode::IsDirectory.into());
        }
        Target::Root(dir) => Descriptor::Dir(dir),
        Target::File(_) if how.contains(OpenFlags::DIRECTORY) => {
            return Err(ErrorCode::NotDirectory.into());
        }
        Target::File(file) => Descriptor::File(open_file(file, how, flags).await?),
    };
    Ok(guest.filesystem().table.push(opened)?)
}

/// Opens what lies in a directory, and remembers where that is if it is a directory with mounts in it.
async fn open_path(
    guest: &mut Guest,
    dir: Fd,
    follow: PathFlags,
    path: String,
    how: OpenFlags,
    flags: DescriptorFlags,
) -> FsResult<Fd> {
    let known = match guest.filesystem().table.get(&dir)? {
        Descriptor::Dir(open) => open.clone(),
        Descriptor::File(_) => return Err(ErrorCode::NotDirectory.into()),
    };
    let whereabouts = guest.files.find(&known);
    let whereabouts = whereabouts.and_then(|(root, at)| Some((root, mounts::join(at, &path)?)));
    let mut view = guest.filesystem();
    let fd = view.open_at(dir, follow, path, how, flags).await?;
    let opened = view.table.get(&fd)?.clone();
    if let (Descriptor::Dir(dir), Some((root, path))) = (opened, whereabouts) {
        guest.files.note(&dir, root, path);
    }
    Ok(fd)
}

async fn open_file(
    file: MountedFile,
    how: OpenFlags,
    flags: DescriptorFlags,
) -> FsResult<filesystem::File> {
    let synchronous = DescriptorFlags::FILE_INTEGRITY_SYNC
        | DescriptorFlags::DATA_INTEGRITY_SYNC
        | DescriptorFlags::REQUESTED_WRITE_SYNC;
    if flags.intersects(synchronous) {
        return Err(ErrorCode::Unsupported.into());
    }
    let truncate = how.contains(OpenFlags::TRUNCATE);
    let write =
        flags.contains(DescriptorFlags::WRITE) || truncate || how.contains(OpenFlags::CREATE);
    if write && file.read_only {
        return Err(ErrorCode::NotPermitted.into());
    }
    let read = flags.contains(DescriptorFlags::READ) || !write;
    let (mut options, mode) = match (read, write) {
        (true, true) => (OFlag::O_RDWR, OpenMode::READ | OpenMode::WRITE),
        (_, true) => (OFlag::O_WRONLY, OpenMode::WRITE),
        _ => (OFlag::O_RDONLY, OpenMode::READ),
    };
    if truncate {
        options |= OFlag::O_TRUNC;
    }
    // Should the source have become a pipe, opening it must not wait for its other end.
    options |= OFlag::O_NONBLOCK;
    let perms = perms(file.read_only);
    let opened = tokio::task::spawn_blocking(move || mounts::open(&file.source, options)).await;
    let opened = opened.map_err(|error| FsError::trap(wasmtime::Error::from(error)))??;
    Ok(filesystem::File::new(opened, perms, mode, false))
}

/// Another mount's file or root, open while it is asked about itself.
async fn open_mount(guest: &mut Guest, target: Target) -> FsResult<Fd> {
    let opened = match target {
        Target::File(file) => {
            let (how, flags) = (OpenFlags::empty(), DescriptorFlags::READ);
            Descriptor::File(open_file(file, how, flags).await?)
        }
        Target::Root(dir) => Descriptor::Dir(dir),
        Target::Path { .. } => return Err(ErrorCode::Invalid.into()),
    };
    Ok(guest.filesystem().table.push(opened)?)
}

async fn stat_at(
    mut store: Store<'_>,
    (dir, follow, path): (Fd, PathFlags, String),
) -> FsResult<DescriptorStat> {
    let guest = store.data_mut();
    match target(guest, &dir, path)? {
        Target::Path { dir, path } => guest.filesystem().stat_at(dir, follow, path).await,
        mount => {
            let fd = open_mount(guest, mount).await?;
            let mut view = guest.filesystem();
            let stat = view.stat(Resource::new_borrow(fd.rep())).await;
            view.table.delete(fd)?;
            stat
        }
    }
}

async fn metadata_hash_at(
    mut store: Store<'_>,
    (dir, follow, path): (Fd, PathFlags, String),
) -> FsResult<MetadataHashValue> {
    let guest = store.data_mut();
    match target(guest, &dir, path)? {
        Target::Path { dir, path } => guest.filesystem().metadata_hash_at(dir, follow, path).await,
        mount => {
            let fd = open_mount(guest, mount).await?;
            let mut view = guest.filesystem();
            let hash = view.metadata_hash(Resource::new_borrow(fd.rep())).await;
            view.table.delete(fd)?;
            hash
        }
    }
}

async fn set_times_at(
    mut store: Store<'_>,
    (dir, follow, path, accessed, modified): (Fd, PathFlags, String, NewTimestamp, NewTimestamp),
) -> FsResult<()> {
    let guest = store.data_mut();
    match target(guest, &dir, path)? {
        Target::Path { dir, path } => {
            let mut view = guest.filesystem();
            view.set_times_at(dir, follow, path, accessed, modified)
                .await
        }
        Target::Root(_) => Err(ErrorCode::NotPermitted.into()),
        mount => {
            let fd = open_mount(guest, mount).await?;
            let mut view = guest.filesystem();
            let file = Resource::new_borrow(fd.rep());
            let set = view.set_times(file, accessed, modified).await;
            view.table.delete(fd)?;
            set
        }
    }
}

async fn readlink_at(mut store: Store<'_>, (dir, path): (Fd, String)) -> FsResult<String> {
    let guest = store.data_mut();
    let (dir, path) = changed(guest, &dir, path, ErrorCode::Invalid)?;
    guest.filesystem().readlink_at(dir, path).await
}

async fn create_directory_at(mut store: Store<'_>, (dir, path): (Fd, String)) -> FsResult<()> {
    let guest = store.data_mut();
    let (dir, path) = changed(guest, &dir, path, ErrorCode::Exist)?;
    guest.filesystem().create_directory_at(dir, path).await
}

async fn symlink_at(mut store: Store<'_>, (dir, to, path): (Fd, String, String)) -> FsResult<()> {
    let guest = store.data_mut();
    let (dir, path) = changed(guest, &dir, path, ErrorCode::Exist)?;
    guest.filesystem().symlink_at(dir, to, path).await
}

async fn unlink_file_at(mut store: Store<'_>, (dir, path): (Fd, String)) -> FsResult<()> {
    let guest = store.data_mut();
    let (dir, path) = changed(guest, &dir, path, ErrorCode::Busy)?;
    guest.filesystem().unlink_file_at(dir, path).await
}

async fn remove_directory_at(mut store: Store<'_>, (dir, path): (Fd, String)) -> FsResult<()> {
    let guest = store.data_mut();
    let (dir, path) = changed(guest, &dir, path, ErrorCode::Busy)?;
    guest.filesystem().remove_directory_at(dir, path).await
}

async fn rename_at(
    mut store: Store<'_>,
    (dir, path, new_dir, new_path): (Fd, String, Fd, String),
) -> FsResult<()> {
    let guest = store.data_mut();
    let (dir, path) = changed(guest, &dir, path, ErrorCode::Busy)?;
    let (new_dir, new_path) = changed(guest, &new_dir, new_path, ErrorCode::Busy)?;
    guest
        .filesystem()
        .rename_at(dir, path, new_dir, new_path)
        .await
}

async fn link_at(
    mut store: Store<'_>,
    (dir, follow, path, new_dir, new_path): (Fd, PathFlags, String, Fd, String),
) -> FsResult<()> {
    let guest = store.data_mut();
    let (dir, path) = changed(guest, &dir, path, ErrorCode::CrossDevice)?;
    let (new_dir, new_path) = changed(guest, &new_dir, new_path, ErrorCode::Exist)?;
    let mut view = guest.filesystem();
    view.link_at(dir, follow, path, new_dir, new_path).await
}

async fn read_directory(
    mut store: Store<'_>,
    (dir,): (Fd,),
) -> FsResult<Resource<ReaddirIterator>> {
    let guest = store.data_mut();
    let mut listing = Listing::default();
    if let Descriptor::Dir(open) = guest.filesystem().table.get(&dir)?.clone()
        && let Some((root, path)) = guest.files.find(&open)
    {
        for (name, is_dir) in guest.files.mounts.points_in(root, path) {
            let type_ = if is_dir {
                DescriptorType::Directory
            } else {
                DescriptorType::RegularFile
            };
            listing.names.push(name.to_owned());
            let name = name.to_owned();
            listing.entries.push_back(DirectoryEntry { type_, name });
        }
    }
    let stream = guest.filesystem().read_directory(dir).await?;
    if listing.names.is_empty() {
        // The number may have been another stream's.
        guest.files.listings.remove(&stream.rep());
    } else {
        guest.files.listings.insert(stream.rep(), listing);
    }
    Ok(stream)
}

async fn read_directory_entry(
    mut store: Store<'_>,
    (stream,): (Resource<ReaddirIterator>,),
) -> FsResult<Option<DirectoryEntry>> {
    let guest = store.data_mut();
    let listing = guest.files.listings.get_mut(&stream.rep());
    if let Some(entry) = listing.and_then(|listing| listing.entries.pop_front()) {
        return Ok(Some(entry));
    }
    loop {
        let again = Resource::new_borrow(stream.rep());
        let entry = guest.filesystem().read_directory_entry(again).await?;
        let Some(entry) = entry else { return Ok(None) };
        let listing = guest.files.listings.get(&stream.rep());
        if !listing.is_some_and(|listing| listing.names.contains(&entry.name)) {
            return Ok(Some(entry));
        }
    }
}
