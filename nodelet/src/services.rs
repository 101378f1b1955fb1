//! The Services of the cluster, as the environment variables that containers get.
//!
//! One watch a nodelet; keeps a name, an address and the ports of each Service and nothing else.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use tokio::sync::watch;
use tracing::warn;

/// How long a container's start waits for the first list of Services.
const SYNC_DEADLINE: Duration = Duration::from_secs(10);

/// A Service with a ClusterIP.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    ip: String,
    /// Name, number and `TCP`, `UDP` or `SCTP`.
    ports: Vec<(Option<String>, i32, String)>,
}

type Table = HashMap<(String, String), Entry>;

/// What the watch has seen.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    table: Arc<RwLock<Table>>,
    synced: watch::Sender<bool>,
}

impl Services {
    pub(crate) fn new() -> Services {
        Services {
            table: Arc::default(),
            synced: watch::Sender::new(false),
        }
    }

    /// Watches Services until dropped.
    pub(crate) async fn run(self, client: Client) {
        let events =
            watcher(Api::<Service>::all(client), watcher::Config::default()).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut listed = Table::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(service)) => {
                    if let Some((key, entry)) = entry(&service) {
                        listed.insert(key, entry);
                    }
                }
                Ok(watcher::Event::InitDone) => {
                    *self.table.write().unwrap_or_else(PoisonError::into_inner) =
                        std::mem::take(&mut listed);
                    self.synced.send_replace(true);
                }
                Ok(watcher::Event::Apply(service)) => self.set(&service, entry(&service)),
                Ok(watcher::Event::Delete(service)) => self.set(&service, None),
                Err(error) => warn!(%error, "watch Services"),
            }
        }
    }

    fn set(&self, service: &Service, entry: Option<((String, String), Entry)>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        match entry {
            Some((key, entry)) => table.insert(key, entry),
            None => table.remove(&key(service)),
        };
    }

    /// Waits until the Services have been listed once; false if that takes too long.
    pub(crate) async fn synced(&self) -> bool {
        let mut synced = self.synced.subscribe();
        tokio::time::timeout(SYNC_DEADLINE, synced.wait_for(|synced| *synced))
            .await
            .is_ok_and(|seen| seen.is_ok())
    }

    /// The variables for a pod of `namespace`: those of `kubernetes` always, the namespace's own if `links`.
    pub(crate) fn variables(&self, namespace: &str, links: bool) -> Vec<(String, String)> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let api = ("default".to_owned(), "kubernetes".to_owned());
        let mut chosen: Vec<(&str, &Entry)> = table
            .iter()
            .filter(|(key, _)| **key == api || (links && key.0 == namespace))
            // A namespace's own `kubernetes` stands before the default one.
            .filter(|(key, _)| {
                **key != api
                    || !links
                    || namespace == "default"
                    || !table.contains_key(&(namespace.to_owned(), api.1.clone()))
            })
            .map(|(key, entry)| (key.1.as_str(), entry))
            .collect();
        chosen.sort_unstable_by_key(|(name, _)| *name);
        chosen
            .into_iter()
            .flat_map(|(name, entry)| variables(name, entry))
            .collect()
    }
}

fn key(service: &Service) -> (String, String) {
    let metadata = &service.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// What is kept of a Service; `None` if it is headless or has no address.
fn entry(service: &Service) -> Option<((String, String), Entry)> {
    let spec = service.spec.as_ref()?;
    let ip = spec
        .cluster_ip
        .clone()
        .filter(|ip| !ip.is_empty() && ip != "None")?;
    let ports = spec.ports.iter().flatten();
    let ports = ports
        .map(|port| {
            (
                port.name.clone(),
                port.port,
                port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            )
        })
        .collect();
    Some((key(service), Entry { ip, ports }))
}

/// The variables of one Service, as Docker links named them.
fn variables(name: &str, entry: &Entry) -> Vec<(String, String)> {
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let prefix = upper(name);
    let ip = &entry.ip;
    let host = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.clone()
    };
    let mut list = vec![(format!("{prefix}_SERVICE_HOST"), ip.clone())];
    let Some((_, first, protocol)) = entry.ports.first() else {
        return list;
    };
    list.push((format!("{prefix}_SERVICE_PORT"), first.to_string()));
    for (name, number, _) in &entry.ports {
        if let Some(name) = name {
            list.push((
                format!("{prefix}_SERVICE_PORT_{}", upper(name)),
                number.to_string(),
            ));
        }
    }
    list.push((
        format!("{prefix}_PORT"),
        format!("{}://{host}:{first}", protocol.to_lowercase()),
    ));
    for (_, number, protocol) in &entry.ports {
        let port = format!("{prefix}_PORT_{number}_{protocol}");
        let lower = protocol.to_lowercase();
        list.push((port.clone(), format!("{lower}://{host}:{number}")));
        list.push((format!("{port}_PROTO"), lower));
        list.push((format!("{port}_PORT"), number.to_string()));
        list.push((format!("{port}_ADDR"), ip.clone()));
    }
    list
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_service_becomes_the_variables_that_links_had() {
        let services = Services::new();
        let add = |namespace: &str, name: &str, ip: &str| {
            let service: Service = serde_json::from_value(serde_json::json!({
                "metadata": {"namespace": namespace, "name": name},
                "spec": {"clusterIP": ip, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
            }))
            .expect("a Service");
            services.set(&service, entry(&service));
        };
        add("default", "kubernetes", "10.43.0.1");
        add("shop", "web-1", "10.43.0.9");
        add("other", "api", "10.43.0.7");
        add("shop", "headless", "None");
        let text = |links| {
            let list = services.variables("shop", links);
            list.iter()
                .map(|(name, value)| format!("{name}={value}\n"))
                .collect::<String>()
        };
        expect![[r#"
            KUBERNETES_SERVICE_HOST=10.43.0.1
            KUBERNETES_SERVICE_PORT=80
            KUBERNETES_SERVICE_PORT_HTTP=80
            KUBERNETES_PORT=tcp://10.43.0.1:80
            KUBERNETES_PORT_80_TCP=tcp://10.43.0.1:80
            KUBERNETES_PORT_80_TCP_PROTO=tcp
            KUBERNETES_PORT_80_TCP_PORT=80
            KUBERNETES_PORT_80_TCP_ADDR=10.43.0.1
        "#]]
        .assert_eq(&text(false));
        assert!(text(true).contains("WEB_1_SERVICE_HOST=10.43.0.9\n"));
        assert!(!text(true).contains("API_") && !text(true).contains("HEADLESS"));
    }
}
