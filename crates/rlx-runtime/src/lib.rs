//! Sessions, compile cache and state handles of RLX.
#![forbid(unsafe_code)]
