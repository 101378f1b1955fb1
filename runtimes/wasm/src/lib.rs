//! Runs WebAssembly components in this process, each pod as if it had a machine of its own.
//!
//! - [`WasmRuntime`]: the [`runtimes::Runtime`] that the nodelet calls.
//! - `engine`: the wasmtime engine, its pool of instances, and the epoch clock.
//! - `code`: compiled components, shared by the pods that run them; the code cache.
//! - `adapt`: text and preview-1 modules made into components.
//! - `guest`: what one instance holds: its WASI state, its limits.
//! - `program`: a `wasi:cli/run` component as a process. `server`: a `wasi:http/incoming-handler` one as a server.
//! - `mounts`, `filesystem`: what a container sees of the host's files.
//! - `sockets`, `outgoing`: a pod's own addresses, names and Services under the component's sockets and requests.
//! - `output`: stdout and stderr into the container's log.
//! - `meter`: CPU time used and allowed. `executor`: the threads that all of this runs on.
//!
//! Reads module files and its code cache; writes the code cache and containers' logs; opens what is
//! mounted. Never opens a
//! socket outside the pods' network, and never runs code that it has not compiled itself.

mod adapt;
mod code;
mod container;
mod engine;
mod executor;
mod filesystem;
mod guest;
mod meter;
mod mounts;
mod outgoing;
mod output;
mod pod;
mod program;
mod runtime;
mod server;
mod sockets;

pub use runtime::{Config, WasmRuntime};
