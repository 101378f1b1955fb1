//! What a shim is told when it is started: `wk-shim watch|exec --name value …`.

use std::{env, path::PathBuf};

use runtimes_log::Rotation;

/// What this process is for.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Task {
    /// Makes a container and stays with it.
    Watch,
    /// Runs a process in one and stays with that.
    Exec,
}

/// A command line. The working directory is the container's.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) task: Task,
    pub(crate) runc: PathBuf,
    pub(crate) runc_root: PathBuf,
    pub(crate) id: String,
    pub(crate) log: PathBuf,
    pub(crate) rotation: Rotation,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
}

impl Arguments {
    /// Those of this process.
    pub(crate) fn read() -> Result<Arguments, String> {
        let mut words = env::args_os().skip(1);
        let task = match words
            .next()
            .and_then(|word| word.into_string().ok())
            .as_deref()
        {
            Some("watch") => Task::Watch,
            Some("exec") => Task::Exec,
            _ => {
                return Err(
                    "wk-shim stays with a container; wk starts it: wk-shim watch|exec …".into(),
                );
            }
        };
        let mut arguments = Arguments {
            task,
            runc: PathBuf::new(),
            runc_root: PathBuf::new(),
            id: String::new(),
            log: PathBuf::new(),
            rotation: Rotation::default(),
            tty: false,
            stdin: false,
            stdin_once: false,
        };
        while let Some(name) = words.next() {
            let name = name.to_string_lossy().into_owned();
            match name.as_str() {
                "--tty" => arguments.tty = true,
                "--stdin" => arguments.stdin = true,
                "--stdin-once" => arguments.stdin_once = true,
                _ => {
                    let value = words
                        .next()
                        .ok_or_else(|| format!("{name} needs a value"))?;
                    let text = value.to_str().ok_or_else(|| format!("{name} is not UTF-8"));
                    let wrong = |_| format!("{name} needs a number");
                    match name.as_str() {
                        "--runc" => arguments.runc = value.into(),
                        "--root" => arguments.runc_root = value.into(),
                        "--log" => arguments.log = value.into(),
                        "--id" => arguments.id = text?.to_owned(),
                        "--max-bytes" => {
                            arguments.rotation.max_bytes = text?.parse().map_err(wrong)?;
                        }
                        "--max-files" => {
                            arguments.rotation.max_files = text?.parse().map_err(wrong)?;
                        }
                        _ => return Err(format!("unknown argument {name}")),
                    }
                }
            }
        }
        Ok(arguments)
    }
}
