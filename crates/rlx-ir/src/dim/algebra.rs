//! Extents in other algebras: an expression is taken apart and put together again of the other algebra's numbers,
//! symbols and joins.
//!
//! Invariants: what is joined has the value that the expression has; a constant term comes last in a sum.

use super::{Atom, Dim, DimError, Repr, Symbol};

/// What joins two expressions to one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DimJoin {
    /// Sum.
    Add,
    /// Product.
    Mul,
    /// Quotient, rounded down.
    FloorDiv,
    /// Remainder of that quotient.
    Mod,
    /// Smaller of the two.
    Min,
    /// Larger of the two.
    Max,
}

/// Another algebra in which a dim can be rebuilt: nodes of a graph, say.
pub trait DimAlgebra {
    /// Its expressions.
    type Value;
    /// Why it cannot hold one.
    type Error: From<DimError>;
    /// A number.
    ///
    /// # Errors
    /// What the algebra refuses; so for the others.
    fn constant(&mut self, value: i64) -> Result<Self::Value, Self::Error>;
    /// A symbol.
    ///
    /// # Errors
    /// As for [`DimAlgebra::constant`].
    fn symbol(&mut self, name: &Symbol) -> Result<Self::Value, Self::Error>;
    /// Two expressions of it, which are those of `a` and `b`, joined.
    ///
    /// # Errors
    /// As for [`DimAlgebra::constant`].
    fn join(
        &mut self,
        join: DimJoin,
        left: (Self::Value, &Dim),
        right: (Self::Value, &Dim),
    ) -> Result<Self::Value, Self::Error>;
}

impl Dim {
    /// The expression in another algebra.
    ///
    /// # Errors
    /// What the algebra refuses, and an expression without value.
    pub fn rebuild<A: DimAlgebra>(&self, algebra: &mut A) -> Result<A::Value, A::Error> {
        let terms = match &self.0 {
            Repr::Static(value) => return algebra.constant(*value),
            Repr::Poly(terms) => terms,
            Repr::TooLarge => return Err(DimError::Overflow(self.clone()).into()),
        };
        // The constant term sorts first; it reads better last.
        let (constant, rest): (Vec<_>, Vec<_>) = terms.iter().partition(|(monomial, _)| monomial.is_empty());
        let mut sum: Option<(A::Value, Dim)> = None;
        for (monomial, coefficient) in rest.into_iter().chain(constant) {
            let mut product: Option<(A::Value, Dim)> = None;
            if *coefficient != 1 || monomial.is_empty() {
                product = Some((algebra.constant(*coefficient)?, Dim::from(*coefficient)));
            }
            for atom in monomial {
                let factor = (atom.rebuild(algebra)?, Dim::from_atom(atom.clone()));
                product = Some(joined(algebra, DimJoin::Mul, product, factor)?);
            }
            if let Some(product) = product {
                sum = Some(joined(algebra, DimJoin::Add, sum, product)?);
            }
        }
        match sum {
            Some((value, _)) => Ok(value),
            None => algebra.constant(0),
        }
    }
}

impl Atom {
    fn rebuild<A: DimAlgebra>(&self, algebra: &mut A) -> Result<A::Value, A::Error> {
        let (join, a, b) = match self {
            Atom::Symbol(name) => return algebra.symbol(name),
            Atom::FloorDiv(a, b) => (DimJoin::FloorDiv, a, b),
            Atom::Mod(a, b) => (DimJoin::Mod, a, b),
            Atom::Min(a, b) => (DimJoin::Min, a, b),
            Atom::Max(a, b) => (DimJoin::Max, a, b),
        };
        let (left, right) = (a.rebuild(algebra)?, b.rebuild(algebra)?);
        algebra.join(join, (left, a), (right, b))
    }
}

/// A sum or product so far, and another part.
fn joined<A: DimAlgebra>(
    algebra: &mut A,
    join: DimJoin,
    so_far: Option<(A::Value, Dim)>,
    part: (A::Value, Dim),
) -> Result<(A::Value, Dim), A::Error> {
    let Some((left, left_dim)) = so_far else { return Ok(part) };
    let value = algebra.join(join, (left, &left_dim), (part.0, &part.1))?;
    let dim = if join == DimJoin::Mul { left_dim * part.1 } else { left_dim + part.1 };
    Ok((value, dim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Bindings;

    fn s(name: &str) -> Dim {
        Dim::symbol(name)
    }

    /// Values under bindings, as an algebra: the same as evaluation.
    struct Evaluating(Bindings);

    impl DimAlgebra for Evaluating {
        type Value = i64;
        type Error = DimError;
        fn constant(&mut self, value: i64) -> Result<i64, DimError> {
            Ok(value)
        }
        fn symbol(&mut self, name: &Symbol) -> Result<i64, DimError> {
            Dim::symbol(name).eval(&self.0)
        }
        fn join(&mut self, join: DimJoin, left: (i64, &Dim), right: (i64, &Dim)) -> Result<i64, DimError> {
            let (a, b) = (left.0, right.0);
            assert_eq!((left.1.eval(&self.0), right.1.eval(&self.0)), (Ok(a), Ok(b)));
            Ok(match join {
                DimJoin::Add => a + b,
                DimJoin::Mul => a * b,
                DimJoin::FloorDiv => a.div_euclid(b),
                DimJoin::Mod => a.rem_euclid(b),
                DimJoin::Min => a.min(b),
                DimJoin::Max => a.max(b),
            })
        }
    }

    #[test]
    fn a_rebuilt_expression_has_the_same_value() {
        let mut algebra = Evaluating([("S", 7), ("T", 3)].into_iter().collect());
        let (two, five) = (Dim::from(2), Dim::from(5));
        let dims = [
            five.clone(),
            Dim::from(0),
            s("S"),
            -s("S"),
            s("S") * s("S") * two.clone() - s("T") + five.clone(),
            (s("S") + s("T")).floor_div(&two) * s("T"),
            (s("S") * s("T")).modulo(&five).minimum(&s("T")).maximum(&two),
        ];
        for dim in dims {
            assert_eq!(dim.rebuild(&mut algebra), dim.eval(&algebra.0), "{dim}");
        }
        assert!(s("Q").rebuild(&mut algebra).is_err());
        assert!((s("S") * Dim::from(i64::MAX) + s("S")).rebuild(&mut algebra).is_err());
    }
}
