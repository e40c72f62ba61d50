//! The RLX prelude: what a user depends on.
