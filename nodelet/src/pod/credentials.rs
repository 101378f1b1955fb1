//! Registry accounts from a pod's `imagePullSecrets`.

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client};
use runtimes::Credentials;
use serde_json::Value;

use crate::deadline::call;

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
            found.extend(accounts(&config.0, registry(image)));
        }
    }
    found
}

/// The registry that a reference names; `docker.io` if it names none.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// The accounts for `registry` in a Docker client's configuration.
fn accounts(config: &[u8], registry: &str) -> Vec<Credentials> {
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    let auths = config.get("auths").and_then(Value::as_object);
    auths
        .into_iter()
        .flatten()
        .filter(|(server, _)| host(server) == registry)
        .filter_map(|(_, account)| account_of(account))
        .collect()
}

/// The host of a server as Docker's configuration names it.
fn host(server: &str) -> &str {
    let bare = server
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or(bare);
    if host == "index.docker.io" {
        "docker.io"
    } else {
        host
    }
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
        let config = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "YW5uOnNlY3JldA=="},
            "registry.example.org:5000": {"username": "bob", "password": "p"}
        }}"#;
        let found: Vec<String> = accounts(config, registry(image))
            .into_iter()
            .map(|account| match account {
                Credentials::Basic { username, password } => format!("{username}:{password}"),
                Credentials::Anonymous => "anonymous".to_owned(),
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn an_account_is_used_for_its_own_registry_only() {
        check("nginx", &["ann:secret"]);
        check("library/nginx:1", &["ann:secret"]);
        check("registry.example.org:5000/team/app@sha256:00", &["bob:p"]);
        check("ghcr.io/team/app", &[]);
    }
}
