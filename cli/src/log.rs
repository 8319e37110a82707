//! log

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something the program was asked to do failed.
    Error = 3,
    /// It goes on, but not as asked.
    Warn = 4,
    /// What an operator wants to see once.
    Info = 6,
    /// What helps to find out why.
    Debug = 7,
}

impl Level {
    /// The level of this name.
    pub fn named(name: &str) -> Option<Level> {
        [Level::Error, Level::Warn, Level::Info, Level::Debug]
            .into_iter()
            .find(|level| level.name() == name)
    }

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}
