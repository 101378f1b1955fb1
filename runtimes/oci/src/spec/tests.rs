use std::net::Ipv4Addr;

use expect_test::{Expect, expect};
use runtimes::{ContainerId, Image, ImageKind, PodAddress, PodRef};
use serde_json::{Value, json};

use super::*;

/// A container `main` of the pod `p` with nothing asked for.
pub(crate) fn plain() -> ContainerSpec {
    let pod = PodRef {
        namespace: "default".to_owned(),
        name: "p".to_owned(),
        uid: "u".to_owned(),
    };
    let image = Image {
        reference: "example.org/app:1".to_owned(),
        digest: "sha256:0".to_owned(),
        origin: None,
        kind: ImageKind::Oci,
        path: PathBuf::from("/nowhere"),
        size_bytes: 0,
    };
    let loopback = Ipv4Addr::LOCALHOST.into();
    let address = PodAddress {
        ip: loopback,
        loopback,
    };
    ContainerSpec::new(
        ContainerId("u/main/0".into()),
        pod,
        image,
        address,
        PathBuf::from("/log"),
    )
}

/// An image of this configuration.
pub(crate) fn image(config: Value) -> ImageConfiguration {
    let image = json!({"architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": []}});
    serde_json::from_value(image).expect("an image's configuration")
}

/// The part of the `config.json` at a JSON pointer.
#[track_caller]
fn check(spec: &ContainerSpec, pointer: &str, want: Expect) {
    check_with(spec, |_| (), pointer, want);
}

#[track_caller]
fn check_with(spec: &ContainerSpec, change: impl Fn(&mut Bundle<'_>), pointer: &str, want: Expect) {
    let host = Host {
        capabilities: vec![Capability::Chown, Capability::SysAdmin],
        ..Host::default()
    };
    let identity = Identity {
        uid: 7,
        gid: 8,
        groups: vec![8, 9],
    };
    let image = image(json!({"Cmd": ["run"]}));
    let mut bundle = Bundle {
        spec,
        image: &image,
        identity: &identity,
        host: &host,
        root: Path::new("/c/root"),
        ipc: Some(Path::new("/pods/u/ipc")),
        uts: Some(Path::new("/pods/u/uts")),
        processes: Processes::Own,
        shm: Path::new("/pods/u/shm"),
        cgroup: "/wk/podu/main_0".to_owned(),
        resources: LinuxResources::default(),
        devices: Vec::new(),
        seccomp: None,
    };
    change(&mut bundle);
    let config = match config(bundle) {
        Ok(config) => serde_json::to_value(config).expect("JSON"),
        Err(error) => json!({"error": error.to_string()}),
    };
    let part = config.pointer(pointer).cloned().unwrap_or_default();
    want.assert_eq(&part.to_string());
}

#[test]
fn the_first_process_is_the_users() {
    check(
        &plain(),
        "/process/user",
        expect![[r#"{"additionalGids":[8,9],"gid":8,"uid":7}"#]],
    );
    check(&plain(), "/process/args", expect![[r#"["run"]"#]]);
    check(&plain(), "/process/cwd", expect![[r#""/""#]]);
    check(&plain(), "/process/rlimits", expect!["null"]);
    check(&plain(), "/ociVersion", expect![[r#""1.0.2""#]]);
}

#[test]
fn capabilities_are_neither_inheritable_nor_ambient() {
    check(
        &plain(),
        "/process/capabilities",
        expect![[
            r#"{"bounding":["CAP_CHOWN"],"effective":["CAP_CHOWN"],"permitted":["CAP_CHOWN"]}"#
        ]],
    );
}

#[test]
fn a_host_that_cannot_protect_from_the_end_of_memory_protects_less() {
    static HELD: Host = Host {
        capabilities: Vec::new(),
        unified: false,
        recursive_read_only: false,
        least_oom_score_adj: Some(100),
    };
    let mut spec = plain();
    let on_it = |bundle: &mut Bundle<'_>| bundle.host = &HELD;
    spec.oom_score_adj = -997;
    check_with(&spec, on_it, "/process/oomScoreAdj", expect!["100"]);
    spec.oom_score_adj = 900;
    check_with(&spec, on_it, "/process/oomScoreAdj", expect!["900"]);
}

#[test]
fn a_security_context_is_in_its_places() {
    let mut spec = plain();
    spec.security.no_new_privileges = true;
    spec.security.read_only_root = true;
    spec.security.sysctls = vec![("net.core.somaxconn".to_owned(), "5".to_owned())];
    spec.oom_score_adj = -997;
    check(&spec, "/process/noNewPrivileges", expect!["true"]);
    check(&spec, "/process/oomScoreAdj", expect!["-997"]);
    check(
        &spec,
        "/root",
        expect![[r#"{"path":"/c/root","readonly":true}"#]],
    );
    check(
        &spec,
        "/linux/sysctl",
        expect![[r#"{"net.core.somaxconn":"5"}"#]],
    );
    check(
        &spec,
        "/linux/cgroupsPath",
        expect![[r#""/wk/podu/main_0""#]],
    );
    spec.security.added_capabilities = vec!["FLY".to_owned()];
    check(
        &spec,
        "/error",
        expect![[r#""unknown capability \"CAP_FLY\"""#]],
    );
}

#[test]
fn a_container_shares_its_pods_namespaces_and_has_its_own_processes() {
    let mut spec = plain();
    spec.namespaces.network = Some("/netns/p".into());
    check(
        &spec,
        "/linux/namespaces",
        expect![[
            r#"[{"type":"mount"},{"path":"/netns/p","type":"network"},{"path":"/pods/u/ipc","type":"ipc"},{"path":"/pods/u/uts","type":"uts"},{"type":"pid"}]"#
        ]],
    );
    let of_the_host = |bundle: &mut Bundle<'_>| {
        bundle.ipc = None;
        bundle.uts = None;
        bundle.processes = Processes::Host;
    };
    check_with(
        &plain(),
        of_the_host,
        "/linux/namespaces",
        expect![[r#"[{"type":"mount"}]"#]],
    );
    let shared =
        |bundle: &mut Bundle<'_>| bundle.processes = Processes::Of("/proc/5/ns/pid".into());
    check_with(
        &plain(),
        shared,
        "/linux/namespaces/3",
        expect![[r#"{"path":"/proc/5/ns/pid","type":"pid"}"#]],
    );
}

#[test]
fn what_tells_of_the_host_is_hidden_unless_asked_for() {
    let hidden = |change: fn(&mut ContainerSpec), want: Expect| {
        let mut spec = plain();
        change(&mut spec);
        check(&spec, "/linux/maskedPaths/3", want);
    };
    hidden(|_| (), expect![[r#""/proc/kcore""#]]);
    hidden(|spec| spec.security.unmasked_proc = true, expect!["null"]);
    hidden(|spec| spec.security.privileged = true, expect!["null"]);
    check(
        &plain(),
        "/linux/readonlyPaths",
        expect![[r#"["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"]"#]],
    );
}

#[test]
fn devices_are_forbidden_unless_named() {
    check(
        &plain(),
        "/linux/resources/devices",
        expect![[r#"[{"access":"rwm","allow":false}]"#]],
    );
    let mut spec = plain();
    spec.security.privileged = true;
    check(
        &spec,
        "/linux/resources/devices",
        expect![[r#"[{"access":"rwm","allow":true}]"#]],
    );
}
