//! Test support for RLX: filetests, backend suite, tolerances.
