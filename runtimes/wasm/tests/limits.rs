//! What a component may take: memory, stack, tables, sockets, time; and what is said when it is too much.

mod node;

use expect_test::{Expect, expect};
use node::{Node, SOON, at, example, fixture, get};
use runtimes::{Limits, Runtime as _, RuntimeError};

const MEBI: u64 = 1 << 20;

/// Runs a program under a memory limit and shows how it ended.
async fn check(net: u8, name: &str, memory: Option<u64>, want: Expect) {
    let node = Node::new(net);
    let mut spec = node.spec("program", &fixture(name)).await;
    spec.limits.memory_bytes = memory;
    let exit = node.run(&spec).await;
    want.assert_eq(&format!("{} {} {}\n", exit.code, exit.reason, exit.message));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recursion_without_an_end_is_a_trap_with_its_functions() {
    let want = expect![[r#"
        134 Error wasm trap: call stack exhausted in main-module!deeper
    "#]];
    check(114, "recursion.wat", None, want).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_is_wanted_at_once_is_counted_too() {
    let want = expect![[r#"
        137 OOMKilled out of memory: the limit is 1073741824 bytes an instance without resources.limits.memory
    "#]];
    check(116, "vast.wat", None, want).await;
    let want = expect![[r#"
        137 OOMKilled out of memory: the limit is 2147483648 bytes
    "#]];
    check(118, "vast.wat", Some(2048 * MEBI), want).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_has_more_than_a_slot_of_the_pool_if_its_limit_says_so() {
    let want = expect![[r#"
        137 OOMKilled out of memory: the limit is 1073741824 bytes an instance without resources.limits.memory
    "#]];
    check(120, "spacious.wat", None, want).await;
    let want = expect![[r#"
        0 Completed 
    "#]];
    check(122, "spacious.wat", Some(2048 * MEBI), want).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_with_more_memories_than_the_pool_has_for_one_runs_outside_of_it() {
    let node = Node::new(124);
    let many: String = (0..20)
        .map(|number| {
            format!("(core module $m{number} (memory 1)) (core instance (instantiate $m{number}))")
        })
        .collect();
    let plain = std::fs::read_to_string(fixture("fails.wat")).unwrap();
    let path = node.dir.path().join("many.wat");
    std::fs::write(
        &path,
        plain.replacen("(component", &format!("(component {many}"), 1),
    )
    .unwrap();
    let spec = node.spec("many", &path).await;
    assert_eq!(node.run(&spec).await.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_end_somewhere() {
    let want = expect![[r#"
        0 Completed 
    "#]];
    check(126, "table.wat", None, want).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_function_without_an_end_can_be_stopped() {
    let node = Node::new(128);
    let spec = node.spec("start", &fixture("start.wat")).await;
    node.start(&spec).await.unwrap();
    let other = node.spec("count", &example("count.wat")).await;
    assert_eq!(node.run(&other).await.code, 0);
    node.runtime.stop(&spec.id, SOON).await.unwrap();
    assert_eq!(node.runtime.wait(&spec.id).await.unwrap().code, 143);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_has_a_thousand_sockets() {
    let node = Node::new(130);
    let spec = node.spec("sockets", &fixture("sockets.wat")).await;
    assert_eq!(node.run(&spec).await.code, 10);
    // What it had is free again.
    let mut again = spec.clone();
    again.id = runtimes::ContainerId("uid-sockets/main/1".into());
    assert_eq!(node.run(&again).await.code, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_and_a_memory_limit_are_told_for_events() {
    let node = Node::new(132);
    let mut notices = node.runtime.notices().unwrap();
    assert!(node.runtime.notices().is_none());
    let trap = node.spec("trap", &fixture("trap.wat")).await;
    node.run(&trap).await;
    let mut hog = node.spec("hog", &fixture("hog.wat")).await;
    hog.limits.memory_bytes = Some(8 * MEBI);
    node.run(&hog).await;
    let server = node.spec("server", &fixture("http-trap.wat")).await;
    node.start(&server).await.unwrap();
    for _ in 0..3 {
        assert_eq!(get(at(server.address), "/").await.unwrap().0, 500);
    }
    let mut told = String::new();
    while let Ok(notice) = notices.try_recv() {
        told += &format!(
            "{}/{} {}: {}\n",
            notice.pod.name, notice.container, notice.reason, notice.message
        );
    }
    expect![[r#"
        trap/main WasmTrap: wasm trap: wasm `unreachable` instruction executed in main-module!divide, called by main-module!run
        hog/main OOMKilling: out of memory: the limit is 8388608 bytes
        server/main WasmTrap: a request failed: wasm trap: wasm `unreachable` instruction executed in main-module!<wasm function 0>
    "#]]
    .assert_eq(&told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_the_memory_limit_fails_and_the_server_goes_on() {
    let node = Node::new(134);
    let mut spec = node.spec("hello", &example("hello.wat")).await;
    spec.limits = Limits {
        memory_bytes: Some(1024),
        cpu_millis: None,
    };
    node.start(&spec).await.unwrap();
    for _ in 0..2 {
        assert_eq!(get(at(spec.address), "/").await.unwrap().0, 500);
    }
    assert_eq!(node.runtime.stats(&spec.id).await.unwrap().memory_bytes, 0);
    let log = node.log(&spec);
    assert!(log.contains("the limit is 1024 bytes"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_was_cut_off_is_invalid() {
    let node = Node::new(136);
    let text = std::fs::read(example("hello.wat")).unwrap();
    let whole = wat::parse_bytes(&text).unwrap();
    for part in [9, whole.len() / 2, whole.len() - 1] {
        let path = node.dir.path().join(format!("{part}.wasm"));
        std::fs::write(&path, &whole[..part]).unwrap();
        let image = node.image(&path).await;
        match node.runtime.prepare(&image).await {
            Err(RuntimeError::Invalid(_)) => {}
            other => panic!("{part}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_was_damaged_or_is_foreign_is_made_again_and_unused_code_is_removed() {
    let node = Node::new(138);
    let cache = node.dir.path().join("code");
    let image = node.image(&example("count.wat")).await;
    node.runtime.prepare(&image).await.unwrap();
    let files = || {
        let files = std::fs::read_dir(&cache).unwrap();
        files.map(|file| file.unwrap().path()).collect::<Vec<_>>()
    };
    let [file] = &files()[..] else {
        panic!("{:?}", files())
    };
    std::fs::write(file, b"not code").unwrap();
    let foreign = cache.join(format!("{}-{:016x}.cwasm", "0".repeat(64), 1));
    std::fs::write(&foreign, b"of another version").unwrap();
    let again = runtime_wasm::WasmRuntime::new(runtime_wasm::Config {
        code_cache: cache.clone(),
        network: node.network.clone(),
    })
    .unwrap();
    assert!(!foreign.exists());
    again.prepare(&image).await.unwrap();
    assert!(std::fs::metadata(file).unwrap().len() > 100);

    assert_eq!(
        again.keep_only(std::slice::from_ref(&image)).await.unwrap(),
        0
    );
    assert!(again.keep_only(&[]).await.unwrap() > 100);
    assert_eq!(files(), Vec::<std::path::PathBuf>::new());
}
