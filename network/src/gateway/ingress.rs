//! What the cluster is told about Ingresses: the class that is ours, where each is reached, and what it does not get.
//!
//! Every gateway of a cluster writes the same: the addresses of all nodes. Who comes second finds it done.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{Node, ObjectReference},
    networking::v1::{Ingress, IngressClass},
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
    runtime::{
        events::{Event, EventType, Recorder, Reporter},
        watcher,
    },
};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    CONTROLLER, Shared,
    routes::{book::Claimed, claim::Conflict},
};
use crate::feed::{Change, changes_as};

/// The class' name.
const CLASS: &str = "wk";
/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// What changes together is written together.
const GATHER: Duration = Duration::from_millis(100);
/// What could not be written is tried again after this long.
const RETRY: Duration = Duration::from_secs(5);

/// Runs until it is dropped.
pub(super) async fn run(shared: Arc<Shared>, client: Client) -> anyhow::Result<()> {
    while !ensure_class(&client).await {
        sleep(RETRY).await;
    }
    let mut reporter = Reports {
        recorder: Recorder::new(client.clone(), Reporter::from("wk-gateway")),
        client: client.clone(),
        told: BTreeSet::new(),
    };
    let nodes: Api<Node> = Api::all(client);
    let mut nodes = pin!(changes_as(nodes, watcher::Config::default(), address));
    let mut known: Option<BTreeMap<String, Option<String>>> = None;
    let mut changes = shared.changes.subscribe();
    let mut retry: Option<Instant> = None;
    loop {
        let again = async {
            match retry {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(change) = nodes.next() => match change {
                Change::All(all) => known = Some(all.into_iter().collect()),
                Change::Put((name, ip)) => drop(known.get_or_insert_default().insert(name, ip)),
                Change::Gone((name, _)) => drop(known.get_or_insert_default().remove(&name)),
            },
            changed = changes.changed() => changed?,
            () = again => {}
        }
        let Some(nodes) = known.as_ref().filter(|_| *shared.listed.borrow()) else {
            continue;
        };
        sleep(GATHER).await;
        changes.mark_unchanged();
        let addresses: BTreeSet<&str> = nodes.values().flatten().map(String::as_str).collect();
        let (claimed, conflicts) = {
            let book = shared.book();
            (book.claimed(), book.conflicts())
        };
        let done = reporter.report(&claimed, conflicts, &addresses).await;
        retry = (!done).then(|| Instant::now() + RETRY);
    }
}

/// A node's address, if it is ready.
fn address(node: Node) -> (String, Option<String>) {
    let status = node.status.unwrap_or_default();
    let mut conditions = status.conditions.iter().flatten();
    let ready = conditions.any(|each| each.type_ == "Ready" && each.status == "True");
    let mut addresses = status.addresses.into_iter().flatten();
    let internal = addresses.find(|each| each.type_ == "InternalIP");
    let ip = internal.map(|each| each.address).filter(|_| ready);
    (node.metadata.name.unwrap_or_default(), ip)
}

/// Makes the class, the default of a cluster that has none, unless it is there.
async fn ensure_class(client: &Client) -> bool {
    let api: Api<IngressClass> = Api::all(client.clone());
    let default = "ingressclass.kubernetes.io/is-default-class";
    let made = async {
        let there = api.list(&ListParams::default()).await?.items;
        let name = |class: &IngressClass| class.metadata.name.clone();
        if there
            .iter()
            .any(|class| name(class).as_deref() == Some(CLASS))
        {
            return Ok(());
        }
        let other = there.iter().any(|class| {
            let annotations = class.metadata.annotations.as_ref();
            annotations
                .and_then(|all| all.get(default))
                .map(String::as_str)
                == Some("true")
        });
        let class: IngressClass = serde_json::from_value(json!({
            "metadata": {"name": CLASS, "annotations": {default: (!other).to_string()}},
            "spec": {"controller": CONTROLLER},
        }))
        .map_err(kube::Error::SerdeError)?;
        match api.create(&PostParams::default(), &class).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            made => made.map(drop),
        }
    };
    match timeout(DEADLINE, made).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "could not make the IngressClass {CLASS}");
            false
        }
        Err(_) => false,
    }
}

struct Reports {
    client: Client,
    recorder: Recorder,
    /// Conflicts that were told about.
    told: BTreeSet<Conflict>,
}

impl Reports {
    /// Writes what is not so yet; whether all of it was written.
    async fn report(
        &mut self,
        claimed: &[Claimed],
        conflicts: BTreeSet<Conflict>,
        addresses: &BTreeSet<&str>,
    ) -> bool {
        let mut done = true;
        for ingress in claimed {
            if !ingress.addresses.iter().eq(addresses.iter().copied()) {
                done &= self.write_status(ingress, addresses).await;
            }
        }
        self.told.retain(|conflict| conflicts.contains(conflict));
        for conflict in conflicts {
            let loser = claimed.iter().find(|each| each.name == conflict.loser.name);
            if let Some(loser) = loser.filter(|_| !self.told.contains(&conflict)) {
                match self.tell(loser, &conflict).await {
                    true => drop(self.told.insert(conflict)),
                    false => done = false,
                }
            }
        }
        done
    }

    async fn write_status(&self, ingress: &Claimed, addresses: &BTreeSet<&str>) -> bool {
        let api: Api<Ingress> = Api::namespaced(self.client.clone(), &ingress.name.namespace);
        let points: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let patch = json!({"status": {"loadBalancer": {"ingress": points}}});
        let parameters = PatchParams::default();
        let patch = Patch::Merge(patch);
        let written = api.patch_status(&ingress.name.name, &parameters, &patch);
        match timeout(DEADLINE, written).await {
            Ok(Ok(_)) => true,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => true,
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                let (namespace, name) = (&ingress.name.namespace, &ingress.name.name);
                tracing::warn!(namespace, name, error, "could not write an Ingress' status");
                false
            }
            Err(_) => false,
        }
    }

    async fn tell(&self, ingress: &Claimed, conflict: &Conflict) -> bool {
        let event = Event {
            type_: EventType::Warning,
            reason: conflict.reason.to_owned(),
            note: Some(conflict.message.clone()),
            action: "Routing".to_owned(),
            secondary: None,
        };
        let reference = ObjectReference {
            api_version: Some("networking.k8s.io/v1".to_owned()),
            kind: Some("Ingress".to_owned()),
            namespace: Some(ingress.name.namespace.clone()),
            name: Some(ingress.name.name.clone()),
            uid: Some(ingress.uid.clone()),
            ..ObjectReference::default()
        };
        let published = self.recorder.publish(&event, &reference);
        matches!(timeout(DEADLINE, published).await, Ok(Ok(_)))
    }
}
