//! Programs: how they end, what they print, what they may use.

mod node;

use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use node::{Node, SOON, example, fixture};
use runtimes::{Limits, Runtime as _, RuntimeError};

/// Runs a program and shows how it ended and what it printed.
async fn check(net: u8, path: std::path::PathBuf, limits: Limits, want: Expect) {
    let node = Node::new(net);
    let mut spec = node.spec("program", &path).await;
    spec.limits = limits;
    let exit = node.run(&spec).await;
    let log = node.log(&spec);
    let head = log.lines().take(5).collect::<Vec<_>>().join("\n");
    want.assert_eq(&format!(
        "{} {} {:?}\n{head}\n",
        exit.code, exit.reason, exit.message
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_counts_to_five() {
    check(
        62,
        example("count.wat"),
        Limits::default(),
        expect![[r#"
            0 Completed ""
            stdout F 1
            stdout F 2
            stdout F 3
            stdout F 4
            stdout F 5
        "#]],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_from_run_is_exit_code_1() {
    let want = expect![[r#"
        1 Error ""

    "#]];
    check(64, fixture("fails.wat"), Limits::default(), want).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_1_module_exits_with_its_own_code() {
    let want = expect![[r#"
        5 Error ""
        stdout F old
    "#]];
    check(66, fixture("preview1.wat"), Limits::default(), want).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_exit_code_134_with_its_words() {
    let node = Node::new(68);
    let spec = node.spec("trap", &fixture("trap.wat")).await;
    let exit = node.run(&spec).await;
    expect![[r#"
        134 Error "wasm trap: wasm `unreachable` instruction executed in main-module!divide, called by main-module!run"
    "#]]
    .assert_eq(&format!(
        "{} {} {:?}\n",
        exit.code, exit.reason, exit.message
    ));
    let log = node.log(&spec);
    assert!(log.contains("unreachable"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_over_the_limit_is_oom_killed() {
    let limits = Limits {
        memory_bytes: Some(8 << 20),
        cpu_millis: None,
    };
    let want = expect![[r#"
        137 OOMKilled "out of memory: the limit is 8388608 bytes"

    "#]];
    check(70, fixture("hog.wat"), limits, want).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_loops_neither_block_others_nor_survive_a_stop() {
    let node = Node::new(72);
    let mut loops = Vec::new();
    for number in 0..8 {
        let spec = node
            .spec(&format!("loop-{number}"), &fixture("loop.wat"))
            .await;
        node.start(&spec).await.unwrap();
        loops.push(spec);
    }
    let program = node.spec("count", &example("count.wat")).await;
    assert_eq!(node.run(&program).await.code, 0);
    for spec in &loops {
        node.runtime.stop(&spec.id, SOON).await.unwrap();
        assert_eq!(node.runtime.wait(&spec.id).await.unwrap().code, 143);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cpu_limit_slows_a_loop_down() {
    let node = Node::new(74);
    let mut spec = node.spec("slow", &fixture("loop.wat")).await;
    spec.limits.cpu_millis = Some(100);
    let begun = Instant::now();
    node.start(&spec).await.unwrap();
    let deadline = begun + SOON;
    loop {
        let used = node.runtime.stats(&spec.id).await.unwrap().cpu;
        if used >= Duration::from_millis(300) {
            // A tenth of a core is 3 s; half a core leaves room for the clock of a busy machine.
            let took = begun.elapsed();
            assert!(used <= took / 2, "used {used:?} in {took:?}");
            break;
        }
        assert!(Instant::now() < deadline, "used {used:?} only");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.runtime.stop(&spec.id, SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_says_what_it_is_and_what_is_needed() {
    let node = Node::new(76);
    let module = node.dir.path().join("module.wat");
    std::fs::write(&module, r#"(module (import "env" "f" (func)))"#).unwrap();
    let strange = node.dir.path().join("strange.wat");
    let import =
        r#"(component (import "wasi:keyvalue/store@0.2.0" (instance (export "f" (func))))"#;
    let plain = std::fs::read_to_string(fixture("fails.wat")).unwrap();
    std::fs::write(&strange, plain.replacen("(component", import, 1)).unwrap();
    let broken = node.dir.path().join("broken.wat");
    std::fs::write(&broken, "(component (export").unwrap();
    let mut got = String::new();
    for path in [fixture("neither.wat"), module, strange, broken] {
        let image = node.image(&path).await;
        match node.runtime.prepare(&image).await {
            Err(RuntimeError::Invalid(message)) => {
                let message = message.replace(&image.reference, "X");
                got += message.lines().next().unwrap();
                got += "\n";
            }
            other => panic!("{}: {other:?}", path.display()),
        }
    }
    expect![[r#"
        image X exports add; a component must export wasi:http/incoming-handler@0.2.x (a server) or wasi:cli/run@0.2.x (a program)
        image X cannot be compiled: failed to decode world from module: module was not valid: failed to resolve import `env::f`: module requires an import interface named `env` (it is a core module, which must be of WASI preview 1 and export _start)
        image X imports what this node does not offer: wasi:keyvalue/store@0.2.0: not offered, nor anything like it
        image X cannot be compiled: line 1, column 19: expected a string
    "#]]
    .assert_eq(&got);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_is_compiled_once_and_found_again_after_a_restart() {
    let node = Node::new(78);
    let image = node.image(&example("count.wat")).await;
    node.runtime.prepare(&image).await.unwrap();
    let cache = node.dir.path().join("code");
    let files = || {
        let files = std::fs::read_dir(&cache).unwrap();
        let mut files: Vec<_> = files
            .map(|file| file.unwrap())
            .map(|file| (file.path(), file.metadata().unwrap().modified().unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = files();
    assert_eq!(before.len(), 1);
    let again = runtime_wasm::WasmRuntime::new(runtime_wasm::Config {
        code_cache: cache.clone(),
        network: node.network.clone(),
    })
    .unwrap();
    again.prepare(&image).await.unwrap();
    assert_eq!(files(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_the_configuration_and_messages_are_lines_of_stderr() {
    let node = Node::new(184);
    let mut spec = node.spec("greets", &fixture("configured.wat")).await;
    spec.env = vec![
        ("GREETING".to_owned(), "hidden".to_owned()),
        ("GREETING".to_owned(), "hello\nworld".to_owned()),
    ];
    let exit = node.run(&spec).await;
    assert_eq!((exit.code, exit.message.as_str()), (0, ""));
    assert_eq!(
        node.log(&spec),
        "stderr F INFO main: hello\nstderr F world\n"
    );
    let mut bare = node.spec("bare", &fixture("configured.wat")).await;
    bare.env.clear();
    assert_eq!(node.run(&bare).await.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_1_module_takes_a_large_environment() {
    let node = Node::new(186);
    for (count, size) in [(1000, 100), (1, 20_000)] {
        let name = format!("variables-{count}");
        let mut spec = node.spec(&name, &fixture("toolbox.wat")).await;
        spec.args = vec!["variables".to_owned()];
        let value = "x".repeat(size);
        spec.env = (0..count)
            .map(|number| (format!("VARIABLE_{number}"), value.clone()))
            .collect();
        let exit = node.run(&spec).await;
        assert_eq!(
            (exit.code, exit.message.as_str()),
            (0, ""),
            "{count} of {size}"
        );
        let log = node
            .log(&spec)
            .replace("stdout P ", "")
            .replace("stdout F ", "");
        let bytes = spec
            .env
            .iter()
            .map(|(name, value)| name.len() + value.len() + 2);
        let parts = node.log(&spec).matches("stdout P ").count();
        assert_eq!(log.len() - parts, bytes.sum::<usize>(), "{count} of {size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_grows_its_memory_as_go_does_leaves_the_adapter_alone() {
    let node = Node::new(188);
    let module = wat::parse_file(fixture("like-go.wat")).unwrap();
    let path = node.dir.path().join("like-go.wasm");
    std::fs::write(&path, module).unwrap();
    let mut spec = node.spec("like-go", &path).await;
    spec.limits.memory_bytes = Some(32 << 20);
    let exit = node.run(&spec).await;
    assert_eq!((exit.code, exit.message.as_str()), (0, ""));
    assert_eq!(
        node.log(&spec),
        "stdout F one\nstdout F two\nstdout F three\n"
    );
    // Its own memory counts.
    let mut small = node.spec("small", &path).await;
    small.limits.memory_bytes = Some(8 << 20);
    assert_eq!(node.run(&small).await.reason, "OOMKilled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_composed_component_is_one() {
    let want = expect![[r#"
        0 Completed ""

    "#]];
    check(190, fixture("composed.wat"), Limits::default(), want).await;
}
