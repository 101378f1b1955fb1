use std::path::PathBuf;

use super::{source::Source, *};

#[test]
fn names_are_dns_labels_that_leave_room_for_revisions() {
    for name in ["a", "hello-1", &"a".repeat(52)] {
        check_name(name).expect(name);
    }
    for name in ["", "1a", "a-", "A", "a_b", "a.b", &"a".repeat(53)] {
        check_name(name).expect_err(name);
    }
}

#[test]
fn what_is_deployed_is_told_by_what_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("x.wasm");
    std::fs::write(&file, b"\0asm").expect("a file");
    let of = |path: &PathBuf| Source::of(path.to_str().expect("text"));
    assert_eq!(of(&file).expect("a file"), Source::File(file.clone()));
    let project = dir.path().to_owned();
    assert_eq!(
        of(&project).expect("a project"),
        Source::Project(project.clone())
    );
    let image = "registry.example/api:1";
    assert_eq!(
        Source::of(image).expect("an image"),
        Source::Image(image.to_owned())
    );
    for missing in ["./x", "x.wasm", "/nowhere/x"] {
        let error = Source::of(missing).expect_err(missing);
        assert_eq!(
            error.to_string(),
            format!("the path {missing:?} does not exist")
        );
    }
}
