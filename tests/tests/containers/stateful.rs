//! A StatefulSet as a user has it: names, volumes that stay with them, a roll, undo, scale, orphans.

use e2e::{Image, eventually};

use super::{Bench, SOON};

const SET: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: None
  selector: {app: web}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: c
        image: BUSYBOX
        command: [sh, -c, "trap exit TERM; sleep 100000 & wait"]
        env: [{name: COLOUR, value: red}]
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 1Mi}}
"#;
const PODS: [&str; 3] = ["web-0", "web-1", "web-2"];

#[test]
fn a_statefulset_keeps_names_and_volumes_through_a_roll_a_scale_and_orphans() {
    let bench = Bench::start(&[("busybox", Image::busybox())]);
    bench.apply("set.yaml", SET);
    bench.rolled_out();
    for pod in PODS {
        assert_eq!(bench.exec(pod, "hostname"), pod);
        bench.exec(pod, "hostname > /data/mine");
    }
    assert_eq!(
        bench.claims(),
        "data-web-0=Bound data-web-1=Bound data-web-2=Bound"
    );
    pods_find_each_other_by_name(&bench);
    a_roll_and_its_undo(&bench);
    what_is_scaled_away_comes_back_with_its_volume(&bench);
    orphans_are_adopted(&bench);
    bench.kubectl(&["delete", "statefulset", "web"]).ok();
    let gone = [
        "wait",
        "--for=delete",
        "pod",
        "-l",
        "app=web",
        "--timeout=90s",
    ];
    bench.kubectl(&gone).ok();
    assert_eq!(
        bench.claims(),
        "data-web-0=Bound data-web-1=Bound data-web-2=Bound"
    );
}

impl Bench {
    #[track_caller]
    fn rolled_out(&self) {
        let status = ["rollout", "status", "statefulset/web", "--timeout=120s"];
        let output = self.kubectl(&status);
        assert_eq!(output.code, 0, "{output:?}\n{}", self.described(&PODS));
        let ready = [
            "get",
            "statefulset",
            "web",
            "-o",
            "jsonpath={.status.availableReplicas}",
        ];
        assert_eq!(self.kubectl(&ready).ok(), "3");
        for pod in PODS {
            assert_eq!(
                self.exec(pod, "cat /data/mine 2>/dev/null || hostname"),
                pod
            );
        }
    }

    fn claims(&self) -> String {
        let each = "jsonpath={range .items[*]}{.metadata.name}={.status.phase} {end}";
        let claims = self.kubectl(&["get", "pvc", "-o", each]).ok();
        claims.trim_end().to_owned()
    }

    fn uids(&self, resource: &str) -> String {
        let each = "jsonpath={range .items[*]}{.metadata.name}={.metadata.uid} {end}";
        let get = ["get", resource, "-l", "app=web", "-o", each];
        self.kubectl(&get).ok()
    }

    fn revisions(&self) -> Vec<String> {
        let history = self
            .kubectl(&["rollout", "history", "statefulset/web"])
            .ok();
        let lines = history.lines().skip(2).filter(|line| !line.is_empty());
        lines
            .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
            .collect()
    }
}

fn pods_find_each_other_by_name(bench: &Bench) {
    let address = bench.pod("web-2", ".status.podIP");
    for name in [
        "web-2.web.default.svc.cluster.local",
        "web.default.svc.cluster.local",
    ] {
        eventually(SOON, || {
            let said = bench.exec("web-0", &format!("nslookup {name} 2>&1 || true"));
            let found = said.lines().any(|line| line.ends_with(&address));
            if found { Ok(()) } else { Err(said) }
        });
    }
    let hosts = bench.exec("web-0", "cat /etc/hosts");
    assert!(
        hosts.contains("web-0.web.default.svc.cluster.local"),
        "{hosts}"
    );
}

fn a_roll_and_its_undo(bench: &Bench) {
    bench
        .kubectl(&["set", "env", "statefulset/web", "COLOUR=blue"])
        .ok();
    bench.rolled_out();
    assert_eq!(bench.exec("web-0", "echo $COLOUR"), "blue");
    assert_eq!(bench.revisions(), ["1", "2"]);
    bench.kubectl(&["rollout", "undo", "statefulset/web"]).ok();
    bench.rolled_out();
    assert_eq!(bench.exec("web-0", "echo $COLOUR"), "red");
    assert_eq!(bench.revisions(), ["2", "3"]);
}

fn what_is_scaled_away_comes_back_with_its_volume(bench: &Bench) {
    bench
        .kubectl(&["scale", "statefulset/web", "--replicas=1"])
        .ok();
    let gone = [
        "wait",
        "--for=delete",
        "pod/web-1",
        "pod/web-2",
        "--timeout=90s",
    ];
    bench.kubectl(&gone).ok();
    assert_eq!(
        bench.claims(),
        "data-web-0=Bound data-web-1=Bound data-web-2=Bound"
    );
    bench
        .kubectl(&["scale", "statefulset/web", "--replicas=3"])
        .ok();
    bench.rolled_out();
}

fn orphans_are_adopted(bench: &Bench) {
    let uids = || ["pods", "controllerrevisions"].map(|resource| bench.uids(resource));
    let before = uids();
    let orphan = ["delete", "statefulset", "web", "--cascade=orphan"];
    bench.kubectl(&orphan).ok();
    bench.pod_has("web-0", ".metadata.ownerReferences", str::is_empty);
    bench.apply("set.yaml", SET);
    bench.rolled_out();
    assert_eq!(uids(), before);
    bench.pod_has("web-0", ".metadata.ownerReferences[0].kind", |kind| {
        kind == "StatefulSet"
    });
}
