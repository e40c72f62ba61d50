//! The RLX kernel IR: one structured form for every GPU kernel, and the tools around it.
//!
//! A [`ir::Kernel`] is made with a [`builder::Builder`], checked by [`verify::verify`], run on the CPU by the
//! checked [`interp`]reter, made printable for a language by [`rewrite::legalise`], and spelled by [`mod@print`].
//! The meaning of a kernel is the interpreter's; a rewrite keeps it, a printer only spells it.
#![forbid(unsafe_code)]

pub mod builder;
pub mod error;
pub mod interp;
pub mod ir;
pub mod lower;
mod num;
pub mod print;
pub mod rewrite;
pub mod text;
pub mod verify;

pub use builder::Builder;
pub use error::KernelError;
pub use ir::{Kernel, Scalar};
