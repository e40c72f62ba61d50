//! Real and complex numbers under one trait.

use crate::number::Number;
use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A number of a field with conjugates: `f64` or [`Complex`].
pub trait Field:
    Copy
    + Default
    + PartialEq
    + Debug
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// A real number.
    fn of(real: f64) -> Self;
    /// From an element: the real part, where there is room for no other.
    fn from_number(number: Number) -> Self;
    /// As an element.
    fn number(self) -> Number;
    /// The real part.
    fn re(self) -> f64;
    /// The complex conjugate.
    fn conj(self) -> Self;
    /// The absolute value.
    fn magnitude(self) -> f64;
    /// Its square.
    fn square(self) -> f64;
    /// The number divided by its absolute value; 0 for 0.
    fn phase(self) -> Self {
        let magnitude = self.magnitude();
        if magnitude == 0.0 { Self::of(0.0) } else { self * Self::of(1.0 / magnitude) }
    }
}

impl Field for f64 {
    fn of(real: f64) -> f64 {
        real
    }
    fn from_number(number: Number) -> f64 {
        match number {
            Number::Complex(re, _) => re,
            other => other.as_f64().unwrap_or(f64::NAN),
        }
    }
    fn number(self) -> Number {
        Number::Float(self)
    }
    fn re(self) -> f64 {
        self
    }
    fn conj(self) -> f64 {
        self
    }
    fn magnitude(self) -> f64 {
        self.abs()
    }
    fn square(self) -> f64 {
        self * self
    }
    fn phase(self) -> f64 {
        if self == 0.0 || self.is_nan() { self } else { self.signum() }
    }
}

/// A complex number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Complex {
    /// Real part.
    pub re: f64,
    /// Imaginary part.
    pub im: f64,
}

impl Add for Complex {
    type Output = Complex;
    fn add(self, other: Complex) -> Complex {
        Complex { re: self.re + other.re, im: self.im + other.im }
    }
}

impl Sub for Complex {
    type Output = Complex;
    fn sub(self, other: Complex) -> Complex {
        Complex { re: self.re - other.re, im: self.im - other.im }
    }
}

impl Mul for Complex {
    type Output = Complex;
    fn mul(self, other: Complex) -> Complex {
        Complex { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }
}

impl Div for Complex {
    type Output = Complex;
    fn div(self, other: Complex) -> Complex {
        // Scaled, so that squares neither overflow nor vanish.
        let scale = other.re.abs().max(other.im.abs());
        let (re, im) = (other.re / scale, other.im / scale);
        let norm = (re * re + im * im) * scale;
        Complex { re: (self.re * re + self.im * im) / norm, im: (self.im * re - self.re * im) / norm }
    }
}

impl Neg for Complex {
    type Output = Complex;
    fn neg(self) -> Complex {
        Complex { re: -self.re, im: -self.im }
    }
}

impl Field for Complex {
    fn of(re: f64) -> Complex {
        Complex { re, im: 0.0 }
    }
    fn from_number(number: Number) -> Complex {
        match number {
            Number::Complex(re, im) => Complex { re, im },
            other => Complex::of(f64::from_number(other)),
        }
    }
    fn number(self) -> Number {
        Number::Complex(self.re, self.im)
    }
    fn re(self) -> f64 {
        self.re
    }
    fn conj(self) -> Complex {
        Complex { im: -self.im, ..self }
    }
    fn magnitude(self) -> f64 {
        self.re.hypot(self.im)
    }
    fn square(self) -> f64 {
        self.re * self.re + self.im * self.im
    }
}
