//! ServiceAccount: a pod runs as one that exists, and pulls with its secrets.
//!
//! A token is not mounted into pods: the nodelet mounts no volumes yet, and a pod with a volume would
//! not start.

use std::sync::Arc;

use serde_json::Value;

use super::{is_new_pod, is_pod};
use crate::{
    admission::{Review, objects},
    error::Error,
    kinds::value::{fill_text, items, part, put, text},
};

const DEFAULT: &str = "default";
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
    Ok(())
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
