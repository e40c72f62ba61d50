//! The RLX wgpu driver.
