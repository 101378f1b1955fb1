//! Layers come once, stay while they are used, and go whole.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use expect_test::expect;
use oci_spec::image::MediaType;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags},
    mount::{MountFlags, UnmountFlags},
};

use super::{Layers, Limits, Node, archive, image, tree};

/// Generous: other tests run beside these.
const DEADLINE: Duration = Duration::from_secs(60);

/// In place of a layer's blob: who reads it waits for the test to write.
fn make_pipe(path: &Path) {
    std::fs::remove_file(path).unwrap();
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

async fn open_pipe(path: PathBuf) -> File {
    let open = tokio::task::spawn_blocking(move || File::options().write(true).open(path));
    let opened = tokio::time::timeout(DEADLINE, open).await;
    opened.expect("the layer is read").unwrap().unwrap()
}

#[tokio::test]
async fn calls_for_the_same_layer_share_one_unpacking() {
    let node = Node::new();
    let bytes = archive("a=1");
    let layer = node.layer(&bytes);
    make_pipe(&layer.path);
    let (one, two) = (image(vec![layer.clone()]), image(vec![layer.clone()]));
    let write = async {
        // A second reader would wait for a second writer.
        open_pipe(layer.path.clone())
            .await
            .write_all(&bytes)
            .unwrap();
    };
    let all = async { tokio::join!(node.layers.prepare(&one), node.layers.prepare(&two), write) };
    let (first, second, ()) = tokio::time::timeout(DEADLINE, all).await.unwrap();
    first.unwrap();
    second.unwrap();
    // There is nothing left to read it from.
    node.layers.prepare(&one).await.unwrap();
}

#[tokio::test]
async fn an_unpacking_that_nobody_waits_for_leaves_nothing() {
    let node = Node::new();
    let bytes = archive(&"a=1\n".repeat(2000));
    let layer = node.layer(&bytes);
    make_pipe(&layer.path);
    let image = image(vec![layer.clone()]);
    let mut pipe = {
        let prepare = node.layers.prepare(&image);
        tokio::select! {
            _ = prepare => panic!("it has not been written"),
            pipe = open_pipe(layer.path.clone()) => pipe,
        }
    };
    // The reader may be gone already.
    let _ = pipe.write_all(&bytes);
    drop(pipe);
    let since = std::time::Instant::now();
    while node.left_over() > 0 {
        assert!(since.elapsed() < DEADLINE, "something is left over");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(node.unpacked(), Vec::<String>::new());
    // And another call begins anew.
    std::fs::remove_file(&layer.path).unwrap();
    std::fs::write(&layer.path, &bytes).unwrap();
    node.layers.prepare(&image).await.unwrap();
}

#[tokio::test]
async fn a_layer_is_kept_while_an_image_or_a_mounted_container_has_it() {
    let node = Node::new();
    let (low, high, other) = (archive("a=1"), archive("b=2"), archive("c=3"));
    let one = node.image(&[low.clone(), high]);
    let two = node.image(&[low, other]);
    node.layers.prepare(&one).await.unwrap();
    let container = node.container("a");
    let root = node.layers.mount(&two, &container).await.unwrap();
    assert_eq!(node.unpacked().len(), 3);

    assert_eq!(
        node.layers
            .keep_only(&[one.clone(), two.clone()])
            .await
            .unwrap(),
        0
    );
    assert!(node.layers.keep_only(&[]).await.unwrap() > 0);
    assert_eq!(node.unpacked().len(), 2);
    // After a restart too.
    let again = Layers::open(&node.path("layers"), Limits::default()).unwrap();
    assert_eq!(again.keep_only(&[]).await.unwrap(), 0);
    assert_eq!(tree(&root), "a=1 0644\nc=3 0644\n");

    again.unmount(&container).await.unwrap();
    assert!(again.keep_only(std::slice::from_ref(&one)).await.unwrap() > 0);
    assert_eq!(node.unpacked().len(), 1);
    assert!(again.keep_only(&[]).await.unwrap() > 0);
    assert_eq!(node.unpacked(), Vec::<String>::new());
    assert_eq!(node.left_over(), 0);
    node.layers.prepare(&one).await.unwrap();
}

#[tokio::test]
async fn a_container_whose_directory_is_gone_keeps_nothing() {
    let node = Node::new();
    let image = node.image(&[archive("a=1")]);
    let container = node.container("a");
    node.layers.mount(&image, &container).await.unwrap();
    super::super::overlay::unmount(&container).unwrap();
    std::fs::remove_dir_all(&container).unwrap();
    assert!(node.layers.keep_only(&[]).await.unwrap() > 0);
}

#[tokio::test]
async fn what_a_crash_left_is_removed_when_the_layers_are_opened() {
    let node = Node::new();
    let left = node.path("layers").join(".new-0123-1-0/tree/d");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("half"), "written").unwrap();
    node.layers
        .prepare(&node.image(&[archive("a=1")]))
        .await
        .unwrap();
    Layers::open(&node.path("layers"), Limits::default()).unwrap();
    assert_eq!(node.left_over(), 0);
    assert_eq!(node.unpacked().len(), 1);
}

#[tokio::test]
async fn a_full_disk_is_told_by_its_directory_and_leaves_nothing() {
    let node = Node::new();
    let small = node.path("small");
    std::fs::create_dir(&small).unwrap();
    rustix::mount::mount("tmpfs", &small, "tmpfs", MountFlags::empty(), c"size=2m").unwrap();
    let _unmounted = Unmounted(small.clone());
    let layers = Layers::open(&small.join("layers"), Limits::default()).unwrap();
    let fits = node.image(&[archive("a=1")]);
    layers.prepare(&fits).await.unwrap();
    let before = tree(&small);
    let lines: Vec<String> = (0..100)
        .map(|number| format!("f{number}={}", "x".repeat(50_000)))
        .collect();
    let layer = node.layer(&archive(&lines.join("\n")));
    let error = layers
        .prepare(&image(vec![layer.clone()]))
        .await
        .unwrap_err();
    let text = error.to_string();
    let number = text
        .split("make \"f")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let text = text
        .replace(&layer.digest, "DIGEST")
        .replace(&layer.diff_id["sha256:".len()..], "DIFF-ID")
        .replace(&format!("\"f{number}\""), "\"f…\"")
        .replace(small.to_str().unwrap(), "DIR");
    let text = text
        .split("-DIFF-ID-")
        .map(|part| part.split_once("/tree").map_or(part, |(_, rest)| rest));
    expect![[r#"image sha256:ab: layer DIGEST: make "f…" in DIR/layers/.new: No space left on device (os error 28)"#]].assert_eq(&text.collect::<String>());
    assert!(matches!(
        error,
        runtimes::runtime::RuntimeError::Unavailable { .. }
    ));
    assert_eq!(tree(&small), before);
}

struct Unmounted(PathBuf);

impl Drop for Unmounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn what_a_container_writes_is_counted_and_removed_however_deep() {
    const DEPTH: usize = 2000;
    let node = Node::new();
    let image = node.image(&[archive("a=1")]);
    let container = node.container("a");
    assert_eq!(node.layers.usage(&container).await.unwrap(), 0);
    let root = node.layers.mount(&image, &container).await.unwrap();
    let before = node.layers.usage(&container).await.unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here = rustix::fs::openat(CWD, &root, flags, Mode::empty()).unwrap();
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
        here = rustix::fs::openat(&here, "d", flags, Mode::empty()).unwrap();
    }
    let create = OFlags::WRONLY | OFlags::CREATE;
    let file = rustix::fs::openat(&here, "f", create, Mode::RWXU).unwrap();
    rustix::io::write(&file, &[1; 100_000]).unwrap();
    rustix::fs::fsync(&file).unwrap();
    rustix::fs::linkat(&here, "f", &here, "g", rustix::fs::AtFlags::empty()).unwrap();
    drop((file, here));
    let used = node.layers.usage(&container).await.unwrap() - before;
    // Directories take room of their own on some file systems; the file's second name takes none.
    let directories = DEPTH as u64 * 4096;
    assert!((100_000..directories + 200_000).contains(&used), "{used}");
    node.layers.remove(&container).await.unwrap();
    assert!(!container.exists());
    node.layers.remove(&container).await.unwrap();
}

#[tokio::test]
async fn one_layer_that_fails_fails_the_image_and_others_stay_whole() {
    let node = Node::new();
    let good = node.layer(&archive("a=1"));
    let bad = node.packed(&archive("b=1"), b"no archive", MediaType::ImageLayer);
    let error = node
        .layers
        .prepare(&image(vec![good.clone(), bad.clone()]))
        .await
        .unwrap_err();
    let text = error.to_string().replace(&bad.digest, "DIGEST");
    expect![
        "image sha256:ab: layer DIGEST: its archive is broken: it ends in the middle of an entry"
    ]
    .assert_eq(&text);
    node.layers.prepare(&image(vec![good])).await.unwrap();
    assert_eq!(node.unpacked().len(), 1);
}
