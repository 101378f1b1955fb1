//! The [`Runtime`] over components: containers by id, and the calls that move them through their life.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use runtimes::{
    ContainerId, ContainerSpec, ContainerState, ContainerStatus, Exit, Image, Notice, PodNetwork,
    Process, Protocol, Runtime, RuntimeError, Stats, Stdio,
};
use tokio::sync::{OnceCell, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    audience::Audience,
    clock::Clock,
    code::{Code, CodeCache},
    container::{Container, End},
    engine::{self, Engines},
    executor::Executor,
    go,
    guest::MemoryUse,
    instances,
    meter::Meter,
    mounts::Mounts,
    notices::{self, Notices},
    output::Log,
    pipe::pipe,
    pod::Pod,
    process, program, server,
    tools::{self, Tool},
};

/// wasmtime's version, which has no constant for it.
const VERSION: &str = "48.0.8";

/// How long a container may take to be gone once it is killed: one poll of a guest.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// What the runtime works with.
pub struct Config {
    /// Where compiled code is kept; made, for this user alone, if it is not there.
    pub code_cache: PathBuf,
    /// Where pods' sockets live.
    pub network: Arc<dyn PodNetwork>,
}

/// Runs WebAssembly components in this process. Dropping it ends them.
pub struct WasmRuntime {
    code: Arc<CodeCache>,
    clock: Arc<Clock>,
    pub(crate) executor: Executor,
    network: Arc<dyn PodNetwork>,
    host: tokio::runtime::Handle,
    containers: Mutex<BTreeMap<ContainerId, Arc<Container>>>,
    notices: mpsc::Sender<Notice>,
    /// Until somebody asks for it.
    noticed: Mutex<Option<mpsc::Receiver<Notice>>>,
}

impl WasmRuntime {
    /// Makes the engine, its cache and its threads. Called in a tokio runtime whose threads are in the
    /// host's network: names outside the cluster are resolved there.
    ///
    /// # Errors
    /// The engine's address space, the cache's directory or the pods' network cannot be had.
    pub fn new(config: Config) -> Result<WasmRuntime, RuntimeError> {
        let unavailable = |message: &str, source: Box<dyn std::error::Error + Send + Sync>| {
            RuntimeError::Unavailable {
                message: message.to_owned(),
                source: Some(source),
            }
        };
        let host = tokio::runtime::Handle::try_current()
            .map_err(|error| unavailable("no tokio runtime to resolve names in", error.into()))?;
        let engines = Engines::new()
            .map_err(|error| unavailable("make the WebAssembly engines", error.into()))?;
        let clock = Clock::start(vec![engines.pool.weak(), engines.on_demand.weak()])
            .map_err(|error| unavailable("start the epoch clock", error.into()))?;
        let code = CodeCache::open(config.code_cache, engines)
            .map_err(|error| unavailable("open the code cache", error.into()))?;
        let executor = Executor::new(&config.network)
            .map_err(|error| unavailable("enter the pod network", error.into()))?;
        let (notices, noticed) = mpsc::channel(notices::QUEUE);
        Ok(WasmRuntime {
            code: Arc::new(code),
            clock,
            executor,
            network: config.network,
            host,
            containers: Mutex::default(),
            notices,
            noticed: Mutex::new(Some(noticed)),
        })
    }

    fn containers(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<Container>>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &ContainerId) -> Result<Arc<Container>, RuntimeError> {
        let containers = self.containers();
        let container = containers.get(id);
        container
            .cloned()
            .ok_or_else(|| RuntimeError::NotFound(id.clone()))
    }

    fn running(&self, id: &ContainerId) -> Result<Arc<Container>, RuntimeError> {
        let container = self.get(id)?;
        if !container.is_running() {
            let text = format!("container {} is not running", container.spec.name);
            return Err(RuntimeError::Invalid(text));
        }
        Ok(container)
    }

    pub(crate) fn check_sound(&self) -> Result<(), RuntimeError> {
        if self.executor.is_sound() {
            return Ok(());
        }
        Err(RuntimeError::Unavailable {
            message: "a thread could not enter the pod network: restart this node's process"
                .to_owned(),
            source: None,
        })
    }

    /// A container that has not been started. `limits_each`: its limits are each instance's.
    pub(crate) async fn make(
        &self,
        spec: ContainerSpec,
        code: Arc<Code>,
        limits_each: bool,
    ) -> Result<Container, RuntimeError> {
        let (spec, mounts, uncounted) = look(spec).await?;
        let stdin = spec.stdin && matches!(*code, Code::Program(_));
        Ok(Container {
            code,
            pod: Arc::new(Pod::new(&spec, self.network.clone(), self.host.clone())?),
            mounts: Arc::new(mounts),
            uncounted,
            log: Arc::new(Log::new(spec.log.clone())),
            meter: Arc::new(Meter::new(spec.limits.cpu_millis, self.clock.clone())),
            limits_each,
            memory: Arc::new(MemoryUse::default()),
            sockets: Arc::default(),
            // A container whose instances have limits of their own is no pod's.
            notices: Notices::new((!limits_each).then(|| self.notices.clone())),
            audience: Arc::new(Audience::new(spec.tty)),
            stdin: stdin.then(|| pipe(spec.tty)),
            interrupt: CancellationToken::new(),
            state: watch::Sender::new(ContainerState::Created),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            task: OnceCell::new(),
            spec: Arc::new(spec),
        })
    }

    /// The image's code, wherever instances with that much memory live.
    pub(crate) async fn code(
        &self,
        image: &Image,
        memory_limit: Option<u64>,
    ) -> Result<Arc<Code>, RuntimeError> {
        let roomy = memory_limit.is_some_and(|limit| limit > engine::MAX_MEMORY);
        self.code.get(image, roomy).await
    }

    /// Opens what the container serves on and starts the task that runs it.
    async fn launch(
        &self,
        container: &Arc<Container>,
    ) -> Result<AbortOnDropHandle<()>, RuntimeError> {
        let engine = container.code.engine().clone();
        let running = container.clone();
        match &*container.code {
            Code::Program(component) => {
                container.set_running();
                Ok(self
                    .executor
                    .spawn(program::run(running, engine, component.clone())))
            }
            Code::Server(component, _) => {
                let mut listeners = Vec::new();
                for port in serving_ports(&container.spec)? {
                    let pod = container.pod.clone();
                    let address = pod.serving_address(port);
                    let listener = self.executor.spawn(async move { pod.listen(address) });
                    let listener = listener.await;
                    let listener =
                        listener.unwrap_or_else(|error| Err(std::io::Error::other(error)));
                    listeners.push(listener.map_err(|source| RuntimeError::Unavailable {
                        message: format!("listen on {address}"),
                        source: Some(source.into()),
                    })?);
                }
                container.set_running();
                let task = server::run(running, engine, component.clone(), listeners);
                Ok(self.executor.spawn(task))
            }
        }
    }
}

/// A server serves at each of its TCP ports.
fn serving_ports(spec: &ContainerSpec) -> Result<BTreeSet<u16>, RuntimeError> {
    let ports = spec.ports.iter();
    let ports = ports.filter(|port| port.protocol == Protocol::Tcp);
    let ports: BTreeSet<u16> = ports.map(|port| port.number).collect();
    if ports.is_empty() {
        return Err(RuntimeError::Invalid(format!(
            "container {} is an HTTP server (it exports wasi:http/incoming-handler) and declares no TCP \
             port: say which to serve on in ports[].containerPort",
            spec.name
        )));
    }
    Ok(ports)
}

/// Looks at the files that a container is made of, which may be on slow file systems: the sources of its
/// mounts, and how much memory of its module is not counted.
async fn look(spec: ContainerSpec) -> Result<(ContainerSpec, Mounts, u64), RuntimeError> {
    let look = move || {
        let uncounted = go::uncounted(&spec.image.path);
        (Mounts::plan(&spec), spec, uncounted)
    };
    let looked = tokio::task::spawn_blocking(look).await;
    let (mounts, spec, uncounted) = looked.map_err(|source| RuntimeError::Unavailable {
        message: "looking at mounts was interrupted".to_owned(),
        source: Some(source.into()),
    })?;
    Ok((spec, mounts?, uncounted))
}

/// Waits until a container has exited.
async fn exited(mut state: watch::Receiver<ContainerState>) -> Option<Exit> {
    let exited = state.wait_for(|state| matches!(state, ContainerState::Exited(_)));
    match exited.await.as_deref() {
        Ok(ContainerState::Exited(exit)) => Some(exit.clone()),
        _ => None,
    }
}

#[async_trait]
impl Runtime for WasmRuntime {
    fn name(&self) -> &'static str {
        "wasm"
    }

    fn version(&self) -> String {
        format!("wasmtime://{VERSION}")
    }

    async fn prepare(&self, image: &Image) -> Result<(), RuntimeError> {
        self.code.get(image, false).await.map(drop)
    }

    async fn stateless(&self, image: &Image) -> bool {
        let code = self.code.get(image, false).await;
        matches!(code.as_deref(), Ok(Code::Server(..)))
    }

    async fn create(&self, spec: ContainerSpec) -> Result<(), RuntimeError> {
        if self.containers().contains_key(&spec.id) {
            return Ok(());
        }
        let code = self.code(&spec.image, spec.limits.memory_bytes).await?;
        if matches!(*code, Code::Server(..)) {
            serving_ports(&spec)?;
            instances::pooled(&spec)?;
        }
        let container = self.make(spec, code, false).await?;
        let id = container.spec.id.clone();
        self.containers()
            .entry(id)
            .or_insert_with(|| Arc::new(container));
        Ok(())
    }

    async fn start(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let container = self.get(id)?;
        if !container.is_created() {
            return Ok(());
        }
        self.check_sound()?;
        let task = container.task.get_or_try_init(|| self.launch(&container));
        task.await.map(drop)
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), RuntimeError> {
        let container = self.get(id)?;
        container.stop.cancel();
        if container.is_created() {
            container.set_exited(End::killed("stopped before it was started"));
        }
        let gone = |patience| tokio::time::timeout(patience, exited(container.state.subscribe()));
        if gone(grace).await.is_ok() {
            return Ok(());
        }
        container.kill.cancel();
        if gone(KILL_DEADLINE).await.is_ok() {
            return Ok(());
        }
        Err(RuntimeError::Unavailable {
            message: format!("container {id} was killed and is not gone after {KILL_DEADLINE:?}"),
            source: None,
        })
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let mut containers = self.containers();
        if containers
            .get(id)
            .is_some_and(|container| container.is_running())
        {
            return Err(RuntimeError::Invalid(format!(
                "container {id} is running: stop it before removing it"
            )));
        }
        containers.remove(id);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<ContainerStatus>, RuntimeError> {
        let containers = self.containers();
        Ok(containers
            .values()
            .map(|container| container.status())
            .collect())
    }

    async fn status(&self, id: &ContainerId) -> Result<ContainerStatus, RuntimeError> {
        Ok(self.get(id)?.status())
    }

    async fn wait(&self, id: &ContainerId) -> Result<Exit, RuntimeError> {
        let state = self.get(id)?.state.subscribe();
        let exit = exited(state).await;
        exit.ok_or_else(|| RuntimeError::NotFound(id.clone()))
    }

    async fn exec(
        &self,
        id: &ContainerId,
        command: Vec<String>,
        stdio: Stdio,
    ) -> Result<Process, RuntimeError> {
        let container = self.running(id)?;
        self.check_sound()?;
        let Some(name) = command.first() else {
            let text = "there is no command to run".to_owned();
            return Err(RuntimeError::Invalid(text));
        };
        if let Some(tool) = Tool::parse(&command) {
            let (mounts, dir) = (container.mounts.clone(), container.spec.working_dir.clone());
            let run = |streams| tools::run(tool, mounts, dir, streams);
            return Ok(process::start(&self.executor, &container, stdio, run));
        }
        let (Code::Program(program) | Code::Server(_, Some(program))) = &*container.code else {
            return Err(RuntimeError::Invalid(format!(
                "cannot run {name:?} in container {}: its component exports wasi:http/incoming-handler \
                 alone, and exec runs a second instance by wasi:cli/run (tar and test -d need none)",
                container.spec.name
            )));
        };
        let (engine, program) = (container.code.engine().clone(), program.clone());
        let run = |streams| program::exec(container.clone(), engine, program, command, streams);
        Ok(process::start(&self.executor, &container, stdio, run))
    }

    async fn attach(&self, id: &ContainerId, stdio: Stdio) -> Result<Process, RuntimeError> {
        Ok(process::attach(&self.running(id)?, stdio))
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats, RuntimeError> {
        let container = self.get(id)?;
        Ok(Stats {
            cpu: container.meter.used(),
            memory_bytes: container.memory.bytes(),
        })
    }

    fn notices(&self) -> Option<mpsc::Receiver<Notice>> {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        noticed.take()
    }

    async fn keep_only(&self, images: &[Image]) -> Result<u64, RuntimeError> {
        let (code, images) = (self.code.clone(), images.to_vec());
        let removed = tokio::task::spawn_blocking(move || code.keep_only(&images)).await;
        let removed = removed.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        removed.map_err(|source| RuntimeError::Unavailable {
            message: "remove compiled code".to_owned(),
            source: Some(source.into()),
        })
    }
}
