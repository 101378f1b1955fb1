//! Requests that a component sends by the thousand.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod node;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use node::{Node, SOON, at, example, fixture};
use runtimes::ContainerSpec;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

/// Connections of one container at once.
const MAX_OPEN: usize = 256;

/// The client, sending `count` requests before it looks at an answer. It exits with code 1 when an answer
/// is not there or not good, looking from the last.
fn many(node: &Node, count: usize) -> PathBuf {
    let text = std::fs::read_to_string(fixture("fetch.wat")).unwrap();
    let (before, rest) = text.split_once("    (func (export \"run\")").unwrap();
    let (_, after) = rest.split_once("  (core instance $main").unwrap();
    let run = format!(
        r#"
    (func (export "run") (result i32) (local $pair i32) (local $request i32) (local $count i32)
      (local.set $pair (call $upstream))
      ;; The answers to be, in pages of their own.
      (local.set $count (i32.mul (memory.grow (i32.const 2)) (i32.const 65536)))
      (global.set $first (local.get $count))
      (global.set $end (i32.add (local.get $count) (i32.const {bytes})))
      (loop $more
        (local.set $request (call $new-request (call $new-fields)))
        (drop (call $set-scheme (local.get $request) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
        (drop (call $set-authority (local.get $request) (i32.const 1)
          (i32.load offset=8 (local.get $pair)) (i32.load offset=12 (local.get $pair))))
        (drop (call $set-path (local.get $request) (i32.const 1) (i32.const 40) (i32.const 1)))
        (call $send (local.get $request) (i32.const 0) (i32.const 0) (i32.const 1024))
        (if (i32.load8_u (i32.const 1024)) (then unreachable))
        (i32.store (local.get $count) (i32.load (i32.const 1032)))
        (local.set $count (i32.add (local.get $count) (i32.const 4)))
        (br_if $more (i32.lt_u (local.get $count) (global.get $end))))
      (loop $more
        (local.set $count (i32.sub (local.get $count) (i32.const 4)))
        (call $block (call $subscribe (i32.load (local.get $count))))
        (call $answer (i32.load (local.get $count)) (i32.const 1024))
        (if (i32.load8_u (i32.const 1040)) (then (return (i32.const 1))))
        (br_if $more (i32.gt_u (local.get $count) (global.get $first))))
      (i32.const 0))
    (global $first (mut i32) (i32.const 0))
    (global $end (mut i32) (i32.const 0)))
"#,
        bytes = count * 4
    );
    let path = node.dir.path().join("many.wat");
    std::fs::write(&path, format!("{before}{run}  (core instance $main{after}")).unwrap();
    path
}

async fn client(node: &Node, count: usize, upstream: SocketAddr) -> ContainerSpec {
    let mut spec = node.spec("client", &many(node, count)).await;
    spec.env = vec![("UPSTREAM".to_owned(), upstream.to_string())];
    spec
}

/// Connections that a server has, and had.
#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

/// Answers every request, or none, until it is dropped; at an address that no pod of the node has.
async fn serve(net: u8, answers: bool) -> (SocketAddr, Arc<Counts>, JoinSet<()>) {
    let listener = TcpListener::bind(SocketAddr::from(([127, net, 9, 9], 0)))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let counts = Arc::new(Counts::default());
    let counted = counts.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let counts = counted.clone();
            connections.spawn(async move {
                let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
                counts.most.fetch_max(open, Ordering::SeqCst);
                counts.all.fetch_add(1, Ordering::SeqCst);
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                // Counted first: the client may have its next turn as soon as it has the answer.
                if answers {
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                    let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                    let _ = stream.write_all(answer).await;
                } else {
                    let _ = stream.read(&mut request).await;
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    (address, counts, tasks)
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_requests_take_turns_and_all_are_answered() {
    let node = Node::new(154);
    let (address, counts, _server) = serve(154, true).await;
    let client = client(&node, 2000, address).await;
    let exit = node.run(&client).await;
    assert_eq!((exit.code, exit.message.as_str()), (0, ""));
    assert_eq!(counts.all.load(Ordering::SeqCst), 2000);
    let most = counts.most.load(Ordering::SeqCst);
    assert!(most <= MAX_OPEN, "{most} at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_may_wait_are_refused_and_other_pods_are_not_kept_waiting() {
    let node = Node::new(156);
    let (address, counts, _server) = serve(156, false).await;
    let client = client(&node, 5000, address).await;
    // The last is refused at once, so the program ends, though nothing was answered.
    let exit = node.run(&client).await;
    assert_eq!((exit.code, exit.message.as_str()), (1, ""));
    let gone = async {
        while counts.open.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, gone)
        .await
        .expect("its connections close");

    // Under way again, and beside it another pod.
    let mut again = client.clone();
    again.id = runtimes::ContainerId("uid-client/main/1".into());
    node.start(&again).await.unwrap();
    let server = node.spec("server", &example("hello.wat")).await;
    node.start(&server).await.unwrap();
    let mut other = node.spec("other", &fixture("fetch.wat")).await;
    other.env = vec![("UPSTREAM".to_owned(), at(server.address).to_string())];
    assert_eq!(node.run(&other).await.code, 0);
}
