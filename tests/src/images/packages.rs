//! Debian's packages with all that they depend on, fetched but not installed.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use super::layer::Layer;

/// What no program needs at run time.
const SKIPPED: &[&str] = &[
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bug",
    "usr/share/bash-completion",
    "etc/init.d",
    "etc/cron.d",
    "lib/systemd",
    "usr/lib/systemd",
];

/// On Debian these are links into `usr`, and packages have files in both.
pub(super) const MERGED: &[&str] = &["bin", "sbin", "lib", "lib64"];

/// Packages in certain versions.
#[derive(Debug)]
pub(super) struct Packages {
    /// `name=version`, as `apt-get download` wants them.
    names: Vec<String>,
}

impl Packages {
    /// Asks apt what these packages need on a machine that has nothing, and leaves out what is not wanted.
    ///
    /// # Panics
    /// When apt cannot answer.
    pub(super) fn find(wanted: &[&str], without: &[&str]) -> Packages {
        if wanted.is_empty() {
            return Packages { names: Vec::new() };
        }
        let ask = || {
            let output = Command::new("apt-get")
                .args([
                    "install",
                    "--print-uris",
                    "--yes",
                    "--no-install-recommends",
                ])
                .args([
                    "-o",
                    "Dir::State::status=/dev/null",
                    "-o",
                    "Debug::NoLocking=1",
                ])
                .args(wanted)
                .output()
                .expect("apt-get runs: images are made of Debian's packages");
            (output.status.success(), output)
        };
        let (mut found, mut output) = ask();
        if !found {
            // A fresh machine has no lists.
            run(Command::new("apt-get").arg("update"));
            (found, output) = ask();
        }
        assert!(found, "{}", String::from_utf8_lossy(&output.stderr));
        let mut names: Vec<String> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(name_and_version)
            .filter(|(name, _)| !without.iter().any(|without| is_called(name, without)))
            .map(|(name, version)| format!("{name}={version}"))
            .collect();
        names.sort_unstable();
        Packages { names }
    }

    /// Fetches the packages and takes their files.
    ///
    /// # Panics
    /// When a package cannot be fetched or unpacked.
    pub(super) fn layer(&self) -> Layer {
        let directory = tempfile::tempdir().expect("a temporary directory");
        run(Command::new("apt-get")
            .args(["download", "-q"])
            .args(&self.names)
            .current_dir(directory.path()));
        let root = directory.path().join("root");
        for name in MERGED {
            let target = format!("usr/{name}");
            std::fs::create_dir_all(root.join(&target)).expect("a directory can be made");
            std::os::unix::fs::symlink(target, root.join(name)).expect("a link can be made");
        }
        for entry in std::fs::read_dir(directory.path()).expect("it can be read") {
            let package = entry.expect("it can be read").path();
            if package.extension().is_some_and(|end| end == "deb") {
                extract(&package, &root);
            }
        }
        let mut layer = Layer::default();
        let wanted = |path: &Path| {
            // The lowest layer has the links.
            !MERGED.iter().any(|name| path == Path::new(name))
                && !SKIPPED.iter().any(|skipped| path.starts_with(skipped))
        };
        layer.tree(&root, wanted).expect("files can be read");
        layer
    }
}

/// Unlike `dpkg-deb --extract`, it keeps links to directories as they are.
fn extract(package: &Path, root: &Path) {
    let mut open = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .expect("dpkg-deb runs");
    let files = open.stdout.take().expect("it is piped");
    run(Command::new("tar")
        .args(["--extract", "--keep-directory-symlink", "--directory"])
        .arg(root)
        .stdin(files));
    let opened = open.wait().expect("it can be waited for");
    assert!(opened.success(), "{}: {opened}", package.display());
}

/// `libperl*` is every package that begins so.
fn is_called(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// Of a line `'http://…' name_version_architecture.deb size hash`.
fn name_and_version(line: &str) -> Option<(String, String)> {
    let file = line.starts_with('\'').then(|| line.split(' ').nth(1))??;
    let mut parts = file.split('_');
    let (name, version) = (parts.next()?, parts.next()?);
    Some((name.to_owned(), version.replace("%3a", ":")))
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().expect("the command runs");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
