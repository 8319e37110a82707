//! The controllers against the formulae of their RFCs, and against a modelled path.

#[path = "congestion_tests/formulae.rs"]
mod formulae;
#[path = "congestion_tests/goals.rs"]
mod goals;
#[path = "congestion_tests/network.rs"]
pub(super) mod network;
