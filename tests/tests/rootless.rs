//! `wk up` as an ordinary user.

use std::time::Duration;

use e2e::{Cluster, Options, eventually, example};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn an_ordinary_user_gets_a_url_that_answers() {
    let user = nix::unistd::geteuid()
        .is_root()
        .then(|| "nobody".to_owned());
    let cluster = Cluster::with(Options {
        arguments: ["--network", "rootless", "-f"]
            .map(str::to_owned)
            .into_iter()
            .chain([example("hello.yaml")])
            .collect(),
        user,
        ..Options::default()
    });
    let url = eventually(SOON, || {
        let log = cluster.log();
        let start = log.find("http://127.43.").ok_or_else(|| log.clone())?;
        Ok(log[start..]
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned())
    });
    eventually(SOON, || {
        let answer = cluster.curl(&[&url]);
        if answer.stdout.starts_with("Hello from hello-") {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    });
    let ips = cluster
        .kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.podIP}"])
        .ok();
    assert!(ips.split(' ').all(|ip| ip.starts_with("127.42.")), "{ips}");
}
