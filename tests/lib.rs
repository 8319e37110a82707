//! Tests that need more than one package; see the folders.
