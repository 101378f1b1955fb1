//! A path of the host: checked, and made where its type says so.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt},
    path::Path,
};

/// Checks that the path is what `kind` (`hostPath.type`) says.
///
/// # Errors
/// What it is not, in the kubelet's words.
pub(crate) fn check(path: &Path, kind: &str) -> Result<(), String> {
    let shown = path.display();
    let failed = |error: io::Error| format!("hostPath type check failed: {shown}: {error}");
    match kind {
        // Unchecked: what is there is given as it is, and what is not becomes a directory, as container runtimes do.
        "" => return make_directory(path).map_err(failed),
        "DirectoryOrCreate" => make_directory(path).map_err(failed)?,
        "FileOrCreate" => make_file(path).map_err(failed)?,
        _ => {}
    }
    let found = fs::metadata(path).map(|metadata| metadata.file_type());
    let is = |right: fn(&fs::FileType) -> bool| found.as_ref().is_ok_and(right);
    let (right, what) = match kind {
        "Directory" | "DirectoryOrCreate" => (is(fs::FileType::is_dir), "a directory"),
        "File" | "FileOrCreate" => (is(fs::FileType::is_file), "a file"),
        "Socket" => (is(FileTypeExt::is_socket), "a socket file"),
        "CharDevice" => (is(FileTypeExt::is_char_device), "a character device"),
        "BlockDevice" => (is(FileTypeExt::is_block_device), "a block device"),
        other => return Err(format!("hostPath.type {other:?} is not known")),
    };
    if right {
        Ok(())
    } else {
        Err(format!("hostPath type check failed: {shown} is not {what}"))
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
}

/// Only the file: directories above it are the user's to make.
fn make_file(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut open = fs::OpenOptions::new();
    open.write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use expect_test::{Expect, expect};
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_path_is_what_its_type_says_or_becomes_it() {
        let dir = TempDir::new().expect("a directory");
        fs::write(dir.path().join("file"), "").expect("a file");
        let _socket = UnixListener::bind(dir.path().join("socket")).expect("a socket");
        let check = |name: &str, kind: &str, expect: Expect| {
            let outcome = check(&dir.path().join(name), kind);
            let text = outcome.map_or_else(|message| message, |()| "ok".to_owned());
            expect.assert_eq(&text.replace(&dir.path().display().to_string(), "/d"));
        };
        check("", "Directory", expect!["ok"]);
        check("file", "File", expect!["ok"]);
        check("socket", "Socket", expect!["ok"]);
        check("file", "", expect!["ok"]);
        check("new/a", "DirectoryOrCreate", expect!["ok"]);
        check("new/b", "FileOrCreate", expect!["ok"]);
        check("new/a", "DirectoryOrCreate", expect!["ok"]);
        check("plain", "", expect!["ok"]);
        check("plain", "Directory", expect!["ok"]);
        check(
            "none",
            "Directory",
            expect!["hostPath type check failed: /d/none is not a directory"],
        );
        check(
            "none",
            "Socket",
            expect!["hostPath type check failed: /d/none is not a socket file"],
        );
        check(
            "",
            "File",
            expect!["hostPath type check failed: /d/ is not a file"],
        );
        check(
            "file",
            "DirectoryOrCreate",
            expect!["hostPath type check failed: /d/file is not a directory"],
        );
        check(
            "file",
            "BlockDevice",
            expect!["hostPath type check failed: /d/file is not a block device"],
        );
        check(
            "file",
            "CharDevice",
            expect!["hostPath type check failed: /d/file is not a character device"],
        );
        check(
            "no/such",
            "FileOrCreate",
            expect![
                "hostPath type check failed: /d/no/such: No such file or directory (os error 2)"
            ],
        );
    }
}
