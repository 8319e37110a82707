//! What C sees, in the order it needs it: `life` from the memory to the start and the end, `drive` for
//! the threads, `reach` for dests that are connected outside, `look` for what there is. Each function
//! hands its pointers to `raw` and the rest to the proxy. The header has them in the same order.
//!
//! Safety, of all of them: C promises what the header says at its top.

pub mod life;

pub mod drive;

pub mod reach;

pub mod look;
