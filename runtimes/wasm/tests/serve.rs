//! Requests without a socket: answers, limits, ends, what is counted.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod node;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use expect_test::{Expect, expect};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;
use node::{Node, SOON, example, fixture};
use runtimes::{Body, ContainerSpec, Runtime as _, Serve as _, ServeError, ServeOptions, Served};
use tokio::sync::mpsc;

/// The part of `http-trap.wat` that is its program.
const TRAP: &str = r#"(func (export "handle") (param i32 i32) unreachable)"#;

const FRESH: ServeOptions = ServeOptions {
    pooled: false,
    max: 4,
    queue: 4,
    timeout: SOON,
    idle: SOON,
};

/// A fixture with a part of it replaced.
fn changed(node: &Node, name: &str, from: &str, to: &str) -> PathBuf {
    let text = std::fs::read_to_string(fixture(name)).unwrap();
    assert!(text.contains(from), "{name} has {from}");
    let path = node.dir.path().join(format!("changed-{name}"));
    std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    path
}

struct Function {
    node: Node,
    spec: ContainerSpec,
    served: Arc<dyn Served>,
}

impl Function {
    async fn open(
        net: u8,
        path: impl FnOnce(&Node) -> PathBuf,
        options: ServeOptions,
        change: impl FnOnce(&mut ContainerSpec),
    ) -> Function {
        let node = Node::new(net);
        let path = path(&node);
        let mut spec = node.spec("function", &path).await;
        change(&mut spec);
        node.runtime.prepare(&spec.image).await.unwrap();
        let served = node.runtime.open(spec.clone(), options).await.unwrap();
        Function { node, spec, served }
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, ServeError> {
        let answer = tokio::time::timeout(SOON, self.served.serve(request)).await;
        answer.expect("it answers or fails soon")
    }

    async fn say(&self, request: Request<Body>) -> String {
        let response = match self.send(request).await {
            Ok(response) => response,
            Err(error) => return shown(&error),
        };
        let status = response.status().as_u16();
        match tokio::time::timeout(SOON, response.into_body().collect()).await {
            Ok(Ok(body)) => {
                let body = body.to_bytes();
                format!("{status} {}", String::from_utf8_lossy(&body).trim_end())
            }
            Ok(Err(error)) => format!("{status} and then: {error}"),
            Err(_) => format!("{status} without an end"),
        }
    }

    /// Waits until what is counted is so.
    async fn until(&self, what: &str, is: impl Fn(runtimes::ServeUsage) -> bool) {
        let wait = async {
            while !is(self.served.usage()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let done = tokio::time::timeout(SOON, wait).await;
        assert!(done.is_ok(), "{what}: {:?}", self.served.usage());
    }
}

/// The error by its name and words, without what differs between two runs.
fn shown(error: &ServeError) -> String {
    let text = format!("{error:?}");
    text.replace("main-module!", "")
}

fn body(text: &'static str) -> Body {
    Body::new(Full::new(Bytes::from(text)).map_err(|never| match never {}))
}

fn get() -> Request<Body> {
    let nothing = Empty::new().map_err(|never| match never {});
    let request = Request::get("/").header("host", "test");
    request.body(Body::new(nothing)).unwrap()
}

fn post(body: Body) -> Request<Body> {
    let request = Request::post("/").header("host", "test");
    request.body(body).unwrap()
}

type Chunk = Result<Frame<Bytes>, Box<dyn std::error::Error + Send + Sync>>;

/// A body that is sent bit by bit.
fn stream() -> (mpsc::Sender<Chunk>, Body) {
    let (sender, receiver) = mpsc::channel(4);
    let frames = tokio_stream::wrappers::ReceiverStream::new(receiver);
    (sender, Body::new(StreamBody::new(frames)))
}

fn chunk(text: &'static str) -> Chunk {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_by_an_instance_of_its_own() {
    let hello = Function::open(1, |_| example("hello.wat"), FRESH, |_| {}).await;
    assert_eq!(hello.served.usage().instances, 0);
    assert_eq!(hello.say(get()).await, "200 Hello from function");
    assert_eq!(hello.say(get()).await, "200 Hello from function");
    hello
        .until("its instances are gone", |usage| {
            usage.instances == 0 && usage.active == 0
        })
        .await;
    let usage = hello.served.usage();
    assert_eq!((usage.requests, usage.failed), (2, 0));
    assert_eq!(usage.egress_bytes, 2 * "Hello from function\n".len() as u64);
    assert!(
        usage.cpu > Duration::ZERO && usage.memory_byte_ms > 0,
        "{usage:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways() {
    let pass = Function::open(2, |_| fixture("pass.wat"), FRESH, |_| {}).await;
    let (sender, request) = stream();
    let answer = pass.send(post(request)).await.unwrap();
    let mut answer = answer.into_body();
    for text in ["one", "two"] {
        sender.send(chunk(text)).await.unwrap();
        let frame = tokio::time::timeout(SOON, answer.frame()).await.unwrap();
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), text);
    }
    drop(sender);
    assert!(answer.frame().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_instance_serves_one_after_another_and_goes_when_it_was_idle() {
    let options = ServeOptions {
        pooled: true,
        idle: Duration::from_millis(300),
        ..FRESH
    };
    let pass = Function::open(3, |_| fixture("pass.wat"), options, |_| {}).await;
    let mut counts = Vec::new();
    for _ in 0..3 {
        let answer = pass.send(post(body("x"))).await.unwrap();
        counts.push(answer.headers()["count"].to_str().unwrap().to_owned());
        answer.into_body().collect().await.unwrap();
        pass.until("it is idle", |usage| usage.active == 0).await;
    }
    assert_eq!(counts, ["1", "2", "3"]);
    pass.until("it is gone", |usage| usage.instances == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_request_has_the_head_of_its_answer() {
    let hello = Function::open(4, |_| example("hello.wat"), FRESH, |_| {}).await;
    let mut request = get();
    *request.method_mut() = http::Method::HEAD;
    assert_eq!(hello.say(request).await, "200 ");
    hello
        .until("it came to its end", |usage| usage.active == 0)
        .await;
    assert_eq!(hello.served.usage().failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_component_can_answer_is_refused() {
    let hello = Function::open(5, |_| example("hello.wat"), FRESH, |_| {}).await;
    let mut request = get();
    let upgrade = "websocket".parse().unwrap();
    request.headers_mut().insert("upgrade", upgrade);
    let said = hello.say(request).await;
    assert!(
        said.starts_with("501 upgrades (WebSocket among them)"),
        "{said}"
    );
}

/// What a server, made from `http-trap.wat` with another program, says, and its log.
async fn check(net: u8, program: &str, change: fn(&mut ContainerSpec), want: Expect) {
    let program = |node: &Node| changed(node, "http-trap.wat", TRAP, program);
    let options = ServeOptions {
        timeout: Duration::from_millis(500),
        ..FRESH
    };
    let function = Function::open(net, program, options, change).await;
    let said = function.say(get()).await;
    function
        .until("it is gone", |usage| usage.instances == 0)
        .await;
    function.until("it failed", |usage| usage.failed == 1).await;
    let log = function.node.log(&function.spec);
    let first = log.lines().next().unwrap_or("no log");
    want.assert_eq(&format!("{said}\n{first}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_told_and_logged() {
    let want = expect![[r#"
        Failed("wasm trap: wasm `unreachable` instruction executed in <wasm function 0>")
        stderr F error while executing at wasm backtrace:
    "#]];
    check(6, TRAP, |_| {}, want).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_returns_without_an_answer_failed() {
    let silent = r#"(func (export "handle") (param i32 i32))"#;
    let want = expect![[r#"
        Failed("the component returned without an answer")
        stderr F a request failed: the component returned without an answer
    "#]];
    check(7, silent, |_| {}, want).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_answers_is_ended_at_its_deadline() {
    let endless = r#"(func (export "handle") (param i32 i32) (loop $again (br $again)))"#;
    let want = expect![[r#"
        TimedOut("it was not done in 500ms")
        stderr F a request failed: it was not done in 500ms
    "#]];
    check(8, endless, |_| {}, want).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_takes_too_much_memory_is_ended() {
    let hog = r#"(memory 1) (func (export "handle") (param i32 i32)
        (loop $more (br_if $more (i32.ne (i32.const -1) (memory.grow (i32.const 16))))))"#;
    let want = expect![[r#"
        OutOfMemory("out of memory: the limit is 16777216 bytes")
        stderr F error while executing at wasm backtrace:
    "#]];
    check(
        9,
        hog,
        |spec| spec.limits.memory_bytes = Some(16 << 20),
        want,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_limit_is_each_instances() {
    // Four at once, of a page each, under a limit of two.
    let change = |spec: &mut ContainerSpec| spec.limits.memory_bytes = Some(2 << 16);
    let pass = Function::open(10, |_| fixture("pass.wat"), FRESH, change).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let (sender, request) = stream();
        open.push((sender, pass.send(post(request)).await.unwrap()));
    }
    assert_eq!(pass.served.usage().instances, 4);
    for (sender, answer) in open {
        drop(sender);
        answer.into_body().collect().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_leaks_is_ended_and_the_next_request_has_a_new_one() {
    let leak = |node: &Node| {
        let begin = "(global.set $count (i32.add";
        let leaks = format!("(drop (memory.grow (i32.const 16))) {begin}");
        changed(node, "pass.wat", begin, &leaks)
    };
    let options = ServeOptions {
        pooled: true,
        ..FRESH
    };
    let change = |spec: &mut ContainerSpec| spec.limits.memory_bytes = Some(5 << 20);
    let pass = Function::open(11, leak, options, change).await;
    let mut said = Vec::new();
    for _ in 0..6 {
        said.push(match pass.send(post(body("x"))).await {
            Ok(answer) => {
                let count = answer.headers()["count"].to_str().unwrap().to_owned();
                answer.into_body().collect().await.unwrap();
                count
            }
            Err(error) => shown(&error),
        });
        pass.until("it is done", |usage| usage.active == 0).await;
    }
    let out = r#"OutOfMemory("out of memory: the limit is 5242880 bytes")"#;
    assert_eq!(said, ["1", "2", "3", "4", out, "1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let half = |node: &Node| {
        let more = "(call $flush (local.get $stream) (i32.const 1056))";
        changed(node, "pass.wat", more, &format!("{more} unreachable"))
    };
    let pass = Function::open(12, half, FRESH, |_| {}).await;
    let said = pass.say(post(body("x"))).await;
    assert!(said.starts_with("200 and then: wasm trap"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_wait_are_refused_and_those_that_wait_are_served() {
    let options = ServeOptions {
        max: 1,
        queue: 1,
        ..FRESH
    };
    let pass = Function::open(13, |_| fixture("pass.wat"), options, |_| {}).await;
    let (sender, request) = stream();
    let first = pass.send(post(request)).await.unwrap();
    let mut second = std::pin::pin!(pass.served.serve(post(body("second"))));
    let waits = tokio::time::timeout(Duration::from_millis(50), &mut second).await;
    assert!(waits.is_err());
    let want = "Busy(\"1 requests are served and 1 wait: there is no room for another\")";
    assert_eq!(pass.say(post(body("third"))).await, want);
    drop(sender);
    first.into_body().collect().await.unwrap();
    let second = tokio::time::timeout(SOON, second).await.unwrap().unwrap();
    let second = second.into_body().collect().await.unwrap();
    assert_eq!(second.to_bytes(), "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_never_done_makes_room_at_its_deadline() {
    let options = ServeOptions {
        max: 1,
        timeout: Duration::from_secs(1),
        ..FRESH
    };
    let pass = Function::open(14, |_| fixture("pass.wat"), options, |_| {}).await;
    let (_sender, request) = stream();
    let first = pass.send(post(request)).await.unwrap();
    let rest = first.into_body().collect().await;
    assert_eq!(rest.unwrap_err().to_string(), "it was not done in 1s");
    assert_eq!(pass.say(post(body("second"))).await, "200 second");
    assert_eq!(pass.served.usage().failed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_ends_with_its_client() {
    let pass = Function::open(15, |_| fixture("pass.wat"), FRESH, |_| {}).await;
    let (_sender, request) = stream();
    let answer = pass.send(post(request)).await.unwrap();
    assert_eq!(pass.served.usage().instances, 1);
    drop(answer);
    pass.until("the reader is gone", |usage| usage.instances == 0)
        .await;

    let endless = Function::open(16, |_| fixture("http-loop.wat"), FRESH, |_| {}).await;
    {
        let mut waiting = std::pin::pin!(endless.served.serve(get()));
        let runs = async {
            tokio::select! {
                _ = &mut waiting => panic!("it never answers"),
                () = endless.until("it runs", |usage| usage.instances == 1) => {}
            }
        };
        runs.await;
    }
    endless
        .until("nobody waits", |usage| usage.instances == 0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_closed_takes_no_request_and_ends_those_under_way_if_told_to() {
    let pass = Function::open(17, |_| fixture("pass.wat"), FRESH, |_| {}).await;
    let (sender, request) = stream();
    let answer = pass.send(post(request)).await.unwrap();
    let mut closing = std::pin::pin!(pass.served.close(false));
    let waits = tokio::time::timeout(Duration::from_millis(50), &mut closing).await;
    assert!(waits.is_err());
    assert_eq!(pass.say(get()).await, "Unavailable(\"it is being closed\")");
    sender.send(chunk("x")).await.unwrap();
    tokio::time::timeout(SOON, pass.served.close(true))
        .await
        .unwrap();
    let rest = answer.into_body().collect().await;
    assert_eq!(rest.unwrap_err().to_string(), "it was closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cpu_limit_is_each_instances() {
    let endless = r#"(func (export "handle") (param i32 i32) (loop $again (br $again)))"#;
    let program = |node: &Node| changed(node, "http-trap.wat", TRAP, endless);
    let options = ServeOptions {
        timeout: Duration::from_secs(2),
        ..FRESH
    };
    let change = |spec: &mut ContainerSpec| spec.limits.cpu_millis = Some(50);
    let function = Function::open(18, program, options, change).await;
    let (one, other) = tokio::join!(function.say(get()), function.say(get()));
    assert!(one.starts_with("TimedOut") && other.starts_with("TimedOut"));
    // Two of 100 ms each, and their bursts.
    let cpu = function.served.usage().cpu;
    assert!(cpu < Duration::from_millis(400), "{cpu:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_no_function() {
    let node = Node::new(19);
    let spec = node.spec("function", &fixture("fails.wat")).await;
    let error = node.runtime.open(spec, FRESH).await.err().unwrap();
    let error = error.to_string();
    let want = "is a program (it exports wasi:cli/run): a function must export wasi:http/incoming-handler@0.2.x";
    assert!(error.ends_with(want), "{error}");
}
