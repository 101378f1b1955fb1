//! `kubectl top`: what nodes and pods use.

use std::time::Duration;

use e2e::{Cluster, Options, eventually, example};

const SOON: Duration = Duration::from_secs(60);

/// The first words of each line.
fn names(text: &str) -> Vec<&str> {
    let lines = text.lines();
    lines
        .map(|line| line.split_whitespace().next().unwrap_or_default())
        .collect()
}

#[test]
fn nodes_and_pods_are_topped() {
    let cluster = Cluster::with(Options {
        arguments: vec!["-f".to_owned(), example("hello.yaml")],
        ..Options::default()
    });
    let pods = ["top", "pods", "-l", "app=hello", "--no-headers"];
    eventually(SOON, || {
        let top = cluster.kubectl(&pods);
        let hellos = names(&top.stdout);
        if hellos.len() == 2 && hellos.iter().all(|name| name.starts_with("hello-")) {
            Ok(())
        } else {
            Err(format!("{top:?}"))
        }
    });
    let top = |arguments: &[&str]| cluster.kubectl(&[&["top"], arguments].concat()).ok();
    let nodes = top(&["nodes"]);
    assert!(nodes.starts_with("NAME "), "{nodes}");
    assert_eq!(nodes.lines().count(), 2, "{nodes}");
    assert!(!nodes.contains("unknown"), "{nodes}");
    let everywhere = top(&["pods", "-A", "--containers", "--sort-by=memory"]);
    let containers = everywhere.lines().filter(|line| line.contains(" hello "));
    assert_eq!(containers.count(), 2, "{everywhere}");
    let refused = cluster.kubectl(&["top", "pod", "nothing"]);
    assert_eq!(
        refused.stderr.trim(),
        "Error from server (NotFound): pods \"nothing\" not found"
    );
}
