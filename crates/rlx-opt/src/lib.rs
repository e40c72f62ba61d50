//! The RLX compile pipeline: passes, fusion, legalisation and memory planning.
