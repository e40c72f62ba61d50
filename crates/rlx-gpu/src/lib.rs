//! The shared RLX GPU executor over kernel IR.
#![forbid(unsafe_code)]
