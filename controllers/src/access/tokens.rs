//! Fills Secrets of the type `kubernetes.io/service-account-token`, and removes those whose ServiceAccount is
//! gone.
//!
//! Reads `Secret` of that type and `ServiceAccount`; patches and deletes `Secret`.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{Access, authority::Refused};
use crate::cache::{Cache, Listener};
use crate::error::{Error, within_opt};
use crate::key::Key;
use crate::queue::{Action, Queue};

pub(super) const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// What to do about one Secret.
#[derive(PartialEq, Debug)]
enum Plan {
    Leave,
    /// Its ServiceAccount is gone, or another one has its name.
    Delete,
    /// A merge patch.
    Patch(Value),
}

/// Works on one Secret.
pub(super) async fn reconcile(access: Arc<Access>, key: Key) -> Result<Action, Error> {
    let Some(secret) = access.secrets.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let Some(name) = annotation(&secret, ACCOUNT) else {
        return Ok(Action::AwaitChange);
    };
    let client = || access.context.client.clone();
    let account = match access.accounts.get(&Key::new(&key.namespace, name)) {
        Some(account) => Some((*account).clone()),
        // It may be as young as the Secret.
        None => {
            let api: Api<ServiceAccount> = Api::namespaced(client(), &key.namespace);
            within_opt(api.get(name)).await?
        }
    };
    let certificate = access.authority.root_certificate();
    let mint = |uid: &str| {
        access
            .authority
            .secret_token(&key.namespace, name, uid, &key.name)
    };
    let plan = plan(&secret, account.as_ref(), certificate, mint)
        .map_err(|error| Error::Invalid(error.to_string()))?;
    let api: Api<Secret> = Api::namespaced(client(), &key.namespace);
    match plan {
        Plan::Leave => {}
        Plan::Delete => {
            let params = DeleteParams::default().preconditions(Preconditions {
                uid: secret.uid(),
                resource_version: secret.resource_version(),
            });
            within_opt(api.delete(&key.name, &params)).await?;
        }
        Plan::Patch(patch) => {
            let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
            if let Some(secret) = within_opt(api.patch(&key.name, &params, &patch)).await? {
                access.secrets.apply(secret);
            }
        }
    }
    Ok(Action::AwaitChange)
}

/// Decides what to change. `mint` makes a token for the ServiceAccount's uid.
fn plan(
    secret: &Secret,
    account: Option<&ServiceAccount>,
    certificate: &str,
    mint: impl Fn(&str) -> Result<String, Refused>,
) -> Result<Plan, Refused> {
    let Some(uid) = account.and_then(|account| account.metadata.uid.as_deref()) else {
        return Ok(Plan::Delete);
    };
    let named = annotation(secret, ACCOUNT_UID);
    if named.is_some_and(|named| !named.is_empty() && named != uid) {
        return Ok(Plan::Delete);
    }
    let entry = |name: &str| Some(secret.data.as_ref()?.get(name)?.0.as_slice());
    let mut data = json!({});
    if entry("token").is_none_or(<[u8]>::is_empty) {
        data["token"] = encoded(&mint(uid)?);
    }
    let namespace = secret.namespace().unwrap_or_default();
    for (name, text) in [("ca.crt", certificate), ("namespace", &namespace)] {
        if entry(name) != Some(text.as_bytes()) {
            data[name] = encoded(text);
        }
    }
    if data == json!({}) && named == Some(uid) {
        return Ok(Plan::Leave);
    }
    Ok(Plan::Patch(json!({
        "metadata": {"annotations": {ACCOUNT_UID: uid}, "resourceVersion": secret.resource_version()},
        "data": data,
    })))
}

fn encoded(text: &str) -> Value {
    json!(ByteString(text.as_bytes().to_vec()))
}

fn annotation<'a>(secret: &'a Secret, name: &str) -> Option<&'a str> {
    let annotations = secret.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

/// The ServiceAccount of a Secret, for an index.
pub(super) fn account(secret: &Secret) -> Vec<String> {
    let namespace = secret.namespace().unwrap_or_default();
    annotation(secret, ACCOUNT)
        .map(|name| format!("{namespace}/{name}"))
        .into_iter()
        .collect()
}

pub(super) fn on_secret(queue: &Queue<Key>) -> Listener<Secret> {
    let queue = queue.clone();
    Box::new(move |_, new| {
        if let Some(new) = new {
            queue.add(Key::of(&**new));
        }
    })
}

/// A ServiceAccount's Secrets come and go with it.
pub(super) fn on_account(
    secrets: &Arc<Cache<Secret>>,
    queue: &Queue<Key>,
) -> Listener<ServiceAccount> {
    let (secrets, queue) = (Arc::downgrade(secrets), queue.clone());
    Box::new(move |old, new| {
        let (Some(account), Some(secrets)) = (new.or(old), secrets.upgrade()) else {
            return;
        };
        for secret in secrets.by("account", &Key::of(&**account).to_string()) {
            queue.add(Key::of(&*secret));
        }
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(secret: Value, account_uid: Option<&str>, expected: Expect) {
        let mut object = json!({
            "metadata": {"name": "t", "namespace": "a", "resourceVersion": "7",
                "annotations": {ACCOUNT: "bot"}},
        });
        if let Some(uid) = secret["uid"].as_str() {
            object["metadata"]["annotations"][ACCOUNT_UID] = uid.into();
        }
        object["data"] = secret["data"].clone();
        let secret: Secret = serde_json::from_value(object).unwrap();
        let account = account_uid.map(|uid| {
            let mut account = ServiceAccount::default();
            account.metadata.uid = Some(uid.to_owned());
            account
        });
        let plan = plan(&secret, account.as_ref(), "PEM", |uid| {
            Ok(format!("for {uid}"))
        });
        expected.assert_eq(&match plan.unwrap() {
            Plan::Patch(patch) => patch.to_string(),
            other => format!("{other:?}"),
        });
    }

    #[test]
    fn a_secret_gets_what_it_lacks() {
        let full = json!({"token": "eA==", "ca.crt": "UEVN", "namespace": "YQ=="});
        check(
            json!({}),
            Some("1"),
            expect![[
                r#"{"data":{"ca.crt":"UEVN","namespace":"YQ==","token":"Zm9yIDE="},"metadata":{"annotations":{"kubernetes.io/service-account.uid":"1"},"resourceVersion":"7"}}"#
            ]],
        );
        check(
            json!({"uid": "1", "data": full}),
            Some("1"),
            expect!["Leave"],
        );
        let old = json!({"token": "eA==", "ca.crt": "b2xk", "namespace": "YQ=="});
        check(
            json!({"uid": "1", "data": old}),
            Some("1"),
            expect![[
                r#"{"data":{"ca.crt":"UEVN"},"metadata":{"annotations":{"kubernetes.io/service-account.uid":"1"},"resourceVersion":"7"}}"#
            ]],
        );
    }

    #[test]
    fn a_secret_without_its_account_goes() {
        check(json!({"uid": "1"}), None, expect!["Delete"]);
        check(json!({"uid": "1"}), Some("2"), expect!["Delete"]);
    }
}
