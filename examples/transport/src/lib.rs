//! A transport that is not one of seaprox's own: a [`Line`] carries one connection at a time over a
//! pair of pipes, a serial line, or whatever else is read from and written to as a stream of bytes.
//! One end is a dest, the other a source. Written with what `seaprox` publishes, and without std.
//!
//! `frame` is what is said on the line, `line` how far both ends are, `transport` what the engine
//! sees of that. docs/embedding.md goes through it.
#![no_std]

mod frame;
mod line;
mod own_loop;
mod transport;

pub use line::{Line, Role};
pub use own_loop::serve;

/// The guide, whose programs are compiled and run as they stand there.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/embedding.md")]
pub struct Guide;
