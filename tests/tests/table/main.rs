//! `tests/kubectl/*.md`: what kubectl prints and how it ends, command by command, against a real `wk up`.
//!
//! - [`transcript`]: reads a file into steps.
//! - [`pattern`]: compares what was printed with what a step expects.
//! - [`run`]: plays a file against a cluster of its own.
//!
//! `tests/kubectl/README.md` tells how the files are written.

mod pattern;
mod run;
mod transcript;

/// A test for each file, with the newest kubectl (or each, if all are asked for).
macro_rules! files {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            for kubectl in e2e::Kubectl::wanted() {
                run::file(concat!(stringify!($name), ".md"), &kubectl);
            }
        })*

        #[test]
        fn every_file_is_played() {
            let mut played = vec![$(concat!(stringify!($name), ".md")),*];
            played.extend(["README.md", "every_version.md"]);
            let mut files = run::files();
            played.sort_unstable();
            files.sort_unstable();
            assert_eq!(files, played);
        }
    };
}

files! {
    access
    admission
    apply
    change
    create
    custom
    daemonsets
    delete
    describe
    discovery
    errors
    functions
    get
    jobs
    rollout
    sets
    server_side
    simulate
    storage
}

/// A test for each older kubectl, with the file that all of them play.
macro_rules! versions {
    ($($name:ident $minor:literal)*) => {
        $(#[test]
        fn $name() {
            if let Some(kubectl) = e2e::Kubectl::find($minor) {
                run::file("every_version.md", &kubectl);
            }
        })*
    };
}

versions! {
    kubectl_1_29 29
    kubectl_1_30 30
    kubectl_1_31 31
    kubectl_1_32 32
    kubectl_1_33 33
}
