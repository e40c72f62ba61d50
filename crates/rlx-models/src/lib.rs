//! Model families as HIR builders, tokenizers and generation.
