//! Pods with a network namespace of their own: which there are, and making and removing them (privileged).
//!
//! What there is is in the kernel: a namespace kept at a path, a link and its routes. Here is only what
//! of it is known to be whole. Links are made one after another, for the kernel makes them so anyway and
//! is slower when asked for many at once; they are removed by a task of its own, for that takes long and
//! nobody waits for it.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use tokio::{sync::Notify, time::sleep};

use crate::{
    Range,
    handle::Shared,
    links::pod::{Outside, Pod},
    names::{NAMESPACES, Names},
    namespace::Namespace,
    pool,
};

/// The wait before a link that could not be removed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A node's isolated pods.
pub(crate) struct Isolation {
    names: Names,
    wasm: Namespace,
    /// Whose namespace and link are whole, by uid.
    pods: Mutex<HashMap<String, Ipv4Addr>>,
    /// Held while a pod is made or removed; opened when first needed.
    outside: tokio::sync::Mutex<Option<Outside>>,
    /// The links of pods that went.
    leaving: Mutex<BTreeSet<u32>>,
    left: Notify,
}

impl Isolation {
    pub(crate) fn new(names: Names, wasm: Namespace) -> Self {
        Self {
            names,
            wasm,
            pods: Mutex::default(),
            outside: tokio::sync::Mutex::new(None),
            leaving: Mutex::default(),
            left: Notify::new(),
        }
    }

    /// The address of an isolated pod.
    pub(crate) fn find(&self, uid: &str) -> Option<Ipv4Addr> {
        self.pods().get(uid).copied()
    }

    /// What keeps a pod's namespace.
    pub(crate) fn path(&self, uid: &str) -> PathBuf {
        self.names.pod_namespace(uid)
    }

    /// The namespace of the isolated pod that has an address.
    pub(crate) fn at(&self, ip: Ipv4Addr) -> Option<PathBuf> {
        let pods = self.pods();
        let (uid, _) = pods.iter().find(|(_, other)| **other == ip)?;
        Some(self.path(uid))
    }

    /// The uids of pods that have a namespace, whole or not.
    pub(crate) fn held(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(NAMESPACES) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut uids = Vec::new();
        for entry in entries {
            uids.extend(self.names.pod_of(&entry?.file_name()));
        }
        Ok(uids)
    }

    /// Whether a pod has a namespace, whole or not.
    pub(crate) fn holds(&self, uid: &str) -> bool {
        self.path(uid).exists()
    }

    /// Gives a pod its namespace and link; what is there already stays.
    pub(crate) async fn ensure(&self, uid: &str, ip: Ipv4Addr, range: Range) -> anyhow::Result<()> {
        check(uid)?;
        let mut outside = self.outside.lock().await;
        if self.find(uid) == Some(ip) {
            return Ok(());
        }
        let open = match outside.take() {
            Some(open) => open,
            None => Outside::open(&self.wasm)?,
        };
        let pod = Pod {
            uid,
            ip,
            host: pool::host_address(range),
        };
        // After a failure it is opened anew: it may have been the reason.
        open.ensure(&self.names, &pod).await?;
        *outside = Some(open);
        self.pods().insert(uid.to_owned(), ip);
        Ok(())
    }

    /// Takes a pod's namespace away; with its routes gone the address is free. Its link follows.
    pub(crate) async fn remove(&self, uid: &str, ip: Option<Ipv4Addr>) -> anyhow::Result<()> {
        if !self.holds(uid) {
            return Ok(());
        }
        let mut outside = self.outside.lock().await;
        self.pods().remove(uid);
        let open = match outside.take() {
            Some(open) => open,
            None => Outside::open(&self.wasm)?,
        };
        if let Some(ip) = ip {
            open.unroute(ip).await?;
        }
        if let Some(link) = open.find(&self.names, uid).await? {
            self.leave(link);
        }
        *outside = Some(open);
        Namespace::remove(&self.path(uid)).context("remove the pod's network namespace")
    }

    /// Takes over what an earlier run left: pods with their addresses. What belongs to none is removed.
    pub(crate) async fn adopt(&self) -> anyhow::Result<Vec<(String, Ipv4Addr)>> {
        let uids = self.held().context("list the pods' namespaces")?;
        let open = Outside::open(&self.wasm)?;
        let found = open.found(&self.names, &uids).await?;
        for ip in found.stray_routes {
            open.unroute(ip).await?;
        }
        found
            .stray_links
            .into_iter()
            .for_each(|link| self.leave(link));
        Ok(found.pods.into_iter().collect())
    }

    /// Removes links of pods that went. Runs until it is dropped.
    async fn sweep(&self) -> anyhow::Result<()> {
        loop {
            let Some(link) = self.leaving().first().copied() else {
                self.left.notified().await;
                continue;
            };
            // A connection of its own: nobody who makes a pod waits for this.
            let removed = async { Outside::open(&self.wasm)?.remove(link).await };
            match removed.await {
                Ok(()) => drop(self.leaving().remove(&link)),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(link, error, "could not remove the link of a pod that went");
                    sleep(RETRY).await;
                }
            }
        }
    }

    fn leave(&self, link: u32) {
        self.leaving().insert(link);
        self.left.notify_one();
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, Ipv4Addr>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaving(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>) -> anyhow::Result<()> {
    match &shared.isolation {
        Some(isolation) => isolation.sweep().await,
        None => std::future::pending().await,
    }
}

/// Takes every isolated pod's namespace and link of a node away.
pub(crate) async fn teardown(names: &Names) -> anyhow::Result<()> {
    // Its Wasm pods' namespace goes too, and takes the routes in it along.
    let Some(wasm) = Namespace::find(&names.namespace)? else {
        return Ok(());
    };
    let isolation = Isolation::new(names.clone(), wasm);
    for uid in isolation.held()? {
        isolation.remove(&uid, None).await?;
    }
    let open = Outside::open(&isolation.wasm)?;
    let links = std::mem::take(&mut *isolation.leaving());
    for link in links {
        open.remove(link).await?;
    }
    Ok(())
}

/// A uid is part of the name of a file here.
fn check(uid: &str) -> anyhow::Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    anyhow::ensure!(
        !uid.is_empty() && uid.len() < 128 && uid.chars().all(plain),
        "{uid:?} is not a pod's uid"
    );
    Ok(())
}
