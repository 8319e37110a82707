//! The figures of all rounds, and the two forms they are told in.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::effort::{Cores, Threads};
use crate::host::Host;
use crate::metrics::{Column, Metric};
use crate::peers::Peer;
use crate::workloads::Workload;

/// A row of the table, with the number of the path if its workload has any;
/// ordered as the rows are.
type Row = (Cores, Workload, Option<usize>, Peer);

/// Every figure of every round, and what went wrong.
#[derive(Default)]
pub(crate) struct Report {
    figures: BTreeMap<Row, BTreeMap<Metric, Vec<f64>>>,
    /// The first reason of each row.
    failures: BTreeMap<Row, String>,
    /// What the relay did on each path.
    paths: Vec<String>,
}

/// The figures of all rounds in three numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Summary {
    median: f64,
    min: f64,
    max: f64,
}

impl Summary {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len() - 1;
        Self {
            median: f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)]),
            min: sorted[0],
            max: sorted[last],
        }
    }
}

impl Report {
    pub(crate) fn of(paths: Vec<String>) -> Self {
        Self { paths, ..Self::default() }
    }

    fn path(&self, number: Option<usize>) -> &str {
        number.and_then(|number| self.paths.get(number)).map_or("", String::as_str)
    }

    pub(crate) fn add(&mut self, row: Row, figures: Vec<(Metric, f64)>) {
        let metrics = self.figures.entry(row).or_default();
        for (metric, value) in figures {
            metrics.entry(metric).or_default().push(value);
        }
    }

    pub(crate) fn fail(&mut self, row: Row, reason: String) {
        self.failures.entry(row).or_insert(reason);
    }

    pub(crate) fn has_failed(&self, row: Row) -> bool {
        self.failures.contains_key(&row)
    }

    /// Seaprox's median over that of the best peer; none without both, and what only
    /// shows the least is no peer.
    fn ratio(&self, (cores, workload, path, peer): Row, metric: Metric) -> Option<f64> {
        if !peer.is_seaprox() || !metric.has_ratio() {
            return None;
        }
        let median = |peer| {
            let values = self.figures.get(&(cores, workload, path, peer))?.get(&metric)?;
            Some(Summary::of(values).median)
        };
        let others = Peer::ALL
            .into_iter()
            .filter(|&other| !other.is_seaprox() && !other.is_yardstick())
            .filter_map(median);
        let best = if metric.more_is_better() {
            others.max_by(f64::total_cmp)
        } else {
            others.min_by(f64::total_cmp)
        }?;
        Some(median(peer)? / best)
    }

    /// A markdown table of the proxies and one of the tunnels, each with a row
    /// for each workload and peer.
    pub(crate) fn markdown(&self, host: &Host, threads: Threads, rounds: usize) -> String {
        let mut text = format!(
            "{}, {} cores, {}, TCP {}; {} threads a proxy, {} each end of a tunnel; \
             median [min..max] of at most {rounds} rounds.\n",
            host.cpu,
            host.cores,
            host.kernel,
            host.congestion_control,
            threads.proxy,
            threads.tunnel_end
        );
        self.table(&mut text, false);
        self.table(&mut text, true);
        for (&(cores, workload, path, peer), reason) in &self.failures {
            let (cores, workload) = (cores.name(), workload.name());
            let (peer, path) = (peer.title(), self.path(path));
            let gap = if path.is_empty() { "" } else { " " };
            let _ = write!(text, "\n* {peer} in {workload}{gap}{path} ({cores}): {reason}");
        }
        if !self.failures.is_empty() {
            text.push('\n');
        }
        text
    }

    /// The rows of tunnels, or all others; no table without any.
    fn table(&self, text: &mut String, of_tunnels: bool) {
        let mut rows = self
            .figures
            .iter()
            .filter(|((_, workload, _, _), _)| workload.is_of_tunnels() == of_tunnels)
            .peekable();
        if rows.peek().is_none() {
            return;
        }
        let columns = Column::ALL.map(|column| column.heading(of_tunnels)).join(" | ");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n| cores | workload | peer | {columns} | seaprox / best peer |");
        let _ = writeln!(text, "|{}", " --- |".repeat(Column::ALL.len() + 4));
        for (&row, metrics) in rows {
            let (cores, workload, path, peer) = row;
            let (cores, workload) = (cores.name(), workload.name());
            let (path, peer) = (self.path(path), peer.title());
            let gap = if path.is_empty() { "" } else { " " };
            let _ = write!(text, "| {cores} | {workload}{gap}{path} | {peer} |");
            for column in Column::ALL {
                let cell = join(metrics, |metric, values| {
                    (metric.column() == column).then(|| figure(metric, values))
                });
                let _ = write!(text, " {cell} |");
            }
            let ratios = join(metrics, |metric, _| {
                let ratio = self.ratio(row, metric)?;
                Some(format!("{ratio:.2} {}", metric.unit()))
            });
            let _ = writeln!(text, " {ratios} |");
        }
    }

    fn json_row(&self, (cores, workload, path, peer): Row) -> String {
        let (cores, workload, peer) = (cores.name(), workload.name(), peer.name());
        let path = path.map_or_else(String::new, |path| {
            format!("\"path\":{},", json_string(self.path(Some(path))))
        });
        format!("\"on\":\"{cores}\",\"workload\":\"{workload}\",{path}\"peer\":\"{peer}\"")
    }

    /// The same for programs.
    pub(crate) fn json(&self, host: &Host, threads: Threads) -> String {
        let mut figures = Vec::new();
        for (&row, metrics) in &self.figures {
            for (&metric, values) in metrics {
                let Summary { median, min, max } = Summary::of(values);
                let ratio = self
                    .ratio(row, metric)
                    .map_or_else(String::new, |ratio| format!(",\"ratio\":{ratio}"));
                figures.push(format!(
                    "{{{},\"unit\":{},\"rounds\":{},\"median\":{median},\"min\":{min},\"max\":{max}{ratio}}}",
                    self.json_row(row),
                    json_string(metric.unit()),
                    values.len(),
                ));
            }
        }
        let failures: Vec<_> = self
            .failures
            .iter()
            .map(|(&row, reason)| {
                format!("{{{},\"reason\":{}}}", self.json_row(row), json_string(reason))
            })
            .collect();
        format!(
            "{{\"cpu\":{},\"cores\":{},\"kernel\":{},\"tcp\":{},\"threads\":{},\"tunnel_threads\":{},\n\
             \"figures\":[\n{}\n],\n\"failures\":[\n{}\n]}}\n",
            json_string(&host.cpu),
            host.cores,
            json_string(&host.kernel),
            json_string(&host.congestion_control),
            threads.proxy,
            threads.tunnel_end,
            figures.join(",\n"),
            failures.join(",\n"),
        )
    }
}

/// What `tell` makes of each metric, separated by commas.
fn join(
    metrics: &BTreeMap<Metric, Vec<f64>>,
    tell: impl Fn(Metric, &[f64]) -> Option<String>,
) -> String {
    let told: Vec<_> =
        metrics.iter().filter_map(|(&metric, values)| tell(metric, values)).collect();
    told.join(", ")
}

fn figure(metric: Metric, values: &[f64]) -> String {
    let Summary { median, min, max } = Summary::of(values);
    let decimals = decimals(median);
    format!("{median:.decimals$} {} [{min:.decimals$}..{max:.decimals$}]", metric.unit())
}

/// Enough for three significant figures.
fn decimals(value: f64) -> usize {
    match value.abs() {
        0.0 | 100.0.. => 0,
        10.0..100.0 => 1,
        1.0..10.0 => 2,
        0.1..1.0 => 3,
        _ => 4,
    }
}

fn json_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            // Writing to a String cannot fail.
            _ if character.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREADS: Threads = Threads { proxy: 2, tunnel_end: 1 };

    fn host() -> Host {
        Host {
            cpu: "a \"CPU\"".into(),
            cores: 2,
            kernel: "Linux 6".into(),
            congestion_control: "reno".into(),
        }
    }

    fn report() -> Report {
        let mut report = Report::default();
        let mut add = |peer, rate, cpu| {
            let figures = vec![(Metric::GigabytesPerSecond, rate), (Metric::CpuPerGigabyte, cpu)];
            report.add((Cores::One, Workload::Bulk1, None, peer), figures);
        };
        add(Peer::Direct, 9.0, 0.0);
        add(Peer::Seaprox, 6.0, 0.03);
        add(Peer::Nginx, 2.0, 0.3);
        add(Peer::Realm, 4.0, 0.06);
        report
    }

    #[test]
    fn a_median_lies_between_the_middle_two() {
        let summary = |values: &[f64]| Summary::of(values).median;
        assert_eq!(summary(&[3.0]), 3.0);
        assert_eq!(summary(&[4.0, 1.0]), 2.5);
        assert_eq!(summary(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(summary(&[4.0, 3.0, 2.0, 1.0]), 2.5);
    }

    #[test]
    fn the_best_peer_is_the_fastest_or_the_cheapest_and_never_direct() {
        let row = (Cores::One, Workload::Bulk1, None, Peer::Seaprox);
        assert_eq!(report().ratio(row, Metric::GigabytesPerSecond), Some(1.5));
        assert_eq!(report().ratio(row, Metric::CpuPerGigabyte), Some(0.5));
        let nginx = (Cores::One, Workload::Bulk1, None, Peer::Nginx);
        assert_eq!(report().ratio(nginx, Metric::CpuPerGigabyte), None);
    }

    #[test]
    fn every_line_of_the_table_has_the_same_columns() {
        let text = report().markdown(&host(), THREADS, 1);
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 2 + 4);
        assert!(rows.iter().all(|row| row.matches('|').count() == 9));
    }

    #[test]
    fn tunnels_have_a_table_of_their_own_and_no_ratio_of_what_may_be_nothing() {
        let mut report = report();
        for (peer, jain, starved) in [(Peer::SeaproxLink, 1.0, 0.0), (Peer::Ssh, 0.8, 2.0)] {
            let figures = vec![(Metric::JainIndex, jain), (Metric::Starved, starved)];
            report.add((Cores::Free, Workload::TunnelBulk256, None, peer), figures);
        }
        let text = report.markdown(&host(), THREADS, 1);
        assert_eq!(text.matches("| seaprox / best peer |").count(), 2);
        let (_, tunnels) = text.split_once("CPU of both ends").unwrap();
        assert!(tunnels.contains("| ssh -L (encrypted) |"));
        assert!(tunnels.contains("| 1.25 Jain |"));
        assert!(tunnels.contains(" 0 starved [0..0] "));
        assert!(!tunnels.contains("nginx"));
    }

    #[test]
    fn each_path_has_rows_of_its_own_and_is_named() {
        let mut report = Report::of(vec!["loss=1%".into(), "loss=3%".into()]);
        for (path, rate) in [(0, 50.0), (1, 20.0)] {
            for (peer, factor) in [(Peer::SeaproxUdp, 2.0), (Peer::Kcp, 1.0)] {
                let row = (Cores::Free, Workload::PathBulk, Some(path), peer);
                report.add(row, vec![(Metric::MegabytesPerSecond, rate * factor)]);
            }
        }
        report.fail((Cores::Free, Workload::PathPing, Some(1), Peer::Kcp), "it ended".into());
        let text = report.markdown(&host(), THREADS, 1);
        assert!(text.contains("| path-bulk loss=1% | seaprox over UDP (unencrypted) | 100 MB/s"));
        assert!(text.contains("| path-bulk loss=3% | yamux over KCP (unencrypted) | 20.0 MB/s"));
        assert_eq!(text.matches("| 2.00 MB/s |").count(), 2);
        assert!(text.contains("in path-ping loss=3% (free): it ended"));
        assert!(report.json(&host(), THREADS).contains("\"path\":\"loss=3%\",\"peer\":\"kcp\""));
    }

    #[test]
    fn json_strings_are_quoted() {
        assert_eq!(json_string("a \"b\"\n"), "\"a \\\"b\\\"\\u000a\"");
        assert!(report().json(&host(), THREADS).contains("a \\\"CPU\\\""));
    }
}
