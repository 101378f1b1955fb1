//! Fakes of the three contracts, in memory, for tests of whatever stands above them.
//!
//! - [`FakeRuntime`]: containers that do what a [`Script`] says; passes the conformance suite.
//! - [`FakeNetwork`]: addresses of a /16, names and Services set by the test.
//! - [`FakeImages`]: images that exist because the test says so.
//!
//! Never touches a socket; the only files written are containers' logs.

mod images;
mod network;
mod process;
mod runtime;

pub use images::FakeImages;
pub use network::FakeNetwork;
pub use runtime::{Call, FakeRuntime, Script};
