//! What the containers of a pod share, of either kind, and what they share with others.

use e2e::{Image, eventually};

use crate::{Bench, SOON};

const OBJECTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: red, page.html: "<p>from a ConfigMap</p>"}
---
apiVersion: v1
kind: Secret
metadata: {name: login}
stringData: {password: hunter2}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec: {selector: {app: mixed}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: mixed, labels: {app: mixed}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: container-first
    image: BUSYBOX
    command: [sh, -c, "echo of a container > /data/first"]
    volumeMounts: [{name: data, mountPath: /data}]
  - name: component-second
    image: TOOLBOX
    args: [write, /data/second, of a component]
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - name: box
    image: BUSYBOX
    command: [sleep, "100000"]
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: login, key: password}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: BOTH, value: "$(COLOUR) and $(PASSWORD)"}
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: settings, mountPath: /settings}
    - {name: login, mountPath: /login/password, subPath: password}
    - {name: memory, mountPath: /memory}
    - {name: kept, mountPath: /kept}
  - name: hello
    image: HELLO
    ports: [{containerPort: 8080}]
  - name: tools
    image: TOOLBOX
    args: [pipe]
    stdin: true
    volumeMounts: [{name: data, mountPath: /data}]
  volumes:
  - {name: data, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: settings, configMap: {name: settings}}
  - {name: login, secret: {secretName: login}}
  - {name: kept, persistentVolumeClaim: {claimName: kept}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - name: main
    image: NGINX
    ports: [{name: http, containerPort: 80}]
    readinessProbe: {httpGet: {port: http}, periodSeconds: 1}
    volumeMounts: [{name: pages, mountPath: /usr/share/nginx/html/page.html, subPath: page.html}]
  volumes:
  - {name: pages, configMap: {name: settings}}
"#;

const LATER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: later}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: BUSYBOX
    command: [sleep, "100000"]
    volumeMounts: [{name: kept, mountPath: /kept}]
  volumes:
  - {name: kept, persistentVolumeClaim: {claimName: kept}}
"#;

#[test]
fn containers_share_volumes_addresses_and_names_with_components() {
    let bench = Bench::start(&[("busybox", Image::busybox()), ("nginx", Image::nginx())]);
    bench.apply("objects.yaml", OBJECTS);
    bench.wait_ready(&["mixed", "web"]);
    a_container_finds_its_environment_and_files(&bench);
    a_volume_is_written_and_read_by_either_kind(&bench);
    localhost_is_the_pods(&bench);
    services_are_reached_by_address_and_by_name(&bench);
    a_claim_outlives_its_pod(&bench);
}

fn a_container_finds_its_environment_and_files(bench: &Bench) {
    let check = |script: &str, expected: &str| {
        assert_eq!(bench.exec("mixed", script), expected, "{script}");
    };
    let ip = bench.pod("mixed", ".status.podIP");
    check(
        "echo $COLOUR $PASSWORD $POD_IP",
        &format!("red hunter2 {ip}"),
    );
    check("echo $BOTH", "red and hunter2");
    check("cat /settings/colour /login/password", "redhunter2");
    check("hostname", "mixed");
    check("grep mixed /etc/hosts", &format!("{ip}\tmixed"));
    check("echo x > /memory/x && cat /memory/x", "x");
    check(
        "cat /var/run/secrets/kubernetes.io/serviceaccount/namespace",
        "default",
    );
    let refused = bench.kubectl(&[
        "exec",
        "mixed",
        "--",
        "sh",
        "-c",
        "echo x > /settings/colour",
    ]);
    let refused = refused.fails();
    assert!(refused.contains("Read-only file system"), "{refused}");

    // Files follow their objects.
    let patch = [
        "patch",
        "configmap",
        "settings",
        "-p",
        r#"{"data":{"colour":"blue"}}"#,
    ];
    bench.kubectl(&patch).ok();
    eventually(SOON, || match bench.exec("mixed", "cat /settings/colour") {
        colour if colour == "blue" => Ok(()),
        other => Err(other),
    });
}

fn a_volume_is_written_and_read_by_either_kind(bench: &Bench) {
    assert_eq!(
        bench
            .exec("mixed", "cat /data/first; cat /data/second")
            .replace('\n', " "),
        "of a container of a component"
    );
    bench.exec("mixed", "echo -n from the container > /data/third");
    let tools = ["exec", "mixed", "-c", "tools", "--"];
    let read = bench
        .kubectl(&[&tools[..], &["cat", "/data/third"]].concat())
        .ok();
    assert_eq!(read.trim_end(), "from the container");
    bench
        .kubectl(&[&tools[..], &["write", "/data/fourth", "from the component"]].concat())
        .ok();
    assert_eq!(
        bench.exec("mixed", "cat /data/fourth"),
        "from the component"
    );
}

fn localhost_is_the_pods(bench: &Bench) {
    for address in ["127.0.0.1", "localhost", "$POD_IP"] {
        let said = bench.exec("mixed", &format!("wget -qO- http://{address}:8080/"));
        assert_eq!(said, "Hello from mixed", "{address}");
    }
}

fn services_are_reached_by_address_and_by_name(bench: &Bench) {
    let services = [("web", "Welcome to nginx!"), ("hello", "Hello from mixed")];
    for (service, page) in services {
        let url = bench.cluster.service_url(service);
        eventually(SOON, || {
            let answer = bench.cluster.curl(&[&url]);
            if answer.stdout.contains(page) {
                Ok(())
            } else {
                Err(format!("{url}: {answer:?}"))
            }
        });
        let names = [
            service.to_owned(),
            format!("{service}.default"),
            format!("{service}.default.svc.cluster.local"),
        ];
        for name in names {
            let said = bench.exec("mixed", &format!("wget -qO- http://{name}/"));
            assert!(said.contains(page), "{name}: {said}");
        }
    }
    assert_eq!(
        bench.exec("mixed", "wget -qO- http://web/page.html"),
        "<p>from a ConfigMap</p>"
    );
    // The API is there too; this shell does no TLS, and is told so.
    let ask =
        "wget -qO- -S http://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/readyz 2>&1 || true";
    let said = bench.exec("mixed", ask);
    assert!(!said.contains("can't connect"), "{said}");
}

fn a_claim_outlives_its_pod(bench: &Bench) {
    bench.exec("mixed", "echo still here > /kept/file");
    bench.kubectl(&["delete", "pod", "mixed"]).ok();
    bench.apply("later.yaml", LATER);
    bench.wait_ready(&["later"]);
    assert_eq!(bench.exec("later", "cat /kept/file"), "still here");
}
