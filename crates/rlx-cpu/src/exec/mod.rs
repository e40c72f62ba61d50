//! The executor: LIR on the CPU kernels.

/// Evaluates an expression with a name for the element type of a dtype: one of the listed floats, an integer, or
/// `bool` as a byte.
macro_rules! with_element {
    (F32) => { f32 };
    (F64) => { f64 };
    (F16) => { half::f16 };
    (BF16) => { half::bf16 };
    ($dtype:expr, [$($float:ident)*], $t:ident => $body:expr) => {
        with_element!(@ $dtype, $t => $body, $($float: with_element!($float),)*
            I8: i8, I16: i16, I32: i32, I64: i64, U16: u16, U32: u32, U64: u64)
    };
    (@ $dtype:expr, $t:ident => $body:expr, $($name:ident: $ty:ty),*) => {
        match $dtype {
            $(DType::$name => { type $t = $ty; $body })*
            _ => { type $t = u8; $body }
        }
    };
}

mod attention;
mod backend;
mod bind;
mod capabilities;
mod complex;
#[allow(unsafe_code)]
mod conv;
mod copy;
mod custom;
#[allow(unsafe_code)]
mod executable;
mod fft;
mod fold;
mod grouped;
mod index;
mod lines;
#[allow(unsafe_code)]
mod matmul;
mod matrices;
#[allow(unsafe_code)]
mod memory;
mod pool;
#[allow(unsafe_code)]
mod region;
mod rope;
mod rows;
mod select;
mod steps;
mod storage;
mod tape;
mod times;
mod view;
mod work;

pub use backend::CpuBackend;
