//! The RLX wgpu driver.
#![forbid(unsafe_code)]
