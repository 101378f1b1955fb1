//! Every namespace has the ConfigMap `kube-root-ca.crt`, with the certificate by which pods know the apiserver.
//!
//! Reads `Namespace` and the ConfigMaps of that name; creates and patches those.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};

use super::Access;
use crate::cache::Listener;
use crate::error::{Error, within_opt};
use crate::key::Key;
use crate::queue::{Action, Queue};

pub(super) const NAME: &str = "kube-root-ca.crt";
const ENTRY: &str = "ca.crt";

/// Works on one namespace; a key's namespace is its name.
pub(super) async fn reconcile(access: Arc<Access>, key: Key) -> Result<Action, Error> {
    let namespace = &key.namespace;
    if !access.is_active(namespace) {
        return Ok(Action::AwaitChange);
    }
    let api: Api<ConfigMap> = Api::namespaced(access.context.client.clone(), namespace);
    let certificate = access.authority.root_certificate();
    let written = match access.bundles.get(&Key::new(namespace, NAME)) {
        None => {
            let mut bundle = ConfigMap {
                data: Some([(ENTRY.to_owned(), certificate.to_owned())].into()),
                ..ConfigMap::default()
            };
            bundle.metadata.name = Some(NAME.to_owned());
            within_opt(api.create(&PostParams::default(), &bundle)).await
        }
        Some(bundle) => {
            let Some(data) = plan(&bundle, certificate) else {
                return Ok(Action::AwaitChange);
            };
            let patch = Patch::Merge(json!({"data": data}));
            within_opt(api.patch(NAME, &PatchParams::default(), &patch)).await
        }
    };
    match written {
        // The namespace is going, or the watch will tell of another's write.
        Err(Error::Conflict(_) | Error::Refused(_)) => {}
        written => written?
            .into_iter()
            .for_each(|bundle| access.bundles.apply(bundle)),
    }
    Ok(Action::AwaitChange)
}

/// The merge patch that makes the data right; `None` if it is. Pure.
fn plan(bundle: &ConfigMap, certificate: &str) -> Option<Map<String, Value>> {
    let data = bundle.data.iter().flatten();
    let mut patch: Map<String, Value> = data
        .filter(|(name, _)| *name != ENTRY)
        .map(|(name, _)| (name.clone(), Value::Null))
        .collect();
    let own = bundle.data.as_ref().and_then(|data| data.get(ENTRY));
    if own.is_none_or(|own| own != certificate) {
        patch.insert(ENTRY.to_owned(), certificate.into());
    }
    (!patch.is_empty()).then_some(patch)
}

/// One that was changed or deleted is put right.
pub(super) fn on_bundle(queue: &Queue<Key>) -> Listener<ConfigMap> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        if let Some(bundle) = new.or(old) {
            queue.add(Key::new(&Key::of(&**bundle).namespace, ""));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_certificate_stands_there() {
        let bundle = |entries: &[(&str, &str)]| ConfigMap {
            data: Some(
                entries
                    .iter()
                    .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                    .collect(),
            ),
            ..ConfigMap::default()
        };
        let patch = |entries| plan(&bundle(entries), "PEM").map(Value::Object);
        assert_eq!(patch(&[("ca.crt", "PEM")]), None);
        assert_eq!(patch(&[]), Some(json!({"ca.crt": "PEM"})));
        assert_eq!(
            patch(&[("ca.crt", "old"), ("more", "x")]),
            Some(json!({"ca.crt": "PEM", "more": null}))
        );
    }
}
