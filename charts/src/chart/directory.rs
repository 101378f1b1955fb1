//! The files of a chart's directory, without those that its `.helmignore` names.
//!
//! Follows symbolic links, as Helm does: the directory is the user's own. Bounded in size, count and depth.

use std::{fs, path::Path};

use super::{
    Error, File,
    archive::{MAX_CHART, MAX_FILE},
    ignore::Rules,
    load::without_mark,
};

/// Directories within directories; links may lead in circles.
const MAX_DEPTH: usize = 64;
/// Files of a chart.
const MAX_FILES: usize = 20_000;

/// Reads a directory's files, in the order of their names.
pub fn read(directory: &Path) -> Result<Vec<File>, Error> {
    let rules = match fs::read(directory.join(".helmignore")) {
        Ok(text) => Rules::parse(&String::from_utf8_lossy(&text)).map_err(Error::Invalid)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Rules::default(),
        Err(error) => return Err(Error::io("read .helmignore")(error)),
    };
    let mut reading = Reading {
        rules,
        files: Vec::new(),
        left: MAX_CHART,
    };
    reading.directory(directory, "", 0)?;
    Ok(reading.files)
}

struct Reading {
    rules: Rules,
    files: Vec<File>,
    left: u64,
}

impl Reading {
    fn directory(&mut self, path: &Path, name: &str, depth: usize) -> Result<(), Error> {
        let doing = || format!("read {}", path.display());
        if depth > MAX_DEPTH {
            return Err(Error::Invalid(format!(
                "chart directory {name} is nested too deeply"
            )));
        }
        let entries = fs::read_dir(path).map_err(Error::io(doing()))?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(Error::io(doing()))?.file_name());
        }
        names.sort();
        for entry in names {
            let path = path.join(&entry);
            let entry = entry.to_string_lossy();
            let name = match name {
                "" => entry.into_owned(),
                name => format!("{name}/{entry}"),
            };
            let found =
                fs::metadata(&path).map_err(Error::io(format!("read {}", path.display())))?;
            if self.rules.ignore(&name, found.is_dir()) {
                continue;
            }
            if found.is_dir() {
                self.directory(&path, &name, depth + 1)?;
            } else {
                self.file(&path, name, &found)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: String, found: &fs::Metadata) -> Result<(), Error> {
        if !found.is_file() {
            return Err(Error::Invalid(format!(
                "cannot load irregular file {} as it has file mode type bits set",
                path.display()
            )));
        }
        if found.len() > MAX_FILE {
            return Err(Error::Invalid(format!(
                "chart file {name:?} is larger than the maximum file size {MAX_FILE}"
            )));
        }
        if found.len() > self.left || self.files.len() >= MAX_FILES {
            return Err(Error::Invalid(format!(
                "chart is larger than the maximum size {MAX_CHART}"
            )));
        }
        let data = fs::read(path).map_err(Error::io(format!("error reading {name}")))?;
        self.left = self.left.saturating_sub(data.len() as u64);
        let data = without_mark(data);
        self.files.push(File { name, data });
        Ok(())
    }
}
