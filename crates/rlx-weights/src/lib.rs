//! Weight files and the weight registry of RLX.
