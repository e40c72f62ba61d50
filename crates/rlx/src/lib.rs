//! The RLX prelude: what a user depends on.
#![forbid(unsafe_code)]
