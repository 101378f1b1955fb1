//! JavaScript: the project's own `npm run build`, which is to make `function.wasm`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{MADE, tool::Tool};

const INSTALL: &str =
    "install Node.js 20 or newer from https://nodejs.org, or run\n  apt-get install nodejs npm";

pub(super) async fn build(directory: &Path) -> Result<PathBuf> {
    let npm = Tool::new("npm", INSTALL);
    if !directory.join("node_modules").is_dir() {
        let arguments = ["install", "--no-audit", "--no-fund"];
        npm.run(directory, &arguments, &[]).await?;
    }
    npm.run(directory, &["run", "--silent", "build"], &[])
        .await?;
    Ok(directory.join(MADE))
}
