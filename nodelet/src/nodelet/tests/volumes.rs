//! What pods find in their volumes.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use super::*;

impl Bench {
    /// A pod of one container that has these volumes, each mounted at `/<name>`.
    fn pod_with(&self, name: &str, volumes: &Value) {
        let mounts: Vec<Value> = volumes
            .as_array()
            .into_iter()
            .flatten()
            .map(|volume| {
                let name = volume["name"].as_str().unwrap_or_default();
                json!({"name": name, "mountPath": format!("/{name}")})
            })
            .collect();
        let container = json!({"name": "c", "image": "img", "volumeMounts": mounts});
        self.pod(name, json!({"containers": [container], "volumes": volumes}));
    }

    fn object(&self, resource: &str, name: &str, fields: Value) {
        let mut object = json!({"metadata": {"namespace": "ns", "name": name}});
        for (name, value) in fields.as_object().into_iter().flatten() {
            object[name] = value.clone();
        }
        self.api.create(resource, object);
    }

    /// Where a mount of the pod's container is on the host.
    fn mounted(&self, pod: &str, destination: &str) -> runtimes::Mount {
        let spec = self.runtime.spec(&self.id(pod, 0)).expect("a container");
        let mut mounts = spec.mounts.into_iter();
        let found = mounts.find(|mount| mount.destination == Path::new(destination));
        found.expect("it is mounted")
    }

    async fn ended(&self, pod: &str) {
        self.api
            .wait(&format!("{pod} to go"), |api| {
                api.get("pods", "ns", pod).is_none().then_some(())
            })
            .await;
    }
}

/// The files that a container sees in a directory: `name mode text`.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let name = entry.file_name().into_string().expect("text");
        if name.starts_with("..") {
            continue;
        }
        let mode = fs::metadata(entry.path())
            .expect("a file")
            .permissions()
            .mode()
            & 0o777;
        let text = fs::read_to_string(entry.path()).expect("text");
        found.insert(name, format!("{mode:o} {text}"));
    }
    found
}

/// Waits until a file of the host reads so, for at most 10 s of the paused clock.
async fn reads(path: PathBuf, text: &str) {
    let right = async {
        while fs::read_to_string(&path).ok().as_deref() != Some(text) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(10), right).await;
    assert!(
        seen.is_ok(),
        "{} reads {:?}, not {text:?}",
        path.display(),
        fs::read_to_string(&path)
    );
}

#[tokio::test(start_paused = true)]
async fn a_container_finds_objects_and_fields_in_its_files() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.object(
        "configmaps",
        "settings",
        json!({"data": {"a.conf": "x=1"}, "binaryData": {"b": "AQI="}}),
    );
    bench.object(
        "secrets",
        "login",
        json!({"data": {"user": "bWU=", "password": "czNjcmV0"}}),
    );
    bench.pod_with(
        "web",
        &json!([
            {"name": "config", "configMap": {"name": "settings", "defaultMode": 420, "items": [{"key": "a.conf", "path": "etc.conf", "mode": 256}]}},
            {"name": "secret", "secret": {"secretName": "login"}},
            {"name": "optional", "secret": {"secretName": "none", "optional": true}},
            {"name": "info", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {"name": "all", "projected": {"sources": [
                {"configMap": {"name": "settings", "items": [{"key": "a.conf", "path": "a"}]}},
                {"secret": {"name": "login", "items": [{"key": "user", "path": "user"}]}},
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607, "audience": "vault"}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]}},
            {"name": "scratch", "emptyDir": {}},
        ]),
    );
    bench.ready("web").await;
    let config = bench.mounted("web", "/config");
    assert!(config.read_only);
    assert!(
        config
            .source
            .ends_with("pods/web-uid/volumes/configmap/config")
    );
    let seen = |name: &str| files(&bench.mounted("web", name).source);
    assert_eq!(seen("/config")["etc.conf"], "400 x=1");
    assert_eq!(seen("/secret")["password"], "644 s3cret");
    assert!(seen("/optional").is_empty());
    assert_eq!(seen("/info")["name"], "644 web");
    let all = seen("/all");
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    assert_eq!(names, ["a", "namespace", "token", "user"]);
    assert_eq!(all["namespace"], "644 ns");
    let scratch = bench.mounted("web", "/scratch");
    assert!(!scratch.read_only);
    let mode = fs::metadata(&scratch.source)
        .expect("a directory")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o777);
    let request = bench.api.tokens().pop().expect("a request");
    assert_eq!(
        request["spec"],
        json!({"audiences": ["vault"], "expirationSeconds": 3607,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "web-uid"}})
    );
    bench.api.delete("pods", "ns", "web", 30);
    bench.ended("web").await;
    gone(&bench.dir.path().join("pods/web-uid")).await;
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn files_follow_their_objects_and_the_pods_labels() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.object(
        "configmaps",
        "settings",
        json!({"data": {"colour": "red", "old": "x"}}),
    );
    bench.pod_with(
        "web",
        &json!([
            {"name": "config", "configMap": {"name": "settings"}},
            {"name": "info", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ]),
    );
    let part = |name: &str, path: &str| json!({"name": "config", "mountPath": format!("/{name}"), "subPath": path});
    bench.pod(
        "part",
        json!({
            "containers": [{"name": "c", "image": "img", "volumeMounts": [part("f", "colour"), part("d", "d")]}],
            "volumes": [{"name": "config", "configMap": {"name": "settings", "items": [
                {"key": "colour", "path": "colour"}, {"key": "colour", "path": "d/e"}]}}],
        }),
    );
    bench.ready("part").await;
    bench.ready("web").await;
    let config = bench.mounted("web", "/config").source;
    reads(config.join("colour"), "red").await;
    let patch = json!({"data": {"colour": "blue", "old": null}});
    bench.api.change("configmaps", "ns", "settings", &patch);
    reads(config.join("colour"), "blue").await;
    assert!(!config.join("old").exists());
    // A part of a volume stays as it was when the container started.
    let whole = bench
        .dir
        .path()
        .join("pods/part-uid/volumes/configmap/config/d/e");
    reads(whole, "blue").await;
    reads(bench.mounted("part", "/f").source, "red").await;
    reads(bench.mounted("part", "/d").source.join("e"), "red").await;
    let labels = json!({"metadata": {"labels": {"tier": "front"}}});
    bench.api.change("pods", "ns", "web", &labels);
    let info = bench.mounted("web", "/info").source;
    reads(info.join("labels"), "tier=\"front\"").await;
    // What went stays as it last was.
    bench.api.delete("configmaps", "ns", "settings", 0);
    bench.event("FailedMount").await;
    assert_eq!(files(&config)["colour"], "644 blue");
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_pods_with_one_config_map_cost_one_watch_and_an_immutable_one_is_let_go() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.object("configmaps", "shared", json!({"data": {"a": "1"}}));
    let fixed = json!({"data": {"a": "1"}, "immutable": true});
    bench.object("configmaps", "fixed", fixed);
    let volumes = json!([
        {"name": "shared", "configMap": {"name": "shared"}},
        {"name": "fixed", "configMap": {"name": "fixed"}},
    ]);
    let names: Vec<String> = (0..20).map(|number| format!("p{number}")).collect();
    for name in &names {
        bench.pod_with(name, &volumes);
    }
    bench.runtime.script("img-plain", Script::serves());
    bench.pod("plain", json!({}));
    for name in &names {
        bench.ready(name).await;
    }
    bench.ready("plain").await;
    assert_eq!(bench.api.watches("configmaps", "shared"), 1);
    assert_eq!(bench.api.watches("configmaps", ""), 1);
    assert!(!bench.dir.path().join("pods/plain-uid/volumes").exists());
    let patch = json!({"data": {"a": "2"}});
    bench.api.change("configmaps", "ns", "shared", &patch);
    for name in &names {
        reads(bench.mounted(name, "/shared").source.join("a"), "2").await;
    }
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_named_in_events_and_waited_for() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.pod_with(
        "web",
        &json!([{"name": "config", "configMap": {"name": "settings"}}]),
    );
    let event = bench.event("FailedMount").await;
    assert_eq!(
        event["message"],
        r#"MountVolume.SetUp failed for volume "config" : configmap "settings" not found"#
    );
    assert_eq!(event["type"], "Warning");
    let waits = |status: &Value| {
        status["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
    };
    bench.status("web", "to wait", waits).await;
    // Long after, the next try by itself is up to 16 s away.
    tokio::time::sleep(Duration::from_secs(300)).await;
    let before = Instant::now();
    bench.object("configmaps", "settings", json!({"data": {"a": "1"}}));
    bench.ready("web").await;
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "{:?}",
        before.elapsed()
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_for_a_volume_can_be_deleted() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.pod_with(
        "web",
        &json!([{"name": "config", "configMap": {"name": "none"}}, {"name": "scratch", "emptyDir": {}}]),
    );
    bench.event("FailedMount").await;
    bench.api.delete("pods", "ns", "web", 30);
    bench.ended("web").await;
    gone(&bench.dir.path().join("pods/web-uid")).await;
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_an_unknown_kind_is_refused_by_its_field() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.pod_with(
        "web",
        &json!([{"name": "data", "nfs": {"server": "s", "path": "/"}}]),
    );
    let event = bench.event("FailedMount").await;
    let message = event["message"].as_str().expect("text");
    assert!(
        message.starts_with(
            r#"MountVolume.SetUp failed for volume "data" : volumes[].nfs is not supported"#
        ),
        "{message}"
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_expires_and_kept_until_then() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let source = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 600}});
    let source = json!([{"name": "token", "projected": {"sources": [source]}}]);
    bench.pod_with("web", &source);
    bench.ready("web").await;
    let path = bench.mounted("web", "/token").source.join("token");
    let first = fs::read_to_string(&path).expect("a token");
    tokio::time::sleep(Duration::from_secs(470)).await;
    assert_eq!(fs::read_to_string(&path).expect("a token"), first);
    let renewed = async {
        while fs::read_to_string(&path).expect("a token") == first {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let renewed = tokio::time::timeout(Duration::from_secs(20), renewed).await;
    renewed.expect("a new token after 480 s");
    assert_eq!(bench.api.tokens().len(), 2);
    // A nodelet that starts anew finds the token that is there.
    nodelet.stop().await;
    let nodelet = bench.run();
    bench.pod_with("other", &source);
    bench.ready("other").await;
    bench.ready("web").await;
    assert_eq!(bench.api.tokens().len(), 3);
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_volume_is_mounted_and_no_link_leads_out_of_it() {
    let bench = Bench::new();
    let host = bench.dir.path().join("host");
    fs::create_dir_all(host.join("data")).expect("a directory");
    fs::write(bench.dir.path().join("secret"), "s").expect("a file");
    std::os::unix::fs::symlink("../secret", host.join("escape")).expect("a link");
    fs::write(host.join("data/file"), "inside").expect("a file");
    let nodelet = bench.run();
    let pod = |name: &str, mount: Value| {
        bench.pod(name, json!({
            "containers": [{"name": "c", "image": "img", "env": [{"name": "PART", "value": "data"}], "volumeMounts": [mount]}],
            "volumes": [{"name": "host", "hostPath": {"path": host, "type": "Directory"}}],
        }));
    };
    pod(
        "file",
        json!({"name": "host", "mountPath": "/etc/./x/../f", "subPath": "data/file", "readOnly": true}),
    );
    bench.ready("file").await;
    let mount = bench.mounted("file", "/etc/f");
    assert!(mount.read_only);
    assert_eq!(fs::read_to_string(&mount.source).expect("a file"), "inside");
    pod(
        "expression",
        json!({"name": "host", "mountPath": "/d", "subPathExpr": "$(PART)/$(HOSTNAME)"}),
    );
    bench.ready("expression").await;
    assert!(host.join("data/expression").is_dir());
    let failed = async |name: &str| {
        let waiting = |status: &Value| status["containerStatuses"][0]["state"]["waiting"].clone();
        let reason = "CreateContainerConfigError";
        let seen = |status: &Value| waiting(status)["reason"] == reason;
        let status = bench.status(name, "to be refused", seen).await;
        waiting(&status)["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    pod(
        "escape",
        json!({"name": "host", "mountPath": "/d", "subPath": "escape"}),
    );
    assert_eq!(
        failed("escape").await,
        "failed to prepare subPath for volumeMount \"host\" of container \"c\": \"escape\" leads out of the volume"
    );
    pod(
        "missing",
        json!({"name": "host", "mountPath": "/d", "subPathExpr": "$(NONE)"}),
    );
    assert_eq!(failed("missing").await, "missing value for \"NONE\"");
    // What was there before the pods is there after them.
    for name in ["file", "expression", "escape", "missing"] {
        bench.api.delete("pods", "ns", name, 0);
        bench.ended(name).await;
    }
    gone(&bench.dir.path().join("logs/ns_missing_missing-uid")).await;
    assert_eq!(
        fs::read_to_string(host.join("data/file")).expect("a file"),
        "inside"
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_path_of_the_host_must_be_what_its_type_says() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let path = bench.dir.path().join("none");
    bench.pod_with(
        "web",
        &json!([{"name": "host", "hostPath": {"path": path, "type": "Directory"}}]),
    );
    let event = bench.event("FailedMount").await;
    assert_eq!(
        event["message"],
        format!(
            "MountVolume.SetUp failed for volume \"host\" : hostPath type check failed: {} is not a directory",
            path.display()
        )
    );
    fs::create_dir(&path).expect("a directory");
    bench.ready("web").await;
    assert_eq!(bench.mounted("web", "/host").source, path);
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_mounted_once_it_is_bound() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let data = bench.dir.path().join("volume");
    fs::create_dir(&data).expect("a directory");
    bench.object(
        "persistentvolumeclaims",
        "data",
        json!({"spec": {}, "status": {"phase": "Pending"}}),
    );
    bench.pod_with(
        "web",
        &json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": true}}]),
    );
    let event = bench.event("FailedMount").await;
    assert_eq!(
        event["message"],
        "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], failed to process \
         volumes=[data]: error processing PVC ns/data: PVC is not bound"
    );
    let terms = json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]);
    bench.api.create(
        "persistentvolumes",
        json!({"metadata": {"name": "pv"}, "spec": {
            "local": {"path": data},
            "claimRef": {"namespace": "ns", "name": "data", "uid": "data-uid"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        }}),
    );
    let bound = json!({"spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
    bench
        .api
        .change("persistentvolumeclaims", "ns", "data", &bound);
    bench.ready("web").await;
    let mount = bench.mounted("web", "/data");
    assert!(mount.read_only);
    assert_eq!(mount.source, data);
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_claim_must_be_the_pods_own() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.object(
        "persistentvolumeclaims",
        "web-data",
        json!({"spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}}),
    );
    bench.pod_with(
        "web",
        &json!([{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]),
    );
    let event = bench.event("FailedMount").await;
    let message = event["message"].as_str().expect("text");
    assert!(
        message.ends_with("PVC ns/web-data was not created for pod ns/web (pod is not owner)"),
        "{message}"
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_nodelet_left_is_swept() {
    let bench = Bench::new();
    let orphan = bench.dir.path().join("pods/old-uid/volumes/empty-dir/x");
    fs::create_dir_all(&orphan).expect("a directory");
    bench.pod_with("web", &json!([{"name": "scratch", "emptyDir": {}}]));
    let kept = bench
        .dir
        .path()
        .join("pods/web-uid/volumes/empty-dir/scratch");
    fs::create_dir_all(&kept).expect("a directory");
    fs::write(kept.join("file"), "kept").expect("a file");
    let nodelet = bench.run();
    bench.ready("web").await;
    gone(&bench.dir.path().join("pods/old-uid")).await;
    assert_eq!(
        fs::read_to_string(kept.join("file")).expect("a file"),
        "kept"
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_variable_is_read_from_a_file_that_an_init_container_wrote() {
    let bench = Bench::new();
    bench.runtime.script("img-init", Script::exits(0));
    let nodelet = bench.run();
    let volume = bench.dir.path().join("pods/web-uid/volumes/empty-dir/env");
    fs::create_dir_all(&volume).expect("a directory");
    fs::write(volume.join("vars"), "COLOUR='red'\n").expect("a file");
    let from = |key: &str, optional: bool| json!({"fileKeyRef": {"volumeName": "env", "path": "vars", "key": key, "optional": optional}});
    bench.pod("web", json!({
        "initContainers": [{"name": "i", "image": "img-init", "volumeMounts": [{"name": "env", "mountPath": "/env"}]}],
        "containers": [{"name": "c", "image": "img", "env": [
            {"name": "COLOUR", "valueFrom": from("COLOUR", false)},
            {"name": "NONE", "valueFrom": from("NONE", true)},
        ]}],
        "volumes": [{"name": "env", "emptyDir": {}}],
    }));
    bench.ready("web").await;
    let spec = bench
        .runtime
        .spec(&bench.id("web", 0))
        .expect("a container");
    assert!(spec.env.contains(&("COLOUR".to_owned(), "red".to_owned())));
    assert!(!spec.env.iter().any(|(name, _)| name == "NONE"));
    let mounted: Vec<_> = spec.mounts.iter().map(|mount| &mount.destination).collect();
    assert_eq!(mounted, [Path::new("/dev/termination-log")]);
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_takes_more_disk_than_it_may_is_evicted_and_what_it_takes_is_told() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.pod_with(
        "web",
        &json!([{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}]),
    );
    bench.ready("web").await;
    let scratch = bench.mounted("web", "/scratch").source;
    fs::write(scratch.join("small"), vec![1; 1 << 19]).expect("a file");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let status = bench.api.get("pods", "ns", "web").expect("a pod");
    assert_eq!(status["status"]["phase"], "Running");
    let (_, summary) = get(&nodelet.handle, "/stats/summary").await;
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    let volume = &summary["pods"][0]["volume"][0];
    assert_eq!(volume["name"], "scratch");
    assert!(volume["usedBytes"].as_u64() >= Some(1 << 19), "{volume}");
    fs::write(scratch.join("large"), vec![1; 1 << 20]).expect("a file");
    let failed = |status: &Value| status["phase"] == "Failed";
    let status = bench.status("web", "to be evicted", failed).await;
    assert_eq!(status["reason"], "Evicted");
    let message = "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". ";
    assert_eq!(status["message"], message);
    assert_eq!(condition(&status, "DisruptionTarget"), "True");
    assert_eq!(bench.event("Evicted").await["message"], message);
    gone(&scratch).await;
    assert!(bench.runtime.list().await.expect("a list").is_empty());
    nodelet.stop().await;
}
