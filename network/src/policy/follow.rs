//! The watches behind [`Policies`](super::Policies).
//!
//! Policies are followed always; pods and namespaces of the whole cluster only while there is a policy:
//! a cluster without any pays nothing for them.

use std::{pin::pin, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use kube::{Api, Client};
use tokio_util::task::AbortOnDropHandle;

use super::Update;
use crate::{
    feed::{Change, changes},
    handle::Shared,
    task,
};

/// Runs until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>, client: Client) -> anyhow::Result<()> {
    let mut changes = pin!(changes(Api::<NetworkPolicy>::all(client.clone())));
    let mut peers: Option<[AbortOnDropHandle<()>; 2]> = None;
    while let Some(change) = changes.next().await {
        shared.update_policies(match change {
            Change::All(all) => Update::Policies(all),
            Change::Put(policy) => Update::Policy(policy),
            Change::Gone(policy) => Update::PolicyGone(policy),
        });
        let any = shared.policies().any();
        if any && peers.is_none() {
            peers = Some([
                task::owned(follow_pods(shared.clone(), Api::all(client.clone()))),
                task::owned(follow_namespaces(shared.clone(), Api::all(client.clone()))),
            ]);
        } else if !any && let Some(ended) = peers.take() {
            for task in &ended {
                task.abort();
            }
            for task in ended {
                // It was aborted: that it says so is no error.
                let _ = task.await;
            }
            shared.forget_peers();
        }
    }
    Ok(())
}

async fn follow_pods(shared: Arc<Shared>, api: Api<Pod>) {
    let mut changes = pin!(changes(api));
    while let Some(change) = changes.next().await {
        shared.update_policies(match change {
            Change::All(all) => Update::Pods(all),
            Change::Put(pod) => Update::Pod(pod),
            Change::Gone(pod) => Update::PodGone(pod),
        });
    }
}

async fn follow_namespaces(shared: Arc<Shared>, api: Api<Namespace>) {
    let mut changes = pin!(changes(api));
    while let Some(change) = changes.next().await {
        shared.update_policies(match change {
            Change::All(all) => Update::Namespaces(all),
            Change::Put(namespace) => Update::Namespace(namespace),
            Change::Gone(namespace) => Update::NamespaceGone(namespace),
        });
    }
}
