//! Programs of Debian that run containers or fetch images, each with directories of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use super::{Measured, timed};

/// containerd's namespace, after which it names control groups and leaves them.
const NAMESPACE: &str = "wk-bench";
/// How many `ctr` run at once.
const AT_ONCE: usize = 4;
const SOON: Duration = Duration::from_secs(30);

/// Runs a command to its end.
fn run(command: &mut Command) -> Measured<()> {
    let name = command.get_program().display().to_string();
    // What a container inherits stays open: a file, not a pipe, takes what is said.
    let said = tempfile::tempfile().map_err(|error| error.to_string())?;
    let copy = said.try_clone().map_err(|error| error.to_string())?;
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(copy)
        .status()
        .map_err(|error| format!("{name} does not start: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    let mut said = said;
    let _ = std::io::Seek::rewind(&mut said);
    let _ = std::io::Read::read_to_string(&mut said, &mut text);
    let last = text.lines().last().unwrap_or_default().to_owned();
    Err(format!("{name}: {last}"))
}

/// runc with nobody around it: one image unpacked, an overlay mounted for each container.
pub(super) struct Runc {
    dir: PathBuf,
    config: Value,
}

impl Runc {
    pub(super) fn prepare(dir: &Path, layout: &Path) -> Measured<Runc> {
        fs::create_dir_all(dir).map_err(|error| error.to_string())?;
        let image = format!("{}:latest", layout.display());
        let unpacked = dir.join("image");
        run(Command::new("umoci")
            .args(["unpack", "--image", &image])
            .arg(&unpacked))?;
        run(Command::new("runc").arg("spec").current_dir(dir))?;
        let text = fs::read(dir.join("config.json")).map_err(|error| error.to_string())?;
        let mut config: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        config["process"]["args"] = json!(["/bin/sleep", "1000000"]);
        config["process"]["terminal"] = json!(false);
        config["root"] = json!({"path": "root", "readonly": false});
        Ok(Runc {
            dir: dir.to_owned(),
            config,
        })
    }

    /// From nothing to a container that runs; then removes it.
    pub(super) fn start(&self, number: usize) -> Measured<Duration> {
        let id = format!("wk-bench-{}-{number}", std::process::id());
        let bundle = self.dir.join(&id);
        let command = || {
            let mut command = Command::new("runc");
            command.arg("--root").arg(self.dir.join("state"));
            command
        };
        let started = timed(|| {
            for name in ["upper", "work", "root"] {
                fs::create_dir_all(bundle.join(name)).map_err(|error| error.to_string())?;
            }
            let options = format!(
                "lowerdir={},upperdir={},workdir={}",
                self.dir.join("image/rootfs").display(),
                bundle.join("upper").display(),
                bundle.join("work").display()
            );
            mount(
                Some("overlay"),
                &bundle.join("root"),
                Some("overlay"),
                MsFlags::empty(),
                Some(options.as_str()),
            )
            .map_err(|error| format!("overlay: {error}"))?;
            fs::write(bundle.join("config.json"), self.config.to_string())
                .map_err(|error| error.to_string())?;
            run(command()
                .args(["run", "--detach", "--bundle"])
                .arg(&bundle)
                .arg(&id))
        });
        let _ = run(command().args(["delete", "--force", &id]));
        let _ = umount2(&bundle.join("root"), MntFlags::MNT_DETACH);
        started
    }
}

/// A containerd of its own with one image; ended with the value, and its containers with it.
pub(super) struct Containerd {
    dir: PathBuf,
    image: String,
    process: Child,
}

impl Containerd {
    pub(super) fn launch(dir: &Path, image: &str) -> Measured<Containerd> {
        fs::create_dir_all(dir).map_err(|error| error.to_string())?;
        let path = |name: &str| dir.join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            path("root"),
            path("state"),
            path("socket"),
            path("ttrpc")
        );
        fs::write(dir.join("config.toml"), config).map_err(|error| error.to_string())?;
        let log = fs::File::create(dir.join("log")).map_err(|error| error.to_string())?;
        let process = Command::new("containerd")
            .arg("--config")
            .arg(dir.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("containerd does not start: {error}"))?;
        let containerd = Containerd {
            dir: dir.to_owned(),
            image: image.to_owned(),
            process,
        };
        let deadline = Instant::now() + SOON;
        while let Err(failed) = containerd.ctr(&["version"]) {
            if Instant::now() > deadline {
                return Err(failed);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        containerd.pull(image)?;
        Ok(containerd)
    }

    pub(super) fn socket(&self) -> String {
        self.dir.join("socket").display().to_string()
    }

    fn ctr(&self, arguments: &[&str]) -> Measured<()> {
        run(self.command().args(arguments))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("ctr");
        command.args(["--address", &self.socket(), "--namespace", NAMESPACE]);
        command
    }

    /// Until it is unpacked.
    pub(super) fn pull(&self, image: &str) -> Measured<Duration> {
        timed(|| self.ctr(&["images", "pull", "--plain-http", image]))
    }

    fn start_one(&self, id: &str) -> Measured<()> {
        let run = ["run", "--detach", "--snapshotter", "overlayfs"];
        let sleep = ["/bin/sleep", "1000000"];
        self.ctr(&[&run[..], &[&self.image, id], &sleep].concat())
    }

    /// Until it runs.
    pub(super) fn start(&self, id: &str) -> Measured<Duration> {
        timed(|| self.start_one(id))
    }

    pub(super) fn remove(&self, id: &str) -> Measured<()> {
        self.ctr(&["task", "rm", "--force", id])?;
        self.ctr(&["container", "rm", id])
    }

    /// So many containers at once.
    pub(super) fn crowd(&self, count: usize) -> Measured<Duration> {
        timed(|| self.each(count, |id| self.start_one(id)))
    }

    pub(super) fn remove_crowd(&self, count: usize) -> Measured<()> {
        self.each(count, |id| self.remove(id))
    }

    fn each(&self, count: usize, work: impl Fn(&str) -> Measured<()> + Sync) -> Measured<()> {
        let work = &work;
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE)
                .map(|first| {
                    scope.spawn(move || {
                        (first..count)
                            .step_by(AT_ONCE)
                            .try_for_each(|number| work(&format!("crowd-{number}")))
                    })
                })
                .collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("no panic"))
        })
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let listed = self.command().args(["container", "ls", "--quiet"]).output();
        let listed = listed.map(|output| output.stdout).unwrap_or_default();
        for id in String::from_utf8_lossy(&listed).lines() {
            let _ = self.remove(id);
        }
        let pid = i32::try_from(self.process.id()).expect("a pid fits");
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGTERM,
        );
        let _ = self.process.wait();
        let trees = fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
        for tree in trees.flatten() {
            let _ = fs::remove_dir(tree.path().join(NAMESPACE));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(NAMESPACE));
    }
}

/// From the registry to files of a root directory.
pub(super) fn skopeo_and_umoci(image: &str, to: &Path) -> Measured<Duration> {
    fs::create_dir_all(to).map_err(|error| error.to_string())?;
    let layout = format!("{}:1", to.join("layout").display());
    timed(|| {
        run(Command::new("skopeo")
            .args(["copy", "--quiet", "--src-tls-verify=false"])
            .arg(format!("docker://{image}"))
            .arg(format!("oci:{layout}")))?;
        run(Command::new("umoci")
            .args(["unpack", "--image", &layout])
            .arg(to.join("unpacked")))
    })
}
