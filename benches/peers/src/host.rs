//! The machine that the figures were measured on.

use std::fs;
use std::thread;

use crate::network;

pub(crate) struct Host {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) congestion_control: String,
}

impl Host {
    pub(crate) fn this() -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| line.split_once(':'))
            .map_or("unknown CPU", |(_, model)| model.trim());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: model.to_owned(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            kernel: format!("Linux {}", kernel.trim()),
            congestion_control: network::congestion_control(),
        }
    }
}
