//! A run: all proxies side by side, their rounds interleaved.

use std::thread;
use std::time::Duration;

use crate::backend::Backend;
use crate::effort::Cores;
use crate::metrics::Measured;
use crate::options::Options;
use crate::peers::Installed;
use crate::proxy::{Proxy, Setting};
use crate::report::Report;
use crate::sys::Affinity;
use crate::workloads::Workload;

/// Between two measurements, for the proxy to get rid of the last connections,
/// and after one that failed, to say why.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs every workload on every chosen set of cores.
pub(crate) fn run(
    options: &Options,
    installed: &[Installed],
    setting: &Setting<'_>,
) -> Result<Report, String> {
    let everywhere = Affinity::current().map_err(|error| error.to_string())?;
    let mut report = Report::of(options.paths.clone());
    for &cores in &options.cores {
        let applied = match cores {
            Cores::Free => everywhere.apply(),
            Cores::One => options
                .core
                .map_or_else(|| everywhere.last_core(), Ok)
                .and_then(|core| Affinity::one(core).apply()),
        };
        applied.map_err(|error| format!("cannot run on the chosen core: {error}"))?;
        let mut bench = Bench { options, setting, report: &mut report, cores };
        bench.run(installed)?;
    }
    Ok(report)
}

struct Bench<'a> {
    options: &'a Options,
    setting: &'a Setting<'a>,
    report: &'a mut Report,
    cores: Cores,
}

/// A peer of the run, and its proxy if one runs at present.
struct Contender<'a> {
    installed: &'a Installed,
    proxy: Option<Proxy>,
}

impl Bench<'_> {
    fn run(&mut self, installed: &[Installed]) -> Result<(), String> {
        let backend = start_backend()?;
        let mut contenders: Vec<_> =
            installed.iter().map(|installed| Contender { installed, proxy: None }).collect();
        for &workload in &self.options.workloads {
            if !workload.runs_on(self.cores, &self.options.cores) {
                continue;
            }
            if workload.is_of_paths() {
                for path in 0..self.options.paths.len() {
                    self.rounds(workload, Some(path), &mut contenders, &backend)?;
                }
            } else {
                self.rounds(workload, None, &mut contenders, &backend)?;
            }
        }
        Ok(())
    }

    /// In each round every peer once, the first one moving on by one.
    fn rounds(
        &mut self,
        workload: Workload,
        path: Option<usize>,
        contenders: &mut [Contender<'_>],
        backend: &Backend,
    ) -> Result<(), String> {
        let rounds = self.options.rounds.min(workload.rounds_max());
        let words = path.map(|path| self.options.paths[path].as_str());
        let (name, cores) = (workload.name(), self.cores.name());
        match words {
            Some(words) => eprintln!("{name} {words} ({cores}): {rounds} rounds"),
            None => eprintln!("{name} ({cores}): {rounds} rounds"),
        }
        let count = contenders.len();
        for round in 0..rounds {
            for turn in 0..count {
                let contender = &mut contenders[(round + turn) % count];
                let peer = contender.installed.peer;
                let row = (self.cores, workload, path, peer);
                // What a fresh proxy could not do once it will not do later.
                let hopeless = workload.needs_fresh() && self.report.has_failed(row);
                if hopeless || !workload.applies_to(peer) {
                    continue;
                }
                let measured = if workload.needs_fresh() {
                    self.measure_fresh(workload, words, contender.installed)?
                } else {
                    self.measure(workload, contender, backend)
                };
                match measured {
                    Ok(figures) => self.report.add(row, figures),
                    Err(reason) => self.report.fail(row, reason),
                }
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// On the proxy that has served the rounds before, or a new one if the last
    /// one failed.
    fn measure(
        &self,
        workload: Workload,
        contender: &mut Contender<'_>,
        backend: &Backend,
    ) -> Measured {
        let proxy = match contender.proxy.take() {
            Some(proxy) => proxy,
            None => Proxy::start(contender.installed, backend.addr, self.setting)?,
        };
        let figures = self.measure_on(&proxy, workload)?;
        contender.proxy = Some(proxy);
        Ok(figures)
    }

    /// On a new proxy before a new backend: with its port, no connection of an
    /// earlier round stands in the way of these.
    fn measure_fresh(
        &self,
        workload: Workload,
        path: Option<&str>,
        installed: &Installed,
    ) -> Result<Measured, String> {
        let backend = start_backend()?;
        let setting = Setting { path, ..*self.setting };
        let proxy = Proxy::start(installed, backend.addr, &setting);
        Ok(proxy.and_then(|proxy| self.measure_on(&proxy, workload)))
    }

    /// A failure is told with what the proxy said last, if it ended.
    fn measure_on(&self, proxy: &Proxy, workload: Workload) -> Measured {
        workload.measure(proxy, &self.options.effort).map_err(|reason| {
            // Its connections end before it does.
            thread::sleep(PAUSE);
            match proxy.last_word() {
                Some(word) => format!("{reason}: {word}"),
                None => reason,
            }
        })
    }
}

fn start_backend() -> Result<Backend, String> {
    Backend::start().map_err(|error| format!("the backend does not start: {error}"))
}
