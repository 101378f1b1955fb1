//! Runs WebAssembly components in this process, each pod as if it had a machine of its own.
//!
//! - [`WasmRuntime`]: the [`runtimes::Runtime`] that the nodelet calls.
//! - `engine`: the wasmtime engines, with and without a pool of instances. `clock`: their epochs.
//! - `code`: compiled components, shared by the pods that run them; the code cache.
//! - `adapt`: text and preview-1 modules made into components.
//! - `go`: what modules of Go's compiler need to be made into components. `exit_code`: what modules that exit need.
//! - `module`: a core module's sections.
//! - `guest`: what one instance holds: its WASI state, its limits.
//! - `program`: a `wasi:cli/run` component as a process. `server`: a `wasi:http/incoming-handler` one as a server.
//! - `instances`: those that answer a server's requests. `serve`: requests that come without a socket.
//! - `mounts`, `filesystem`: what a container sees of the host's files.
//! - `sockets`, `datagrams`, `outgoing`: a pod's own addresses, names and Services under the component's sockets and requests.
//! - `pod`: those addresses, names and Services. `namespace`: where the sockets of a pod with containers are made.
//! - `egress`: where a pod says that it connects to. `traffic`: how much it sends there. `gate`, `bounds`: who may reach whom, and by how many sockets.
//! - `config`, `logging`: the environment as configuration, messages as lines of stderr.
//! - `output`: stdout and stderr into the container's log. `audience`: those attached to them.
//! - `tools`, `tree`: the `tar` that `kubectl cp` asks for, over a container's mounts.
//! - `process`: exec and attach. `pipe`, `terminal`: their streams.
//! - `meter`: CPU time used and allowed. `executor`: the threads that all of this runs on. `priority`: theirs.
//! - `trap`, `imports`: what is wrong with a component, in words. `notices`: what its pod's Events tell.
//!
//! Reads module files and its code cache; writes the code cache and containers' logs; opens what is
//! mounted. Never opens a socket outside the pods' network, and never runs code that it has not compiled
//! itself.

mod adapt;
mod audience;
mod bounds;
mod clock;
mod code;
mod config;
mod container;
mod datagrams;
mod egress;
mod engine;
mod executor;
mod exit_code;
mod filesystem;
mod gate;
mod go;
mod guest;
mod imports;
mod instances;
mod logging;
mod measure;
mod meter;
mod module;
mod mounts;
mod namespace;
mod notices;
mod outgoing;
mod output;
mod pipe;
mod pod;
mod priority;
mod process;
mod program;
mod runtime;
mod serve;
mod server;
mod sockets;
mod terminal;
mod tools;
mod traffic;
mod trap;
mod tree;

pub use runtime::{Config, WasmRuntime};
