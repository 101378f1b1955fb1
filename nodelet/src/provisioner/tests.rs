//! The provisioner against an API in memory and directories that are real.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{events::Note, fake_api::FakeApi};

struct Bench {
    api: FakeApi,
    dir: TempDir,
}

/// A provisioner that runs; dropped, it is as if it had been killed.
struct Running {
    _task: JoinSet<anyhow::Result<()>>,
    _notes: tokio::sync::mpsc::Receiver<Note>,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            api: FakeApi::new(),
            dir: TempDir::new().expect("a directory"),
        };
        let class = json!({"metadata": {"name": "wk-local"}, "provisioner": "wk.dev/local",
            "reclaimPolicy": "Delete"});
        bench.api.create("storageclasses", class);
        bench
    }

    fn run(&self) -> Running {
        let address = Ipv4Addr::new(192, 0, 2, 1).into();
        let config = Arc::new(Config::new("n1", vec![address], self.dir.path()));
        let (events, notes) = Sink::new();
        let provisioner =
            Provisioner::new(self.api.client(), config, events).expect("a provisioner");
        let mut task = JoinSet::new();
        task.spawn(provisioner.run(CancellationToken::new()));
        Running {
            _task: task,
            _notes: notes,
        }
    }

    fn claim(&self, name: &str, node: &str) {
        self.api.create(
            "persistentvolumeclaims",
            json!({
                "metadata": {"name": name, "namespace": "ns", "annotations": {
                    "volume.kubernetes.io/storage-provisioner": "wk.dev/local",
                    "volume.kubernetes.io/selected-node": node,
                }},
                "spec": {"storageClassName": "wk-local", "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}}},
            }),
        );
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.dir.path().join("volumes").join(name)
    }

    async fn volume(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let seen = |api: &FakeApi| {
            let volume = api.get("persistentvolumes", "", "pvc-c-uid")?;
            holds(&volume).then_some(volume)
        };
        self.api.wait(what, seen).await
    }

    async fn no_volume(&self) {
        let gone = |api: &FakeApi| api.list("persistentvolumes").is_empty().then_some(());
        self.api.wait("no volume", gone).await;
    }

    /// What the controllers do when the claim is gone.
    fn release(&self) {
        self.api.delete("persistentvolumeclaims", "ns", "c", 0);
        let released = json!({"status": {"phase": "Released"}});
        self.api
            .patch("persistentvolumes", "", "pvc-c-uid", &released);
    }
}

#[tokio::test]
async fn a_claim_of_this_node_gets_a_directory_and_a_volume_which_go_with_it() {
    let bench = Bench::new();
    let _running = bench.run();
    bench.claim("other", "n2");
    bench.claim("c", "n1");
    let volume = bench.volume("a volume", |_| true).await;
    let path = bench.directory("pvc-c-uid");
    assert!(path.is_dir());
    assert_eq!(
        volume["spec"]["local"]["path"],
        path.to_str().expect("UTF-8")
    );
    assert_eq!(volume["spec"]["claimRef"]["uid"], "c-uid");
    assert_eq!(volume["spec"]["capacity"], json!({"storage": "1Gi"}));
    assert_eq!(volume["metadata"]["annotations"]["wk.dev/node"], "n1");
    assert_eq!(bench.api.list("persistentvolumes").len(), 1);
    std::fs::write(path.join("file"), "data").expect("written");
    bench.release();
    bench.no_volume().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_volume_that_is_retained_keeps_its_directory_though_its_object_goes() {
    let bench = Bench::new();
    let _running = bench.run();
    bench.claim("c", "n1");
    bench.volume("a volume", |_| true).await;
    let path = bench.directory("pvc-c-uid");
    std::fs::write(path.join("file"), "data").expect("written");
    let retain = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}});
    bench
        .api
        .patch("persistentvolumes", "", "pvc-c-uid", &retain);
    bench.release();
    bench.api.delete("persistentvolumes", "", "pvc-c-uid", 0);
    bench.no_volume().await;
    let _again = bench.run();
    bench.claim("d", "n1");
    let made = |api: &FakeApi| api.get("persistentvolumes", "", "pvc-d-uid");
    bench.api.wait("another volume", made).await;
    assert!(path.join("file").exists());
}

#[tokio::test]
async fn a_claim_that_grows_gets_what_it_asks_for() {
    let bench = Bench::new();
    let _running = bench.run();
    bench.claim("c", "n1");
    bench.volume("a volume", |_| true).await;
    let bound = json!({"status": {"phase": "Bound"}});
    bench
        .api
        .patch("persistentvolumes", "", "pvc-c-uid", &bound);
    let bound = json!({
        "spec": {"volumeName": "pvc-c-uid", "resources": {"requests": {"storage": "3Gi"}}},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"},
            "conditions": [{"type": "Resizing", "status": "True"}]},
    });
    bench.api.patch("persistentvolumeclaims", "ns", "c", &bound);
    let told = |api: &FakeApi| {
        let claim = api.get("persistentvolumeclaims", "ns", "c")?;
        (claim["status"]["capacity"]["storage"] == "3Gi").then_some(claim)
    };
    let claim = bench.api.wait("a larger claim", told).await;
    assert_eq!(claim["status"]["conditions"], json!([]));
    let larger = |volume: &Value| volume["spec"]["capacity"]["storage"] == "3Gi";
    bench.volume("a larger volume", larger).await;
}

#[tokio::test]
async fn killed_at_any_request_the_next_one_goes_on() {
    for requests in 0..8 {
        let bench = Bench::new();
        bench.claim("c", "n1");
        let killed = bench.run();
        bench.api.stall_after(requests).await;
        drop(killed);
        bench.api.resume();
        let running = bench.run();
        bench.volume("a volume", |_| true).await;
        assert!(bench.directory("pvc-c-uid").is_dir(), "{requests}");
        drop(running);

        bench.release();
        let killed = bench.run();
        bench.api.stall_after(requests).await;
        drop(killed);
        bench.api.resume();
        let _running = bench.run();
        bench.no_volume().await;
        assert!(!bench.directory("pvc-c-uid").exists(), "{requests}");
    }
}

#[tokio::test]
async fn a_directory_of_which_nothing_came_is_tidied_up() {
    let bench = Bench::new();
    let (empty, full) = (bench.directory("pvc-empty"), bench.directory("pvc-full"));
    std::fs::create_dir_all(&empty).expect("made");
    std::fs::create_dir_all(full.join("data")).expect("made");
    let _running = bench.run();
    let tidied = tokio::time::timeout(Duration::from_secs(60), async {
        while empty.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    tidied.await.expect("the empty directory goes");
    assert!(full.exists());
}
