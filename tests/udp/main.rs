//! Links over udp on a fake clock: the real session on the real carrier at both ends, and a network that
//! loses, delays, repeats, spoils and rewrites. By seed with users who do as they please (`seeds`), and
//! bulk and single messages on paths of which it is known what they must give (`goals`, `stories`,
//! `sealed`, `floods`).
//!
//! `SEAPROX_SEEDS` is how many seeds are run (also `from..to`); `SEAPROX_SEED` runs one, and shows
//! what happens. Seeds that once failed are in `seeds.txt`, and go first.

mod carriers;
#[path = "../links/contents.rs"]
mod contents;
#[path = "../links/transports/engine.rs"]
mod engine;
mod floods;
mod goals;
mod keys;
mod net;
mod party;
#[path = "../links/transports/role.rs"]
mod role;
mod sealed;
mod seeds;
mod stories;
#[path = "../links/transports/story.rs"]
mod story;
#[path = "../links/transports/users.rs"]
mod users;
mod world;
