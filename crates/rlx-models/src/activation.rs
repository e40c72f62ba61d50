//! The activation names of Hugging Face configurations.

use rlx_ir::ops::ActivationKind;

const NAMES: &[(&str, ActivationKind)] = &[
    ("gelu", ActivationKind::Gelu),
    ("gelu_fast", ActivationKind::GeluApprox),
    ("gelu_new", ActivationKind::GeluApprox),
    ("gelu_python", ActivationKind::Gelu),
    ("gelu_pytorch_tanh", ActivationKind::GeluApprox),
    ("hardswish", ActivationKind::HardSwish),
    ("mish", ActivationKind::Mish),
    ("quick_gelu", ActivationKind::QuickGelu),
    ("relu", ActivationKind::Relu),
    ("sigmoid", ActivationKind::Sigmoid),
    ("silu", ActivationKind::Silu),
    ("swish", ActivationKind::Silu),
    ("tanh", ActivationKind::Tanh),
];

/// The function called `name`.
pub(crate) fn activation(name: &str) -> Option<ActivationKind> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// What may be asked for, for errors.
pub(crate) fn expected() -> String {
    let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    format!("one of {}", names.join(", "))
}
