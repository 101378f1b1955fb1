//! Pods from a directory, and their mirrors.

use super::*;

impl Bench {
    fn file(&self, name: &str, text: &str) {
        let path = self.dir.path().join("manifests");
        std::fs::create_dir_all(&path).expect("a directory");
        std::fs::write(path.join(name), text).expect("write");
    }

    fn run_files(&self) -> Running {
        let path = self.dir.path().join("manifests");
        self.run_with(|config| config.static_pods = Some(path))
    }

    async fn mirror(&self, name: &str, what: &str, seen: impl Fn(&Value) -> bool) -> Value {
        let find = |api: &FakeApi| api.get("pods", "default", name).filter(|pod| seen(pod));
        self.api
            .wait(&format!("the mirror {name} {what}"), find)
            .await
    }
}

fn manifest(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n\
         spec: {{terminationGracePeriodSeconds: 5, containers: [{{name: c, image: {image}}}]}}\n"
    )
}

fn annotation<'a>(pod: &'a Value, name: &str) -> &'a str {
    let name = format!("kubernetes.io/config.{name}");
    pod["metadata"]["annotations"][name]
        .as_str()
        .unwrap_or_default()
}

fn is_ready(pod: &Value) -> bool {
    condition(&pod["status"], "Ready") == "True"
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_is_mirrored_and_follows_its_file() {
    let bench = Bench::new();
    bench.runtime.script("one", Script::runs());
    bench.runtime.script("two", Script::runs());
    bench.file("web.yaml", &manifest("web", "one"));
    let node = bench.run_files();
    let first = bench.mirror("web-n1", "to be ready", is_ready).await;
    let uid = annotation(&first, "mirror").to_owned();
    assert_eq!(annotation(&first, "hash"), uid);
    assert_eq!(annotation(&first, "source"), "file");
    let owner = &first["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["name"], &owner["controller"]),
        (&json!("Node"), &json!("n1"), &json!(true))
    );
    let container = |uid: &str| ContainerId(format!("{uid}/c/0").into());
    assert!(bench.runtime.spec(&container(&uid)).is_some());

    bench.file("web.yaml", "kind: [");
    bench.file("web.yaml", &manifest("web", "two"));
    let second = |pod: &Value| is_ready(pod) && annotation(pod, "mirror") != uid;
    let second = bench.mirror("web-n1", "to be the new one", second).await;
    let new = annotation(&second, "mirror");
    assert!(
        bench.runtime.spec(&container(&uid)).is_none(),
        "the old container is there"
    );
    assert!(bench.runtime.spec(&container(new)).is_some());

    std::fs::remove_file(bench.dir.path().join("manifests/web.yaml")).expect("remove");
    let gone = |api: &FakeApi| api.get("pods", "default", "web-n1").is_none().then_some(());
    bench.api.wait("the mirror to go", gone).await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_is_deleted_comes_back_and_its_pod_never_notices() {
    let bench = Bench::new();
    bench.runtime.script("one", Script::runs());
    bench.file("web.yaml", &manifest("web", "one"));
    let node = bench.run_files();
    let first = bench.mirror("web-n1", "to be ready", is_ready).await;
    for grace in [30, 0] {
        let before = bench.mirror("web-n1", "to be there", is_ready).await;
        bench.api.delete("pods", "default", "web-n1", grace);
        let uid = &before["metadata"]["uid"];
        let other = |pod: &Value| {
            is_ready(pod)
                && pod["metadata"]["uid"] != *uid
                && pod["metadata"]["deletionTimestamp"].is_null()
        };
        bench.mirror("web-n1", "to come back", other).await;
    }
    let starts = bench.runtime.calls();
    let starts = starts.iter().filter(|call| call.starts_with("start "));
    assert_eq!(starts.count(), 1);
    assert!(is_ready(&first));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_mirror_of_nothing_is_deleted() {
    let bench = Bench::new();
    let node = bench.run_files();
    bench.api.create(
        "pods",
        json!({
            "metadata": {"namespace": "ns", "name": "ghost", "annotations": {"kubernetes.io/config.mirror": "x"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "one"}]},
        }),
    );
    let gone = |api: &FakeApi| api.get("pods", "ns", "ghost").is_none().then_some(());
    bench.api.wait("the mirror to go", gone).await;
    assert!(
        !bench
            .runtime
            .calls()
            .iter()
            .any(|call| call.starts_with("create"))
    );
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_of_a_static_pod_counts_on_from_the_logs_that_are_there() {
    let bench = Bench::new();
    bench.runtime.script("one", Script::runs());
    bench.file("web.yaml", &manifest("web", "one"));
    let node = bench.run_files();
    bench.mirror("web-n1", "to be ready", is_ready).await;
    node.stop().await;
    let again = Bench {
        runtime: Arc::new(FakeRuntime::new()),
        network: Arc::new(FakeNetwork::new()),
        ..bench
    };
    again.runtime.script("one", Script::runs());
    let node = again.run_files();
    let counted = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"] == 1;
    again
        .mirror("web-n1", "to count its restart", counted)
        .await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_static_pods_container_goes_on_without_the_nodelet() {
    let bench = Bench::new();
    bench.images.contain("box");
    bench.file("web.yaml", &manifest("web", "box"));
    let node = bench.run_files();
    let before = bench.mirror("web-n1", "to be ready", is_ready).await;
    let uid = annotation(&before, "mirror").to_owned();
    node.stop().await;
    let calls = bench.oci.calls().len();
    let node = bench.run_files();
    // What comes after it is the next attempt: it was taken over as it was.
    let id = ContainerId(format!("{uid}/c/0").into());
    let again = |pod: &Value| {
        let status = &pod["status"]["containerStatuses"][0];
        status["restartCount"] == 1 && is_ready(pod)
    };
    let same = |pod: &Value| {
        let status = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
        is_ready(pod) && status(pod) == status(&before)
    };
    bench.mirror("web-n1", "to be ready again", same).await;
    assert!(bench.oci.exit(&id, 0));
    let after = bench.mirror("web-n1", "to restart", again).await;
    assert_eq!(after["status"]["podIP"], before["status"]["podIP"]);
    let starts = &bench.oci.calls()[calls..];
    assert!(!starts.contains(&format!("start {id}")), "{starts:?}");
    node.stop().await;
}
