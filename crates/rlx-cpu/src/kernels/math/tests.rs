//! Each function against f64 over the whole range, on whole vectors and tails.

use super::functions::*;
use crate::kernels::map::{UnaryFunction, map};
use crate::kernels::testing::{Noise, at_every_level};
use crate::pool::Pool;

const VALID: &str = "the operands are valid";

/// Arguments that matter: specials, borders, magnitudes of every exponent, and a dense middle.
fn arguments() -> Vec<f32> {
    let mut list = vec![
        0.0,
        -0.0,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        f32::EPSILON,
        f32::MIN_POSITIVE,
        -f32::MIN_POSITIVE,
        1.0,
        -1.0,
        88.722_83,
        88.722_84,
        -87.336_55,
        -103.97,
        -103.98,
        -104.5,
        0.5,
        2.0,
        0.92,
        0.919_999,
        65_535.9,
        65_536.1,
        1e-45,
        -1e-45,
        9.0,
        9.1,
        17.3,
        -17.4,
    ];
    let mut noise = Noise::new(11);
    for exponent in 0..255u32 {
        for _ in 0..60 {
            let bits = noise.bits() as u32;
            list.push(f32::from_bits((bits & 0x807F_FFFF) | (exponent << 23)));
        }
    }
    for quarter in 1..200 {
        list.push((f64::from(quarter) * std::f64::consts::FRAC_PI_2) as f32);
    }
    list.extend((0..40_000).map(|_| noise.unit() * 20.0));
    list.extend((0..20_000).map(|_| noise.unit() * 2.0));
    list
}

/// Units in the last place between a float and the exact value.
fn distance(found: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    if exact.is_nan() || rounded.is_infinite() || found.is_infinite() {
        let close_to_limit =
            found.is_infinite() && exact.abs() > 3.402_823e38 && exact.signum() == f64::from(found).signum();
        let same = found == rounded || (found.is_nan() && exact.is_nan());
        return if same || close_to_limit { 0.0 } else { f64::INFINITY };
    }
    if found.is_nan() {
        return f64::INFINITY;
    }
    let size = rounded.abs().max(f32::MIN_POSITIVE);
    let unit = f64::from(f32::from_bits(size.to_bits() + 1)) - f64::from(size);
    (f64::from(found) - exact).abs() / unit
}

fn check<F: UnaryFunction>(name: &str, function: F, exact: fn(f64) -> f64, allowed: f64) {
    let pool = Pool::inline();
    let inputs = arguments();
    at_every_level(&pool, |context| {
        let mut outputs = vec![0.0; inputs.len()];
        map(context, function, &inputs, &mut outputs).expect(VALID);
        for (&x, &y) in inputs.iter().zip(&outputs) {
            let wanted = exact(f64::from(x));
            let error = distance(y, wanted);
            assert!(
                error <= allowed,
                "{:?} {name}({x:e}) = {y:e}, expected {wanted:e}: {error} ulp",
                context.level()
            );
        }
    });
}

/// The error function by its series, or by the continued fraction of its complement.
fn exact_erf(x: f64) -> f64 {
    let size = x.abs();
    if x.is_nan() || size == 0.0 {
        return x;
    }
    if size > 6.0 {
        return x.signum();
    }
    if size < 3.0 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-18 * sum.abs() {
            n += 1.0;
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let fraction = (1..=60).rev().fold(0.0, |tail, k| f64::from(k) / 2.0 / (size + tail));
    let complement = (-x * x).exp() / (size + fraction) / std::f64::consts::PI.sqrt();
    (1.0 - complement) * x.signum()
}

#[test]
fn exponentials_are_accurate() {
    check("exp", Exp, f64::exp, 2.0);
    check("expm1", Expm1, f64::exp_m1, 3.0);
    check("sigmoid", Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 3.0);
    check("tanh", Tanh, f64::tanh, 4.0);
}

#[test]
fn logarithms_are_accurate() {
    check("log", Log, f64::ln, 2.0);
    check("log1p", Log1p, f64::ln_1p, 4.0);
}

#[test]
fn error_function_is_accurate() {
    check("erf", Erf, exact_erf, 3.0);
}

#[test]
fn circular_functions_are_accurate() {
    check("sin", Sin, f64::sin, 2.0);
    check("cos", Cos, f64::cos, 2.0);
    check("sqrt", Sqrt, f64::sqrt, 0.5);
}

#[test]
fn activations_match_their_formulas() {
    let pool = Pool::inline();
    let inputs: Vec<f32> = (-4000..4000).map(|i| i as f32 / 300.0).collect();
    let check = |function: &dyn Fn(&mut [f32]), exact: &dyn Fn(f64) -> f64| {
        let mut found = inputs.clone();
        function(&mut found);
        for (&x, &y) in inputs.iter().zip(&found) {
            let wanted = exact(f64::from(x));
            let bound = 4e-7 * (wanted.abs() + f64::from(x.abs()) * 0.5) + 1e-12;
            assert!((f64::from(y) - wanted).abs() <= bound, "f({x}) = {y}, expected {wanted}");
        }
    };
    at_every_level(&pool, |context| {
        let root = std::f64::consts::FRAC_1_SQRT_2;
        check(&|v| map(context, Gelu, &inputs, v).expect(VALID), &|x| x / 2.0 * (1.0 + exact_erf(x * root)));
        let inner = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        check(&|v| map(context, GeluTanh, &inputs, v).expect(VALID), &|x| x / 2.0 * (1.0 + inner(x).tanh()));
        check(&|v| map(context, Silu, &inputs, v).expect(VALID), &|x| x / (1.0 + (-x).exp()));
    });
}

#[test]
fn tails_give_the_same_bits_as_whole_vectors() {
    let pool = Pool::new(2).expect("threads start");
    let inputs: Vec<f32> = arguments().into_iter().step_by(13).collect();
    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|x| x.to_bits()).collect()
    }
    at_every_level(&pool, |context| {
        let mut whole = inputs.clone();
        map(context, Erf, &inputs, &mut whole).expect(VALID);
        for length in 0..=70 {
            for start in [0, 1, 37] {
                let input = &inputs[start..start + length];
                let mut output = vec![0.0; length];
                map(context, Erf, input, &mut output).expect(VALID);
                assert_eq!(bits(&output), bits(&whole[start..start + length]));
            }
        }
        assert!(map(context, Exp, &inputs, &mut whole[1..]).is_err());
    });
}
