//! The runtime keeps the contract's promises, with real containers.

use crate::node::{Node, address};
use runtimes::conformance::{Subject, check};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_oci_runtime_conforms() {
    let node = Node::new();
    check(&Subject {
        runtime: node.runtime.clone().expect("a runtime"),
        address: address(),
        dir: node.dir.path().to_owned(),
        prints: node.script("echo one; echo two >&2"),
        exits_three: node.script("exit 3"),
        runs: node.script("trap 'exit 0' TERM; sleep 1000 & wait"),
        // The first process of a namespace has no signal but those that it handles.
        ignores_stop: node.image(json!({"Cmd": ["/bin/sleep", "1000"]})),
        invalid: node.image(json!({"Cmd": ["/bin/nope"]})),
    })
    .await;
    assert_eq!(
        node.mounts(),
        Vec::<std::path::PathBuf>::new(),
        "mounts are left"
    );
    assert_eq!(
        node.groups(),
        Vec::<std::path::PathBuf>::new(),
        "control groups are left"
    );
}
