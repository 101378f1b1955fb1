//! Containers: pods beside the programs of Debian that do a part of the same, all in one run.
//!
//! - [`peers`]: bare runc, containerd driven by `ctr`, skopeo and umoci.
//! - [`pods`]: pods through the API.
//! - [`memory`]: what processes and the machine have in use.
//!
//! Everything runs in the cluster's sandbox, and of every kind one after the other, so that what disturbs one
//! disturbs all. Where something measures nothing on this machine, its row says why.

mod memory;
mod peers;
mod pods;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use e2e::{Cluster, Image, Registry};

use crate::row;
use peers::{Containerd, Runc};
use pods::Pods;

/// Starts that are measured of each kind, after some that warm up.
const STARTS: usize = 40;
const WARM: usize = 3;
/// Pods of the crowd.
const CROWD: usize = 100;
/// Images that are fetched by each kind, and how big they are as they are sent.
const FETCHES: u64 = 3;
const FETCHED_BYTES: usize = 200_000_000;

/// What of ours is measured.
const POD: &str = "wk: a pod, created to Running";

/// What measures nothing here, and why.
type Failed = String;
type Measured<T> = Result<T, Failed>;

/// Makes a cluster and a registry with images, and measures within their network.
pub(crate) fn bench() {
    let cluster = Cluster::start();
    let registry = Registry::start(&cluster.sandbox);
    let busybox = Image::busybox();
    let mut arguments = vec![
        "oci-within".to_owned(),
        cluster.kubeconfig().display().to_string(),
        cluster.data_dir().display().to_string(),
        busybox.directory().display().to_string(),
        registry.push("busybox", &busybox),
    ];
    for seed in 0..FETCHES {
        let image = Image::generated(seed, FETCHED_BYTES);
        arguments.push(registry.push(&format!("big-{seed}"), &image));
    }
    let own = std::env::current_exe().expect("this program is a file");
    let status = cluster.sandbox.command(own).args(&arguments).status();
    assert!(status.expect("nsenter (util-linux) runs").success());
}

/// Measures, in the network where the API and the registry are.
pub(crate) fn within(arguments: &[&str]) {
    let [kubeconfig, data, layout, busybox, big @ ..] = arguments else {
        panic!("it is run by the benchmark, not by hand");
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let peers = Peers {
        runc: Runc::prepare(&dir.path().join("runc"), layout.as_ref()),
        containerd: Containerd::launch(&dir.path().join("containerd"), busybox),
    };
    let pods = Pods::connect(kubeconfig.as_ref());
    let runs = starts(&pods, &peers, busybox);
    crowd(&pods, &peers, busybox, data, runs);
    fetches(&pods, &peers, big, dir.path());
}

struct Peers {
    runc: Measured<Runc>,
    containerd: Measured<Containerd>,
}

/// Durations by who took them; the first failure of one is its end.
#[derive(Default)]
struct Table(BTreeMap<&'static str, Measured<Vec<Duration>>>);

impl Table {
    fn measure(&mut self, who: &'static str, one: impl FnOnce() -> Measured<Duration>) {
        let times = self.0.entry(who).or_insert_with(|| Ok(Vec::new()));
        if let Ok(taken) = times {
            match one() {
                Ok(time) => taken.push(time),
                Err(failed) => *times = Err(failed),
            }
        }
    }

    fn forget(&mut self) {
        for times in self.0.values_mut().flatten() {
            times.clear();
        }
    }

    /// A share of the times of each, from the fastest: 50 is the median.
    fn rows(&mut self, what: &str, share: usize, goal: &str) {
        for (who, times) in &mut self.0 {
            let value = match times {
                Ok(times) => {
                    times.sort_unstable();
                    let at = (times.len() * share / 100).min(times.len() - 1);
                    let millis = times[at].as_secs_f64() * 1000.0;
                    format!("{millis:.1} ms")
                }
                Err(failed) => failed.clone(),
            };
            let goal = if who.starts_with("wk") { goal } else { "" };
            row(&format!("{what}, {who}"), &value, goal);
        }
    }
}

/// One container after another of an image that is there, until it runs; answers whether pods do at all.
fn starts(pods: &Pods, peers: &Peers, image: &str) -> Measured<()> {
    let mut table = Table::default();
    for number in 0..WARM + STARTS {
        if number == WARM {
            table.forget();
        }
        table.measure(POD, || pods.start(&format!("start-{number}"), image));
        table.measure("bare runc run, overlay mounted", || {
            peers.runc.as_ref().map_err(Clone::clone)?.start(number)
        });
        table.measure("containerd, ctr run", || {
            let containerd = peers.containerd.as_ref().map_err(Clone::clone)?;
            let took = containerd.start(&format!("start-{number}"))?;
            containerd.remove(&format!("start-{number}"))?;
            Ok(took)
        });
    }
    table.rows("busybox p50", 50, "goal <= 1.5x bare runc, < ctr");
    table.rows("busybox p99", 99, "reported");
    table.0.remove(POD).map_or(Ok(()), |times| times.map(drop))
}

/// Many at once; not if one does not run.
fn crowd(pods: &Pods, peers: &Peers, image: &str, data: &str, runs: Measured<()>) {
    let report = |who: &str, used: Measured<(Duration, u64, Vec<u64>)>| match used {
        Ok((took, memory, shims)) => {
            row(
                &format!("{CROWD} containers, {who}, all Ready"),
                &format!("{:.1} s", took.as_secs_f64()),
                "reported",
            );
            row(
                "  memory each, of the machine's",
                &format!("{:.1} MB", memory as f64 / 1e6 / CROWD as f64),
                "reported",
            );
            let (count, most) = (shims.len(), shims.iter().max().copied().unwrap_or_default());
            let mean = shims.iter().sum::<u64>() as f64 / count.max(1) as f64;
            row(
                &format!("  private memory of {count} shims, mean and most"),
                &format!("{:.2}, {:.2} MB", mean / 1e6, most as f64 / 1e6),
                if who == "wk" { "goal <= 2 MB" } else { "" },
            );
        }
        Err(failed) => row(&format!("{CROWD} containers, {who}"), &failed, ""),
    };
    let used = runs.and_then(|()| {
        let before = memory::available();
        let took = pods.crowd(CROWD, image)?;
        let memory = before.saturating_sub(memory::available());
        let shims = memory::private("wk-shim", data);
        pods.remove_crowd()?;
        Ok((took, memory, shims))
    });
    report("wk", used);
    let used = peers.containerd.as_ref().map_err(Clone::clone);
    let used = used.and_then(|containerd| {
        let before = memory::available();
        let took = containerd.crowd(CROWD)?;
        let memory = before.saturating_sub(memory::available());
        let shims = memory::private("containerd-shim-runc-v2", &containerd.socket());
        containerd.remove_crowd(CROWD)?;
        Ok((took, memory, shims))
    });
    report("ctr run, 4 at a time", used);
}

/// Images that are not there, until they are unpacked.
fn fetches(pods: &Pods, peers: &Peers, images: &[&str], dir: &Path) {
    let mut table = Table::default();
    for (number, image) in images.iter().enumerate() {
        // What is still to be written is nobody's.
        table.measure(POD, || {
            nix::unistd::sync();
            pods.start(&format!("fetch-{number}"), image)
        });
        table.measure("skopeo copy + umoci unpack", || {
            nix::unistd::sync();
            let to: PathBuf = dir.join(format!("fetched-{number}"));
            let took = peers::skopeo_and_umoci(image, &to);
            let _ = std::fs::remove_dir_all(&to);
            took
        });
        table.measure("containerd, ctr images pull", || {
            nix::unistd::sync();
            peers.containerd.as_ref().map_err(Clone::clone)?.pull(image)
        });
    }
    let megabytes = FETCHED_BYTES / 1_000_000;
    table.rows(
        &format!("image of {megabytes} MB p50"),
        50,
        "goal < skopeo + umoci",
    );
}

/// How long something takes that may fail.
fn timed(work: impl FnOnce() -> Measured<()>) -> Measured<Duration> {
    let begun = Instant::now();
    work().map(|()| begun.elapsed())
}
