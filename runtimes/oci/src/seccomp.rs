//! Which system calls a container may make: the runtime's own profile, a profile in a file of the node, or any.
//!
//! [`profile`] reads the file; the rest is pure. Loading a profile into the kernel is runc's.

mod calls;

use std::{io::Read as _, path::Path, str::FromStr as _};

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};
use runtimes::{RuntimeError, Seccomp, Security};

/// The largest profile that is read.
const MAX_BYTES: u64 = 1 << 20;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The profile that a container's settings ask for; `None` lets it make any system call.
///
/// # Errors
/// The file is not there, or is no profile.
pub(crate) fn profile(
    security: &Security,
    capabilities: &Capabilities,
) -> Result<Option<LinuxSeccomp>, RuntimeError> {
    if security.privileged {
        return Ok(None);
    }
    match &security.seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::RuntimeDefault => Ok(Some(runtime_default(capabilities, std::env::consts::ARCH))),
        Seccomp::Localhost(path) => read(path).map(Some).map_err(RuntimeError::Invalid),
    }
}

/// What containerd and Docker allow by default: all but what reaches beyond the container, or what a capability
/// that the container has makes right.
fn runtime_default(capabilities: &Capabilities, processor: &str) -> LinuxSeccomp {
    let mut syscalls = vec![allow(calls::ALWAYS, &[])];
    for domain in calls::PERSONALITIES {
        let is = argument(0, *domain, None, LinuxSeccompOperator::ScmpCmpEq);
        syscalls.push(allow("personality", &[is]));
    }
    let not_to_the_host = argument(0, calls::AF_VSOCK, None, LinuxSeccompOperator::ScmpCmpNe);
    syscalls.push(allow("socket", &[not_to_the_host]));
    for (of, names) in calls::BY_PROCESSOR {
        if *of == processor {
            syscalls.push(allow(names, &[]));
        }
    }
    let has = |name: &str| Capability::from_str(name).is_ok_and(|one| capabilities.contains(&one));
    for (capability, names) in calls::BY_CAPABILITY {
        if has(capability) {
            syscalls.push(allow(names, &[]));
        }
    }
    if !has("SYS_ADMIN") {
        let masked = LinuxSeccompOperator::ScmpCmpMaskedEq;
        let no_namespace = argument(0, calls::NEW_NAMESPACES, Some(0), masked);
        syscalls.push(allow("clone", &[no_namespace]));
        // Its flags are in memory, where no filter sees them: who is told that it does not exist calls `clone`.
        let mut clone3 = call("clone3", LinuxSeccompAction::ScmpActErrno);
        clone3.set_errno_ret(Some(ENOSYS));
        syscalls.push(clone3);
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(EPERM))
        .set_architectures(architectures(processor))
        .set_syscalls(Some(syscalls));
    profile
}

/// Those whose programs the processor runs.
fn architectures(processor: &str) -> Option<Vec<Arch>> {
    match processor {
        "x86_64" => Some(vec![
            Arch::ScmpArchX86_64,
            Arch::ScmpArchX86,
            Arch::ScmpArchX32,
        ]),
        "aarch64" => Some(vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]),
        _ => None,
    }
}

fn call(names: &str, action: LinuxSeccompAction) -> LinuxSyscall {
    let mut call = LinuxSyscall::default();
    call.set_names(names.split_whitespace().map(str::to_owned).collect())
        .set_action(action);
    call
}

fn allow(names: &str, arguments: &[LinuxSeccompArg]) -> LinuxSyscall {
    let mut call = call(names, LinuxSeccompAction::ScmpActAllow);
    if !arguments.is_empty() {
        call.set_args(Some(arguments.to_vec()));
    }
    call
}

fn argument(
    index: usize,
    value: u64,
    value_two: Option<u64>,
    op: LinuxSeccompOperator,
) -> LinuxSeccompArg {
    let argument = LinuxSeccompArgBuilder::default()
        .index(index)
        .value(value)
        .op(op);
    match value_two {
        Some(two) => argument.value_two(two),
        None => argument,
    }
    .build()
    .expect("every field has a value")
}

/// Reads a profile of the node, in containerd's words where it cannot.
fn read(path: &Path) -> Result<LinuxSeccomp, String> {
    let cannot = |error: &dyn std::fmt::Display| {
        format!(
            "cannot load seccomp profile {:?}: {error}",
            path.display().to_string()
        )
    };
    let file = std::fs::File::open(path).map_err(|error| cannot(&error))?;
    let kind = file.metadata().map_err(|error| cannot(&error))?;
    if !kind.is_file() {
        return Err(cannot(&"it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| cannot(&error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(cannot(&format!("it is larger than {MAX_BYTES} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        format!(
            "decoding seccomp profile failed {:?}: {error}",
            path.display().to_string()
        )
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn capabilities(names: &str) -> Capabilities {
        let names = names.split_whitespace();
        names
            .map(|name| Capability::from_str(name).unwrap())
            .collect()
    }

    /// What becomes of a system call, by the rules that name it.
    fn fate(profile: &LinuxSeccomp, name: &str) -> String {
        let rules = profile.syscalls().iter().flatten();
        let rules = rules.filter(|rule| rule.names().iter().any(|one| one == name));
        let rules: Vec<_> = rules
            .map(|rule| {
                let value = serde_json::to_value((rule.action(), rule.errno_ret(), rule.args()));
                value.unwrap().to_string()
            })
            .collect();
        rules.join(" | ")
    }

    #[track_caller]
    fn check(held: &str, name: &str, want: Expect) {
        let profile = runtime_default(&capabilities(held), "x86_64");
        want.assert_eq(&fate(&profile, name));
    }

    #[test]
    fn what_stays_within_the_container_is_allowed() {
        check("", "read", expect![[r#"["SCMP_ACT_ALLOW",null,null]"#]]);
        check(
            "",
            "arch_prctl",
            expect![[r#"["SCMP_ACT_ALLOW",null,null]"#]],
        );
        check("", "set_tls", expect![""]);
        check("", "io_uring_setup", expect![""]);
        check("", "keyctl", expect![""]);
        check("", "userfaultfd", expect![""]);
    }

    #[test]
    fn what_a_capability_makes_right_is_allowed_to_who_has_it() {
        check("", "mount", expect![""]);
        check(
            "SYS_ADMIN",
            "mount",
            expect![[r#"["SCMP_ACT_ALLOW",null,null]"#]],
        );
        check("", "bpf", expect![""]);
        check("BPF", "bpf", expect![[r#"["SCMP_ACT_ALLOW",null,null]"#]]);
        check(
            "CHOWN SYS_CHROOT",
            "chroot",
            expect![[r#"["SCMP_ACT_ALLOW",null,null]"#]],
        );
    }

    #[test]
    fn processes_are_made_without_new_namespaces() {
        check(
            "",
            "clone",
            expect![[
                r#"["SCMP_ACT_ALLOW",null,[{"index":0,"op":"SCMP_CMP_MASKED_EQ","value":2114060288,"valueTwo":0}]]"#
            ]],
        );
        check("", "clone3", expect![[r#"["SCMP_ACT_ERRNO",38,null]"#]]);
        check(
            "SYS_ADMIN",
            "clone",
            expect![[r#"["SCMP_ACT_ALLOW",null,null]"#]],
        );
        check(
            "SYS_ADMIN",
            "clone3",
            expect![[r#"["SCMP_ACT_ALLOW",null,null]"#]],
        );
    }

    #[test]
    fn some_calls_are_allowed_by_their_arguments() {
        check(
            "",
            "socket",
            expect![[r#"["SCMP_ACT_ALLOW",null,[{"index":0,"op":"SCMP_CMP_NE","value":40}]]"#]],
        );
        let profile = runtime_default(&Capabilities::new(), "x86_64");
        assert_eq!(fate(&profile, "personality").split(" | ").count(), 5);
    }

    #[test]
    fn every_name_of_the_table_is_a_capability_that_exists() {
        for (name, _) in calls::BY_CAPABILITY {
            assert!(Capability::from_str(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_file_of_the_node_is_read_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "note": 1,
            "syscalls": [{"names": ["read", "frobnicate"], "action": "SCMP_ACT_ALLOW", "args": null}]}"#;
        std::fs::write(&path, text).unwrap();
        let security = Security {
            seccomp: Seccomp::Localhost(path),
            ..Security::default()
        };
        let read = profile(&security, &Capabilities::new()).unwrap();
        expect![[r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["read","frobnicate"],"action":"SCMP_ACT_ALLOW"}]}"#]]
            .assert_eq(&serde_json::to_string(&read).unwrap());
        let privileged = Security {
            privileged: true,
            ..security
        };
        assert_eq!(profile(&privileged, &Capabilities::new()).unwrap(), None);
    }

    #[test]
    fn what_is_no_profile_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let words = |text: Option<&str>| {
            let path = dir.path().join("p.json");
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = read(&path).unwrap_err();
            error.replace(&dir.path().display().to_string(), "DIR")
        };
        expect![[
            r#"cannot load seccomp profile "DIR/p.json": No such file or directory (os error 2)"#
        ]]
        .assert_eq(&words(None));
        expect![[r#"decoding seccomp profile failed "DIR/p.json": EOF while parsing a value at line 1 column 0"#]]
            .assert_eq(&words(Some("")));
        expect![[r#"decoding seccomp profile failed "DIR/p.json": unknown variant `ALLOW`, expected one of `SCMP_ACT_KILL`, `SCMP_ACT_KILL_THREAD`, `SCMP_ACT_KILL_PROCESS`, `SCMP_ACT_TRAP`, `SCMP_ACT_ERRNO`, `SCMP_ACT_NOTIFY`, `SCMP_ACT_TRACE`, `SCMP_ACT_LOG`, `SCMP_ACT_ALLOW` at line 1 column 25"#]]
            .assert_eq(&words(Some(r#"{"defaultAction": "ALLOW"}"#)));
    }
}
