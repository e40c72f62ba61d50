//! The RLX kernel IR: lowering from LIR, checked interpreter and printers.
