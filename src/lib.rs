//! seaprox: a socket proxy whose memory is known to the byte before it starts.
//!
//! [`Seaprox`] is one table of connections, sized at compile time, in static memory. Each thread
//! gets a [`table::Table`] of its own and turns a [`worker::Worker`] over it, which takes
//! connections from a [`transport::Source`], reaches their dest through a [`transport::Dest`], and
//! moves bytes between the two until both directions have ended. Nothing is allocated, ever.
//!
//! ARCHITECTURE.md tells where is what.
#![no_std]

#[cfg(any(test, feature = "sim"))]
extern crate std;

pub mod address;
mod admission;
mod asking;
pub mod completion;
mod connecting;
pub mod connector;
mod embedding;
mod ending;
pub mod fail;
pub mod handshake;
pub mod passwords;
pub mod poller;
mod ready_list;
pub mod relay;
pub mod seaprox;
pub mod share;
pub mod side;
#[cfg(feature = "sim")]
pub mod sim;
pub mod sys;
pub mod table;
pub mod time;
mod timers;
pub mod transport;
pub mod wanted;
pub mod worker;

pub use admission::WhenFull;
pub use seaprox::Seaprox;
