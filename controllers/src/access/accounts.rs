//! Every namespace has a ServiceAccount named `default`.
//!
//! Reads `Namespace` and `ServiceAccount`; creates `ServiceAccount`. Never changes one.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;

use super::Access;
use crate::cache::Listener;
use crate::error::{Error, within_opt};
use crate::key::Key;
use crate::queue::{Action, Queue};

const NAME: &str = "default";

/// Works on one namespace; a key's namespace is its name.
pub(super) async fn reconcile(access: Arc<Access>, key: Key) -> Result<Action, Error> {
    let namespace = &key.namespace;
    if !access.is_active(namespace) || access.accounts.get(&Key::new(namespace, NAME)).is_some() {
        return Ok(Action::AwaitChange);
    }
    let api: Api<ServiceAccount> = Api::namespaced(access.context.client.clone(), namespace);
    let mut account = ServiceAccount::default();
    account.metadata.name = Some(NAME.to_owned());
    match within_opt(api.create(&PostParams::default(), &account)).await {
        // Somebody was faster, or the namespace is going.
        Err(Error::Conflict(_) | Error::Refused(_)) => {}
        created => created?
            .into_iter()
            .for_each(|account| access.accounts.apply(account)),
    }
    Ok(Action::AwaitChange)
}

/// One that is deleted comes back.
pub(super) fn on_account(queue: &Queue<Key>) -> Listener<ServiceAccount> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        if let (Some(old), None) = (old, new) {
            let key = Key::of(&**old);
            if key.name == NAME {
                queue.add(Key::new(&key.namespace, ""));
            }
        }
    })
}
