//! The image store over files.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

use expect_test::{Expect, expect};
use runtimes::{
    ImageError, Images as _, PullPolicy,
    images::{Config, ImageStore, digest_of},
};

const ONE: &str = "(module)";
const TWO: &str = ";; two\n(component)";

struct Files {
    dir: tempfile::TempDir,
    store: ImageStore,
}

impl Files {
    fn new() -> Files {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path().join("store"), Config::default()).unwrap();
        Files { dir, store }
    }

    fn write(&self, text: &str) {
        std::fs::write(self.dir.path().join("a.wat"), text).unwrap();
    }

    fn reference(&self) -> String {
        format!("file://{}/a.wat", self.dir.path().display())
    }

    async fn digest(&self, policy: PullPolicy) -> Result<String, ImageError> {
        let image = self.store.ensure(&self.reference(), policy, &[]).await?;
        assert_eq!(
            digest_of(&std::fs::read(&image.path).unwrap()),
            image.digest
        );
        Ok(image.digest)
    }
}

#[tokio::test]
async fn an_edited_file_is_picked_up_unless_the_policy_is_never() {
    let files = Files::new();
    files.write(ONE);
    let one = files.digest(PullPolicy::IfNotPresent).await.unwrap();
    assert_eq!(one, digest_of(ONE.as_bytes()));
    files.write(TWO);
    assert_eq!(files.digest(PullPolicy::Never).await.unwrap(), one);
    let two = files.digest(PullPolicy::IfNotPresent).await.unwrap();
    assert_eq!(two, digest_of(TWO.as_bytes()));
}

#[tokio::test]
async fn a_file_that_is_gone_still_has_its_content_here() {
    let files = Files::new();
    files.write(ONE);
    let one = files.digest(PullPolicy::IfNotPresent).await.unwrap();
    std::fs::remove_file(files.dir.path().join("a.wat")).unwrap();
    assert_eq!(files.digest(PullPolicy::IfNotPresent).await.unwrap(), one);
    let error = files
        .digest(PullPolicy::Always)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("a.wat does not exist"), "{error}");
}

#[tokio::test]
async fn contents_that_no_reference_names_are_removed_at_a_start_once_they_are_old() {
    let files = Files::new();
    for text in [ONE, TWO] {
        files.write(text);
        files.digest(PullPolicy::Always).await.unwrap();
    }
    let blobs = files.dir.path().join("store/blobs/sha256");
    let count = || std::fs::read_dir(&blobs).unwrap().count();
    let start = || ImageStore::open(files.dir.path().join("store"), Config::default()).unwrap();
    start();
    assert_eq!(count(), 2);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(48 * 3600);
    for blob in std::fs::read_dir(&blobs).unwrap() {
        let file = std::fs::File::options()
            .write(true)
            .open(blob.unwrap().path());
        file.unwrap().set_modified(old).unwrap();
    }
    start();
    assert_eq!(count(), 1);
}

#[tokio::test]
async fn many_at_once_get_the_same() {
    let files = Files::new();
    files.write(ONE);
    let reference = files.reference();
    let pulls = (0..20).map(|_| files.store.ensure(&reference, PullPolicy::Always, &[]));
    for image in futures::future::join_all(pulls).await {
        assert_eq!(image.unwrap().digest, digest_of(ONE.as_bytes()));
    }
}

#[tokio::test]
async fn what_is_no_module_is_refused_in_words() {
    let files = Files::new();
    let mut got = String::new();
    for text in ["", "hello", "(; open", "FROM scratch", "(modul)"] {
        files.write(text);
        let error = files.digest(PullPolicy::Always).await.unwrap_err();
        got += &error.to_string().replace(&files.reference(), "X");
        got += "\n";
    }
    for reference in [
        "file://",
        "file:///",
        "UPPERCASE",
        "http://example.com/a.wasm",
    ] {
        let pull = files.store.ensure(reference, PullPolicy::IfNotPresent, &[]);
        got += &pull.await.unwrap_err().to_string();
        got += "\n";
    }
    check(
        &got,
        expect![[r#"
            failed to pull image "X": neither a WebAssembly component nor a module (binary or text)
            failed to pull image "X": neither a WebAssembly component nor a module (binary or text)
            failed to pull image "X": neither a WebAssembly component nor a module (binary or text)
            failed to pull image "X": neither a WebAssembly component nor a module (binary or text)
            failed to pull image "X": neither a WebAssembly component nor a module (binary or text)
            failed to pull image "file://": file:// names no file: write file:///absolute/path.wasm
            failed to pull image "file:///": / is not a regular file
            invalid image reference "UPPERCASE": invalid reference format
            invalid image reference "http://example.com/a.wasm": invalid reference format
        "#]],
    );
}

#[tokio::test]
async fn never_means_what_is_here() {
    let files = Files::new();
    files.write(ONE);
    let error = files.digest(PullPolicy::Never).await.unwrap_err();
    assert!(matches!(error, ImageError::NeverPull { .. }), "{error}");
}

#[track_caller]
fn check(got: &str, want: Expect) {
    want.assert_eq(got);
}

#[tokio::test]
async fn a_content_goes_with_the_last_reference_to_it() {
    let files = Files::new();
    files.write(ONE);
    std::fs::copy(
        files.dir.path().join("a.wat"),
        files.dir.path().join("b.wat"),
    )
    .unwrap();
    let other = files.reference().replace("a.wat", "b.wat");
    files.digest(PullPolicy::Always).await.unwrap();
    let image = files
        .store
        .ensure(&other, PullPolicy::Always, &[])
        .await
        .unwrap();
    assert_eq!(files.store.remove(&files.reference()).await.unwrap(), 0);
    assert!(image.path.exists());
    assert_eq!(files.store.remove(&other).await.unwrap(), ONE.len() as u64);
    assert!(!image.path.exists());
    assert_eq!(files.store.remove(&other).await.unwrap(), 0);
    assert_eq!(
        files.digest(PullPolicy::Never).await.unwrap_err(),
        ImageError::NeverPull {
            reference: files.reference(),
        }
    );
}
