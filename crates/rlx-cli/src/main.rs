//! The `rlx` program.
#![forbid(unsafe_code)]

fn main() {}
