//! A peer: the `realm_io` crate's splicing relay between each accepted
//! connection and one to the target.

mod arguments;
mod relay_peer;

use tokio::net::TcpStream;

async fn relay(mut client: TcpStream, mut target: TcpStream) {
    // Either end may reset at any time; a proxy carries on.
    let _ = realm_io::bidi_zero_copy(&mut client, &mut target).await;
}

fn main() -> std::io::Result<()> {
    relay_peer::run(relay)
}
