//! What is mounted where in a container, in order.
//!
//! A destination whose parents are links in the image is resolved by runc, within the root.

use std::path::Path;

use oci_spec::runtime::{Mount, MountBuilder};
use runtimes::{ContainerSpec, Propagation, RuntimeError};

use super::Host;

/// All mounts: the kernel's own file systems, the pod's shared memory, and what the spec asks for. One that the spec asks
/// for replaces the usual one of its place, and what is usual below `/dev` if it is there.
pub(super) fn of(spec: &ContainerSpec, host: &Host, shm: &Path) -> Vec<Mount> {
    let asked = |at: &Path| spec.mounts.iter().any(|mount| mount.destination == at);
    let dev = Path::new("/dev");
    let dev_is_asked = asked(dev);
    let is_kept = |mount: &Mount| {
        let at = mount.destination();
        !(asked(at) || dev_is_asked && at.starts_with(dev))
    };
    let mut mounts = usual(spec.security.privileged, shm);
    mounts.retain(is_kept);
    mounts.extend(spec.mounts.iter().map(|mount| bind(mount, host)));
    // What lies deeper comes later; a stable sort keeps what the spec has in order.
    mounts.sort_by_key(|mount| mount.destination().components().count());
    mounts
}

fn usual(privileged: bool, shm: &Path) -> Vec<Mount> {
    let access = if privileged { "rw" } else { "ro" };
    let safe = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| [&safe, more].concat();
    vec![
        mount("/proc", "proc", Path::new("proc"), &safe),
        mount(
            "/dev",
            "tmpfs",
            Path::new("tmpfs"),
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            Path::new("devpts"),
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount("/dev/mqueue", "mqueue", Path::new("mqueue"), &safe),
        mount("/dev/shm", "bind", shm, &["rbind", "rprivate", "rw"]),
        mount("/sys", "sysfs", Path::new("sysfs"), &with(&[access])),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            Path::new("cgroup"),
            &with(&["relatime", access]),
        ),
    ]
}

fn mount(destination: &str, kind: &str, source: &Path, options: &[&str]) -> Mount {
    let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(options)
        .build()
        .expect("every field has a value")
}

fn bind(wanted: &runtimes::Mount, host: &Host) -> Mount {
    let propagation = match wanted.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let mut options = vec!["rbind", propagation];
    match (wanted.read_only, host.recursive_read_only) {
        (false, _) => options.push("rw"),
        (true, false) => options.push("ro"),
        (true, true) => options.extend(["ro", "rro"]),
    }
    let mut bound = mount("", "bind", &wanted.source, &options);
    bound.set_destination(wanted.destination.clone());
    bound
}

/// How the root takes part in what its mounts pass on: as much as the most open of them needs.
pub(super) fn root_propagation(mounts: &[runtimes::Mount]) -> Option<String> {
    let any = |propagation| mounts.iter().any(|mount| mount.propagation == propagation);
    if any(Propagation::Bidirectional) {
        Some("rshared".to_owned())
    } else if any(Propagation::HostToContainer) {
        Some("rslave".to_owned())
    } else {
        None
    }
}

/// Whether mounts can propagate as they should: what they are of must itself be shared on the host, by its
/// `/proc/self/mountinfo`. In containerd's words.
pub(crate) fn check_propagation(
    mounts: &[runtimes::Mount],
    mountinfo: &str,
) -> Result<(), RuntimeError> {
    for mount in mounts {
        let (wanted, words): (&[&str], _) = match mount.propagation {
            Propagation::Private => continue,
            Propagation::HostToContainer => (&["shared:", "master:"], "shared or slave"),
            Propagation::Bidirectional => (&["shared:"], "shared"),
        };
        let Some((at, tags)) = mounted_at(&mount.source, mountinfo) else {
            continue;
        };
        if !tags
            .iter()
            .any(|tag| wanted.iter().any(|wanted| tag.starts_with(wanted)))
        {
            return Err(RuntimeError::Invalid(format!(
                "path {:?} is mounted on {at:?} but it is not a {words} mount",
                mount.source.display().to_string()
            )));
        }
    }
    Ok(())
}

/// The mount point that a path lies in, and the optional fields of its mount: the deepest, the last made of those.
fn mounted_at<'a>(path: &Path, mountinfo: &'a str) -> Option<(String, Vec<&'a str>)> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let at = unescape(fields.nth(4)?);
        let tags = fields.skip(1).take_while(|field| *field != "-").collect();
        Some((at, tags))
    });
    mounts
        .filter(|(at, _)| path.starts_with(at))
        .max_by_key(|(at, _)| Path::new(at).components().count())
}

/// Mount points have blanks and backslashes as `\040`.
fn unescape(field: &str) -> String {
    let mut out = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::spec::tests::plain;

    fn lines(mounts: &[runtimes::Mount], recursive_read_only: bool, privileged: bool) -> String {
        let mut spec = ContainerSpec {
            mounts: mounts.to_vec(),
            ..plain()
        };
        spec.security.privileged = privileged;
        let host = Host {
            recursive_read_only,
            ..Host::default()
        };
        let line = |mount: &Mount| {
            format!(
                "{} {} {} {}\n",
                mount.destination().display(),
                mount.typ().as_deref().unwrap(),
                mount.source().as_ref().unwrap().display(),
                mount.options().as_ref().unwrap().join(","),
            )
        };
        of(&spec, &host, Path::new("/pods/u/shm"))
            .iter()
            .map(line)
            .collect()
    }

    #[test]
    fn the_kernels_file_systems_are_where_programs_look_for_them() {
        expect![[r#"
            /proc proc proc nosuid,noexec,nodev
            /dev tmpfs tmpfs nosuid,strictatime,mode=755,size=65536k
            /sys sysfs sysfs nosuid,noexec,nodev,ro
            /dev/pts devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5
            /dev/mqueue mqueue mqueue nosuid,noexec,nodev
            /dev/shm bind /pods/u/shm rbind,rprivate,rw
            /sys/fs/cgroup cgroup cgroup nosuid,noexec,nodev,relatime,ro
        "#]]
        .assert_eq(&lines(&[], true, false));
        let privileged = lines(&[], true, true);
        assert!(
            privileged.contains("/sys sysfs sysfs nosuid,noexec,nodev,rw\n"),
            "{privileged}"
        );
        assert!(privileged.contains("relatime,rw\n"), "{privileged}");
    }

    /// Those of the spec, among the usual ones.
    #[track_caller]
    fn check(mounts: &[(&str, bool, Propagation)], recursive: bool, want: Expect) {
        let mounts: Vec<_> = mounts
            .iter()
            .map(|(destination, read_only, propagation)| runtimes::Mount {
                propagation: *propagation,
                ..runtimes::Mount::new("/host", *destination, *read_only)
            })
            .collect();
        let all = lines(&mounts, recursive, false);
        let usual = lines(&[], recursive, false);
        let gone = usual
            .lines()
            .filter(|line| !all.contains(line))
            .map(|line| {
                let at = line.split(' ').next().unwrap();
                format!("not {at}\n")
            });
        let new = all.lines().filter(|line| !usual.contains(line));
        let new = new.map(|line| format!("{line}\n"));
        want.assert_eq(&new.chain(gone).collect::<String>());
    }

    #[test]
    fn what_lies_within_another_comes_after_it() {
        let private = Propagation::Private;
        check(
            &[
                ("/data/a/b", false, private),
                ("/etc/hosts", true, private),
                ("/data", false, private),
                ("/", false, private),
            ],
            false,
            expect![[r#"
                / bind /host rbind,rprivate,rw
                /data bind /host rbind,rprivate,rw
                /etc/hosts bind /host rbind,rprivate,ro
                /data/a/b bind /host rbind,rprivate,rw
            "#]],
        );
    }

    #[test]
    fn a_mount_replaces_the_usual_one_of_its_place() {
        let private = Propagation::Private;
        check(
            &[("/dev/shm", false, private)],
            true,
            expect![[r#"
            /dev/shm bind /host rbind,rprivate,rw
            not /dev/shm
        "#]],
        );
        check(
            &[("/dev", false, private)],
            true,
            expect![[r#"
            /dev bind /host rbind,rprivate,rw
            not /dev
            not /dev/pts
            not /dev/mqueue
            not /dev/shm
        "#]],
        );
    }

    #[test]
    fn read_only_goes_for_all_below_and_propagation_is_as_asked() {
        check(
            &[
                ("/a", true, Propagation::HostToContainer),
                ("/b", false, Propagation::Bidirectional),
            ],
            true,
            expect![[r#"
            /a bind /host rbind,rslave,ro,rro
            /b bind /host rbind,rshared,rw
        "#]],
        );
    }

    #[track_caller]
    fn propagates(source: &str, propagation: Propagation, want: Expect) {
        let mountinfo = r"22 1 0:20 / / rw,relatime - overlay overlay rw
31 22 0:28 / /mnt rw - tmpfs tmpfs rw
32 22 0:29 / /mnt/a\040b rw shared:5 - tmpfs tmpfs rw
33 22 0:30 / /mnt/slave rw master:3 propagate_from:2 - tmpfs tmpfs rw
";
        let mount = runtimes::Mount {
            propagation,
            ..runtimes::Mount::new(source, "/x", false)
        };
        want.assert_eq(&match check_propagation(&[mount], mountinfo) {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn what_should_propagate_must_be_shared_on_the_host() {
        use Propagation::{Bidirectional, HostToContainer, Private};
        propagates("/mnt", Private, expect!["ok"]);
        propagates("/mnt/a b/c", Bidirectional, expect!["ok"]);
        propagates("/mnt/slave", HostToContainer, expect!["ok"]);
        propagates(
            "/mnt/slave",
            Bidirectional,
            expect![[
                r#"path "/mnt/slave" is mounted on "/mnt/slave" but it is not a shared mount"#
            ]],
        );
        propagates(
            "/mnt/data",
            HostToContainer,
            expect![[
                r#"path "/mnt/data" is mounted on "/mnt" but it is not a shared or slave mount"#
            ]],
        );
    }

    #[test]
    fn the_root_propagates_as_much_as_its_mounts() {
        use Propagation::{Bidirectional, HostToContainer, Private};
        let of = |all: &[Propagation]| {
            let mounts: Vec<_> = all
                .iter()
                .map(|propagation| runtimes::Mount {
                    propagation: *propagation,
                    ..runtimes::Mount::new("/h", "/d", false)
                })
                .collect();
            root_propagation(&mounts)
        };
        assert_eq!(of(&[Private]), None);
        assert_eq!(of(&[Private, HostToContainer]).as_deref(), Some("rslave"));
        assert_eq!(
            of(&[Bidirectional, HostToContainer]).as_deref(),
            Some("rshared")
        );
    }
}
