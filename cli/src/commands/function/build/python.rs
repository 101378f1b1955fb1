//! Python: componentize-py, which puts the interpreter, the program and its modules into one component.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{MADE, tool::Tool};

const INSTALL: &str = "run\n  pip install componentize-py\n(in a virtual environment: python3 -m venv .venv && .venv/bin/pip install -r requirements.txt)";
/// That of a virtual environment in the project, whether it is active or not.
const OWN: &str = ".venv/bin/componentize-py";

pub(super) async fn build(directory: &Path) -> Result<PathBuf> {
    let own = directory.join(OWN);
    let tool = match own.is_file() {
        // It is started in the project's directory.
        true => Tool::new(Path::new(".").join(OWN), INSTALL),
        false => Tool::new("componentize-py", INSTALL),
    };
    let arguments = [
        "--quiet",
        "--wit-path",
        "wit",
        "--world",
        "function",
        "componentize",
        "app",
        "--output",
        MADE,
    ];
    tool.run(directory, &arguments, &[]).await?;
    Ok(directory.join(MADE))
}
