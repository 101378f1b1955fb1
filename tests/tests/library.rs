//! The charts of `charts/library`: each is installed, does its work, passes its own tests, is upgraded and uninstalled.
//!
//! They have one cluster, a namespace each, and images made of Debian's packages; all are worked on at once. Debian's Prometheus
//! finds no targets in Kubernetes: what it is told of discovery is VictoriaMetrics' to do, which reads the same configuration.

use std::{path::Path, thread, time::Duration};

use e2e::{Cluster, Image, Options, Registry, eventually, example};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(120);
/// Each wait of `wkctl chart`.
const WITHIN: &str = "--timeout=5m";
/// What the registry in the sandbox calls its images.
const REGISTRY: &str = "127.0.0.1:5001";

fn image(name: &str) -> Value {
    json!({"repository": format!("{REGISTRY}/{name}"), "tag": "1"})
}

/// The users of Debian's images differ from those of the images that the charts are written for.
fn user(id: u32) -> Value {
    json!({"runAsUser": id, "runAsGroup": id, "fsGroup": id})
}

/// One release, in a namespace of its name.
struct Release<'a> {
    cluster: &'a Cluster,
    name: &'static str,
    chart: &'static str,
}

impl<'a> Release<'a> {
    fn new(cluster: &'a Cluster, chart: &'static str) -> Release<'a> {
        Release {
            cluster,
            name: chart,
            chart,
        }
    }

    fn wkctl(&self, arguments: &[&str]) -> String {
        let namespace = ["-n", self.name];
        let output = self.cluster.wkctl(&[&namespace[..], arguments].concat());
        let seen = || {
            let pods = self.kubectl(&["describe", "pods"]).stdout;
            format!("{arguments:?}: {output:?}\n{pods}")
        };
        assert_eq!(output.code, 0, "{}", seen());
        output.stdout
    }

    fn kubectl(&self, arguments: &[&str]) -> e2e::Output {
        let namespace = ["-n", self.name];
        self.cluster.kubectl(&[&namespace[..], arguments].concat())
    }

    /// Installs it, or changes what it has, and waits until it is ready.
    fn apply(&self, verb: &[&str], values: &Value) -> String {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../charts/library")
            .join(self.chart);
        let directory = directory.display().to_string();
        let name = format!("{}-values.yaml", self.name);
        let values = self.cluster.manifest(&name, &values.to_string());
        let rest = [self.name, &directory, "-f", &values, "--wait", WITHIN];
        self.wkctl(&[&["chart"][..], verb, &rest].concat())
    }

    fn install(&self, values: &Value) {
        let said = self.apply(&["install", "--create-namespace"], values);
        assert!(said.contains("STATUS: deployed"), "{said}");
    }

    fn upgrade(&self, values: &Value) {
        let said = self.apply(&["upgrade", "--reuse-values"], values);
        assert!(said.contains("REVISION: 2"), "{said}");
    }

    fn test(&self) {
        let said = self.wkctl(&["chart", "test", self.name, WITHIN]);
        assert!(said.contains("Phase:          Succeeded"), "{said}");
    }

    /// Removes it; nothing of it is left but what is to stay.
    fn uninstall(&self, stays: &str) {
        self.wkctl(&["chart", "uninstall", self.name, "--wait", WITHIN]);
        let kinds = "deploy,sts,svc,cm,secret,sa,ing,fn,pvc";
        let labelled = format!("app.kubernetes.io/instance={}", self.name);
        eventually(SOON, || {
            let left = self.kubectl(&["get", kinds, "-l", &labelled, "-o", "name"]);
            let pods = self.kubectl(&["get", "pods", "-o", "name"]).ok();
            let left = left.ok() + &pods;
            if left.trim() == stays {
                Ok(())
            } else {
                Err(left)
            }
        });
    }

    fn exec(&self, pod: &str, script: &str) -> String {
        let output = self.kubectl(&["exec", pod, "--", "sh", "-ec", script]);
        output.ok().trim().to_owned()
    }

    /// Asks the gateway until the answer has these words, and this code.
    #[track_caller]
    fn answers(&self, host: &str, code: &str, words: &str) {
        let host = format!("Host: {host}");
        let url = "http://127.0.0.1:8080/";
        eventually(SOON, || {
            let asked = ["-w", "\n%{http_code}", "-H", &host, url];
            let answer = self.cluster.curl(&asked);
            let (body, said) = answer.stdout.rsplit_once('\n').unwrap_or_default();
            if said == code && body.contains(words) {
                Ok(())
            } else {
                Err(format!("{answer:?}"))
            }
        });
    }
}

fn function(cluster: &Cluster) {
    let release = Release::new(cluster, "function");
    let host = "function.function.localhost";
    release.install(&json!({
        "image": format!("{REGISTRY}/hello:1"),
        "config": {"files": {"greeting.txt": "from {{ .Release.Name }}"}},
        "test": {"image": format!("{REGISTRY}/busybox:1")},
    }));
    release.answers(host, "200", "Hello from function-00001");
    release.test();
    // What files say is a part of what runs.
    release.upgrade(&json!({"config": {"files": {"greeting.txt": "again"}}}));
    release.answers(host, "200", "Hello from function-00002");
    release.uninstall("");
    release.answers(host, "404", "");
}

fn nginx(cluster: &Cluster) {
    let release = Release::new(cluster, "nginx");
    let host = "shop.example.com";
    release.install(&json!({
        "image": image("nginx"),
        "ingress": {"enabled": true, "hosts": [{"host": host, "paths": [{"path": "/"}]}]},
        "test": {"image": ""},
    }));
    release.answers(host, "200", "<h1>It works</h1>");
    release.test();
    let site = json!({"index.html": "{{ .Release.Name }} says more\n"});
    release.upgrade(&json!({"site": site, "replicaCount": 2}));
    release.answers(host, "200", "nginx says more");
    let path = "jsonpath={.status.readyReplicas}";
    let ready = release.kubectl(&["get", "deployment", "nginx", "-o", path]);
    assert_eq!(ready.ok(), "2");
    release.uninstall("");
    release.answers(host, "404", "");
}

fn postgresql(cluster: &Cluster) {
    let release = Release::new(cluster, "postgresql");
    let ask = |sql: &str| {
        let psql = "PGPASSWORD=$POSTGRES_PASSWORD psql -h 127.0.0.1 -U postgres -At shop -c";
        release.exec("postgresql-0", &format!("{psql} '{sql}'"))
    };
    let password = || {
        let path = "jsonpath={.data.password}";
        let secret = ["get", "secret", "postgresql", "-o", path];
        release.kubectl(&secret).ok()
    };
    release.install(&json!({
        "image": image("postgres"),
        "auth": {"database": "shop"},
        "persistence": {"size": "1Gi"},
        "podSecurityContext": user(70),
    }));
    ask("CREATE TABLE t AS SELECT generate_series(1, 3) AS n");
    let made = password();
    release.test();
    release.upgrade(&json!({"parameters": {"max_connections": 50}}));
    assert_eq!(ask("SHOW max_connections"), "50");
    assert_eq!(ask("SELECT sum(n) FROM t"), "6");
    assert_eq!(password(), made);
    release.uninstall("persistentvolumeclaim/data-postgresql-0");
}

fn redis(cluster: &Cluster) {
    let release = Release::new(cluster, "redis");
    let ask = |words: &str| release.exec("redis-0", &format!("redis-cli {words}"));
    release.install(&json!({
        "image": image("redis"),
        "persistence": {"size": "1Gi", "whenDeleted": "Delete"},
        "podSecurityContext": user(71),
    }));
    assert_eq!(ask("set colour red"), "OK");
    let refused = release.exec("redis-0", "REDISCLI_AUTH= redis-cli get colour 2>&1");
    assert!(refused.contains("NOAUTH"), "{refused}");
    release.test();
    release.upgrade(&json!({"maxmemory": "100mb"}));
    assert_eq!(ask("config get maxmemory"), "maxmemory\n104857600");
    assert_eq!(ask("get colour"), "red");
    release.uninstall("");
}

/// Waits until Prometheus' answer to a query is one value.
#[track_caller]
fn finds(release: &Release<'_>, query: &str, wanted: &str) {
    let path = "jsonpath=http://{.spec.clusterIP}:9090/api/v1/query";
    let service = ["get", "service", "-o", path];
    let url = release.kubectl(&[&service[..], &[SERVER]].concat()).ok();
    let query = format!("query={query}");
    eventually(SOON, || {
        let answer = release
            .cluster
            .curl(&["-G", "--data-urlencode", &query, &url]);
        let found: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
        match found["data"]["result"][0]["value"][1].as_str() {
            Some(value) if value == wanted => Ok(()),
            _ => Err(format!("{query} is {answer:?}")),
        }
    });
}

/// What the servers of metrics are called.
const SERVER: &str = "prometheus";

fn prometheus(cluster: &Cluster) {
    let release = Release::new(cluster, "prometheus");
    let own =
        json!({"job_name": "own", "static_configs": [{"targets": ["{{ .Release.Name }}:9090"]}]});
    release.install(&json!({
        "image": image("prometheus"),
        "scrapeInterval": "1s",
        "scrapeTimeout": "1s",
        "scrape": {"nodes": false, "pods": false, "services": false},
        "extraScrapeConfigs": [own],
        "test": {"image": format!("{REGISTRY}/busybox:1")},
    }));
    finds(&release, "count(count by (job) (up == 1))", "3");
    let requests = "sgn(sum(apiserver_request_total{job=\"apiserver\"}))";
    finds(&release, requests, "1");
    release.test();
    let rule = json!({"record": "answer", "expr": "vector(42)"});
    let groups = json!({"groups": [{"name": "own", "interval": "1s", "rules": [rule]}]});
    release.upgrade(&json!({"rules": {"own.yaml": groups}}));
    finds(&release, "answer", "42");
    release.uninstall("");
}

/// The same chart finds nodes, annotated pods and annotated Services.
fn discovery(cluster: &Cluster) {
    let release = Release {
        cluster,
        name: "discovery",
        chart: "prometheus",
    };
    release.install(&json!({
        "image": image("victoria"),
        "fullnameOverride": SERVER,
        "scrapeInterval": "1s",
        "scrapeTimeout": "1s",
        "podAnnotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"},
        "service": {"annotations": {"prometheus.io/scrape": "true"}},
        "test": {"image": format!("{REGISTRY}/busybox:1")},
    }));
    for job in ["apiserver", "nodes", "prometheus"] {
        finds(&release, &format!("min(up{{job=\"{job}\"}})"), "1");
    }
    for job in ["pods", "services"] {
        let found = format!("count(up{{job=\"{job}\",namespace=\"discovery\"}} == 1)");
        finds(&release, &found, "1");
    }
    release.test();
    // Where it may not look, it finds nothing.
    release.upgrade(&json!({"scrape": {"namespaces": ["default"]}}));
    finds(&release, "min(up{job=\"apiserver\"})", "1");
    finds(&release, "absent(up{job=\"pods\"})", "1");
    release.uninstall("");
}

#[test]
fn every_chart_of_the_library_works() {
    let mut cluster = Cluster::prepare(Options::default());
    // A host with an address, where pods reach the API.
    let device = "ip link add outside type veth peer beyond && ip address add 192.0.2.2/24 dev outside && \
                  ip link set outside up && ip link set beyond up && ip route add default via 192.0.2.1";
    cluster.sandbox.run("sh", &["-c", device]).ok();
    cluster.up();
    let registry = Registry::start(&cluster.sandbox);
    for name in [
        "busybox",
        "nginx",
        "postgres",
        "prometheus",
        "redis",
        "victoria",
    ] {
        registry.push(name, &Image::named(name).expect("it is made here"));
    }
    let hello = wat::parse_file(example("hello.wat")).expect("it is WebAssembly text");
    registry.push_component("hello", &hello);

    let cluster = &cluster;
    thread::scope(|scope| {
        for work in [function, nginx, postgresql, redis, prometheus, discovery] {
            scope.spawn(move || work(cluster));
        }
    });
}
