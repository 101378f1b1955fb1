//! What every runtime must pass: call [`check`] from a test with programs that the runtime can run.
//!
//! Panics at the first promise of [`Runtime`] that is not kept, naming it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use crate::{
    ContainerId, ContainerSpec, ContainerState, Exit, Image, PodAddress, PodRef, Runtime,
    RuntimeError,
};

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(20);

/// A runtime, and programs for it.
pub struct Subject {
    pub runtime: Arc<dyn Runtime>,
    /// Where containers' sockets may live.
    pub address: PodAddress,
    /// A directory for logs.
    pub dir: PathBuf,
    /// Prints the line `one` to stdout, then `two` to stderr, and exits 0.
    pub prints: Image,
    /// Exits with code 3.
    pub exits_three: Image,
    /// Runs until it is stopped.
    pub runs: Image,
    /// Runs on when it is asked to stop.
    pub ignores_stop: Image,
    /// Is no program.
    pub invalid: Image,
}

/// Checks every promise of the contract.
pub async fn check(subject: &Subject) {
    an_unknown_id_is_not_found(subject).await;
    a_container_lives_from_created_to_exited(subject).await;
    an_exit_code_is_the_programs_own(subject).await;
    output_is_kept_in_cri_format(subject).await;
    every_call_can_be_repeated(subject).await;
    list_holds_what_was_created_and_not_removed(subject).await;
    a_running_container_is_not_removed(subject).await;
    a_stop_ends_it_within_its_grace(subject).await;
    a_stop_before_the_start_ends_it(subject).await;
    a_new_id_runs_the_program_again(subject).await;
    what_is_no_program_is_invalid(subject).await;
}

async fn an_unknown_id_is_not_found(subject: &Subject) {
    let runtime = &subject.runtime;
    let id = ContainerId("nobody/main/0".into());
    let answers = [
        ("start", runtime.start(&id).await.err()),
        ("stop", runtime.stop(&id, Duration::ZERO).await.err()),
        ("status", runtime.status(&id).await.err()),
        ("wait", runtime.wait(&id).await.err()),
        ("stats", runtime.stats(&id).await.err()),
    ];
    for (call, error) in answers {
        assert!(
            matches!(error, Some(RuntimeError::NotFound(_))),
            "{call} of an unknown container must be NotFound, not {error:?}"
        );
    }
    let removed = runtime.remove(&id).await;
    assert!(
        removed.is_ok(),
        "remove of an unknown container: {removed:?}"
    );
}

async fn a_container_lives_from_created_to_exited(subject: &Subject) {
    let runtime = &subject.runtime;
    let spec = spec(subject, &subject.prints);
    let before = SystemTime::now();
    ok("prepare", runtime.prepare(&spec.image).await);
    ok("create", runtime.create(spec.clone()).await);
    let status = ok("status", runtime.status(&spec.id).await);
    assert_eq!(status.state, ContainerState::Created);
    assert_eq!(status.pod, spec.pod);
    assert_eq!(status.name, spec.name);
    ok("start", runtime.start(&spec.id).await);
    let exit = exit_of(subject, &spec.id).await;
    assert_eq!((exit.code, exit.reason), (0, "Completed"), "{exit:?}");
    assert!(before <= exit.started_at && exit.started_at <= exit.finished_at);
    let status = ok("status", runtime.status(&spec.id).await);
    assert_eq!(status.state, ContainerState::Exited(exit));
    ok("stats", runtime.stats(&spec.id).await);
    ok("remove", runtime.remove(&spec.id).await);
}

async fn an_exit_code_is_the_programs_own(subject: &Subject) {
    let id = run(subject, &subject.exits_three).await;
    let exit = exit_of(subject, &id).await;
    assert_eq!((exit.code, exit.reason), (3, "Error"), "{exit:?}");
    ok("remove", subject.runtime.remove(&id).await);
}

async fn output_is_kept_in_cri_format(subject: &Subject) {
    let spec = spec(subject, &subject.prints);
    ok("create", subject.runtime.create(spec.clone()).await);
    ok("start", subject.runtime.start(&spec.id).await);
    exit_of(subject, &spec.id).await;
    let mut entries = entries(&spec.log);
    entries.sort();
    assert_eq!(entries, ["stderr F two", "stdout F one"]);
    ok("remove", subject.runtime.remove(&spec.id).await);
    assert!(spec.log.exists(), "the log must outlive its container");
}

async fn every_call_can_be_repeated(subject: &Subject) {
    let runtime = &subject.runtime;
    let spec = spec(subject, &subject.runs);
    for _ in 0..2 {
        ok("prepare", runtime.prepare(&spec.image).await);
    }
    for _ in 0..2 {
        ok("create", runtime.create(spec.clone()).await);
    }
    ok("start", runtime.start(&spec.id).await);
    let first = ok("status", runtime.status(&spec.id).await);
    assert!(matches!(first.state, ContainerState::Running { .. }));
    ok("start again", runtime.start(&spec.id).await);
    ok("create again", runtime.create(spec.clone()).await);
    let second = ok("status", runtime.status(&spec.id).await);
    assert_eq!(first, second, "a repeated start must leave it as it is");
    ok("stop", runtime.stop(&spec.id, SOON).await);
    let exit = exit_of(subject, &spec.id).await;
    ok("stop again", runtime.stop(&spec.id, SOON).await);
    ok("start once exited", runtime.start(&spec.id).await);
    assert_eq!(
        exit,
        exit_of(subject, &spec.id).await,
        "an exit is for good"
    );
    for _ in 0..2 {
        ok("remove", runtime.remove(&spec.id).await);
    }
}

async fn list_holds_what_was_created_and_not_removed(subject: &Subject) {
    let runtime = &subject.runtime;
    let (left, right) = (spec(subject, &subject.runs), spec(subject, &subject.runs));
    ok("create", runtime.create(left.clone()).await);
    ok("create", runtime.create(right.clone()).await);
    ok("start", runtime.start(&right.id).await);
    assert_eq!(listed(subject).await, sorted([&left.id, &right.id]));
    ok("remove a created one", runtime.remove(&left.id).await);
    assert_eq!(listed(subject).await, sorted([&right.id]));
    ok("stop", runtime.stop(&right.id, SOON).await);
    assert_eq!(listed(subject).await, sorted([&right.id]));
    ok("remove", runtime.remove(&right.id).await);
    assert_eq!(listed(subject).await, sorted([]));
}

async fn a_running_container_is_not_removed(subject: &Subject) {
    let id = run(subject, &subject.runs).await;
    let removed = subject.runtime.remove(&id).await;
    assert!(
        matches!(removed, Err(RuntimeError::Invalid(_))),
        "remove of a running container must be Invalid, not {removed:?}"
    );
    ok("stop", subject.runtime.stop(&id, SOON).await);
    ok("remove", subject.runtime.remove(&id).await);
}

async fn a_stop_ends_it_within_its_grace(subject: &Subject) {
    let id = run(subject, &subject.ignores_stop).await;
    let begun = Instant::now();
    let grace = Duration::from_millis(100);
    ok("stop", subject.runtime.stop(&id, grace).await);
    assert!(
        begun.elapsed() < grace + SOON,
        "stop took {:?}",
        begun.elapsed()
    );
    let exit = exit_of(subject, &id).await;
    assert!(exit.code == 137 || exit.code == 143, "{exit:?}");
    ok("remove", subject.runtime.remove(&id).await);
}

async fn a_stop_before_the_start_ends_it(subject: &Subject) {
    let spec = spec(subject, &subject.runs);
    ok("create", subject.runtime.create(spec.clone()).await);
    ok("stop", subject.runtime.stop(&spec.id, SOON).await);
    let exit = exit_of(subject, &spec.id).await;
    assert_ne!(exit.code, 0, "{exit:?}");
    ok("remove", subject.runtime.remove(&spec.id).await);
}

async fn a_new_id_runs_the_program_again(subject: &Subject) {
    let first = run(subject, &subject.exits_three).await;
    exit_of(subject, &first).await;
    let second = run(subject, &subject.exits_three).await;
    assert_ne!(first, second);
    assert_eq!(exit_of(subject, &second).await.code, 3);
    for id in [first, second] {
        ok("remove", subject.runtime.remove(&id).await);
    }
}

async fn what_is_no_program_is_invalid(subject: &Subject) {
    let spec = spec(subject, &subject.invalid);
    let error = match subject.runtime.create(spec.clone()).await {
        Ok(()) => subject.runtime.start(&spec.id).await.err(),
        Err(error) => Some(error),
    };
    assert!(
        matches!(error, Some(RuntimeError::Invalid(_))),
        "what is no program must be Invalid, not {error:?}"
    );
    ok("remove", subject.runtime.remove(&spec.id).await);
}

/// A container of its own pod, whose id no other has.
fn spec(subject: &Subject, image: &Image) -> ContainerSpec {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let uid = format!("uid-{number}");
    let id = ContainerId(format!("{uid}/main/0").into());
    let pod = PodRef {
        namespace: "default".to_owned(),
        name: format!("pod-{number}"),
        uid,
    };
    ContainerSpec {
        env: vec![("HOSTNAME".to_owned(), pod.name.clone())],
        ..ContainerSpec::new(
            id,
            pod,
            image.clone(),
            subject.address,
            subject.dir.join(format!("{number}.log")),
        )
    }
}

async fn run(subject: &Subject, image: &Image) -> ContainerId {
    let spec = spec(subject, image);
    let id = spec.id.clone();
    ok("create", subject.runtime.create(spec).await);
    ok("start", subject.runtime.start(&id).await);
    id
}

async fn exit_of(subject: &Subject, id: &ContainerId) -> Exit {
    let exit = tokio::time::timeout(SOON, subject.runtime.wait(id)).await;
    ok(
        "wait",
        exit.unwrap_or_else(|_| panic!("{id} did not exit within {SOON:?}")),
    )
}

async fn listed(subject: &Subject) -> Vec<ContainerId> {
    let list = ok("list", subject.runtime.list().await);
    let mut ids: Vec<_> = list.into_iter().map(|status| status.id).collect();
    ids.sort();
    ids
}

fn sorted<const N: usize>(ids: [&ContainerId; N]) -> Vec<ContainerId> {
    let mut ids: Vec<_> = ids.into_iter().cloned().collect();
    ids.sort();
    ids
}

/// A log's entries without their times, each of which must be one.
fn entries(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_else(|error| panic!("read log: {error}"));
    let entry = |line: &str| {
        let (time, rest) = line
            .split_once(' ')
            .unwrap_or_else(|| panic!("no time: {line:?}"));
        assert_eq!(
            time.len(),
            "2026-01-02T03:04:05.000000006Z".len(),
            "{line:?}"
        );
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{line:?}");
        rest.to_owned()
    };
    text.lines().map(entry).collect()
}

#[track_caller]
fn ok<T>(call: &str, result: Result<T, RuntimeError>) -> T {
    result.unwrap_or_else(|error| panic!("{call}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeImages, FakeRuntime, Script};

    #[tokio::test(start_paused = true)]
    async fn the_fake_conforms() {
        let fake = FakeRuntime::new();
        fake.script("prints", Script::exits(0).prints("one").complains("two"));
        fake.script("exits-three", Script::exits(3));
        fake.script(
            "ignores-stop",
            Script {
                ignores_stop: true,
                ..Script::runs()
            },
        );
        fake.script("invalid", Script::invalid("is no program"));
        let dir = tempfile::tempdir().unwrap();
        let loopback = std::net::Ipv4Addr::LOCALHOST.into();
        check(&Subject {
            runtime: Arc::new(fake),
            address: PodAddress {
                ip: loopback,
                loopback,
            },
            dir: dir.path().to_owned(),
            prints: FakeImages::image("prints"),
            exits_three: FakeImages::image("exits-three"),
            runs: FakeImages::image("runs"),
            ignores_stop: FakeImages::image("ignores-stop"),
            invalid: FakeImages::image("invalid"),
        })
        .await;
    }
}
