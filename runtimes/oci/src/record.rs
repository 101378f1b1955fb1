//! What is kept of a container in its directory, `containers/<pod uid>_<name>_<attempt>`: enough to find everything
//! again after a restart.
//!
//! `spec.json` ([`Record`]) is written once, last of all that makes a container: a directory without it is half made.
//! `life.json` ([`Life`]) says how far it got. Beside them are runc's bundle and the shim's files, which are not read here.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use runtimes::{ContainerId, ContainerSpec, Exit, PodRef};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

const RECORD: &str = "spec.json";
const LIFE: &str = "life.json";

/// What stays of a container's spec.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Record {
    id: String,
    pod_namespace: String,
    pod_name: String,
    pod_uid: String,
    pub(crate) name: String,
    /// As [`crate::cgroup::Cgroups`] names it.
    pub(crate) cgroup: String,
    pub(crate) stop_signal: String,
    pub(crate) log: PathBuf,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
}

impl Record {
    pub(crate) fn new(spec: &ContainerSpec, cgroup: String, stop_signal: String) -> Record {
        Record {
            id: spec.id.to_string(),
            pod_namespace: spec.pod.namespace.clone(),
            pod_name: spec.pod.name.clone(),
            pod_uid: spec.pod.uid.clone(),
            name: spec.name.clone(),
            cgroup,
            stop_signal,
            log: spec.log.clone(),
            tty: spec.tty,
            stdin: spec.stdin,
            stdin_once: spec.stdin_once,
        }
    }

    pub(crate) fn id(&self) -> ContainerId {
        ContainerId(self.id.as_str().into())
    }

    pub(crate) fn pod(&self) -> PodRef {
        PodRef {
            namespace: self.pod_namespace.clone(),
            name: self.pod_name.clone(),
            uid: self.pod_uid.clone(),
        }
    }
}

/// How far a container got.
#[derive(Clone, Serialize, Deserialize, Debug, Default)]
pub(crate) struct Life {
    /// When its start began; it may not have come to its end.
    pub(crate) starting_at: Option<SystemTime>,
    /// The start did come to its end.
    pub(crate) started: bool,
    pub(crate) end: Option<End>,
}

/// How a container ended, once that is settled.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct End {
    pub(crate) code: i32,
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) started_at: SystemTime,
    pub(crate) finished_at: SystemTime,
}

/// Why a container ended, in Kubernetes' words.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) enum Reason {
    Completed,
    Error,
    #[serde(rename = "OOMKilled")]
    OomKilled,
    StartError,
}

impl End {
    pub(crate) fn exit(&self) -> Exit {
        Exit {
            code: self.code,
            reason: match self.reason {
                Reason::Completed => "Completed",
                Reason::Error => "Error",
                Reason::OomKilled => "OOMKilled",
                Reason::StartError => "StartError",
            },
            message: self.message.clone(),
            started_at: self.started_at,
            finished_at: self.finished_at,
        }
    }
}

/// All containers' directories.
#[derive(Clone, Debug)]
pub(crate) struct Directories {
    root: PathBuf,
}

impl Directories {
    pub(crate) fn new(root: PathBuf) -> Directories {
        Directories { root }
    }

    /// One container's, whether it is there or not.
    pub(crate) fn of(&self, id: &ContainerId) -> Directory {
        Directory::new(self.root.join(name_of(id)))
    }

    /// Those that are there, half made or not.
    pub(crate) fn list(&self) -> io::Result<Vec<Directory>> {
        let entries = fs::read_dir(&self.root)?;
        entries
            .map(|entry| Ok(Directory::new(entry?.path())))
            .collect()
    }

    /// Whether a pod has any.
    pub(crate) fn has_pod(&self, uid: &str) -> io::Result<bool> {
        let prefix = format!("{}_", part(uid));
        let is_its = |directory: &Directory| directory.name().starts_with(&prefix);
        Ok(self.list()?.iter().any(is_its))
    }
}

/// A container's id as a name that runc and a file system take. Uids and names have no `_`.
fn name_of(id: &ContainerId) -> String {
    part(&id.0.replace('/', "_"))
}

/// What runc does not take in a name becomes `-`; nothing leads out of a directory.
fn part(text: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+');
    text.chars()
        .map(|c| if keep(c) { c } else { '-' })
        .collect()
}

/// One container's directory, which is runc's bundle too.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    fn new(path: PathBuf) -> Directory {
        Directory { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What runc calls the container.
    pub(crate) fn name(&self) -> &str {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.unwrap_or_default()
    }

    /// `None` if there is no container, or a half-made one.
    pub(crate) fn record(&self) -> io::Result<Option<Record>> {
        read(&self.path.join(RECORD))
    }

    pub(crate) fn life(&self) -> io::Result<Life> {
        Ok(read(&self.path.join(LIFE))?.unwrap_or_default())
    }

    pub(crate) fn write_record(&self, record: &Record) -> io::Result<()> {
        write(&self.path.join(RECORD), record, false)
    }

    /// That a start has begun outlives a loss of power, so that it is not begun again, and so does the end. That it came
    /// to its end need not: then nothing runs any more.
    pub(crate) fn write_life(&self, life: &Life) -> io::Result<()> {
        let lasting = !life.started || life.end.is_some();
        if lasting {
            // A life without a container would tell nobody.
            match fs::File::open(self.path.join(RECORD)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                record => record?.sync_all()?,
            }
        }
        write(&self.path.join(LIFE), life, lasting)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// The first step of a container's removal: what remains is half made. `Ok` if it is not there.
    pub(crate) fn remove_record(&self) -> io::Result<()> {
        match fs::remove_file(self.path.join(RECORD)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let named = |error: &dyn std::fmt::Display| {
        io::Error::other(format!("{} cannot be read: {error}", path.display()))
    };
    match fs::read(path) {
        // Its name outlived a loss of power, and what it names did not.
        Ok(bytes) if bytes.is_empty() => Ok(None),
        Ok(bytes) => {
            let value = serde_json::from_slice(&bytes);
            value.map(Some).map_err(|error| named(&error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(&error)),
    }
}

/// Wholly or not at all. What is not `lasting` may be empty after a loss of power.
fn write(path: &Path, value: &impl Serialize, lasting: bool) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    if lasting {
        file.sync_all()?;
    }
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::plain;

    #[test]
    fn a_container_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories::new(dir.path().to_owned());
        let spec = plain();
        let directory = directories.of(&spec.id);
        assert_eq!(directory.name(), "u_main_0");
        assert!(directory.record().unwrap().is_none());
        fs::create_dir(directory.path()).unwrap();
        let record = Record::new(&spec, "/g".to_owned(), "TERM".to_owned());
        directory.write_record(&record).unwrap();
        let found = directories
            .list()
            .unwrap()
            .remove(0)
            .record()
            .unwrap()
            .unwrap();
        assert_eq!((found.id(), found.pod()), (spec.id, spec.pod));
        assert!(directories.has_pod("u").unwrap());
        assert!(!directories.has_pod("v").unwrap());
        assert!(directory.life().unwrap().starting_at.is_none());
        for _ in 0..2 {
            directory.remove_record().unwrap();
        }
        assert!(directory.record().unwrap().is_none());
        assert!(directories.has_pod("u").unwrap());
    }

    #[test]
    fn what_a_loss_of_power_left_empty_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path().to_owned());
        for name in [RECORD, LIFE] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert!(directory.record().unwrap().is_none());
        assert!(!directory.life().unwrap().started);
    }

    #[test]
    fn no_id_leads_out_of_the_directory() {
        let directories = Directories::new("/c".into());
        let path = |id: &str| directories.of(&ContainerId(id.into())).path().to_owned();
        assert_eq!(path("../x/0"), Path::new("/c/--_x_0"));
        assert_eq!(path("a.b/c/1"), Path::new("/c/a-b_c_1"));
    }
}
