//! Compiled components: made once for each digest, kept in the code cache, shared by all who run them.
//!
//! `<cache>/<digest>-<engine>.cwasm` is native code; `<engine>` stands for wasmtime's version, its settings
//! and the CPU's features. It is written here alone, in a directory that only this user can enter, and
//! appears by a rename; one that does not load is made again. Code is mapped, not read, and unmapped
//! when the last container that runs it is removed. Compiling waits for its turn: it takes every core.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use runtimes::{Image, ImageKind, RuntimeError};
use tokio::sync::Semaphore;
use wasmtime::{
    Engine,
    component::{Component, Linker},
};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::{adapt, engine::Engines, guest::Guest, imports, priority, sockets};

/// Components that are compiled at once: each takes every core.
const COMPILERS: usize = 1;

/// How far a compiler's thread stands back behind others.
const NICE: i32 = 10;

/// A component that is ready to be instantiated.
pub(crate) enum Code {
    /// Exports `wasi:cli/run`.
    Program(CommandPre<Guest>),
    /// Exports `wasi:http/incoming-handler`, and perhaps `wasi:cli/run` for exec.
    Server(ProxyPre<Guest>, Option<CommandPre<Guest>>),
}

impl Code {
    /// The engine that its instances live in.
    pub(crate) fn engine(&self) -> &Engine {
        match self {
            Code::Program(program) => program.engine(),
            Code::Server(server, _) => server.engine(),
        }
    }
}

/// All code of the node.
pub(crate) struct CodeCache {
    dir: PathBuf,
    pool: Home,
    on_demand: Home,
    /// Held while a component is compiled or loaded, so that it is done once.
    loaded: Mutex<HashMap<Key, Arc<Slot>>>,
    compilers: Arc<Semaphore>,
}

/// Where instances live, and what is linked to them there.
struct Home {
    engine: Engine,
    linker: Linker<Guest>,
    /// Stands for everything that compiled code depends on.
    hash: u64,
}

/// A digest, and whether its instances are to have more memory than the pool has for each.
type Key = (String, bool);
type Slot = tokio::sync::Mutex<Weak<Code>>;

impl Home {
    fn new(engine: Engine) -> wasmtime::Result<Home> {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        adapt::VERSION.hash(&mut hasher);
        Ok(Home {
            linker: sockets::linker(&engine)?,
            hash: hasher.finish(),
            engine,
        })
    }
}

impl CodeCache {
    /// Opens the cache, made if it is not there. Code of other versions or CPUs is removed.
    pub(crate) fn open(dir: PathBuf, engines: Engines) -> wasmtime::Result<CodeCache> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&dir)?;
        let cache = CodeCache {
            dir,
            pool: Home::new(engines.pool)?,
            on_demand: Home::new(engines.on_demand)?,
            loaded: Mutex::default(),
            compilers: Arc::new(Semaphore::new(COMPILERS)),
        };
        cache.remove_files(|_, current| !current)?;
        Ok(cache)
    }

    /// The image's code: as others run it, from the cache, or compiled now. `roomy`: its instances may
    /// need more memory than the pool has for each.
    pub(crate) async fn get(
        self: &Arc<Self>,
        image: &Image,
        roomy: bool,
    ) -> Result<Arc<Code>, RuntimeError> {
        if image.kind != ImageKind::Wasm {
            let text = format!("image {} is no WebAssembly component", image.reference);
            return Err(RuntimeError::Invalid(text));
        }
        // What is begun goes on without whoever waits for it: the next finds it done.
        let mut code = self.slot(&image.digest, roomy).lock_owned().await;
        if let Some(code) = code.upgrade() {
            return Ok(code);
        }
        let (cache, image) = (self.clone(), image.clone());
        let handle = tokio::runtime::Handle::current();
        let made = tokio::task::spawn_blocking(move || {
            let made = Arc::new(cache.load_or_compile(&image, roomy, &handle)?);
            *code = Arc::downgrade(&made);
            Ok(made)
        });
        made.await.map_err(|source| RuntimeError::Unavailable {
            message: "compiling was interrupted".to_owned(),
            source: Some(source.into()),
        })?
    }

    /// Removes code of images that are not among these and that nobody runs; the bytes that it took.
    pub(crate) fn keep_only(&self, images: &[Image]) -> std::io::Result<u64> {
        let kept = images
            .iter()
            .filter_map(|image| image.digest.strip_prefix("sha256:"));
        let mut kept: HashSet<String> = kept.map(str::to_owned).collect();
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let used = loaded
            .iter()
            .filter(|(_, slot)| slot.try_lock().map_or(true, |code| code.strong_count() > 0));
        kept.extend(used.map(|((digest, _), _)| digest.trim_start_matches("sha256:").to_owned()));
        self.remove_files(|digest, _| !kept.contains(digest))
    }

    /// Removes files by their digest and whether they are for one of these engines; the bytes freed.
    fn remove_files(&self, unwanted: impl Fn(&str, bool) -> bool) -> std::io::Result<u64> {
        let mut freed = 0;
        for file in std::fs::read_dir(&self.dir)? {
            let file = file?;
            let name = file.file_name();
            let parts = name
                .to_str()
                .and_then(|name| name.strip_suffix(".cwasm")?.split_once('-'));
            let hash = |text| u64::from_str_radix(text, 16).ok();
            let unwanted = parts.is_none_or(|(digest, engine)| {
                let current = hash(engine)
                    .is_some_and(|hash| [self.pool.hash, self.on_demand.hash].contains(&hash));
                unwanted(digest, current)
            });
            if unwanted && file.file_type()?.is_file() {
                freed += file.metadata()?.len();
                std::fs::remove_file(file.path())?;
            }
        }
        Ok(freed)
    }

    fn slot(&self, digest: &str, roomy: bool) -> Arc<Slot> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody has the slot of code that is gone, unless it is being made.
        loaded.retain(|_, slot| {
            Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|code| code.strong_count() > 0)
        });
        loaded
            .entry((digest.to_owned(), roomy))
            .or_default()
            .clone()
    }

    fn load_or_compile(
        &self,
        image: &Image,
        roomy: bool,
        handle: &tokio::runtime::Handle,
    ) -> Result<Code, RuntimeError> {
        let hex = image.digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.is_empty() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let text = format!("image digest {:?} is not a sha256", image.digest);
            return Err(RuntimeError::Invalid(text));
        }
        // What the pool has no room for lives outside of it.
        let homes = [&self.pool, &self.on_demand];
        let homes = &homes[usize::from(roomy)..];
        if let Some(code) = self.load_any(image, hex, homes)? {
            return Ok(code);
        }
        let mut failure = None;
        for home in homes {
            let turn = handle.block_on(self.compilers.clone().acquire_owned());
            let path = self.path(hex, home);
            self.compile(image, &home.engine, &path)?;
            drop(turn);
            match Self::load(&home.engine, &path) {
                Ok(component) => return Self::link(image, home, &component),
                Err(error) => failure = Some(error),
            }
            // It may be for both.
            if let Some(code) = self.load_any(image, hex, homes)? {
                return Ok(code);
            }
        }
        let why = failure
            .map(|error| format!(": {error:#}"))
            .unwrap_or_default();
        Err(RuntimeError::Invalid(format!(
            "image {} cannot be run{why}",
            image.reference
        )))
    }

    fn path(&self, hex: &str, home: &Home) -> PathBuf {
        self.dir.join(format!("{hex}-{:016x}.cwasm", home.hash))
    }

    /// Loads what the cache has, for the first home that has room for it.
    fn load_any(
        &self,
        image: &Image,
        hex: &str,
        homes: &[&Home],
    ) -> Result<Option<Code>, RuntimeError> {
        for home in homes {
            let path = self.path(hex, home);
            if !path.exists() {
                continue;
            }
            match Self::load(&home.engine, &path) {
                Ok(component) => return Self::link(image, home, &component).map(Some),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::debug!(error, path = %path.display(), "cached code unusable here");
                }
            }
        }
        Ok(None)
    }

    #[expect(unsafe_code, reason = "native code is mapped from the cache")]
    fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
        // SAFETY: the file was written by `compile` of this engine: its name holds the engine's hash,
        // it appeared by a rename and is never changed, and the directory is this user's alone (0700).
        unsafe { Component::deserialize_file(engine, path) }
    }

    fn compile(&self, image: &Image, engine: &Engine, path: &Path) -> Result<(), RuntimeError> {
        let invalid = |why: &dyn std::fmt::Display| {
            RuntimeError::Invalid(format!(
                "image {} cannot be compiled: {why:#}",
                image.reference
            ))
        };
        let unavailable = |message: String, source: std::io::Error| RuntimeError::Unavailable {
            message,
            source: Some(source.into()),
        };
        let bytes = std::fs::read(&image.path)
            .map_err(|error| unavailable(format!("read {}", image.path.display()), error))?;
        let component = adapt::to_component(&bytes).map_err(|why| invalid(&why))?;
        let code = compile_aside(engine, &component).map_err(|error| invalid(&error))?;
        let write = || {
            use std::io::Write as _;
            let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
            file.write_all(&code)?;
            file.persist(path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|error| unavailable(format!("write {}", path.display()), error))
    }

    /// Decides what the component is and gives it what it imports.
    fn link(image: &Image, home: &Home, component: &Component) -> Result<Code, RuntimeError> {
        let ty = component.component_type();
        let exports: Vec<&str> = ty.exports(&home.engine).map(|(name, _)| name).collect();
        let has = |name: &str| exports.iter().any(|export| export.starts_with(name));
        let server = has("wasi:http/incoming-handler@0.2.");
        if !server && !has("wasi:cli/run@0.2.") {
            let exports = match exports.as_slice() {
                [] => "nothing".to_owned(),
                exports => exports.join(", "),
            };
            return Err(RuntimeError::Invalid(format!(
                "image {} exports {exports}; a component must export wasi:http/incoming-handler@0.2.x \
                 (a server) or wasi:cli/run@0.2.x (a program)",
                image.reference
            )));
        }
        let invalid = |error: wasmtime::Error| {
            RuntimeError::Invalid(format!(
                "image {} cannot be linked: {error:#}",
                image.reference
            ))
        };
        let missing = imports::missing(&home.engine, component);
        if !missing.is_empty() {
            return Err(RuntimeError::Invalid(format!(
                "image {} imports what this node does not offer: {}",
                image.reference,
                missing.join("; ")
            )));
        }
        let pre = home.linker.instantiate_pre(component).map_err(invalid)?;
        if server {
            let program = has("wasi:cli/run@0.2.").then(|| CommandPre::new(pre.clone()));
            let program = program.transpose().map_err(invalid)?;
            let server = ProxyPre::new(pre).map_err(invalid)?;
            Ok(Code::Server(server, program))
        } else {
            CommandPre::new(pre).map(Code::Program).map_err(invalid)
        }
    }
}

/// Compiles on a thread of its own that stands back behind others, and whose helpers do.
fn compile_aside(engine: &Engine, component: &[u8]) -> wasmtime::Result<Vec<u8>> {
    std::thread::scope(|scope| {
        let compile = || {
            priority::lower(NICE);
            engine.precompile_component(component)
        };
        let thread = std::thread::Builder::new().name("wasm-compiler".to_owned());
        let thread = thread.spawn_scoped(scope, compile)?;
        thread
            .join()
            .unwrap_or_else(|_| Err(wasmtime::format_err!("the compiler panicked")))
    })
}
