//! The project's own chores: `cargo xtask <test|deps|bench|schemathesis>`.

#![expect(clippy::print_stdout, reason = "what a chore prints is its result")]

mod bench;
mod deps;
mod schemathesis;
mod test;
mod tools;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Chores of the wk repository")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the tests need, then check format, lints and dependencies and run every test
    Test(test::Args),
    /// Check which crate may depend on which
    Deps,
    /// Build for release, measure, and print the figures
    Bench(bench::Args),
    /// Send what the OpenAPI documents allow, and what they don't, to a server, and look for failures
    Schemathesis(schemathesis::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().task {
        Task::Test(args) => test::run(&args),
        Task::Deps => deps::run(),
        Task::Bench(args) => bench::run(&args),
        Task::Schemathesis(args) => schemathesis::run(&args),
    }
}
