//! The files of static pods: read again when the kernel says that they changed, and now and then all the same.
//!
//! A file that cannot be read or understood gets one warning for each of its versions, and what ran of it before goes
//! on. Names that begin with a dot are left alone, and so are directories.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use tracing::{info, warn};

use super::{
    StaticPod, key,
    manifest::{self, Parsed},
};
use crate::inotify::{Changes, Watch, What};

/// Between looks at files that the kernel says nothing of.
const RESCAN: Duration = Duration::from_secs(20);
/// A manifest larger than this is refused.
const LARGEST: u64 = 3 << 20;

/// One file.
struct File {
    /// What it held, or why it could not be read, when it was last looked at.
    content: Result<String, String>,
    pod: Option<StaticPod>,
}

pub(super) struct Directory {
    path: PathBuf,
    node: String,
    changes: Changes,
    watch: Watch,
    files: BTreeMap<String, File>,
    /// What was last said of the directory itself.
    warned: Option<String>,
}

/// What each file holds now, by name.
type Contents = BTreeMap<String, Result<String, String>>;

impl Directory {
    pub(super) fn new(path: &Path, node: &str, changes: Changes) -> Directory {
        Directory {
            watch: changes.watch(path, What::Files),
            path: path.to_owned(),
            node: node.to_owned(),
            changes,
            files: BTreeMap::new(),
            warned: None,
        }
    }

    /// The pods, each name once: the first file that has it counts.
    pub(super) fn pods(&self) -> impl Iterator<Item = &StaticPod> {
        let mut names = Vec::new();
        let pods = self.files.values().filter_map(|file| file.pod.as_ref());
        pods.filter(move |pod| {
            let name = key(&pod.pod);
            let new = !names.contains(&name);
            names.push(name);
            new
        })
    }

    /// Waits until the files may have changed.
    pub(super) async fn changed(&self) {
        self.watch.changed(RESCAN).await;
    }

    /// Reads what there is now.
    pub(super) async fn read(&mut self) {
        if !self.watch.works() {
            self.watch = self.changes.watch(&self.path, What::Files);
        }
        let path = self.path.clone();
        let contents = tokio::task::spawn_blocking(move || list(&path)).await;
        let contents = match contents {
            Ok(Ok(contents)) => contents,
            Ok(Err(error)) => return self.complain(error.to_string()),
            Err(error) => return self.complain(error.to_string()),
        };
        self.warned = None;
        self.take(contents);
    }

    fn complain(&mut self, error: String) {
        if self.warned.as_ref() != Some(&error) {
            warn!(error, directory = %self.path.display(), "read the static pods: what runs of them goes on");
            self.warned = Some(error);
        }
    }

    fn take(&mut self, contents: Contents) {
        self.files.retain(|name, file| {
            let stays = contents.contains_key(name);
            if let Some(pod) = file.pod.as_ref().filter(|_| !stays) {
                let (namespace, pod) = key(&pod.pod);
                info!(file = name, namespace, pod, "a static pod's file is gone");
            }
            stays
        });
        for (name, content) in contents {
            let before = self.files.remove(&name);
            let unchanged = before.as_ref().is_some_and(|file| file.content == content);
            let pod = before.and_then(|file| file.pod);
            let file = if unchanged {
                File { content, pod }
            } else {
                let pod = self.parse(&name, &content).or(pod);
                File { content, pod }
            };
            self.files.insert(name, file);
        }
    }

    /// The pod of a file that changed; `None`, and a warning, if there is none in it.
    fn parse(&self, name: &str, content: &Result<String, String>) -> Option<StaticPod> {
        let parsed = match content {
            // It is being written.
            Ok(text) if text.trim().is_empty() => return None,
            Ok(text) => manifest::parse(text, name, &self.node, Timestamp::now()),
            Err(error) => Err(error.clone()),
        };
        let file = self.path.join(name);
        match parsed {
            Err(error) => {
                warn!(file = %file.display(), error, "no static pod can be read from this file; what ran of it goes on");
                None
            }
            Ok(Parsed { pod, unknown }) => {
                if !unknown.is_empty() {
                    let fields = unknown.join(", ");
                    warn!(file = %file.display(), fields, "a static pod has unknown fields: they are left out");
                }
                let (own, mut others) = (key(&pod.pod), self.files.values());
                if others.any(|other| other.pod.as_ref().is_some_and(|pod| key(&pod.pod) == own)) {
                    let (namespace, pod) = own;
                    warn!(file = %file.display(), namespace, pod, "two files hold a static pod of this name: one of them runs");
                }
                Some(pod)
            }
        }
    }
}

/// Reads every file. A directory that is not there holds none.
fn list(path: &Path) -> io::Result<Contents> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contents::new()),
        Err(error) => return Err(error),
    };
    let mut contents = Contents::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        // A link is as good as what it leads to.
        match std::fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_file() => {
                let text = text(&entry.path()).map_err(|error| error.to_string());
                contents.insert(name, text);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                contents.insert(name, Err(error.to_string()));
            }
        }
    }
    Ok(contents)
}

fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        let message = format!("it is larger than {LARGEST} bytes");
        return Err(io::Error::other(message));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, image: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}"
        )
    }

    /// The pods' names and images.
    async fn read(directory: &mut Directory) -> Vec<String> {
        directory.read().await;
        let image = |pod: &StaticPod| {
            let spec = pod.pod.spec.clone().unwrap_or_default();
            format!(
                "{} {}",
                key(&pod.pod).1,
                spec.containers[0].image.clone().unwrap_or_default()
            )
        };
        directory.pods().map(image).collect()
    }

    #[tokio::test]
    async fn a_broken_file_leaves_what_runs() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("pods");
        let mut directory = Directory::new(&path, "n1", Changes::new());
        assert!(read(&mut directory).await.is_empty());
        std::fs::create_dir(&path).expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(path.join(name), text).expect("write");
        write("a.yaml", &pod("a", "one"));
        write("b.yaml", "kind: [");
        write(".c.yaml", &pod("c", "one"));
        std::fs::create_dir(path.join("d")).expect("a directory");
        assert_eq!(read(&mut directory).await, ["a-n1 one"]);
        write("a.yaml", "kind: Podd");
        write("b.yaml", &pod("b", "one"));
        assert_eq!(read(&mut directory).await, ["a-n1 one", "b-n1 one"]);
        write("a.yaml", &pod("a", "two"));
        write("z.yaml", &pod("a", "three"));
        assert_eq!(read(&mut directory).await, ["a-n1 two", "b-n1 one"]);
        std::fs::remove_file(path.join("a.yaml")).expect("remove");
        assert_eq!(read(&mut directory).await, ["b-n1 one", "a-n1 three"]);
    }
}
