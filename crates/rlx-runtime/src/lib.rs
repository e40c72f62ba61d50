//! Sessions, compile cache and state handles of RLX.
