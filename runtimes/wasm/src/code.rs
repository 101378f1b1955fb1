//! Compiled components: made once for each digest, kept in the code cache, shared by all who run them.
//!
//! `<cache>/<digest>-<engine>.cwasm` is native code. It is written here alone, in a directory that only
//! this user can enter, and appears by a rename; one that does not load is made again.
//! Code is mapped, not read, and unmapped when the last container that runs it is removed.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use runtimes::{Image, ImageKind, RuntimeError};
use wasmtime::{
    Engine,
    component::{Component, Linker},
};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::{adapt, guest::Guest, sockets};

/// A component that is ready to be instantiated.
pub(crate) enum Code {
    /// Exports `wasi:cli/run`.
    Program(CommandPre<Guest>),
    /// Exports `wasi:http/incoming-handler`, and perhaps `wasi:cli/run` for exec.
    Server(ProxyPre<Guest>, Option<CommandPre<Guest>>),
}

/// All code of the node.
pub(crate) struct CodeCache {
    dir: PathBuf,
    engine: Engine,
    engine_hash: u64,
    linker: Linker<Guest>,
    /// By digest. The lock of each is held while it is compiled or loaded, so that it is done once.
    loaded: Mutex<HashMap<String, Arc<Slot>>>,
}

type Slot = tokio::sync::Mutex<Weak<Code>>;

impl CodeCache {
    /// Opens the cache, made if it is not there.
    pub(crate) fn open(dir: PathBuf, engine: Engine) -> wasmtime::Result<CodeCache> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&dir)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let linker = sockets::linker(&engine)?;
        Ok(CodeCache {
            dir,
            engine_hash: hasher.finish(),
            engine,
            linker,
            loaded: Mutex::default(),
        })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The image's code: as others run it, from the cache, or compiled now.
    pub(crate) async fn get(self: &Arc<Self>, image: &Image) -> Result<Arc<Code>, RuntimeError> {
        if image.kind != ImageKind::Wasm {
            let text = format!("image {} is no WebAssembly component", image.reference);
            return Err(RuntimeError::Invalid(text));
        }
        let slot = self.slot(&image.digest);
        let mut code = slot.lock().await;
        if let Some(code) = code.upgrade() {
            return Ok(code);
        }
        let (cache, image) = (self.clone(), image.clone());
        let made = tokio::task::spawn_blocking(move || cache.load_or_compile(&image)).await;
        let made = made.map_err(|source| RuntimeError::Unavailable {
            message: "compiling was interrupted".to_owned(),
            source: Some(source.into()),
        })??;
        let made = Arc::new(made);
        *code = Arc::downgrade(&made);
        Ok(made)
    }

    fn slot(&self, digest: &str) -> Arc<Slot> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody has the slot of code that is gone, unless it is being made.
        loaded.retain(|_, slot| {
            Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|code| code.strong_count() > 0)
        });
        loaded.entry(digest.to_owned()).or_default().clone()
    }

    fn load_or_compile(&self, image: &Image) -> Result<Code, RuntimeError> {
        let hex = image.digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.is_empty() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let text = format!("image digest {:?} is not a sha256", image.digest);
            return Err(RuntimeError::Invalid(text));
        }
        let path = self
            .dir
            .join(format!("{hex}-{:016x}.cwasm", self.engine_hash));
        let component = match self.load(&path) {
            Some(component) => component,
            None => {
                self.compile(image, &path)?;
                self.load(&path).ok_or_else(|| RuntimeError::Unavailable {
                    message: format!("code just compiled to {} does not load", path.display()),
                    source: None,
                })?
            }
        };
        self.link(image, &component)
    }

    #[expect(unsafe_code, reason = "native code is mapped from the cache")]
    fn load(&self, path: &Path) -> Option<Component> {
        if !path.exists() {
            return None;
        }
        // SAFETY: the file was written by `compile` of this engine: its name holds the engine's hash,
        // it appeared by a rename and is never changed, and the directory is this user's alone (0700).
        let loaded = unsafe { Component::deserialize_file(&self.engine, path) };
        loaded
            .inspect_err(
                |error| tracing::warn!(%error, path = %path.display(), "cached code unusable"),
            )
            .ok()
    }

    fn compile(&self, image: &Image, path: &Path) -> Result<(), RuntimeError> {
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
        let code = self.engine.precompile_component(&component);
        let code = code.map_err(|error| invalid(&error))?;
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
    fn link(&self, image: &Image, component: &Component) -> Result<Code, RuntimeError> {
        let ty = component.component_type();
        let exports: Vec<&str> = ty.exports(&self.engine).map(|(name, _)| name).collect();
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
        let pre = self.linker.instantiate_pre(component).map_err(invalid)?;
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
