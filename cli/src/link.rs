//! `seaprox ingress` and `seaprox egress`.

use crate::args::{EgressConfig, IngressConfig};
use crate::exit::{ExitCode, fail};

/// Runs until told to end.
pub fn run_ingress(_: &IngressConfig) -> ExitCode {
    fail(ExitCode::Unavailable, "links are not in this build")
}

/// Runs until told to end.
pub fn run_egress(_: &EgressConfig) -> ExitCode {
    fail(ExitCode::Unavailable, "links are not in this build")
}
