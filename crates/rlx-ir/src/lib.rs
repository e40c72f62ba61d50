//! Types, ops, graphs, text form, verifier and reference interpreter of RLX.
