//! Model families as HIR builders, tokenizers and generation.
#![forbid(unsafe_code)]
