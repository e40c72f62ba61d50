//! What the levels of x86-64 share: macros that turn rows of intrinsics into the vector traits.
//!
//! A vector exists only if a token existed, and a token only if the processor has the
//! instructions; that is the ground of every `SAFETY` note here.

/// Methods of one instruction each: a signature, and the call.
macro_rules! instructions {
    ($($visibility:vis fn $name:ident($($parameters:tt)*) -> $result:ty = $call:expr;)*) => { $(
        #[inline(always)]
        $visibility fn $name($($parameters)*) -> $result {
            // SAFETY: the vector or token proves the instruction.
            unsafe { $call }
        }
    )* };
}

/// A level: its token, the type of each vector around a register, and how it transposes a square.
macro_rules! level {
    ($(#[$doc:meta])* $token:ident, $features:literal, $f32:ident($f32_register:ty), $i32:ident($i32_register:ty),
     $f64:ident($f64_register:ty), $mask:ident($mask_register:ty), $i64:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $token(());

        /// Lanes of f32.
        #[derive(Clone, Copy)]
        pub struct $f32($f32_register);
        /// Lanes of i32.
        #[derive(Clone, Copy)]
        pub struct $i32($i32_register);
        /// Lanes of f64.
        #[derive(Clone, Copy)]
        pub struct $f64($f64_register);
        /// What comparing lanes of f32 gives.
        #[derive(Clone, Copy)]
        pub struct $mask($mask_register);

        #[target_feature(enable = $features)]
        fn enter<K: Kernel>(token: $token, kernel: K) -> K::Output {
            kernel.run(token)
        }

        impl Simd for $token {
            const LEVEL: SimdLevel = SimdLevel::$token;
            const FUSED: bool = true;
            type F32 = $f32;
            type I32 = $i32;
            type F64 = $f64;
            type I64 = $i64;
            type Mask = $mask;

            #[inline(always)]
            unsafe fn assume() -> Self {
                $token(())
            }

            #[inline(always)]
            unsafe fn transpose(self, from: *const f32, from_row: isize, to: *mut f32, to_row: isize) {
                // SAFETY: the token proves the instructions, the caller the memory.
                unsafe { transpose_square(from, from_row, to, to_row) }
            }

            #[inline(always)]
            fn run<K: Kernel>(self, kernel: K) -> K::Output {
                // SAFETY: the token proves the instructions.
                unsafe { enter(self, kernel) }
            }
        }
    };
}

/// A vector of some element type by its intrinsics; `mul_add` and more as [`instructions`].
macro_rules! vector {
    ($token:ident, $name:ident: $lanes:literal $elem:ty,
     $splat:ident, $load:ident, $store:ident, $add:ident, { $($more:tt)* }) => {
        impl Vector<$token> for $name {
            type Elem = $elem;
            const LANES: usize = $lanes;

            instructions! {
                fn splat(_: $token, x: $elem) -> Self = $name($splat(x));
                fn plus(self, other: Self) -> Self = $name($add(self.0, other.0));
            }

            #[inline(always)]
            unsafe fn load(_: $token, from: *const $elem) -> Self {
                // SAFETY: the token proves the instructions, the caller the memory.
                $name(unsafe { $load(from.cast()) })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut $elem) {
                // SAFETY: the vector proves the instructions, the caller the memory.
                unsafe { $store(to.cast(), self.0) }
            }

            $($more)*
        }
    };
}

/// Operators of one instruction each.
macro_rules! operators {
    ($name:ident: $($trait:ident $method:ident $intrinsic:ident),*) => { $(
        impl $trait for $name {
            type Output = Self;
            instructions! { fn $method(self, other: Self) -> Self = $name($intrinsic(self.0, other.0)); }
        }
    )* };
}
