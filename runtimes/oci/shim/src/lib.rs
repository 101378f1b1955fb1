//! What a shim and those who talk to it share: the words of its socket ([`wire`]), how an end is told
//! ([`Exit`]), and the names of its files.
//!
//! The program itself is `main.rs`. Both sides may be of different versions: a shim lives as long as its
//! container, and the node's process may have been replaced meanwhile. Hence [`VERSION`], which a shim says first.

pub mod descriptors;
mod exit;
mod identity;
pub mod wire;

pub use exit::Exit;
pub use identity::Identity;

/// The version of what is said on the socket, and of the files.
pub const VERSION: u8 = 1;

/// In a container's directory: where those connect who attach or wait.
pub const SOCKET: &str = "shim.sock";
/// The container's first process ([`Identity`]).
pub const PID: &str = "pid";
/// How the container ended ([`Exit`]). Once it is there, the log is complete.
pub const EXIT: &str = "exit";
/// By this name the program is not a container's shim, but the first process of what a pod's containers share. They see
/// it by that name.
pub const PAUSE: &str = "/pause";
