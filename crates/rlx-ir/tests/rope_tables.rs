//! Rotary tables against the frequencies that Hugging Face transformers 5.23
//! gives (head extent 16, base 10000, in float32).

use rlx_ir::DType;
use rlx_ir::rope_tables::{RopeScaling, attention_factor, inverse_frequencies, rope_tables};

fn expect(scaling: &RopeScaling, expected: [f64; 8], factor: f64) {
    let found = inverse_frequencies(16, 10000.0, scaling);
    assert_eq!(found.len(), 8);
    for (pair, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / expected;
        assert!(error < 1e-6, "{scaling:?} pair {pair}: {found:e}, expected {expected:e}");
    }
    let found = attention_factor(scaling);
    assert!((found - factor).abs() < 1e-12, "{scaling:?}: factor {found}, expected {factor}");
}

#[test]
fn frequencies_agree_with_transformers() {
    expect(
        &RopeScaling::Linear { factor: 4.0 },
        [0.25, 7.9056941e-2, 2.5e-2, 7.9056947e-3, 2.5e-3, 7.9056947e-4, 2.5e-4, 7.9056947e-5],
        1.0,
    );
    expect(
        &RopeScaling::DynamicNtk { factor: 4.0, length: 2048.0, trained_length: 512.0 },
        [
            1.0,
            2.1921247e-1,
            4.8054103e-2,
            1.0534058e-2,
            2.3091969e-3,
            5.0620473e-4,
            1.1096639e-4,
            2.4325213e-5,
        ],
        1.0,
    );
    expect(
        &RopeScaling::Yarn {
            factor: 4.0,
            trained_length: 128.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
            attention_factor: None,
        },
        [1.0, 2.3717082e-1, 5e-2, 7.9056947e-3, 2.5e-3, 7.9056947e-4, 2.5e-4, 7.9056947e-5],
        1.138629436111989,
    );
    expect(
        &RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            trained_length: 128.0,
        },
        [1.0, 3.1622776e-1, 4.2751178e-2, 3.9528473e-3, 1.25e-3, 3.9528473e-4, 1.25e-4, 3.9528473e-5],
        1.0,
    );
    expect(
        &RopeScaling::Divisors {
            divisors: (2..10).map(|half| f64::from(half) / 2.0).collect(),
            attention_factor: 1.1338934190276817,
        },
        [1.0, 2.108185e-1, 5e-2, 1.2649111e-2, 3.3333334e-3, 9.0350793e-4, 2.5e-4, 7.0272836e-5],
        1.1338934190276817,
    );
}

#[test]
fn ntk_divides_the_lowest_frequency_by_its_factor() {
    let trained = inverse_frequencies(16, 10000.0, &RopeScaling::None);
    let stretched = inverse_frequencies(16, 10000.0, &RopeScaling::Ntk { factor: 3.0 });
    assert!((trained[7] / stretched[7] - 3.0).abs() < 1e-9);
    assert_eq!(stretched[0], 1.0);
    let short = RopeScaling::DynamicNtk { factor: 3.0, length: 100.0, trained_length: 512.0 };
    assert_eq!(inverse_frequencies(16, 10000.0, &short), trained);
}

#[test]
fn tables_hold_cosines_and_sines_of_positions() {
    let (cos, sin) = rope_tables(5, 4, 100.0, &RopeScaling::None, DType::F32).unwrap();
    assert_eq!((cos.dims(), sin.dims()), (&[5, 2][..], &[5, 2][..]));
    for position in 0..5 {
        for (pair, frequency) in [1.0, 0.1].into_iter().enumerate() {
            let angle = position as f64 * frequency;
            let at = position * 2 + pair;
            assert!((cos.to_f64s()[at] - angle.cos()).abs() < 1e-7);
            assert!((sin.to_f64s()[at] - angle.sin()).abs() < 1e-7);
        }
    }
    assert!(rope_tables(usize::MAX, 4, 100.0, &RopeScaling::None, DType::F32).is_err());
}
