//! What becomes of the entries of one layer.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use expect_test::{Expect, expect};

use super::{append, archive, tree, write_tree};

/// Unpacks lines as `archive` takes them and lists the layer.
#[track_caller]
fn check(lines: &str, expected: Expect) {
    check_archive(&archive(lines), expected);
}

#[track_caller]
fn check_archive(archive: &[u8], expected: Expect) {
    let dir = tempfile::tempdir().unwrap();
    let written = write_tree(archive, dir.path());
    let written = written.map(|()| tree(dir.path()));
    expected.assert_eq(&written.unwrap_or_else(|error| format!("error: {error}")));
}

#[test]
fn whiteouts_are_devices_and_opaque_directories_are_marked() {
    check(
        "d/\nd/.wh.a\n.wh.b",
        expect![[r#"
        b whiteout
        d/ 0755
        d/a whiteout
    "#]],
    );
    check(
        "d/\nd/.wh..wh..opq\nd/new=1",
        expect![[r#"
        d/ 0755 opaque
        d/new=1 0644
    "#]],
    );
    check(
        "d/new=1\nd/.wh..wh..opq",
        expect![[r#"
        d/ 0755 opaque
        d/new=1 0644
    "#]],
    );
}

#[test]
fn what_this_layer_has_its_own_whiteouts_do_not_hide() {
    check(
        "a=1\n.wh.a",
        expect![[r#"
        a=1 0644
    "#]],
    );
    check(
        ".wh.a\na=1",
        expect![[r#"
        a=1 0644
    "#]],
    );
    check(
        ".wh.d\nd/\nd/x=1",
        expect![[r#"
        d/ 0755 opaque
        d/x=1 0644
    "#]],
    );
    check(
        ".wh.d\nd/x=1",
        expect![[r#"
        d/ 0755 opaque
        d/x=1 0644
    "#]],
    );
    check(
        "d/x=1\n.wh.d",
        expect![[r#"
        d/ 0755 opaque
        d/x=1 0644
    "#]],
    );
}

#[test]
fn what_aufs_kept_for_itself_is_left_out() {
    check(
        ".wh..wh.plnk/\n.wh..wh.plnk/1.2=x\n.wh..wh.aufs=x\na=1",
        expect![[r#"
            a=1 0644
        "#]],
    );
}

#[test]
fn a_later_entry_takes_the_place_of_an_earlier_one() {
    check(
        "a=1 0600\na=2 0644",
        expect![[r#"
        a=2 0644
    "#]],
    );
    check(
        "a=1\na/\na/b=2",
        expect![[r#"
        a/ 0755 opaque
        a/b=2 0644
    "#]],
    );
    check(
        "a/\na/b/\na/b/c=1\na=2\nd=3",
        expect![[r#"
        a=2 0644
        d=3 0644
    "#]],
    );
    check(
        "a -> b\na=1",
        expect![[r#"
        a=1 0644
    "#]],
    );
    check(
        "a/ 0755\na/b=1\na/ 0700 1:2",
        expect![[r#"
        a/ 0700 1:2
        a/b=1 0644
    "#]],
    );
    check(
        "x=1\na => x\na=2",
        expect![[r#"
        a=2 0644
        x=1 0644
    "#]],
    );
}

#[test]
fn directories_may_come_after_what_is_in_them_or_never() {
    check(
        "a/b/c=1\na/ 0700\na/b/ 0711 1:2",
        expect![[r#"
        a/ 0700
        a/b/ 0711 1:2
        a/b/c=1 0644
    "#]],
    );
    check(
        "a/b/c=1",
        expect![[r#"
        a/ 0755
        a/b/ 0755
        a/b/c=1 0644
    "#]],
    );
}

#[test]
fn hard_links_share_a_file_of_this_layer() {
    check(
        "a=1 4755 1:2\nd/b => a\nc => /d/b",
        expect![[r#"
        a=1 4755 3 names 1:2
        c=1 4755 3 names 1:2
        d/ 0755
        d/b=1 4755 3 names 1:2
    "#]],
    );
    check(
        "a=1\na => a",
        expect![[r#"
        a=1 0644
    "#]],
    );
    check(
        "s -> gone\nt => s",
        expect![[r#"
        s -> gone
        t -> gone
    "#]],
    );
    check(
        "d/a=1\nl -> d\nb => l/a",
        expect![[r#"
        b=1 0644 2 names
        d/ 0755
        d/a=1 0644 2 names
        l -> d
    "#]],
    );
    check(
        "b=old\na=1\nb => a",
        expect![[r#"
        a=1 0644 2 names
        b=1 0644 2 names
    "#]],
    );
    check(
        "b => a\na=1",
        expect![[r#"error: its entry "b" is a hard link to "a", which is no file of this layer"#]],
    );
    check(
        "d/\nb => d",
        expect![[r#"error: its entry "b" is a hard link to "d", which is no file of this layer"#]],
    );
    check(
        ".wh.a\nb => a",
        expect![[r#"error: its entry "b" is a hard link to "a", which is no file of this layer"#]],
    );
    check(
        "d/a=1\nd => d/a",
        expect![[
            r#"error: its entry "d" is a hard link to "d/a", which is no file of this layer"#
        ]],
    );
}

#[test]
fn a_directory_on_the_way_may_be_a_symlink_within_the_layer() {
    check(
        "usr/bin/\nbin -> usr/bin\nbin/sh=1",
        expect![[r#"
        bin -> usr/bin
        usr/ 0755
        usr/bin/ 0755
        usr/bin/sh=1 0644
    "#]],
    );
    check(
        "bin -> /usr/bin\nbin/sh=1",
        expect![[r#"
        bin -> /usr/bin
        usr/ 0755
        usr/bin/ 0755
        usr/bin/sh=1 0644
    "#]],
    );
    check(
        "a -> b\nb -> c/d\na/x=1",
        expect![[r#"
        a -> b
        b -> c/d
        c/ 0755
        c/d/ 0755
        c/d/x=1 0644
    "#]],
    );
    check(
        "d/up -> ../e\nd/up/x=1",
        expect![[r#"
        d/ 0755
        d/up -> ../e
        e/ 0755
        e/x=1 0644
    "#]],
    );
    check(
        "top -> ../../../..\ntop/x=1",
        expect![[r#"
        top -> ../../../..
        x=1 0644
    "#]],
    );
    check(
        "a/b/\nl -> a\nl/b/x=1\nl -> c\nl/b/x=2",
        expect![[r#"
        a/ 0755
        a/b/ 0755
        a/b/x=1 0644
        c/ 0755
        c/b/ 0755
        c/b/x=2 0644
        l -> c
    "#]],
    );
    check(
        "a -> b\nb -> a\na/x=1",
        expect![[
            r#"error: its entry "a" cannot be made: Too many levels of symbolic links (os error 40)"#
        ]],
    );
    check(
        "a=1\na/x=1",
        expect![[r#"error: its entry "a" cannot be made: Not a directory (os error 20)"#]],
    );
}

#[test]
fn names_are_those_in_the_layer_whatever_they_begin_with() {
    check(
        "/a=1\n./b=2\nc//d=3\n./",
        expect![[r#"
        a=1 0644
        b=2 0644
        c/ 0755
        c/d=3 0644
    "#]],
    );
}

#[test]
fn symlinks_are_kept_as_they_are() {
    check(
        "a -> /etc/passwd 5:6\nb -> ../../x\nc -> a//b/",
        expect![[r#"
        a -> /etc/passwd 5:6
        b -> ../../x
        c -> a//b/
    "#]],
    );
}

#[test]
fn long_names_are_taken_from_gnu_and_pax_headers() {
    let dir = tempfile::tempdir().unwrap();
    for (format, lengths, link) in [
        ("gnu", (150, 200), 300),
        ("pax", (150, 200), 300),
        // In two parts of the header.
        ("ustar", (80, 90), 90),
    ] {
        let source = dir.path().join(format);
        let directory = source.join("d".repeat(lengths.0));
        std::fs::create_dir_all(&directory).unwrap();
        let name = directory.join("f".repeat(lengths.1));
        std::fs::write(&name, format).unwrap();
        std::os::unix::fs::symlink("t".repeat(link), source.join("link")).unwrap();
        if format != "ustar" {
            std::fs::hard_link(&name, source.join("hard")).unwrap();
        }
        let unpacked = unpack_tar(&source, &[&format!("--format={format}")]);
        assert_eq!(tree(unpacked.path()), tree(&source));
    }
}

#[test]
fn devices_and_fifos_are_made_with_their_modes() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    for (name, kind, numbers) in [
        ("c", "c", &["1", "3"][..]),
        ("b", "b", &["7", "9"]),
        ("f", "p", &[]),
    ] {
        let mut command = Command::new("mknod");
        command.arg("--mode=0640").arg(source.join(name)).arg(kind);
        assert!(command.args(numbers).status().unwrap().success());
    }
    let unpacked = unpack_tar(&source, &[]);
    assert_eq!(tree(unpacked.path()), tree(&source));
    let numbers = |dir: &Path| ["b", "c"].map(|name| dir.join(name).metadata().unwrap().rdev());
    assert_eq!(numbers(unpacked.path()), numbers(&source));
}

#[test]
fn times_are_kept_of_directories_too() {
    let dir = tempfile::tempdir().unwrap();
    let unpacked = dir.path();
    write_tree(&archive("d/\nd/e/\nd/e/f=1\nl -> x\n./"), unpacked).unwrap();
    for path in ["", "d", "d/e", "d/e/f", "l"] {
        let metadata = unpacked.join(path).symlink_metadata().unwrap();
        assert_eq!(metadata.mtime(), 1_600_000_000, "{path:?}");
    }
    let records = pax(&[("mtime", b"1234.000000567")]);
    let dir = tempfile::tempdir().unwrap();
    write_tree(&with_pax(&records, "f", b"1"), dir.path()).unwrap();
    let metadata = dir.path().join("f").metadata().unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1234, 567));
}

#[test]
fn extended_attributes_are_set_but_never_those_of_an_overlay() {
    // CAP_NET_RAW, permitted and effective; version 2.
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let records = pax(&[
        ("SCHILY.xattr.user.note", b"a\0b"),
        ("SCHILY.xattr.security.capability", &capability),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.unknown", b"x"),
        ("uid", b"7"),
    ]);
    let dir = tempfile::tempdir().unwrap();
    write_tree(&with_pax(&records, "f", b"1"), dir.path()).unwrap();
    let get = |name: &str| {
        let mut value = [0; 64];
        let length = rustix::fs::lgetxattr(dir.path().join("f"), name, &mut value[..]);
        length.ok().map(|length| value[..length].to_vec())
    };
    assert_eq!(get("user.note").unwrap(), b"a\0b");
    assert_eq!(get("security.capability").unwrap(), capability);
    assert_eq!(get("trusted.overlay.opaque"), None);
    assert_eq!(get("trusted.overlay.redirect"), None);
    assert_eq!(dir.path().join("f").metadata().unwrap().uid(), 7);
}

#[test]
fn sparse_files_of_every_version_keep_their_holes() {
    const SIZE: u64 = 64 << 20;
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let file = std::fs::File::create(source.join("sparse")).unwrap();
    for at in (0..40).map(|part| part << 20) {
        std::os::unix::fs::FileExt::write_all_at(&file, b"some bytes", at).unwrap();
    }
    file.set_len(SIZE).unwrap();
    std::fs::File::create(source.join("hole"))
        .unwrap()
        .set_len(SIZE)
        .unwrap();
    let expected = std::fs::read(source.join("sparse")).unwrap();
    for arguments in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let unpacked = unpack_tar(&source, &[&["--sparse"], arguments].concat());
        assert_eq!(
            names(unpacked.path()),
            ["hole", "sparse"].map(PathBuf::from),
            "{arguments:?}"
        );
        for name in ["sparse", "hole"] {
            let metadata = unpacked.path().join(name).metadata().unwrap();
            assert_eq!(metadata.len(), SIZE, "{arguments:?}");
            assert!(metadata.blocks() * 512 < SIZE / 4, "{arguments:?}");
        }
        let found = std::fs::read(unpacked.path().join("sparse")).unwrap();
        assert!(found == expected, "{arguments:?}");
    }
}

#[test]
fn what_says_to_be_a_link_has_no_data_whatever_its_size() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_link_name("target").unwrap();
    header.set_size(4096);
    header.set_mode(0o777);
    append(&mut builder, header, b"a", b"");
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(512);
    bytes.extend(archive("b=1"));
    check_archive(
        &bytes,
        expect![[r#"
        a -> target
        b=1 0644
    "#]],
    );
}

#[test]
fn an_archive_may_end_without_an_end_marker() {
    let bytes = archive("a=1");
    check_archive(
        &bytes[..1024],
        expect![[r#"
        a=1 0644
    "#]],
    );
    check_archive(
        &bytes[..1000],
        expect!["error: its archive is broken: it ends in the middle of an entry"],
    );
    check_archive(
        &bytes[..512],
        expect!["error: its archive is broken: it ends in the middle of an entry"],
    );
    check_archive(
        &bytes[..100],
        expect!["error: its archive is broken: it ends in the middle of an entry"],
    );
}

#[test]
fn old_archives_and_global_headers_are_read() {
    let mut header = tar::Header::new_old();
    header.set_mode(0o755);
    header.set_size(0);
    let mut builder = tar::Builder::new(Vec::new());
    let mut global = tar::Header::new_ustar();
    global.set_entry_type(tar::EntryType::XGlobalHeader);
    let records = pax(&[("comment", b"made by git"), ("path", b"elsewhere")]);
    global.set_size(records.len() as u64);
    append(&mut builder, global, b"pax_global_header", &records);
    header.as_old_mut().linkflag = [0];
    append(&mut builder, header, b"d/", b"");
    check_archive(
        &builder.into_inner().unwrap(),
        expect![[r#"
        d/ 0755
    "#]],
    );
}

/// What GNU tar packs of a directory, unpacked by us.
fn unpack_tar(source: &Path, arguments: &[&str]) -> tempfile::TempDir {
    let mut command = Command::new("tar");
    command
        .args(arguments)
        .arg("--create")
        .arg("-C")
        .arg(source);
    let output = command.args(names(source)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let dir = tempfile::tempdir().unwrap();
    write_tree(&output.stdout, dir.path()).unwrap();
    dir
}

fn names(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().file_name().into())
        .collect();
    names.sort();
    names
}

pub(super) fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length += 1;
        }
        bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
        bytes.extend_from_slice(value);
        bytes.push(b'\n');
    }
    bytes
}

/// An archive of one file that these records describe.
pub(super) fn with_pax(records: &[u8], name: &str, contents: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(records.len() as u64);
    append(&mut builder, header, b"records", records);
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(contents.len() as u64);
    append(&mut builder, header, name.as_bytes(), contents);
    builder.into_inner().unwrap()
}
