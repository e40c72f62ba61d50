//! Dimensions: integer expressions over named symbols, in one normal form.
//!
//! A [`Dim`] is a polynomial with integer coefficients over atoms; an atom is a
//! symbol or a floor-division, remainder, minimum or maximum of two dims. Equal
//! expressions that the normal form can see as equal compare equal; two dims
//! that differ structurally may still be equal for some bindings, and no code
//! may assume they are not. Arithmetic wraps nowhere: evaluation is checked, and
//! an expression with a coefficient beyond 64 bits, or of more than [`MAX_WEIGHT`]
//! parts, becomes one that has no value and equals no extent; no type may hold it.

mod algebra;

use std::collections::BTreeMap;
use std::fmt;
use std::ops;
use std::sync::Arc;

pub use algebra::{DimAlgebra, DimJoin};

/// Name of a symbol. Cheap to clone.
pub type Symbol = Arc<str>;

/// Most parts of an expression: terms, factors and operands of functions, nested ones included.
/// Bounds the time and the depth of everything that walks one.
pub const MAX_WEIGHT: usize = 512;

/// Can a symbol have this name? A word of ASCII letters, digits and underscores that starts with no digit
/// and has no other meaning where the text form expects a dim.
pub fn is_symbol_name(name: &str) -> bool {
    const RESERVED: [&str; 10] =
        ["inf", "nan", "none", "true", "false", "program", "floordiv", "mod", "min", "max"];
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_word && !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && !RESERVED.contains(&name)
}

/// Values of symbols.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bindings {
    values: BTreeMap<Symbol, i64>,
}

impl Bindings {
    /// No symbol bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds `symbol` (replacing an earlier value).
    pub fn set(&mut self, symbol: &str, value: i64) {
        match self.values.get_mut(symbol) {
            Some(slot) => *slot = value,
            None => {
                self.values.insert(symbol.into(), value);
            }
        }
    }

    /// Value of `symbol`.
    pub fn get(&self, symbol: &str) -> Option<i64> {
        self.values.get(symbol).copied()
    }

    /// All bindings in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&Symbol, i64)> {
        self.values.iter().map(|(name, value)| (name, *value))
    }
}

impl<'a> FromIterator<(&'a str, i64)> for Bindings {
    fn from_iter<I: IntoIterator<Item = (&'a str, i64)>>(iter: I) -> Self {
        Self { values: iter.into_iter().map(|(name, value)| (name.into(), value)).collect() }
    }
}

/// Why a dim has no value under some bindings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DimError {
    /// A symbol has no value.
    #[error("symbol {0} is not bound")]
    Unbound(Symbol),
    /// Division or remainder by zero.
    #[error("division by zero in {0}")]
    DivisionByZero(Dim),
    /// The value does not fit 64 bits.
    #[error("{0} does not fit 64 bits")]
    Overflow(Dim),
    /// An extent came out negative.
    #[error("extent {0} is negative: {1}")]
    Negative(Dim, i64),
}

/// An indivisible factor of a dim expression.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Atom {
    Symbol(Symbol),
    FloorDiv(Dim, Dim),
    Mod(Dim, Dim),
    Min(Dim, Dim),
    Max(Dim, Dim),
}

/// Lower and upper bound; `None` where there is none.
pub type Interval = (Option<i64>, Option<i64>);

/// A product of atoms, sorted, repeats allowed.
type Monomial = Vec<Atom>;

/// An integer expression over symbols.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Static(i64),
    /// Never constant; no zero coefficients and none without a negation; monomials sorted.
    Poly(Arc<Vec<(Monomial, i64)>>),
    /// What no other form can hold. Arithmetic on it gives it again.
    TooLarge,
}

impl Dim {
    /// The symbol `name`.
    pub fn symbol(name: &str) -> Dim {
        Dim::from_atom(Atom::Symbol(name.into()))
    }

    /// The constant value, if the expression is one.
    pub fn as_static(&self) -> Option<i64> {
        match self.0 {
            Repr::Static(value) => Some(value),
            Repr::Poly(_) | Repr::TooLarge => None,
        }
    }

    /// Is this the expression that has no value, since it has too many parts or a part beyond 64 bits?
    pub fn is_too_large(&self) -> bool {
        self.0 == Repr::TooLarge
    }

    /// The symbol name, if the expression is a lone symbol.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        let Repr::Poly(terms) = &self.0 else { return None };
        match terms.as_slice() {
            [(monomial, 1)] => match monomial.as_slice() {
                [Atom::Symbol(name)] => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// Is this the constant `value`?
    pub fn is(&self, value: i64) -> bool {
        self.as_static() == Some(value)
    }

    /// Floor division.
    pub fn floor_div(&self, rhs: &Dim) -> Dim {
        match (self.as_static(), rhs.as_static()) {
            (Some(a), Some(b)) if b != 0 => checked_floor_div(a, b).map_or(Dim(Repr::TooLarge), Dim::from),
            _ if self.is_too_large() || rhs.is_too_large() => Dim(Repr::TooLarge),
            (_, Some(1)) => self.clone(),
            (Some(0), _) => self.clone(),
            _ if self == rhs => Dim::from(1),
            _ => self
                .exact_quotient(rhs)
                .unwrap_or_else(|| Dim::from_atom(Atom::FloorDiv(self.clone(), rhs.clone()))),
        }
    }

    /// Division rounding up: `(self + rhs - 1) / rhs`.
    pub fn ceil_div(&self, rhs: &Dim) -> Dim {
        (self.clone() + rhs.clone() - Dim::from(1)).floor_div(rhs)
    }

    /// Remainder of [`Dim::floor_div`].
    pub fn modulo(&self, rhs: &Dim) -> Dim {
        match (self.as_static(), rhs.as_static()) {
            (Some(a), Some(b)) if b > 0 => Dim::from(a.rem_euclid(b)),
            _ if self.is_too_large() || rhs.is_too_large() => Dim(Repr::TooLarge),
            (_, Some(1)) => Dim::from(0),
            _ if self == rhs || self.exact_quotient(rhs).is_some() => Dim::from(0),
            _ => Dim::from_atom(Atom::Mod(self.clone(), rhs.clone())),
        }
    }

    /// Smaller of the two.
    pub fn minimum(&self, rhs: &Dim) -> Dim {
        match (self.clone() - rhs.clone()).as_static() {
            Some(d) => {
                if d <= 0 {
                    self.clone()
                } else {
                    rhs.clone()
                }
            }
            None if self.is_too_large() || rhs.is_too_large() => Dim(Repr::TooLarge),
            None => {
                let (a, b) = if self <= rhs { (self, rhs) } else { (rhs, self) };
                Dim::from_atom(Atom::Min(a.clone(), b.clone()))
            }
        }
    }

    /// Larger of the two.
    pub fn maximum(&self, rhs: &Dim) -> Dim {
        match (self.clone() - rhs.clone()).as_static() {
            Some(d) => {
                if d >= 0 {
                    self.clone()
                } else {
                    rhs.clone()
                }
            }
            None if self.is_too_large() || rhs.is_too_large() => Dim(Repr::TooLarge),
            None => {
                let (a, b) = if self <= rhs { (self, rhs) } else { (rhs, self) };
                Dim::from_atom(Atom::Max(a.clone(), b.clone()))
            }
        }
    }

    /// Value under `bindings`.
    ///
    /// # Errors
    /// An unbound symbol, a division by zero, or a value beyond 64 bits.
    pub fn eval(&self, bindings: &Bindings) -> Result<i64, DimError> {
        let overflow = || DimError::Overflow(self.clone());
        let terms = match &self.0 {
            Repr::Static(value) => return Ok(*value),
            Repr::Poly(terms) => terms,
            Repr::TooLarge => return Err(overflow()),
        };
        let mut sum = 0i64;
        for (monomial, coefficient) in terms.iter() {
            let mut product = *coefficient;
            for atom in monomial {
                product = product.checked_mul(atom.eval(bindings)?).ok_or_else(overflow)?;
            }
            sum = sum.checked_add(product).ok_or_else(overflow)?;
        }
        Ok(sum)
    }

    /// Value as an extent.
    ///
    /// # Errors
    /// As [`Dim::eval`], and a negative value.
    pub fn extent(&self, bindings: &Bindings) -> Result<usize, DimError> {
        let value = self.eval(bindings)?;
        usize::try_from(value).map_err(|_| DimError::Negative(self.clone(), value))
    }

    /// Calls `visit` with every symbol that occurs.
    pub fn visit_symbols(&self, visit: &mut dyn FnMut(&Symbol)) {
        let Repr::Poly(terms) = &self.0 else { return };
        for atom in terms.iter().flat_map(|(monomial, _)| monomial) {
            match atom {
                Atom::Symbol(name) => visit(name),
                Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                    a.visit_symbols(visit);
                    b.visit_symbols(visit);
                }
            }
        }
    }

    /// Replaces symbols by expressions; `None` leaves a symbol as it is.
    pub fn substitute(&self, replace: &dyn Fn(&str) -> Option<Dim>) -> Dim {
        let Repr::Poly(terms) = &self.0 else { return self.clone() };
        let mut sum = Dim::from(0);
        for (monomial, coefficient) in terms.iter() {
            let mut product = Dim::from(*coefficient);
            for atom in monomial {
                product = product * atom.substitute(replace);
            }
            sum = sum + product;
        }
        sum
    }

    /// Lower and upper bound, given those of the symbols (`None`: unbounded).
    pub fn bounds(&self, of: &dyn Fn(&str) -> Interval) -> Interval {
        let terms = match &self.0 {
            Repr::Static(value) => return (Some(*value), Some(*value)),
            Repr::Poly(terms) => terms,
            Repr::TooLarge => return (None, None),
        };
        let mut sum = (Some(0i64), Some(0i64));
        for (monomial, coefficient) in terms.iter() {
            let mut product = (Some(1i64), Some(1i64));
            for atom in monomial {
                let (low, high) = atom.bounds(of);
                product = match (product, low) {
                    // Products are bounded only where every factor is known not to be negative.
                    ((Some(a), high_so_far), Some(low)) if a >= 0 && low >= 0 => {
                        (a.checked_mul(low), high_so_far.zip(high).and_then(|(x, y)| x.checked_mul(y)))
                    }
                    _ => (None, None),
                };
            }
            let scale = |bound: Option<i64>| bound.and_then(|b| b.checked_mul(*coefficient));
            let term = if *coefficient >= 0 {
                (scale(product.0), scale(product.1))
            } else {
                (scale(product.1), scale(product.0))
            };
            let add = |a: Option<i64>, b: Option<i64>| a.zip(b).and_then(|(x, y)| x.checked_add(y));
            sum = (add(sum.0, term.0), add(sum.1, term.1));
        }
        sum
    }

    /// The quotient when `rhs` is a constant or a single term that divides every term.
    fn exact_quotient(&self, rhs: &Dim) -> Option<Dim> {
        let divisor: (Monomial, i64) = match &rhs.0 {
            Repr::Static(value) => (vec![], *value),
            Repr::Poly(terms) if terms.len() == 1 => terms[0].clone(),
            Repr::Poly(_) | Repr::TooLarge => return None,
        };
        if divisor.1 == 0 {
            return None;
        }
        let mut quotient = BTreeMap::new();
        for (monomial, coefficient) in self.terms() {
            if coefficient.checked_rem(divisor.1)? != 0 {
                return None;
            }
            let mut rest = monomial;
            for atom in &divisor.0 {
                let position = rest.iter().position(|candidate| candidate == atom)?;
                rest.remove(position);
            }
            quotient.insert(rest, coefficient / divisor.1);
        }
        Some(Dim::from_terms(quotient))
    }

    /// For `c * symbol + d` with constants `c`, `d`: the symbol and, if it is an integer, its value
    /// where the whole is `value`.
    pub fn solve_for_symbol(&self, value: i64) -> Option<(Symbol, Option<i64>)> {
        let (mut symbol, mut factor, mut constant) = (None, 0, 0);
        for (monomial, coefficient) in self.terms() {
            match monomial.as_slice() {
                [] => constant = coefficient,
                [Atom::Symbol(name)] if symbol.is_none() => {
                    (symbol, factor) = (Some(name.clone()), coefficient)
                }
                _ => return None,
            }
        }
        let rest = value.checked_sub(constant)?;
        let whole = rest.checked_rem(factor)? == 0;
        Some((symbol?, whole.then(|| rest / factor)))
    }

    /// Number of terms in normal form.
    pub fn term_count(&self) -> usize {
        match &self.0 {
            Repr::Static(_) | Repr::TooLarge => 1,
            Repr::Poly(terms) => terms.len(),
        }
    }

    /// Number of parts, nested ones included: at most [`MAX_WEIGHT`].
    pub fn weight(&self) -> usize {
        let Repr::Poly(terms) = &self.0 else { return 1 };
        terms.iter().map(|(monomial, _)| 1 + monomial.iter().map(Atom::weight).sum::<usize>()).sum()
    }

    /// The same, or the expression without value where it has too many parts.
    fn limited(self) -> Dim {
        if self.weight() > MAX_WEIGHT { Dim(Repr::TooLarge) } else { self }
    }

    fn from_atom(atom: Atom) -> Dim {
        Dim(Repr::Poly(Arc::new(vec![(vec![atom], 1)]))).limited()
    }

    fn terms(&self) -> Vec<(Monomial, i64)> {
        match &self.0 {
            Repr::Static(0) | Repr::TooLarge => vec![],
            Repr::Static(value) => vec![(vec![], *value)],
            Repr::Poly(terms) => terms.to_vec(),
        }
    }

    fn from_terms(mut terms: BTreeMap<Monomial, i64>) -> Dim {
        terms.retain(|_, coefficient| *coefficient != 0);
        match terms.len() {
            0 => Dim::from(0),
            1 if terms.contains_key(&vec![]) => Dim::from(terms[&vec![]]),
            // The text form writes signs before terms, so every coefficient needs a negation.
            _ if terms.values().any(|coefficient| *coefficient == i64::MIN) => Dim(Repr::TooLarge),
            _ => Dim(Repr::Poly(Arc::new(terms.into_iter().collect()))).limited(),
        }
    }

    /// The sum of terms that may repeat; a coefficient beyond 64 bits makes the whole too large.
    fn sum_of_terms(products: impl Iterator<Item = Option<(Monomial, i64)>>) -> Dim {
        let mut terms: BTreeMap<Monomial, i64> = BTreeMap::new();
        for product in products {
            let Some((monomial, coefficient)) = product else { return Dim(Repr::TooLarge) };
            let slot = terms.entry(monomial).or_insert(0);
            match slot.checked_add(coefficient) {
                Some(sum) => *slot = sum,
                None => return Dim(Repr::TooLarge),
            }
        }
        Dim::from_terms(terms)
    }
}

/// `a / b` rounded down; `None` for a zero divisor and beyond 64 bits.
fn checked_floor_div(a: i64, b: i64) -> Option<i64> {
    let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
    Some(quotient - i64::from(rest != 0 && (rest < 0) != (b < 0)))
}

impl Atom {
    fn weight(&self) -> usize {
        match self {
            Atom::Symbol(_) => 1,
            Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                1 + a.weight() + b.weight()
            }
        }
    }

    fn eval(&self, bindings: &Bindings) -> Result<i64, DimError> {
        let whole = |a: &Dim, b: &Dim| Ok::<_, DimError>((a.eval(bindings)?, b.eval(bindings)?));
        match self {
            Atom::Symbol(name) => bindings.get(name).ok_or_else(|| DimError::Unbound(name.clone())),
            Atom::FloorDiv(a, b) | Atom::Mod(a, b) => {
                let (x, y) = whole(a, b)?;
                let whole = || Dim::from_atom(self.clone());
                let quotient = checked_floor_div(x, y).ok_or_else(|| match y {
                    0 => DimError::DivisionByZero(whole()),
                    _ => DimError::Overflow(whole()),
                })?;
                Ok(if matches!(self, Atom::FloorDiv(..)) {
                    quotient
                } else {
                    x.wrapping_sub(quotient.wrapping_mul(y))
                })
            }
            Atom::Min(a, b) => whole(a, b).map(|(x, y)| x.min(y)),
            Atom::Max(a, b) => whole(a, b).map(|(x, y)| x.max(y)),
        }
    }

    fn substitute(&self, replace: &dyn Fn(&str) -> Option<Dim>) -> Dim {
        match self {
            Atom::Symbol(name) => replace(name).unwrap_or_else(|| Dim::from_atom(self.clone())),
            Atom::FloorDiv(a, b) => a.substitute(replace).floor_div(&b.substitute(replace)),
            Atom::Mod(a, b) => a.substitute(replace).modulo(&b.substitute(replace)),
            Atom::Min(a, b) => a.substitute(replace).minimum(&b.substitute(replace)),
            Atom::Max(a, b) => a.substitute(replace).maximum(&b.substitute(replace)),
        }
    }

    fn bounds(&self, of: &dyn Fn(&str) -> Interval) -> Interval {
        match self {
            Atom::Symbol(name) => of(name),
            Atom::FloorDiv(a, b) => match (a.bounds(of), b.as_static()) {
                ((low, high), Some(d)) if d > 0 => {
                    (low.map(|x| x.div_euclid(d)), high.map(|x| x.div_euclid(d)))
                }
                _ => (None, None),
            },
            Atom::Mod(_, b) => match b.bounds(of) {
                (Some(low), high) if low > 0 => (Some(0), high.map(|x| x - 1)),
                _ => (None, None),
            },
            Atom::Min(a, b) => {
                let (a, b) = (a.bounds(of), b.bounds(of));
                (a.0.zip(b.0).map(|(x, y)| x.min(y)), a.1.into_iter().chain(b.1).min())
            }
            Atom::Max(a, b) => {
                let (a, b) = (a.bounds(of), b.bounds(of));
                (a.0.into_iter().chain(b.0).max(), a.1.zip(b.1).map(|(x, y)| x.max(y)))
            }
        }
    }
}

impl Default for Dim {
    /// Zero.
    fn default() -> Dim {
        Dim::from(0)
    }
}
impl From<i64> for Dim {
    fn from(value: i64) -> Dim {
        Dim(Repr::Static(value))
    }
}
impl From<usize> for Dim {
    /// A static extent. Extents beyond `i64::MAX` saturate; no buffer is that large.
    fn from(value: usize) -> Dim {
        Dim(Repr::Static(i64::try_from(value).unwrap_or(i64::MAX)))
    }
}
impl From<i32> for Dim {
    fn from(value: i32) -> Dim {
        Dim::from(i64::from(value))
    }
}
impl From<&str> for Dim {
    fn from(name: &str) -> Dim {
        Dim::symbol(name)
    }
}

impl ops::Add for Dim {
    type Output = Dim;
    fn add(self, rhs: Dim) -> Dim {
        match (&self.0, &rhs.0) {
            (Repr::TooLarge, _) | (_, Repr::TooLarge) => Dim(Repr::TooLarge),
            (Repr::Static(a), Repr::Static(b)) => a.checked_add(*b).map_or(Dim(Repr::TooLarge), Dim::from),
            _ => Dim::sum_of_terms(self.terms().into_iter().chain(rhs.terms()).map(Some)),
        }
    }
}
impl ops::Mul for Dim {
    type Output = Dim;
    fn mul(self, rhs: Dim) -> Dim {
        let (left, right) = match (&self.0, &rhs.0) {
            (Repr::TooLarge, _) | (_, Repr::TooLarge) => return Dim(Repr::TooLarge),
            (Repr::Static(a), Repr::Static(b)) => {
                return a.checked_mul(*b).map_or(Dim(Repr::TooLarge), Dim::from);
            }
            _ => (self.terms(), rhs.terms()),
        };
        if left.len() * right.len() > MAX_WEIGHT {
            return Dim(Repr::TooLarge);
        }
        let pairs = left.iter().flat_map(|a| right.iter().map(move |b| (a, b)));
        Dim::sum_of_terms(pairs.map(|((left, a), (right, b))| {
            let mut monomial = [left.as_slice(), right].concat();
            monomial.sort();
            Some((monomial, a.checked_mul(*b)?))
        }))
    }
}
impl ops::Sub for Dim {
    type Output = Dim;
    fn sub(self, rhs: Dim) -> Dim {
        self + rhs * Dim::from(-1)
    }
}
impl ops::Neg for Dim {
    type Output = Dim;
    fn neg(self) -> Dim {
        self * Dim::from(-1)
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = match &self.0 {
            Repr::Static(value) => return write!(f, "{value}"),
            Repr::Poly(terms) => terms,
            Repr::TooLarge => return f.write_str("(too large)"),
        };
        // The constant term sorts first in the normal form but reads better last.
        let (constant, rest): (Vec<_>, Vec<_>) = terms.iter().partition(|(monomial, _)| monomial.is_empty());
        for (position, (monomial, coefficient)) in rest.into_iter().chain(constant).enumerate() {
            let sign = match (position, *coefficient < 0) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            };
            f.write_str(sign)?;
            let magnitude = coefficient.unsigned_abs();
            if monomial.is_empty() || magnitude != 1 {
                write!(f, "{magnitude}")?;
            }
            for (index, atom) in monomial.iter().enumerate() {
                if index > 0 || magnitude != 1 {
                    f.write_str("*")?;
                }
                write!(f, "{atom}")?;
            }
        }
        Ok(())
    }
}
impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Symbol(name) => f.write_str(name),
            Atom::FloorDiv(a, b) => write!(f, "floordiv({a}, {b})"),
            Atom::Mod(a, b) => write!(f, "mod({a}, {b})"),
            Atom::Min(a, b) => write!(f, "min({a}, {b})"),
            Atom::Max(a, b) => write!(f, "max({a}, {b})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(name: &str) -> Dim {
        Dim::symbol(name)
    }

    #[test]
    fn equal_polynomials_have_one_form() {
        assert_eq!(s("S") + s("T"), s("T") + s("S"));
        assert_eq!(s("S") * Dim::from(2), s("S") + s("S"));
        assert_eq!(s("S") - s("S"), Dim::from(0));
        assert_eq!((s("B") * s("S") * Dim::from(4)).floor_div(&s("S")), s("B") * Dim::from(4));
        assert_eq!((s("S") + Dim::from(1)).to_string(), "S + 1");
        assert_eq!((s("B") * s("S") * Dim::from(-3)).to_string(), "-3*B*S");
    }

    #[test]
    fn floor_division_rounds_down_for_every_sign() {
        for (a, b) in [(7, 2), (-7, 2), (7, -2), (-7, -2), (6, 3), (-6, 3)] {
            let expected = (a as f64 / b as f64).floor() as i64;
            assert_eq!(Dim::from(a as i64).floor_div(&Dim::from(b as i64)), Dim::from(expected), "{a} / {b}");
            let bindings: Bindings = [("A", a as i64), ("C", b as i64)].into_iter().collect();
            assert_eq!(s("A").floor_div(&s("C")).eval(&bindings), Ok(expected), "{a} / {b} evaluated");
        }
    }

    #[test]
    fn evaluation_reports_what_is_missing() {
        let dim = s("S").floor_div(&s("T"));
        let mut bindings: Bindings = [("S", 9), ("T", 0)].into_iter().collect();
        assert_eq!(dim.eval(&bindings), Err(DimError::DivisionByZero(dim.clone())));
        bindings.set("T", 2);
        assert_eq!(dim.eval(&bindings), Ok(4));
        assert_eq!(s("Q").eval(&bindings), Err(DimError::Unbound("Q".into())));
        assert!((s("S") * Dim::from(i64::MAX)).eval(&bindings).is_err());
    }

    #[test]
    fn what_no_expression_holds_has_no_value() {
        let most = || Dim::from(i64::MAX);
        let least = || Dim::from(i64::MIN);
        let large = [
            most() + Dim::from(1),
            most() * Dim::from(2),
            -least(),
            least().floor_div(&Dim::from(-1)),
            s("S") * most() + s("S"),
            s("S") * most() * Dim::from(2),
            s("S") + least(),
            (0..MAX_WEIGHT).fold(Dim::from(0), |sum, index| sum + s(&format!("a{index}"))),
            (0..10).fold(Dim::from(1), |product, index| product * (s(&format!("a{index}")) + s("b"))),
            (0..MAX_WEIGHT).fold(s("S"), |nested, _| nested.minimum(&s("T")).floor_div(&s("U"))),
        ];
        for dim in large {
            assert!(dim.is_too_large() && !dim.is(i64::MAX), "{dim}");
            assert_eq!(dim.eval(&Bindings::new()), Err(DimError::Overflow(dim.clone())));
            let one = s("S") + Dim::from(1);
            let after =
                [dim.clone() * Dim::from(0), dim.clone() - dim.clone(), dim.minimum(&one), dim.modulo(&dim)];
            assert!(after.iter().all(Dim::is_too_large));
        }
        let half = Dim::from(2) * s("S");
        assert_eq!(half.solve_for_symbol(i64::MIN), Some(("S".into(), Some(i64::MIN / 2))));
        assert_eq!((-s("S")).solve_for_symbol(i64::MIN), None);
    }

    #[test]
    fn bounds_follow_those_of_symbols() {
        let of = |name: &str| if name == "S" { (Some(1), Some(8)) } else { (Some(0), None) };
        assert_eq!((s("S") * Dim::from(2) + Dim::from(1)).bounds(&of), (Some(3), Some(17)));
        assert_eq!(s("T").bounds(&of), (Some(0), None));
        assert_eq!(s("T").minimum(&s("S")).bounds(&of), (Some(0), Some(8)));
    }
}
