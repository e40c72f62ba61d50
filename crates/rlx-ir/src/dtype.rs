//! Element types: one table from which names, sizes and classes derive.
//!
//! Sub-byte integers and block-quantised formats are *storage-only*: they keep
//! their logical shape, no view may cut a byte or a block, and only the
//! quantisation ops read them. Low nibble first.

use std::fmt;

/// What arithmetic a dtype takes part in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DTypeClass {
    /// IEEE-like floating point.
    Float,
    /// Two's complement integer.
    Signed,
    /// Unsigned integer.
    Unsigned,
    /// `bool`, one byte, 0 or 1.
    Bool,
    /// Pair of floats, real part first.
    Complex,
    /// Block-quantised storage.
    Block,
}

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $class:ident $bits:literal / $elements:literal),* $(,)?) => {
        /// Element type of a tensor.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum DType { $($(#[$doc])* $variant),* }
        impl DType {
            /// Every dtype, in declaration order.
            pub const ALL: &'static [DType] = &[$(DType::$variant),*];
            /// Name in the text form.
            pub const fn name(self) -> &'static str { match self { $(DType::$variant => $name),* } }
            /// Arithmetic class.
            pub const fn class(self) -> DTypeClass { match self { $(DType::$variant => DTypeClass::$class),* } }
            /// Bits of one storage block.
            pub const fn block_bits(self) -> usize { match self { $(DType::$variant => $bits),* } }
            /// Elements in one storage block (1 but for block-quantised formats).
            pub const fn block_elements(self) -> usize { match self { $(DType::$variant => $elements),* } }
            /// The dtype called `name`.
            pub fn parse(name: &str) -> Option<DType> { match name { $($name => Some(DType::$variant),)* _ => None } }
        }
    };
}

dtypes! {
    /// IEEE binary64.
    F64 "f64" Float 64/1,
    /// IEEE binary32.
    F32 "f32" Float 32/1,
    /// IEEE binary16.
    F16 "f16" Float 16/1,
    /// The upper half of an `f32`.
    BF16 "bf16" Float 16/1,
    /// 8-bit float, 4 exponent bits, no infinity.
    F8E4M3 "f8e4m3" Float 8/1,
    /// 8-bit float, 5 exponent bits.
    F8E5M2 "f8e5m2" Float 8/1,
    /// `f8e4m3` with one zero and one NaN, bias 8.
    F8E4M3Fnuz "f8e4m3fnuz" Float 8/1,
    /// `f8e5m2` with one zero and one NaN, bias 16.
    F8E5M2Fnuz "f8e5m2fnuz" Float 8/1,
    /// Power-of-two scale, exponent only.
    F8E8M0 "f8e8m0" Float 8/1,
    /// 4-bit float.
    F4E2M1 "f4e2m1" Float 4/1,
    /// 64-bit signed integer.
    I64 "i64" Signed 64/1,
    /// 32-bit signed integer.
    I32 "i32" Signed 32/1,
    /// 16-bit signed integer.
    I16 "i16" Signed 16/1,
    /// 8-bit signed integer.
    I8 "i8" Signed 8/1,
    /// 4-bit signed integer.
    I4 "i4" Signed 4/1,
    /// 2-bit signed integer.
    I2 "i2" Signed 2/1,
    /// 64-bit unsigned integer.
    U64 "u64" Unsigned 64/1,
    /// 32-bit unsigned integer.
    U32 "u32" Unsigned 32/1,
    /// 16-bit unsigned integer.
    U16 "u16" Unsigned 16/1,
    /// 8-bit unsigned integer.
    U8 "u8" Unsigned 8/1,
    /// 4-bit unsigned integer.
    U4 "u4" Unsigned 4/1,
    /// 2-bit unsigned integer.
    U2 "u2" Unsigned 2/1,
    /// Truth value, one byte.
    Bool "bool" Bool 8/1,
    /// Two `f32`.
    C64 "c64" Complex 64/1,
    /// Two `f64`.
    C128 "c128" Complex 128/1,
    /// GGUF `Q4_0`: 32 elements, 18 bytes.
    Q4_0 "q4_0" Block 144/32,
    /// GGUF `Q4_1`: 32 elements, 20 bytes.
    Q4_1 "q4_1" Block 160/32,
    /// GGUF `Q5_0`: 32 elements, 22 bytes.
    Q5_0 "q5_0" Block 176/32,
    /// GGUF `Q5_1`: 32 elements, 24 bytes.
    Q5_1 "q5_1" Block 192/32,
    /// GGUF `Q8_0`: 32 elements, 34 bytes.
    Q8_0 "q8_0" Block 272/32,
    /// GGUF `Q2_K`: 256 elements, 84 bytes.
    Q2K "q2_k" Block 672/256,
    /// GGUF `Q3_K`: 256 elements, 110 bytes.
    Q3K "q3_k" Block 880/256,
    /// GGUF `Q4_K`: 256 elements, 144 bytes.
    Q4K "q4_k" Block 1152/256,
    /// GGUF `Q5_K`: 256 elements, 176 bytes.
    Q5K "q5_k" Block 1408/256,
    /// GGUF `Q6_K`: 256 elements, 210 bytes.
    Q6K "q6_k" Block 1680/256,
    /// GGUF `Q8_K`: 256 elements, 292 bytes.
    Q8K "q8_k" Block 2336/256,
    /// GGUF `IQ4_NL`: 32 elements, 18 bytes.
    Iq4Nl "iq4_nl" Block 144/32,
    /// GGUF `IQ4_XS`: 256 elements, 136 bytes.
    Iq4Xs "iq4_xs" Block 1088/256,
    /// GGUF `MXFP4`: 32 elements, 17 bytes.
    Mxfp4 "mxfp4" Block 136/32,
    /// GGUF `NVFP4`: 64 elements, 36 bytes.
    Nvfp4 "nvfp4" Block 288/64,
}

impl DType {
    /// Any floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self.class(), DTypeClass::Float)
    }

    /// Any integer type, signed or not (not `bool`).
    pub const fn is_int(self) -> bool {
        matches!(self.class(), DTypeClass::Signed | DTypeClass::Unsigned)
    }

    /// Any signed integer type.
    pub const fn is_signed_int(self) -> bool {
        matches!(self.class(), DTypeClass::Signed)
    }

    /// `c64` or `c128`.
    pub const fn is_complex(self) -> bool {
        matches!(self.class(), DTypeClass::Complex)
    }

    /// The dtype of the parts of a complex dtype; any other is its own.
    pub const fn real(self) -> DType {
        match self {
            DType::C64 => DType::F32,
            DType::C128 => DType::F64,
            other => other,
        }
    }

    /// The complex dtype with parts of this one: of `f32` and `f64`.
    pub const fn complex(self) -> Option<DType> {
        match self {
            DType::F32 => Some(DType::C64),
            DType::F64 => Some(DType::C128),
            _ => None,
        }
    }

    /// Has no element addressable on its own: sub-byte or block-quantised.
    pub const fn is_storage_only(self) -> bool {
        self.block_bits() < 8 || self.block_elements() > 1
    }

    /// Elements and bytes of the smallest part of a tensor that stands alone: a block, a byte or an element.
    pub const fn storage_unit(self) -> (usize, usize) {
        match self.block_bits() {
            bits if bits < 8 => (8 / bits, 1),
            bits => (self.block_elements(), bits / 8),
        }
    }

    /// Bytes of one element; `None` for storage-only types.
    pub const fn size_of(self) -> Option<usize> {
        if self.is_storage_only() { None } else { Some(self.block_bits() / 8) }
    }

    /// Bytes that `elements` contiguous elements take, rounded up to a whole
    /// byte or block; `None` on overflow.
    pub fn byte_size(self, elements: usize) -> Option<usize> {
        if self.block_elements() > 1 {
            elements.div_ceil(self.block_elements()).checked_mul(self.block_bits() / 8)
        } else {
            elements.checked_mul(self.block_bits()).map(|bits| bits.div_ceil(8))
        }
    }

    /// The integer range `(min, max)`; `bool` is `(0, 1)`; `None` for the rest.
    pub fn int_range(self) -> Option<(i128, i128)> {
        let bits = self.block_bits() as u32;
        match self.class() {
            DTypeClass::Signed => Some((-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)),
            DTypeClass::Unsigned => Some((0, (1i128 << bits) - 1)),
            DTypeClass::Bool => Some((0, 1)),
            _ => None,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for &dtype in DType::ALL {
            assert_eq!(DType::parse(dtype.name()), Some(dtype));
        }
        assert_eq!(DType::parse("float"), None);
    }

    #[test]
    fn byte_sizes_round_up_to_bytes_and_blocks() {
        assert_eq!(DType::I4.byte_size(3), Some(2));
        assert_eq!(DType::U2.byte_size(5), Some(2));
        assert_eq!(DType::Q4_0.byte_size(33), Some(36));
        assert_eq!(DType::F64.byte_size(usize::MAX), None);
    }
}
