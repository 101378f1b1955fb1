//! What Helm itself does, we do: asked live, about many texts.
//!
//! - [`oracle`]: real Helm. [`hunt`]: asks it about many texts, and shrinks those on which we differ.
//! - [`documents`]: values as YAML, JSON and TOML. [`readers`]: YAML, and the arguments of `--set`.
//! - [`templates`]: templates of [`grammar`]'s making, and mutations of the probes.
//! - [`corpus`]: public charts, where there are any.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests that say what they compared"
)]

mod corpus;
mod documents;
mod grammar;
mod hunt;
mod oracle;
mod readers;
mod templates;

use std::cell::RefCell;

use charts::{Environment, Limits};
use rand::{SeedableRng as _, rngs::StdRng};

fn environment() -> Environment {
    Environment {
        now: jiff::Timestamp::UNIX_EPOCH,
        random: RefCell::new(StdRng::seed_from_u64(1)),
        lookup: None,
        dns: false,
        limits: Limits::default(),
    }
}
