//! The same image unpacked by umoci and mounted by us has the same files.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use runtimes::images::{ContainerImage, Image, ImageKind};

use super::{Node, archive, tree};

/// An image of these layers in an OCI layout, made by umoci.
fn build(dir: &Path, layers: &[&str]) -> PathBuf {
    let layout = dir.join("layout");
    let image = format!("{}:odd", layout.display());
    umoci(&["init", "--layout", layout.to_str().unwrap()]);
    umoci(&["new", "--image", &image]);
    for (number, lines) in layers.iter().enumerate() {
        let path = dir.join(format!("{number}.tar"));
        std::fs::write(&path, archive(lines)).unwrap();
        umoci(&[
            "raw",
            "add-layer",
            "--image",
            &image,
            path.to_str().unwrap(),
        ]);
    }
    layout
}

fn umoci(arguments: &[&str]) {
    let output = Command::new("umoci").args(arguments).output();
    let output = output.expect("umoci is installed (Debian package umoci)");
    assert!(output.status.success(), "umoci {arguments:?}: {output:?}");
}

fn read(layout: &Path) -> ContainerImage {
    let index = std::fs::read(layout.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let blobs = layout.join("blobs/sha256");
    let image = Image {
        reference: "odd".to_owned(),
        digest: digest.to_owned(),
        origin: None,
        kind: ImageKind::Oci,
        path: blobs.join(digest.trim_start_matches("sha256:")),
        size_bytes: 0,
    };
    ContainerImage::read(&image).unwrap()
}

/// Both have the same tree.
fn check(layers: &[&str]) {
    let node = Node::new();
    let layout = build(&node.path(""), layers);
    let bundle = node.path("bundle");
    let image = format!("{}:odd", layout.display());
    umoci(&["unpack", "--image", &image, bundle.to_str().unwrap()]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let container = node.container("a");
    let root = runtime
        .block_on(node.layers.mount(&read(&layout), &container))
        .unwrap();
    assert_eq!(tree(&root), tree(&bundle.join("rootfs")), "{layers:#?}");
}

#[test]
fn images_with_odd_layers_are_as_umoci_unpacks_them() {
    check(&[
        "./ 0755\nbin/\nbin/sh=sh 4755\nbin/bash => bin/sh\netc/ 0711 1:2\netc/a=1 0600\ntmp/ 1777\nlib -> usr/lib\nusr/lib/x=1",
        "etc/.wh.a\netc/b=2\nold/\nold/a=1\nold/b/\nold/b/c=1",
        "old/.wh..wh..opq\nold/new=1\ntmp/x=1\netc/b=3",
        ".wh.old\nusr/lib/y=1\nusr/lib/x => usr/lib/y",
    ]);
    check(&["a=1\nb/\nb/c=1", "a/\na/x=1\nb=2", "a=3\nb/\nb/d=4"]);
    check(&[
        "d/\nd/e/ 0700 7:8\nd/e/f=1",
        "d/e/g=2 0640 1:1",
        ".wh.d\nx=1",
        "d/h=1",
    ]);
    check(&[
        "link -> /etc/passwd\nup -> ../../..\nself -> .",
        "link=mine\nself/\nself/x=1",
    ]);
    check(&["/abs/path=1\n./dot/path=2\nabs/hard => /abs/path"]);
}
