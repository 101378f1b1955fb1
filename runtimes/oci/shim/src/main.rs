//! The process that stays with a container: holds its streams, and tells how it ended.

fn main() {}
