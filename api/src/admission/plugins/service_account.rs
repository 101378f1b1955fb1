//! ServiceAccount: a pod runs as one that exists, pulls with its secrets, and finds a token of it in its files.
//!
//! The token's volume is added to new pods unless the pod, or else its account, says
//! `automountServiceAccountToken: false`; a container that mounts something at its place keeps that.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{is_new_pod, is_pod};
use crate::{
    admission::{Review, objects},
    error::Error,
    kinds::value::{each, fill, fill_text, items, part, put, text},
    verbs::metadata,
};

const DEFAULT: &str = "default";
/// Where a container finds the token, the cluster's certificate and its namespace.
const TOKEN_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN_VOLUME: &str = "kube-api-access-";
/// An hour, and what tells such a token from one that somebody asked for.
const TOKEN_SECONDS: i64 = 3607;
/// Set by a nodelet on the pods that it runs without being asked.
const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) fn mutate(
    review: &Review<'_>,
    pod: &mut Value,
    old: Option<&Value>,
) -> Result<(), Error> {
    if !is_pod(review) || is_mirror(pod) {
        return Ok(());
    }
    let name = old.map_or(DEFAULT, |old| text(old, "/spec/serviceAccountName"));
    let spec = &mut pod["spec"];
    fill_text(spec, "serviceAccountName", name);
    let name = text(spec, "/serviceAccountName").to_owned();
    fill_text(spec, "serviceAccount", &name);
    if !is_new_pod(review) {
        return Ok(());
    }
    let account = find(review, &name)?;
    let secrets = part(&account, "/imagePullSecrets");
    if items(spec, "/imagePullSecrets").is_empty()
        && !items(&account, "/imagePullSecrets").is_empty()
    {
        put(spec, "imagePullSecrets", secrets.clone());
    }
    if mounts_token(spec, &account) {
        mount_token(spec);
    }
    Ok(())
}

/// Whether pods find a token: as the pod says, else as its account does, else yes.
fn mounts_token(spec: &Value, account: &Value) -> bool {
    let said = |object: &Value| object["automountServiceAccountToken"].as_bool();
    said(spec).or_else(|| said(account)).unwrap_or(true)
}

/// Gives every container that has nothing there the token's volume. Pure but for the volume's name.
fn mount_token(spec: &mut Value) {
    let mut volumes = items(spec, "/volumes").iter();
    let own = volumes.find(|volume| {
        text(volume, "/name").starts_with(TOKEN_VOLUME) && volume["projected"].is_object()
    });
    let (name, is_new) = match own {
        Some(volume) => (text(volume, "/name").to_owned(), false),
        None => (metadata::generate_name(TOKEN_VOLUME), true),
    };
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in each(spec, list) {
            let mut mounts = items(container, "/volumeMounts").iter();
            if mounts.any(|mount| text(mount, "/mountPath") == TOKEN_DIRECTORY) {
                continue;
            }
            fill(container, "volumeMounts", Vec::<Value>::new());
            if let Some(mounts) = container["volumeMounts"].as_array_mut() {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": TOKEN_DIRECTORY}));
                used = true;
            }
        }
    }
    if used && is_new {
        fill(spec, "volumes", Vec::<Value>::new());
        if let Some(volumes) = spec["volumes"].as_array_mut() {
            volumes.push(token_volume(&name));
        }
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
        ]}},
    ]}})
}

pub(super) fn validate(review: &Review<'_>, pod: &Value) -> Result<(), Error> {
    if !is_new_pod(review) {
        return Ok(());
    }
    let refuse = |message: &str| Err(objects::forbidden(review, message));
    let name = text(pod, "/spec/serviceAccountName");
    if !is_mirror(pod) {
        return find(review, name).map(drop);
    }
    // As anyone could run a pod as anyone by saying that it is a mirror.
    if !name.is_empty() {
        return refuse("a mirror pod may not reference service accounts");
    }
    let refers = items(pod, "/spec/volumes").iter().any(|volume| {
        volume["projected"]["sources"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|source| !source["serviceAccountToken"].is_null())
    });
    if refers {
        return refuse("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

fn is_mirror(pod: &Value) -> bool {
    !pod["metadata"]["annotations"][MIRROR].is_null()
}

fn find(review: &Review<'_>, name: &str) -> Result<Arc<Value>, Error> {
    let namespace = &review.call.namespace;
    let account = objects::find(review.call, "", "serviceaccounts", namespace, name)?;
    account.ok_or_else(|| {
        objects::forbidden(
            review,
            format!(
                "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(spec: Value, expect: Expect) {
        let mut spec = spec;
        mount_token(&mut spec);
        let mut lines = String::new();
        for list in ["initContainers", "containers"] {
            for container in items(&spec, &format!("/{list}")) {
                let mounts = items(container, "/volumeMounts").iter().map(|mount| {
                    let name = text(mount, "/name");
                    let name = name
                        .strip_prefix(TOKEN_VOLUME)
                        .map_or(name, |_| TOKEN_VOLUME);
                    format!("{name}:{}", text(mount, "/mountPath"))
                });
                let mounts: Vec<String> = mounts.collect();
                lines += &format!("{} {}\n", text(container, "/name"), mounts.join(" "));
            }
        }
        lines += &format!("{} volumes\n", items(&spec, "/volumes").len());
        expect.assert_eq(&lines);
    }

    #[test]
    fn every_container_finds_the_token_once() {
        check(
            json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a", "volumeMounts": [{"name": "d", "mountPath": "/d"}]}, {"name": "b"}]}),
            expect![[r#"
                i kube-api-access-:/var/run/secrets/kubernetes.io/serviceaccount
                a d:/d kube-api-access-:/var/run/secrets/kubernetes.io/serviceaccount
                b kube-api-access-:/var/run/secrets/kubernetes.io/serviceaccount
                1 volumes
            "#]],
        );
    }

    #[test]
    fn what_a_container_mounts_there_stays_and_a_volume_that_is_there_is_used() {
        let own = json!({"name": "own", "mountPath": TOKEN_DIRECTORY});
        check(
            json!({"containers": [{"name": "a", "volumeMounts": [own]}], "volumes": [{"name": "own"}]}),
            expect![[r#"
                a own:/var/run/secrets/kubernetes.io/serviceaccount
                1 volumes
            "#]],
        );
        check(
            json!({"containers": [{"name": "a"}], "volumes": [{"name": "kube-api-access-abcde", "projected": {}}]}),
            expect![[r#"
                a kube-api-access-:/var/run/secrets/kubernetes.io/serviceaccount
                1 volumes
            "#]],
        );
    }

    #[test]
    fn the_pod_decides_before_its_account() {
        let says = |automount: Value| json!({"automountServiceAccountToken": automount});
        let (yes, no, nothing) = (says(true.into()), says(false.into()), says(Value::Null));
        assert!(mounts_token(&nothing, &nothing) && mounts_token(&yes, &no));
        assert!(!mounts_token(&nothing, &no) && !mounts_token(&no, &yes));
    }
}
