//! Layers that want out, or want more than they may have.

use expect_test::{Expect, expect};

use super::{
    Limits, Node, append, archive,
    entries::{pax, with_pax},
    image, tree, write_tree,
};

/// Unpacks an archive beside a directory that has to stay as it is; `DIR` in a line is where that directory is.
#[track_caller]
fn check(lines: &str, expected: Expect) {
    let dir = tempfile::tempdir().unwrap();
    let lines = lines.replace("DIR", dir.path().to_str().unwrap());
    check_in(&dir, &archive(&lines), expected);
}

#[track_caller]
fn check_archive(archive: &[u8], expected: Expect) {
    check_in(&tempfile::tempdir().unwrap(), archive, expected);
}

#[track_caller]
fn check_in(dir: &tempfile::TempDir, archive: &[u8], expected: Expect) {
    let canary = dir.path().join("canary");
    std::fs::create_dir(&canary).unwrap();
    std::fs::write(canary.join("keep"), "safe").unwrap();
    let before = tree(&canary);
    let layer = dir.path().join("layer");
    std::fs::create_dir(&layer).unwrap();
    let written = write_tree(archive, &layer).map(|()| tree(&layer));
    let text = written.unwrap_or_else(|error| format!("error: {error}"));
    // What is on the way to where the test happens to be does not matter.
    let place = dir.path().to_str().unwrap();
    let on_the_way = |line: &&str| !place[1..].starts_with(line.split("/ ").next().unwrap_or(line));
    let lines: Vec<&str> = text.lines().filter(on_the_way).collect();
    let text = lines.join("\n").replace(place, "DIR");
    expected.assert_eq(&text.replace(&place[1..], "DIR"));
    assert_eq!(tree(&canary), before);
    let beside = std::fs::read_dir(dir.path()).unwrap();
    assert_eq!(beside.count(), 2);
}

#[test]
fn names_that_lead_out_are_refused() {
    check(
        "../canary/keep=x",
        expect![[
            r#"error: its entry "../canary/keep" has `..` in its name, which leads out of the layer"#
        ]],
    );
    check(
        "a/../../canary/keep=x",
        expect![[
            r#"error: its entry "a/../../canary/keep" has `..` in its name, which leads out of the layer"#
        ]],
    );
    check(
        "/../canary/=x",
        expect![[
            r#"error: its entry "/../canary/" has `..` in its name, which leads out of the layer"#
        ]],
    );
    check(
        "a/..=x",
        expect![[r#"error: its entry "a/.." has `..` in its name, which leads out of the layer"#]],
    );
    check(
        "..=x",
        expect![[r#"error: its entry ".." has `..` in its name, which leads out of the layer"#]],
    );
}

#[test]
fn absolute_names_are_within_the_layer() {
    check(
        "DIR/canary/keep=x",
        expect![[r#"
        DIR/canary/ 0755
        DIR/canary/keep=x 0644"#]],
    );
}

#[test]
fn nothing_is_written_through_a_symlink_that_leads_out() {
    check(
        "l -> DIR/canary\nl/keep=x",
        expect![[r#"
        l -> DIR/canary
        DIR/canary/ 0755
        DIR/canary/keep=x 0644"#]],
    );
    check(
        "l -> ../canary\nl/keep=x\nl/.wh.keep",
        expect![[r#"
        canary/ 0755
        canary/keep=x 0644
        l -> ../canary"#]],
    );
    check("l -> ../canary\nl/ 0777", expect!["l/ 0777 opaque"]);
    check(
        "keep -> ../canary/keep\nkeep=x 0777",
        expect!["keep=x 0777"],
    );
    check(
        "l -> ../canary\nl/.wh..wh..opq",
        expect![[r#"
        canary/ 0755 opaque
        l -> ../canary"#]],
    );
    check(
        "p -> /proc/self/root\np/tmp/x=1",
        expect![[r#"
        p -> /proc/self/root
        proc/ 0755
        proc/self/ 0755
        proc/self/root/ 0755
        proc/self/root/tmp/ 0755
        proc/self/root/tmp/x=1 0644"#]],
    );
}

#[test]
fn hard_links_do_not_lead_out() {
    check(
        "h => ../canary/keep",
        expect![[
            r#"error: its entry "../canary/keep" has `..` in its name, which leads out of the layer"#
        ]],
    );
    check(
        "h => DIR/canary/keep",
        expect![[
            r#"error: its entry "h" is a hard link to "DIR/canary/keep", which is no file of this layer"#
        ]],
    );
    check(
        "l -> ../canary\nh => l/keep",
        expect![[
            r#"error: its entry "h" is a hard link to "l/keep", which is no file of this layer"#
        ]],
    );
    check(
        "h => /",
        expect![[r#"error: its entry "h" is a hard link to "/", which is no file of this layer"#]],
    );
    check(
        "s -> DIR/canary/keep\nh => s\nh=x 0777",
        expect![[r#"
        h=x 0777
        s -> DIR/canary/keep"#]],
    );
}

#[test]
fn whiteouts_of_no_name_or_of_a_way_out_are_refused() {
    check(
        "d/.wh.=",
        expect![[r#"error: its entry "d/.wh." is a whiteout of no name"#]],
    );
    check(
        "d/.wh..=",
        expect![[r#"error: its entry "d/.wh.." is a whiteout of no name"#]],
    );
    check(
        "d/.wh...=",
        expect![[r#"error: its entry "d/.wh..." is a whiteout of no name"#]],
    );
    check(
        ".wh.d/x=1",
        expect![[r#"error: its entry ".wh.d/x" is in a directory named as a whiteout"#]],
    );
    check(
        "a/../.wh.canary=",
        expect![[
            r#"error: its entry "a/../.wh.canary" has `..` in its name, which leads out of the layer"#
        ]],
    );
}

#[test]
fn the_root_is_a_directory_and_stays_one() {
    check(
        ".=x",
        expect![[r#"error: its entry "." would replace the layer's root"#]],
    );
    check(
        "/ -> /etc",
        expect![[r#"error: its entry "/" would replace the layer's root"#]],
    );
    check(
        "a -> ",
        expect![[r#"error: its entry "a" is a symlink to nothing"#]],
    );
    check("./ 0700\na=1", expect!["a=1 0644"]);
}

#[test]
fn odd_names_are_names() {
    let newline = with_pax(&pax(&[("path", b"a\nb\x1b\xff")]), "f", b"1");
    check_archive(
        &newline,
        expect![[r#"
        a
        b�=1 0644"#]],
    );
    check_archive(
        &with_pax(&pax(&[("path", b"a\0b")]), "f", b"1"),
        expect![[r#"error: its entry "a\0b" has a NUL in its name"#]],
    );
    let long = "x".repeat(256);
    check_archive(
        &with_pax(&pax(&[("path", long.as_bytes())]), "f", b"1"),
        expect![[
            r#"error: its entry "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"… (256 bytes) cannot be made: File name too long (os error 36)"#
        ]],
    );
    let empty = with_pax(&pax(&[("linkpath", b"")]), "", b"1");
    check_archive(
        &empty,
        expect![[r#"error: its entry "" would replace the layer's root"#]],
    );
}

#[test]
fn paths_have_a_length_and_a_depth() {
    let deep = "d/".repeat(300);
    check_archive(
        &with_pax(&pax(&[("path", deep.as_bytes())]), "f", b"1"),
        expect![[
            r#"error: its entry "d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/"… (599 bytes) is more than 256 directories deep"#
        ]],
    );
    let long = format!("{}/", "d".repeat(200)).repeat(30);
    check_archive(
        &with_pax(&pax(&[("path", long.as_bytes())]), "f", b"1"),
        expect![[
            r#"error: its entry "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"… (6029 bytes) has a path of more than 4095 bytes"#
        ]],
    );
    // Through symlinks as well.
    let forty = "d/".repeat(40);
    let mut lines = String::new();
    let mut below = String::new();
    for number in 0..7 {
        lines.push_str(&format!("l{number} -> {below}{forty}\nl{number}/x=1\n"));
        below = format!("l{number}/");
    }
    check(
        &lines,
        expect![[
            r#"error: its entry "d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/"… (513 bytes) is more than 256 directories deep"#
        ]],
    );
}

#[test]
fn headers_that_lie_are_refused() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.as_old_mut().size = *b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    append(&mut builder, header, b"negative", b"");
    check_archive(
        &builder.into_inner().unwrap(),
        expect!["error: its archive is broken: -1 is no size"],
    );

    check_archive(
        &with_pax(&pax(&[("size", b"-5")]), "f", b"1"),
        expect!["error: its archive is broken: -5 is no size"],
    );
    check_archive(
        &with_pax(&pax(&[("size", b"9000000000000000000")]), "f", b"1"),
        expect!["error: its archive is broken: it ends in the middle of an entry"],
    );
    check_archive(
        &with_pax(b"9999 path=x\n", "f", b"1"),
        expect!["error: its archive is broken: a PAX record is malformed"],
    );

    let mut damaged = archive("a=1");
    damaged[0] = b'b';
    check_archive(
        &damaged,
        expect!["error: its archive is broken: the checksum of a header is wrong"],
    );
    check_archive(
        &[b'x'; 2048],
        expect!["error: its archive is broken: the checksum of a header is no number"],
    );

    let mut kind = tar::Header::new_gnu();
    kind.set_entry_type(tar::EntryType::new(b'V'));
    kind.set_size(0);
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, kind, b"volume", b"");
    check_archive(
        &builder.into_inner().unwrap(),
        expect![[r#"error: its entry "volume" is of kind 'V', which no layer may have"#]],
    );
}

#[test]
fn extended_headers_have_a_size() {
    let huge = vec![b'x'; 2 << 20];
    check_archive(
        &with_pax(&pax(&[("comment", &huge)]), "f", b"1"),
        expect!["error: an extended header of 2097169 bytes: at most 1048576 are read"],
    );
}

#[test]
fn extents_of_sparse_files_stay_in_them() {
    let sparse = |map: &str, size: &str| {
        let records = [
            ("GNU.sparse.major", "0"),
            ("GNU.sparse.minor", "1"),
            ("GNU.sparse.map", map),
            ("GNU.sparse.size", size),
        ];
        let records: Vec<_> = records
            .iter()
            .map(|(key, value)| (*key, value.as_bytes()))
            .collect();
        with_pax(&pax(&records), "f", b"12345")
    };
    check_archive(
        &sparse("0,3,2,2", "10"),
        expect![
            "error: its archive is broken: the extents of a sparse file overlap, or are outside of it"
        ],
    );
    check_archive(
        &sparse("0,5", "4"),
        expect![
            "error: its archive is broken: the extents of a sparse file overlap, or are outside of it"
        ],
    );
    check_archive(
        &sparse("0,4", "4"),
        expect![
            "error: its archive is broken: a sparse file has 5 bytes of data, but extents of 4"
        ],
    );
    check_archive(
        &sparse("18446744073709551615,5", "4"),
        expect![
            "error: its archive is broken: the extents of a sparse file overlap, or are outside of it"
        ],
    );
    check_archive(
        &sparse("9223372036854775000,5", "9223372036854775807"),
        expect![[r#"error: its entry "f" cannot be made: File too large (os error 27)"#]],
    );
}

#[test]
fn symlinks_do_not_make_a_layer_take_forever() {
    // Each link leads through the one before it, and there and back many times.
    let mut lines = "d/\nl0 -> d\n".to_owned();
    for number in 1..12 {
        let back = "d/../".repeat(16);
        lines.push_str(&format!("l{number} -> l{}/../{back}d\n", number - 1));
    }
    for number in 0..200 {
        lines.push_str(&format!("l11/{number}=x\nd/{number}=x\n"));
    }
    let limits = Limits {
        entries: 1000,
        ..Limits::default()
    };
    check_limits(
        &lines,
        limits,
        expect!["image sha256:ab: layer DIGEST: its entries' paths lead through too many symlinks"],
    );
}

/// What `prepare` says of a layer within these limits, and what it leaves.
#[track_caller]
fn check_limits(lines: &str, limits: Limits, expected: Expect) {
    let node = Node::with(limits);
    let layer = node.layer(&archive(lines));
    let image = image(vec![layer.clone()]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let error = runtime.block_on(node.layers.prepare(&image)).unwrap_err();
    expected.assert_eq(&error.to_string().replace(&layer.digest, "DIGEST"));
    assert_eq!(node.unpacked(), Vec::<String>::new());
}

#[test]
fn a_layer_that_unpacks_to_more_than_it_may_leaves_nothing() {
    let limits = Limits {
        archive_bytes: 2000,
        ..Limits::default()
    };
    check_limits(
        "a=1\nb=2\nc=3\nd=4",
        limits,
        expect![
            "image sha256:ab: layer DIGEST: it unpacks to more than 2000 bytes, the limit for a layer"
        ],
    );
    let limits = Limits {
        entries: 3,
        ..Limits::default()
    };
    check_limits(
        "a=1\nb=2\nc=3\nd=4",
        limits,
        expect!["image sha256:ab: layer DIGEST: it has more than 3 entries, the limit for a layer"],
    );
}
