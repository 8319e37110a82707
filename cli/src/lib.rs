//! The program `seaprox` around the engine: what it is told (arguments, endpoints),
//! what it asks of the system (descriptors, signals), what it says (log, exit codes), and the seal
//! on the heap. `proxy.rs` puts it together; the engine knows none of it.
pub mod activation;
pub mod allow;
pub mod args;
pub mod bound;
#[cfg(feature = "links")]
pub mod carriers;
pub mod direct;
pub mod duration;
pub mod endpoint;
pub mod exit;
pub mod fixed;
mod help;
#[cfg(feature = "links")]
pub mod keys;
pub mod limits;
pub mod line;
#[cfg(feature = "links")]
pub mod link;
pub mod listening;
pub mod log;
mod logfmt;
pub mod memory;
pub mod nofile;
pub mod notify;
#[cfg(feature = "links")]
mod offer;
pub mod passwords;
mod per_thread;
pub mod proxy;
pub mod reporter;
pub mod sandbox;
pub mod seal;
pub mod shown;
pub mod signals;
pub mod sys;
pub mod talk;
pub mod user;
