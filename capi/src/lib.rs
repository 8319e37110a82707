//! seaprox for C: what `include/seaprox.h` declares, which is made from this package. The memory is the
//! caller's, the threads are too; nothing here allocates, and nothing is kept that was not given to it.
//!
//! From outside to inside: `exports` are the functions C sees; `raw` is what is believed of a pointer,
//! and what is checked; `types` are the structs both sides know; `proxy` is one proxy in its memory,
//! `setup` how it was told to be, `lane` one thread of it; `outside` and `talk` are the callbacks;
//! `links` are ends of links, with `keys` or without.
//!
//! Invariant: a reference to a proxy exists only inside a call from C, between `seaprox_init` and
//! `seaprox_close`; whatever one thread alone may touch is behind a lock that is never waited for.

mod addresses;
pub mod bounds;
mod carriers;
mod chosen;
pub mod exports;
mod keys;
mod lane;
mod links;
mod outside;
mod panic;
pub mod proxy;
mod raw;
mod setup;
mod shape;
mod talk;
pub mod types;
