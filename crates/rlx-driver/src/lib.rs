//! Devices, arenas, typed host I/O and the backend traits of RLX.
#![forbid(unsafe_code)]
