use expect_test::{Expect, expect};

use super::*;
use crate::spec::tests::plain;

const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\nnonsense\nweb:x:101:102::/srv:/bin/false\n7:x:1007:1008:::\n";
const GROUP: &str =
    "root:x:0:\nweb:x:102:\nlogs:x:4:mail,web\nbad:x:none:web\nssl:x:107:web\nops:x:50:root,web\n";

/// What an image's user is, under a pod's settings.
#[track_caller]
fn check(image_user: &str, security: Security, want: Expect) {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    std::fs::write(root.path().join("etc/passwd"), PASSWD).unwrap();
    std::fs::write(root.path().join("etc/group"), GROUP).unwrap();
    want.assert_eq(&in_root(root.path(), image_user, security));
}

fn in_root(root: &Path, image_user: &str, security: Security) -> String {
    let spec = ContainerSpec {
        security,
        ..plain()
    };
    match resolve(root, &spec, image_user) {
        Ok(Identity { uid, gid, groups }) => format!("{uid}:{gid} {groups:?}"),
        Err(error @ RuntimeError::Config(_)) => format!("config: {error}"),
        Err(error) => error.to_string(),
    }
}

fn usual() -> Security {
    Security::default()
}

#[test]
fn an_image_names_its_user_by_name_or_number() {
    check("", usual(), expect!["0:0 [0, 50]"]);
    check("web", usual(), expect!["101:102 [102, 4, 107, 50]"]);
    check("101", usual(), expect!["101:102 [102, 4, 107, 50]"]);
    check("web:ssl", usual(), expect!["101:107 [107, 4, 50]"]);
    check("web:9", usual(), expect!["101:9 [9, 4, 107, 50]"]);
    check("5000", usual(), expect!["5000:0 [0]"]);
    check("5000:5001", usual(), expect!["5000:5001 [5001]"]);
    check(":ssl", usual(), expect!["0:107 [107, 50]"]);
    check("7", usual(), expect!["7:0 [0]"]);
}

#[test]
fn whom_nobody_knows_is_named() {
    check(
        "nobody",
        usual(),
        expect!["unable to find user nobody: no matching entries in passwd file"],
    );
    check(
        "web:nogroup",
        usual(),
        expect!["unable to find group nogroup: no matching entries in group file"],
    );
    check(
        "4294967296",
        usual(),
        expect!["unable to find user 4294967296: no matching entries in passwd file"],
    );
}

#[test]
fn the_pods_settings_come_before_the_images() {
    let user = |user| Security {
        user: Some(user),
        ..usual()
    };
    check("web:ssl", user(0), expect!["0:0 [0, 50]"]);
    check("nobody", user(101), expect!["101:102 [102, 4, 107, 50]"]);
    check("web", user(5000), expect!["5000:0 [0]"]);
    let group = Security {
        group: Some(3000),
        groups: vec![2000, 3000, 4],
        ..usual()
    };
    check(
        "web:ssl",
        group.clone(),
        expect!["101:3000 [3000, 4, 107, 50, 2000]"],
    );
    let strict = Security {
        only_these_groups: true,
        ..group
    };
    check("web", strict, expect!["101:3000 [3000, 2000, 4]"]);
}

#[test]
fn who_must_not_be_root_is_not() {
    let non_root = |user| Security {
        user,
        non_root: true,
        ..usual()
    };
    check(
        "",
        non_root(None),
        expect![[
            r#"config: container has runAsNonRoot and image will run as root (pod: "p_default(u)", container: main)"#
        ]],
    );
    check(
        "0:5",
        non_root(None),
        expect![[
            r#"config: container has runAsNonRoot and image will run as root (pod: "p_default(u)", container: main)"#
        ]],
    );
    check(
        "web:web",
        non_root(None),
        expect![[
            r#"config: container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root (pod: "p_default(u)", container: main)"#
        ]],
    );
    check(
        "web",
        non_root(Some(0)),
        expect![[
            r#"config: container's runAsUser breaks non-root policy (pod: "p_default(u)", container: main)"#
        ]],
    );
    check("101", non_root(None), expect!["101:102 [102, 4, 107, 50]"]);
    check("web", non_root(Some(5)), expect!["5:0 [0]"]);
}

#[test]
fn no_link_leads_out_of_the_root() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("etc")).unwrap();
    std::fs::create_dir_all(root.path().join("run")).unwrap();
    // The host's file has root; the one that this link means, seen from within, has not.
    std::os::unix::fs::symlink("/run/users", root.path().join("etc/passwd")).unwrap();
    std::fs::write(root.path().join("run/users"), "mine:x:5:6:::").unwrap();
    expect!["5:6 [6]"].assert_eq(&in_root(root.path(), "mine", usual()));
    expect!["unable to find user root: no matching entries in passwd file"].assert_eq(&in_root(
        root.path(),
        "root",
        usual(),
    ));
}

#[test]
fn what_is_no_list_is_refused_at_once() {
    let root = tempfile::tempdir().unwrap();
    expect!["0:0 [0]"].assert_eq(&in_root(root.path(), "", usual()));
    std::fs::create_dir_all(root.path().join("etc")).unwrap();
    let pipe = root.path().join("etc/passwd");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    expect!["the container's /etc/passwd cannot be read: it is no regular file"]
        .assert_eq(&in_root(root.path(), "", usual()));
    std::fs::remove_file(&pipe).unwrap();
    std::fs::File::create(&pipe)
        .unwrap()
        .set_len(MAX_BYTES + 1)
        .unwrap();
    expect!["the container's /etc/passwd cannot be read: it is larger than 4194304 bytes"]
        .assert_eq(&in_root(root.path(), "", usual()));
}
