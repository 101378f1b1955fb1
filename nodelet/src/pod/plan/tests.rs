//! Lives of pods, in the language of [`script`](crate::pod::script).

mod change;
mod end;
mod ephemeral;
mod hooks;
mod init;
mod probes;
mod restart;
mod restored;
mod start;
