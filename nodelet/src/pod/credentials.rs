//! Registry accounts of a pod: from its `imagePullSecrets`, and its ServiceAccount for the cluster's own registry.

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client};
use runtimes::Credentials;
use serde_json::Value;

use crate::deadline::call;

/// What the pod runs as: the cluster's own registry goes by it, whether or not the image is here already.
pub(crate) fn identity(pod: &Pod) -> Credentials {
    let name = pod.spec.as_ref().and_then(|spec| {
        let name = spec.service_account_name.as_deref();
        name.filter(|name| !name.is_empty())
    });
    Credentials::ServiceAccount {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: name.unwrap_or("default").to_owned(),
    }
}

/// The accounts for `image`'s registry; a Secret that is missing or malformed gives none, as in Kubernetes.
pub(crate) async fn credentials(client: &Client, pod: &Pod, image: &str) -> Vec<Credentials> {
    let names = pod
        .spec
        .iter()
        .flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let secrets: Api<Secret> = Api::namespaced(
        client.clone(),
        pod.metadata.namespace.as_deref().unwrap_or_default(),
    );
    let mut found = Vec::new();
    for reference in names {
        let Ok(Some(secret)) = call(secrets.get_opt(&reference.name)).await else {
            continue;
        };
        let data = secret.data.unwrap_or_default();
        if let Some(config) = data.get(".dockerconfigjson") {
            let config: Value = serde_json::from_slice(&config.0).unwrap_or_default();
            found.extend(accounts(&config["auths"], image));
        }
        // The older form has the servers at its root.
        if let Some(config) = data.get(".dockercfg") {
            let config: Value = serde_json::from_slice(&config.0).unwrap_or_default();
            found.extend(accounts(&config, image));
        }
    }
    // The most particular server first.
    found.sort_by_key(|(server, _)| std::cmp::Reverse(server.len()));
    found.into_iter().map(|(_, account)| account).collect()
}

/// A reference's registry and repository; the registry is `docker.io` if it names none.
fn parts(image: &str) -> (&str, &str) {
    match image.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => ("docker.io", image),
    }
}

/// The accounts for an image among `servers`, with the server that each is for.
fn accounts(servers: &Value, image: &str) -> Vec<(String, Credentials)> {
    let servers = servers.as_object().into_iter().flatten();
    servers
        .filter(|(server, _)| is_for(server, image))
        .filter_map(|(server, account)| Some((server.clone(), account_of(account)?)))
        .collect()
}

/// Whether a server, as Docker's configuration names it, has the image: its host, in which `*` stands for
/// part of a label, and the beginning of its path.
fn is_for(server: &str, image: &str) -> bool {
    let bare = server
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = if matches!(path, "v1" | "v2") {
        ""
    } else {
        path
    };
    let host = if host == "index.docker.io" {
        "docker.io"
    } else {
        host
    };
    let (registry, repository) = parts(image);
    let under = repository.strip_prefix(path);
    let in_path = under.is_some_and(|rest| path.is_empty() || rest.starts_with(['/', ':', '@']));
    in_path && matches_host(host, registry)
}

fn matches_host(pattern: &str, host: &str) -> bool {
    let with_port = |host: &str| {
        let (name, port) = host.split_once(':').unwrap_or((host, ""));
        (name.to_owned(), port.to_owned())
    };
    let ((pattern, wanted), (name, port)) = (with_port(pattern), with_port(host));
    let (patterns, labels) = (pattern.split('.'), name.split('.'));
    wanted == port
        && patterns.clone().count() == labels.clone().count()
        && patterns
            .zip(labels)
            .all(|(pattern, label)| match pattern.split_once('*') {
                None => pattern == label,
                Some((start, end)) => {
                    label.len() >= start.len() + end.len()
                        && label.starts_with(start)
                        && label.ends_with(end)
                }
            })
}

fn account_of(account: &Value) -> Option<Credentials> {
    let text = |name: &str| account.get(name).and_then(Value::as_str).map(str::to_owned);
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Some(Credentials::Basic { username, password });
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(text("auth")?).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some(Credentials::Basic {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(image: &str, expected: &[&str]) {
        let servers = serde_json::json!({
            "https://index.docker.io/v1/": {"auth": "YW5uOnNlY3JldA=="},
            "registry.example.org:5000": {"username": "bob", "password": "p"},
            "*.example.com": {"username": "carl", "password": "q"},
            "a.example.com/team": {"username": "dora", "password": "r"},
        });
        let mut found = accounts(&servers, image);
        found.sort_by_key(|(server, _)| std::cmp::Reverse(server.len()));
        let found: Vec<String> = found
            .into_iter()
            .map(|(_, account)| match account {
                Credentials::Basic { username, password } => format!("{username}:{password}"),
                Credentials::Anonymous | Credentials::ServiceAccount { .. } => {
                    "anonymous".to_owned()
                }
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_server_may_be_a_pattern_and_have_a_path() {
        check("b.example.com/app", &["carl:q"]);
        check("a.example.com/team/app:1", &["dora:r", "carl:q"]);
        check("a.example.com/teamwork/app:1", &["carl:q"]);
        check("a.b.example.com/app", &[]);
        check("b.example.com:5000/app", &[]);
    }

    #[test]
    fn an_account_is_used_for_its_own_registry_only() {
        check("nginx", &["ann:secret"]);
        check("library/nginx:1", &["ann:secret"]);
        check("registry.example.org:5000/team/app@sha256:00", &["bob:p"]);
        check("ghcr.io/team/app", &[]);
    }
}
