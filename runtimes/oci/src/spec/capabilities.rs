//! Which capabilities a container's processes have.

use std::str::FromStr as _;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use runtimes::{RuntimeError, Security};

/// What a container has that asks for nothing, as with containerd and Docker.
const USUAL: &[Capability] = &[
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// All capabilities, each at its number in the kernel.
const NUMBERED: &[Capability] = &[
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// Those that a process may use, by its `/proc/<pid>/status`.
pub(crate) fn permitted(status: &str) -> Vec<Capability> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let mask = mask.unwrap_or_default();
    let held = NUMBERED.iter().enumerate();
    let held = held.filter(|(number, _)| mask >> number & 1 == 1);
    held.map(|(_, capability)| *capability).collect()
}

/// What a container has, of what `host` can give: the usual ones, more, fewer, or all.
///
/// # Errors
/// `Invalid`: a name is no capability's.
pub(crate) fn of(security: &Security, host: &[Capability]) -> Result<Capabilities, RuntimeError> {
    let all = || host.iter().copied().collect::<Capabilities>();
    if security.privileged {
        return Ok(all());
    }
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let mut held: Capabilities = if security.dropped_capabilities.iter().any(is_all) {
        Capabilities::new()
    } else if security.added_capabilities.iter().any(is_all) {
        all()
    } else {
        all()
            .into_iter()
            .filter(|one| USUAL.contains(one))
            .collect()
    };
    for name in security
        .added_capabilities
        .iter()
        .filter(|name| !is_all(name))
    {
        held.insert(parse(name)?);
    }
    for name in security
        .dropped_capabilities
        .iter()
        .filter(|name| !is_all(name))
    {
        held.remove(&parse(name)?);
    }
    Ok(held)
}

fn parse(name: &str) -> Result<Capability, RuntimeError> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    Capability::from_str(bare)
        .map_err(|_| RuntimeError::Invalid(format!("unknown capability \"CAP_{bare}\"")))
}

/// The sets of a process. None is inheritable or ambient: a user other than root holds them only through files that
/// give them, for `execve` clears the rest.
pub(super) fn sets(held: Capabilities) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(held.clone()))
        .set_effective(Some(held.clone()))
        .set_permitted(Some(held))
        .set_inheritable(None)
        .set_ambient(None);
    sets
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(added: &str, dropped: &str, want: Expect) {
        let names = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let security = Security {
            added_capabilities: names(added),
            dropped_capabilities: names(dropped),
            ..Security::default()
        };
        let host = permitted("Name:\tx\nCapPrm:\t00000000ffffffff\n");
        want.assert_eq(&words(of(&security, &host)));
    }

    fn words(held: Result<Capabilities, RuntimeError>) -> String {
        match held {
            Ok(held) => {
                let mut names: Vec<_> = held.iter().map(ToString::to_string).collect();
                names.sort();
                names.join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn capabilities_are_added_to_the_usual_ones_and_taken_away() {
        check(
            "",
            "",
            expect![
                "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"
            ],
        );
        check(
            "NET_ADMIN cap_sys_time",
            "MKNOD",
            expect![
                "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_ADMIN NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_CHROOT SYS_TIME"
            ],
        );
        check("", "ALL", expect![""]);
        check("NET_BIND_SERVICE", "ALL", expect!["NET_BIND_SERVICE"]);
        check("KILL", "ALL KILL", expect![""]);
        check("FLY", "", expect![[r#"unknown capability "CAP_FLY""#]]);
    }

    #[test]
    fn all_are_those_that_the_host_can_give() {
        let host = permitted("CapPrm:\t0000000000000421");
        let all = Security {
            added_capabilities: vec!["ALL".to_owned()],
            dropped_capabilities: vec!["KILL".to_owned()],
            ..Security::default()
        };
        expect!["CHOWN NET_BIND_SERVICE"].assert_eq(&words(of(&all, &host)));
        let privileged = Security {
            privileged: true,
            ..all
        };
        expect!["CHOWN KILL NET_BIND_SERVICE"].assert_eq(&words(of(&privileged, &host)));
    }
}
