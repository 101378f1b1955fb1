//! A runtime that keeps its containers in memory.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io::Write,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::process;
use crate::{
    ContainerId, ContainerSpec, ContainerState, ContainerStatus, Exit, Image, Process, Runtime,
    RuntimeError, Stats, Stdio,
    log::{Stream, Tag, write_entry},
};

/// What containers of one image do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Script {
    /// Lines written when it starts.
    pub output: Vec<(Stream, String)>,
    /// Ends by itself, at once, with this code; `None` runs until stopped or [`FakeRuntime::exit`].
    pub exit: Option<i32>,
    /// Does not end when asked to: it takes the whole grace period and is killed.
    pub ignores_stop: bool,
    /// `create` refuses the image with this message.
    pub invalid: Option<String>,
    /// `create` refuses the image with this message, as one that does not fit the spec.
    pub misfit: Option<String>,
    /// It holds no state.
    pub stateless: bool,
}

impl Script {
    /// Runs until it is stopped.
    pub fn runs() -> Self {
        Script::default()
    }

    /// Runs until it is stopped, and holds no state.
    pub fn serves() -> Self {
        Script {
            stateless: true,
            ..Script::default()
        }
    }

    /// Ends by itself at once.
    pub fn exits(code: i32) -> Self {
        Script {
            exit: Some(code),
            ..Script::default()
        }
    }

    /// Cannot be created.
    pub fn invalid(message: &str) -> Self {
        Script {
            invalid: Some(message.to_owned()),
            ..Script::default()
        }
    }

    /// Writes a line to stdout first.
    pub fn prints(mut self, line: &str) -> Self {
        self.output.push((Stream::Stdout, line.to_owned()));
        self
    }

    /// Writes a line to stderr first.
    pub fn complains(mut self, line: &str) -> Self {
        self.output.push((Stream::Stderr, line.to_owned()));
        self
    }
}

/// A call that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    Prepare,
    Create,
    Start,
    Stop,
    Remove,
    List,
    Exec,
}

/// Containers in memory; those of an image without a script run until they are stopped.
pub struct FakeRuntime {
    name: &'static str,
    state: Mutex<State>,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        FakeRuntime::new()
    }
}

#[derive(Default)]
struct State {
    scripts: HashMap<String, Script>,
    failures: HashMap<Call, VecDeque<String>>,
    containers: BTreeMap<ContainerId, Container>,
    calls: Vec<String>,
}

struct Container {
    spec: ContainerSpec,
    script: Script,
    state: watch::Sender<ContainerState>,
}

impl FakeRuntime {
    /// Runs components; there are none.
    pub fn new() -> Self {
        FakeRuntime {
            name: "wasm",
            state: Mutex::default(),
        }
    }

    /// Runs containers of ordinary images; there are none.
    pub fn oci() -> Self {
        FakeRuntime {
            name: "oci",
            ..FakeRuntime::new()
        }
    }

    /// Says what containers of the image with this reference do, from the next `create` on.
    pub fn script(&self, reference: &str, script: Script) {
        self.state().scripts.insert(reference.to_owned(), script);
    }

    /// Makes the next such call fail as `Unavailable`. Several add up.
    pub fn fail_next(&self, call: Call, message: &str) {
        self.state()
            .failures
            .entry(call)
            .or_default()
            .push_back(message.to_owned());
    }

    /// Ends a running container as if by itself; false if it does not run.
    pub fn exit(&self, id: &ContainerId, code: i32) -> bool {
        let state = self.state();
        state
            .containers
            .get(id)
            .is_some_and(|container| container.end(code, ""))
    }

    /// The calls made so far, oldest first: `create <id>`, `start <id>`, `stop <id>`, `remove <id>`,
    /// `prepare <reference>`, `exec <id> <command>`.
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// What a container was made from.
    pub fn spec(&self, id: &ContainerId) -> Option<ContainerSpec> {
        let state = self.state();
        state
            .containers
            .get(id)
            .map(|container| container.spec.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, id: &ContainerId) -> Result<watch::Receiver<ContainerState>, RuntimeError> {
        let state = self.state();
        let container = state.containers.get(id);
        Ok(container
            .ok_or_else(|| RuntimeError::NotFound(id.clone()))?
            .state
            .subscribe())
    }
}

impl State {
    fn called(&mut self, call: Call, line: String) -> Result<(), RuntimeError> {
        self.calls.push(line);
        match self.failures.get_mut(&call).and_then(VecDeque::pop_front) {
            None => Ok(()),
            Some(message) => Err(RuntimeError::Unavailable {
                message,
                source: None,
            }),
        }
    }

    fn get(&self, id: &ContainerId) -> Result<&Container, RuntimeError> {
        self.containers
            .get(id)
            .ok_or_else(|| RuntimeError::NotFound(id.clone()))
    }
}

impl Container {
    fn status(&self) -> ContainerStatus {
        ContainerStatus {
            id: self.spec.id.clone(),
            pod: self.spec.pod.clone(),
            name: self.spec.name.clone(),
            state: self.state.borrow().clone(),
        }
    }

    fn end(&self, code: i32, message: &str) -> bool {
        self.state.send_if_modified(|state| {
            let ContainerState::Running { started_at } = *state else {
                return false;
            };
            *state = ContainerState::Exited(Exit {
                code,
                reason: if code == 0 { "Completed" } else { "Error" },
                message: message.to_owned(),
                started_at,
                finished_at: SystemTime::now(),
            });
            true
        })
    }

    fn write_log(&self) -> std::io::Result<()> {
        let mut text = Vec::new();
        for (stream, line) in &self.script.output {
            let now = SystemTime::now();
            write_entry(&mut text, now, *stream, Tag::Full, line.as_bytes());
        }
        std::fs::File::options()
            .append(true)
            .create(true)
            .open(&self.spec.log)?
            .write_all(&text)
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> String {
        "fake://1".to_owned()
    }

    async fn prepare(&self, image: &Image) -> Result<(), RuntimeError> {
        let line = format!("prepare {}", image.reference);
        self.state().called(Call::Prepare, line)
    }

    async fn stateless(&self, image: &Image) -> bool {
        let state = self.state();
        let script = state.scripts.get(&image.reference);
        script.is_some_and(|script| script.stateless)
    }

    async fn create(&self, spec: ContainerSpec) -> Result<(), RuntimeError> {
        let mut state = self.state();
        state.called(Call::Create, format!("create {}", spec.id))?;
        if state.containers.contains_key(&spec.id) {
            return Ok(());
        }
        let script = state.scripts.get(&spec.image.reference).cloned();
        let script = script.unwrap_or_default();
        if let Some(message) = script.invalid {
            return Err(RuntimeError::Invalid(message));
        }
        if let Some(message) = script.misfit {
            return Err(RuntimeError::Config(message));
        }
        let container = Container {
            spec,
            script,
            state: watch::Sender::new(ContainerState::Created),
        };
        state
            .containers
            .insert(container.spec.id.clone(), container);
        Ok(())
    }

    async fn start(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let mut state = self.state();
        state.called(Call::Start, format!("start {id}"))?;
        let container = state.get(id)?;
        if *container.state.borrow() != ContainerState::Created {
            return Ok(());
        }
        container
            .write_log()
            .map_err(|source| RuntimeError::Unavailable {
                message: format!("write log of container {id}"),
                source: Some(source.into()),
            })?;
        container.state.send_replace(ContainerState::Running {
            started_at: SystemTime::now(),
        });
        if let Some(code) = container.script.exit {
            container.end(code, "");
        }
        Ok(())
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), RuntimeError> {
        let wait = {
            let mut state = self.state();
            state.called(Call::Stop, format!("stop {id}"))?;
            let container = state.get(id)?;
            container.state.send_if_modified(|state| {
                let created = *state == ContainerState::Created;
                if created {
                    let now = SystemTime::now();
                    *state = ContainerState::Exited(Exit {
                        code: 137,
                        reason: "Error",
                        message: "stopped before it was started".to_owned(),
                        started_at: now,
                        finished_at: now,
                    });
                }
                created
            });
            if container.script.ignores_stop {
                grace
            } else {
                container.end(143, "");
                Duration::ZERO
            }
        };
        let mut changes = self.watch(id)?;
        let exited = changes.wait_for(|state| matches!(state, ContainerState::Exited(_)));
        if tokio::time::timeout(wait, exited).await.is_err()
            && let Ok(container) = self.state().get(id)
        {
            container.end(137, "killed after its grace period");
        }
        Ok(())
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let mut state = self.state();
        state.called(Call::Remove, format!("remove {id}"))?;
        if let Ok(container) = state.get(id)
            && matches!(*container.state.borrow(), ContainerState::Running { .. })
        {
            return Err(RuntimeError::Invalid(format!(
                "container {id} is running: stop it before removing it"
            )));
        }
        state.containers.remove(id);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<ContainerStatus>, RuntimeError> {
        let mut state = self.state();
        state.called(Call::List, "list".to_owned())?;
        Ok(state.containers.values().map(Container::status).collect())
    }

    async fn status(&self, id: &ContainerId) -> Result<ContainerStatus, RuntimeError> {
        Ok(self.state().get(id)?.status())
    }

    async fn wait(&self, id: &ContainerId) -> Result<Exit, RuntimeError> {
        let mut changes = self.watch(id)?;
        let exited = changes.wait_for(|state| matches!(state, ContainerState::Exited(_)));
        match exited.await.as_deref() {
            Ok(ContainerState::Exited(exit)) => Ok(exit.clone()),
            _ => Err(RuntimeError::NotFound(id.clone())),
        }
    }

    async fn exec(
        &self,
        id: &ContainerId,
        command: Vec<String>,
        stdio: Stdio,
    ) -> Result<Process, RuntimeError> {
        let mut state = self.state();
        state.called(Call::Exec, format!("exec {id} {}", command.join(" ")))?;
        let running = matches!(
            *state.get(id)?.state.borrow(),
            ContainerState::Running { .. }
        );
        if !running {
            return Err(RuntimeError::Invalid(format!(
                "container {id} is not running"
            )));
        }
        Ok(process::exec(command, stdio))
    }

    async fn attach(&self, id: &ContainerId, stdio: Stdio) -> Result<Process, RuntimeError> {
        let mut changes = self.watch(id)?;
        let id = id.clone();
        Ok(process::attach(stdio, async move {
            let exited = changes.wait_for(|state| matches!(state, ContainerState::Exited(_)));
            match exited.await.as_deref() {
                Ok(ContainerState::Exited(exit)) => Ok(exit.code),
                _ => Err(RuntimeError::NotFound(id)),
            }
        }))
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats, RuntimeError> {
        self.state().get(id)?;
        Ok(Stats {
            cpu: Duration::from_millis(1),
            memory_bytes: 65_536,
        })
    }
}
