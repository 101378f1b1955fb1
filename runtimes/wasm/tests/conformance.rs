//! The runtime keeps the contract's promises, with real components.

mod node;

use node::{Node, fixture};
use runtimes::conformance::{Subject, check};

#[tokio::test(flavor = "multi_thread")]
async fn the_wasm_runtime_conforms() {
    let node = Node::new(60);
    let spec = node.spec("any", &fixture("prints.wat")).await;
    check(&Subject {
        runtime: node.runtime.clone(),
        address: spec.address,
        dir: node.dir.path().to_owned(),
        prints: node.image(&fixture("prints.wat")).await,
        exits_three: node.image(&fixture("exit-three.wat")).await,
        runs: node.image(&fixture("sleeps.wat")).await,
        ignores_stop: node.image(&fixture("loop.wat")).await,
        invalid: node.image(&fixture("neither.wat")).await,
    })
    .await;
}
