//! What containers see of volumes that are set up.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use runtimes::{ImageKind, Mount, Propagation};

use super::{binds, live::Source, memory, pod_directory, sub_path};
use crate::pod::{environment::expand, worker::Context};

/// What a container of an image of this kind sees of its pod's volumes. `env` answers the container's variables, for
/// `subPathExpr`.
///
/// # Errors
/// A path that leads out of its volume, a variable that is not there, a volume that is not set up.
pub(crate) fn mounts(
    context: &Context,
    pod: &Pod,
    container: &Container,
    kind: ImageKind,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Mount>, String> {
    let asked = container.volume_mounts.as_deref().unwrap_or_default();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let entry = context.volumes.find(uid);
    let mut mounts = Vec::with_capacity(asked.len());
    for (place, mount) in asked.iter().enumerate() {
        let source = entry
            .as_ref()
            .and_then(|entry| entry.known().sources.get(&mount.name).cloned());
        let Some(source) = source else {
            return Err(format!(
                "cannot find volume {:?} to mount into container {:?}",
                mount.name, container.name
            ));
        };
        let path = match wanted_part(mount, env)? {
            None => source.path,
            Some(sub_path) => {
                let aside = pod_directory(&context.config, uid);
                let aside = (kind == ImageKind::Oci).then_some(aside.as_path());
                part(&source, &sub_path, &container.name, place, aside).map_err(|error| {
                    format!(
                        "failed to prepare subPath for volumeMount {:?} of container {:?}: {error}",
                        mount.name, container.name
                    )
                })?
            }
        };
        let read_only = source.read_only || mount.read_only == Some(true);
        mounts.push(Mount {
            propagation: propagation(mount),
            ..Mount::new(path, destination(&mount.mount_path), read_only)
        });
    }
    Ok(mounts)
}

fn propagation(mount: &VolumeMount) -> Propagation {
    match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => Propagation::HostToContainer,
        Some("Bidirectional") => Propagation::Bidirectional,
        _ => Propagation::Private,
    }
}

/// Where a part of a volume is: if it is to be mounted by its path, mounted once more in the pod's directory `aside`. Of one whose files are replaced, the part as it is now is kept for the container, which
/// sees it for as long as it runs, as in Kubernetes.
fn part(
    source: &Source,
    path: &str,
    container: &str,
    place: usize,
    aside: Option<&Path>,
) -> std::io::Result<PathBuf> {
    if !source.replaced
        && let Some(pod_directory) = aside
    {
        let found = sub_path::open(&source.path, path)?;
        return binds::bind(pod_directory, container, place, &found);
    }
    let found = sub_path::find(&source.path, path)?;
    if !source.replaced {
        return Ok(found);
    }
    // No volume's name has a dot.
    let kept = source.path.with_extension("parts").join(container);
    let kept = kept.join(place.to_string());
    if kept
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.is_dir())
    {
        fs::remove_dir_all(&kept)?;
    } else if kept.exists() {
        fs::remove_file(&kept)?;
    }
    if let Some(above) = kept.parent() {
        memory::make_private(above)?;
    }
    keep(&found, &kept)?;
    Ok(kept)
}

/// Gives a file another name, and a directory's files others below a new directory.
fn keep(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        return fs::hard_link(from, to);
    }
    memory::make(to, 0o755)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        keep(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The file or directory of a volume that is mounted, if not the whole.
fn wanted_part(
    mount: &VolumeMount,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, String> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let path = match (given(&mount.sub_path_expr), given(&mount.sub_path)) {
        (Some(expression), _) => {
            let missing = RefCell::new(BTreeSet::new());
            let path = expand(&expression, |name| {
                let value = env(name);
                if value.is_none() {
                    missing.borrow_mut().insert(name.to_owned());
                }
                value
            });
            if let Some(name) = missing.into_inner().first() {
                return Err(format!("missing value for {name:?}"));
            }
            path
        }
        (None, Some(path)) => path,
        (None, None) => return Ok(None),
    };
    if path.starts_with('/') {
        return Err(format!(
            "error SubPath `{path}` must not be an absolute path"
        ));
    }
    if path.split('/').any(|step| step == "..") {
        return Err(format!(
            "unable to provision SubPath `{path}`: must not contain '..'"
        ));
    }
    Ok(Some(path))
}

/// An absolute path in normal form.
fn destination(path: &str) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}
