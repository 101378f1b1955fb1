//! A container's environment, complete and expanded.
//!
//! Order and precedence as in Kubernetes: service variables, then `envFrom`, then `env`; a later one of the same
//! name wins. Reads ConfigMaps, Secrets and files of the pod's volumes when a container starts, each once, and keeps
//! nothing of them. Every key of an object is a name: since Kubernetes 1.34 all of printable ASCII but `=` is.

use std::{collections::BTreeMap, path::PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVarSource, FileKeySelector, Pod, ResourceFieldSelector, Secret,
};
use kube::{Api, Client};

use super::env_file;
use crate::{deadline::call, quantity, services::Services, volume};

/// What the environment may tell besides the pod itself.
pub(crate) struct Surroundings<'a> {
    pub(crate) client: &'a Client,
    pub(crate) services: &'a Services,
    pub(crate) node_name: &'a str,
    pub(crate) host_ip: String,
    pub(crate) pod_ip: String,
    pub(crate) hostname: String,
    /// The node's allocatable resources, for `resourceFieldRef` without a limit.
    pub(crate) allocatable: &'a BTreeMap<String, String>,
    /// Where the pod's volume of a name is.
    pub(crate) volume: &'a (dyn Fn(&str) -> Option<PathBuf> + Sync),
}

/// The environment of a container; the error is what `CreateContainerConfigError` says.
pub(crate) async fn environment(
    pod: &Pod,
    container: &Container,
    around: &Surroundings<'_>,
) -> Result<Vec<(String, String)>, String> {
    if !around.services.synced().await {
        return Err(
            "services have not yet been read at least once, cannot construct envvars".to_owned(),
        );
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.enable_service_links)
        .unwrap_or(true);
    let mut env = Variables::default();
    env.set("HOSTNAME", around.hostname.clone());
    for (name, value) in around.services.variables(namespace, links) {
        env.set(&name, value);
    }
    let mut sources = Sources {
        client: around.client,
        namespace,
        config_maps: BTreeMap::new(),
        secrets: BTreeMap::new(),
    };
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let mut values = BTreeMap::new();
        if let Some(from) = &from.config_map_ref {
            values = sources
                .config_map(&from.name, from.optional == Some(true))
                .await?
                .clone();
        }
        if let Some(from) = &from.secret_ref {
            values = sources
                .secret(&from.name, from.optional == Some(true))
                .await?
                .clone();
        }
        for (key, value) in values {
            env.set(&format!("{prefix}{key}"), value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(from)) => value_from(pod, container, from, around, &mut sources).await?,
            (value, None) => Some(expand(value.as_deref().unwrap_or_default(), |name| {
                env.get(name)
            })),
        };
        if let Some(value) = value {
            env.set(&variable.name, value);
        }
    }
    Ok(env.list)
}

/// Names and values in the order in which they were first set.
#[derive(Default)]
struct Variables {
    list: Vec<(String, String)>,
}

impl Variables {
    fn set(&mut self, name: &str, value: String) {
        match self.list.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value,
            None => self.list.push((name.to_owned(), value)),
        }
    }

    fn get(&self, name: &str) -> Option<String> {
        self.list
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.clone())
    }
}

/// Replaces `$(NAME)` by its value; `$$` is a dollar sign, and what is not known stays as written.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&rest[at..at + name.len() + 3]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// ConfigMaps and Secrets that one container asks for, read once each.
struct Sources<'a> {
    client: &'a Client,
    namespace: &'a str,
    config_maps: BTreeMap<String, BTreeMap<String, String>>,
    secrets: BTreeMap<String, BTreeMap<String, String>>,
}

impl Sources<'_> {
    async fn config_map(
        &mut self,
        name: &str,
        optional: bool,
    ) -> Result<&BTreeMap<String, String>, String> {
        if !self.config_maps.contains_key(name) {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), self.namespace);
            let data = match call(api.get_opt(name))
                .await
                .map_err(|error| error.to_string())?
            {
                Some(object) => object.data.unwrap_or_default(),
                None if optional => BTreeMap::new(),
                None => return Err(format!("configmap {name:?} not found")),
            };
            self.config_maps.insert(name.to_owned(), data);
        }
        Ok(&self.config_maps[name])
    }

    async fn secret(
        &mut self,
        name: &str,
        optional: bool,
    ) -> Result<&BTreeMap<String, String>, String> {
        if !self.secrets.contains_key(name) {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace);
            let data = match call(api.get_opt(name))
                .await
                .map_err(|error| error.to_string())?
            {
                Some(object) => object.data.unwrap_or_default(),
                None if optional => BTreeMap::new(),
                None => return Err(format!("secret {name:?} not found")),
            };
            let text = data
                .into_iter()
                .map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()));
            self.secrets.insert(name.to_owned(), text.collect());
        }
        Ok(&self.secrets[name])
    }
}

async fn value_from(
    pod: &Pod,
    container: &Container,
    from: &EnvVarSource,
    around: &Surroundings<'_>,
    sources: &mut Sources<'_>,
) -> Result<Option<String>, String> {
    let namespace = sources.namespace.to_owned();
    if let Some(from) = &from.config_map_key_ref {
        let optional = from.optional == Some(true);
        let value = sources
            .config_map(&from.name, optional)
            .await?
            .get(&from.key)
            .cloned();
        return match value {
            None if !optional => Err(format!(
                "couldn't find key {} in ConfigMap {namespace}/{}",
                from.key, from.name
            )),
            value => Ok(value),
        };
    }
    if let Some(from) = &from.secret_key_ref {
        let optional = from.optional == Some(true);
        let value = sources
            .secret(&from.name, optional)
            .await?
            .get(&from.key)
            .cloned();
        return match value {
            None if !optional => Err(format!(
                "couldn't find key {} in Secret {namespace}/{}",
                from.key, from.name
            )),
            value => Ok(value),
        };
    }
    if let Some(from) = &from.field_ref {
        return field(pod, &from.field_path, around).map(Some);
    }
    if let Some(from) = &from.resource_field_ref {
        let source = match from.container_name.as_deref() {
            None | Some("") => container,
            Some(name) => self::container(pod, name)?,
        };
        return resource(source, from, around.allocatable).map(Some);
    }
    if let Some(from) = &from.file_key_ref {
        return file_key(from, around);
    }
    Err("valueFrom names no source that this node knows: use configMapKeyRef, secretKeyRef, fieldRef, resourceFieldRef or fileKeyRef".to_owned())
}

/// A variable of a file in one of the pod's volumes.
fn file_key(from: &FileKeySelector, around: &Surroundings<'_>) -> Result<Option<String>, String> {
    let (key, path) = (&from.key, &from.path);
    let optional = from.optional == Some(true);
    let Some(directory) = (around.volume)(&from.volume_name) else {
        return Err(format!(
            "cannot find the volume {:?} referenced by FileKeyRef",
            from.volume_name
        ));
    };
    let text = match volume::read_file(&directory, path, env_file::MOST_BYTES) {
        Ok(text) => text,
        Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("couldn't read env file {path:?}: {error}")),
    };
    match env_file::find(&text, key)
        .map_err(|why| format!("couldn't parse env file {path:?}: {why}"))?
    {
        Some(value) => Ok(Some(value)),
        None if optional => Ok(None),
        None => Err(format!(
            "environment variable key {key:?} not found in file {path:?}"
        )),
    }
}

/// The pod's container or init container of this name.
pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> Result<&'a Container, String> {
    let spec = pod.spec.iter();
    let mut containers = spec.flat_map(|spec| {
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
    });
    containers
        .find(|container| container.name == name)
        .ok_or_else(|| format!("container {name} not found"))
}

/// A field of the pod, as the downward API names it.
fn field(pod: &Pod, path: &str, around: &Surroundings<'_>) -> Result<String, String> {
    let account = || {
        pod.spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone())
    };
    Ok(match path {
        "spec.nodeName" => around.node_name.to_owned(),
        "spec.serviceAccountName" => account().unwrap_or_else(|| "default".to_owned()),
        "status.hostIP" | "status.hostIPs" => around.host_ip.clone(),
        "status.podIP" | "status.podIPs" => around.pod_ip.clone(),
        _ => return metadata(pod, path).ok_or_else(|| format!("unsupported fieldPath: {path}")),
    })
}

/// A field of the pod's metadata, or one label or annotation (empty if it is not there); `None` for other fields.
pub(crate) fn metadata(pod: &Pod, path: &str) -> Option<String> {
    let metadata = &pod.metadata;
    let subscript = |prefix: &str| {
        path.strip_prefix(prefix)?
            .strip_prefix("['")?
            .strip_suffix("']")
    };
    let of = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref()
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or_default()
    };
    if let Some(key) = subscript("metadata.labels") {
        return Some(of(&metadata.labels, key));
    }
    if let Some(key) = subscript("metadata.annotations") {
        return Some(of(&metadata.annotations, key));
    }
    match path {
        "metadata.name" => Some(metadata.name.clone().unwrap_or_default()),
        "metadata.namespace" => Some(metadata.namespace.clone().unwrap_or_default()),
        "metadata.uid" => Some(metadata.uid.clone().unwrap_or_default()),
        _ => None,
    }
}

/// A container's limit or request, counted in the divisor; a limit that is not set is what the node has.
pub(crate) fn resource(
    container: &Container,
    from: &ResourceFieldSelector,
    allocatable: &BTreeMap<String, String>,
) -> Result<String, String> {
    let resource = &from.resource;
    let divisor = match &from.divisor {
        Some(divisor) if !matches!(divisor.0.as_str(), "0" | "") => divisor.0.as_str(),
        _ => "1",
    };
    let resources = container.resources.clone().unwrap_or_default();
    let (kind, name) = resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource: {resource}"))?;
    let find = |map: &Option<BTreeMap<String, _>>| {
        map.as_ref()
            .and_then(|map| map.get(name))
            .map(|q: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| q.0.clone())
    };
    let text = match kind {
        "limits" => find(&resources.limits).or_else(|| allocatable.get(name).cloned()),
        "requests" => find(&resources.requests)
            .or_else(|| find(&resources.limits))
            .or_else(|| Some("0".to_owned())),
        _ => None,
    };
    let text = text.ok_or_else(|| format!("unsupported container resource: {resource}"))?;
    quantity::divided(&text, divisor)
        .map(|count| count.to_string())
        .ok_or_else(|| format!("cannot divide {resource} {text:?} by {divisor:?}"))
}

/// Milliseconds as Kubernetes prints how long a pull took.
pub(crate) fn took(from: Timestamp, to: Timestamp) -> String {
    let millis = to.duration_since(from).as_millis().max(0);
    if millis < 1_000 {
        format!("{millis}ms")
    } else {
        format!("{}.{:03}s", millis / 1_000, millis % 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        assert_eq!(expand(text, lookup), expected);
    }

    #[test]
    fn references_expand_and_what_is_unknown_stays() {
        check("$(A)-$(A)", "1-1");
        check("$(B)", "$(B)");
        check("$$(A)", "$(A)");
        check("$A costs $", "$A costs $");
        check("$(A", "$(A");
        check("", "");
    }
}
