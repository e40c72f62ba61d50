//! The shared RLX GPU executor over kernel IR.
