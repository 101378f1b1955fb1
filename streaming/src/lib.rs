//! Exec, attach and port-forward on the wire: the server's end of the protocols that kubectl and Kubernetes' client
//! libraries speak once a connection is upgraded.
//!
//! Reading order:
//! - [`negotiate`](fn@negotiate): which protocol a request asks for, and the answer to it.
//! - [`spdy`]: SPDY/3.1 frames and connections.
//! - `websocket`: channels, and SPDY in messages, over WebSocket.
//! - `link`: what both come to: streams of bytes with bounded queues, and an end by silence.
//! - [`remote_command`]: a process behind the streams of exec and attach.
//! - [`port_forward`]: connections behind pairs of streams.
//!
//! Knows neither pods nor who may do what: the caller has found the container and asked. Every queue is bounded, so
//! a client that does not read stops the process that writes; a process that does not read stops the client.

mod link;
mod negotiate;
pub mod port_forward;
pub mod remote_command;
pub mod spdy;
mod status;
mod websocket;

pub use link::SessionError;
pub use negotiate::{Negotiated, Purpose, Refused, negotiate};
pub use port_forward::PortForward;
pub use remote_command::{RemoteCommand, Verb};
