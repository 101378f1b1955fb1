//! What containers see of their image's layers.

use expect_test::{Expect, expect};
use runtimes::images::ContainerImage;

use super::{Node, archive, image, tree};

/// Mounts an image of these layers and lists what a container sees.
#[track_caller]
fn check(layers: &[&str], expected: Expect) {
    let node = Node::new();
    let layers: Vec<Vec<u8>> = layers.iter().map(|lines| archive(lines)).collect();
    let root = mount(&node, &node.image(&layers));
    expected.assert_eq(&root.unwrap_or_else(|error| format!("error: {error}")));
}

fn mount(node: &Node, image: &ContainerImage) -> Result<String, String> {
    let container = node.container("a");
    let mounted = block_on(node.layers.mount(image, &container));
    mounted
        .map(|root| tree(&root))
        .map_err(|error| error.to_string())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

#[tokio::test]
async fn a_containers_root_shows_its_images_layers_and_keeps_its_writes_apart() {
    let node = Node::new();
    let image = node.image(&[
        archive("etc/\netc/passwd=root\nbin/\nbin/sh=sh 4755\ntmp/ 1777\nold/\nold/a=1\ngone=x"),
        archive("tmp/x=1\nold/\nold/.wh..wh..opq\nold/b=2\n.wh.gone\netc/group=g 0640 0:42"),
    ]);
    let container = node.container("a");
    let root = node.layers.mount(&image, &container).await.unwrap();
    expect![[r#"
        bin/ 0755
        bin/sh=sh 4755
        etc/ 0755
        etc/group=g 0640 0:42
        etc/passwd=root 0644
        old/ 0755
        old/b=2 0644
        tmp/ 1777
        tmp/x=1 0644
    "#]]
    .assert_eq(&tree(&root));
    std::fs::write(root.join("etc/passwd"), "mine").unwrap();
    assert_eq!(node.layers.mount(&image, &container).await.unwrap(), root);
    expect![[r#"
        etc/ 0755
        etc/passwd=mine 0644
        tmp/ 1777
    "#]]
    .assert_eq(&tree(&container.join("upper")));
    let other = node
        .layers
        .mount(&image, &node.container("b"))
        .await
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(other.join("etc/passwd")).unwrap(),
        "root"
    );

    node.layers.unmount(&container).await.unwrap();
    node.layers.unmount(&container).await.unwrap();
    expect![].assert_eq(&tree(&root));
    node.layers.mount(&image, &container).await.unwrap();
    assert_eq!(
        std::fs::read_to_string(root.join("etc/passwd")).unwrap(),
        "mine"
    );
    node.layers.remove(&container).await.unwrap();
    assert!(!container.exists());
}

#[test]
fn an_image_without_layers_or_with_an_empty_one_has_an_empty_root() {
    check(&[], expect![]);
    check(&[""], expect![]);
    check(
        &["", "a=1", ""],
        expect![[r#"
        a=1 0644
    "#]],
    );
}

#[test]
fn a_directory_that_a_layer_only_implies_is_as_the_layer_below_says() {
    check(
        &["t/ 1777 7:8\nt/u/ 0700", "t/u/x=1"],
        expect![[r#"
        t/ 1777 7:8
        t/u/ 0700
        t/u/x=1 0644
    "#]],
    );
    check(
        &["t/ 1777", "t/x=1", "t/ 0711\nt/y=2"],
        expect![[r#"
        t/ 0711
        t/x=1 0644
        t/y=2 0644
    "#]],
    );
    check(
        &["t/ 1777\nt/a=1", ".wh.t", "t/x=1"],
        expect![[r#"
        t/ 0755
        t/x=1 0644
    "#]],
    );
    check(
        &["t/x=1", "t/ 1777"],
        expect![[r#"
        t/ 1777
        t/x=1 0644
    "#]],
    );
}

#[test]
fn the_root_is_as_the_uppermost_layer_says_that_has_it() {
    use std::os::unix::fs::MetadataExt as _;
    let node = Node::new();
    let image = node.image(&[
        archive("./ 0700 3:4"),
        archive("./ 0711 5:6"),
        archive("a=1"),
    ]);
    let root = block_on(node.layers.mount(&image, &node.container("a"))).unwrap();
    let root = root.metadata().unwrap();
    assert_eq!(
        (root.mode() & 0o7777, root.uid(), root.gid()),
        (0o711, 5, 6)
    );
}

#[test]
fn an_opaque_root_hides_every_layer_below() {
    check(
        &["a=1\nd/\nd/x=1", "b=2", ".wh..wh..opq\nc=3", "e=4"],
        expect![[r#"
            c=3 0644
            e=4 0644
        "#]],
    );
}

#[test]
fn a_directory_that_was_removed_and_made_again_is_a_new_one() {
    check(
        &["d/\nd/old=1", ".wh.d\nd/\nd/new=2"],
        expect![[r#"
        d/ 0755
        d/new=2 0644
    "#]],
    );
    check(
        &["d/\nd/old=1", "d/\nd/new=2\n.wh.d"],
        expect![[r#"
        d/ 0755
        d/new=2 0644
    "#]],
    );
    check(
        &["d/\nd/old=1", "d=file\nd/\nd/new=2"],
        expect![[r#"
        d/ 0755
        d/new=2 0644
    "#]],
    );
    check(
        &["d/\nd/old=1", "d -> e\ne/\nd/new=2"],
        expect![[r#"
        d -> e
        e/ 0755
        e/new=2 0644
    "#]],
    );
}

#[test]
fn equal_layers_are_one() {
    check(
        &["a=1\nb=1", ".wh.a\nb=2", "a=1\nb=1"],
        expect![[r#"
        a=1 0644
        b=1 0644
    "#]],
    );
}

#[test]
fn more_layers_are_mounted_than_their_paths_have_room_for_in_a_page() {
    let node = Node::new();
    let layer = |number| archive(&format!("f{number:03}={number}"));
    let image = node.image(&(0..127).map(layer).collect::<Vec<_>>());
    let files = mount(&node, &image).unwrap();
    assert_eq!(files.lines().count(), 127, "{files}");
    let many = node.image(&(0..250).map(layer).collect::<Vec<_>>());
    let container = node.container("b");
    let error = block_on(node.layers.mount(&many, &container)).unwrap_err();
    expect!["image sha256:ab: it has 250 layers, more than can be mounted"]
        .assert_eq(&error.to_string());
    assert!(block_on(node.layers.unmount(&container)).is_ok());
}

#[test]
fn characters_that_part_options_may_be_in_a_containers_path() {
    let node = Node::new();
    let image = image(vec![node.layer(&archive("a=1"))]);
    let container = node.container("x:y,z\\");
    let root = block_on(node.layers.mount(&image, &container)).unwrap();
    expect![[r#"
        a=1 0644
    "#]]
    .assert_eq(&tree(&root));
}

#[test]
fn a_root_that_is_in_use_is_detached() {
    let node = Node::new();
    let image = node.image(&[archive("a=1")]);
    let container = node.container("a");
    let root = block_on(node.layers.mount(&image, &container)).unwrap();
    let _open = std::fs::File::open(root.join("a")).unwrap();
    block_on(node.layers.remove(&container)).unwrap();
    assert!(!container.exists());
}
