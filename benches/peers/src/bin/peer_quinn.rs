//! A peer: both ends of a tunnel, whose channels are the streams of one QUIC
//! connection; always encrypted, as QUIC is.

mod arguments;
mod udp_socket;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig};
use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, IdleTimeout, RecvStream, SendStream,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use tokio::net::{TcpListener, TcpStream};

use crate::arguments::{Arguments, wrong};

/// What the far end's certificate is made out to.
const NAME: &str = "far.end";

/// The default is 100, too few for the idle channels.
const CHANNELS_MAX: u32 = 8192;

/// A link that nobody uses is not given up, and one that is gone soon is.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const IDLE_MAX: VarInt = VarInt::from_u32(60_000);

/// The rest of the configuration is the default: 1.25 MB on their way in a
/// stream, unless `window` says another number than 0.
fn transport(control: &str, window: &str) -> io::Result<Arc<TransportConfig>> {
    let congestion: Arc<dyn ControllerFactory + Send + Sync> = match control {
        "cubic" => Arc::new(CubicConfig::default()),
        "bbr" => Arc::new(BbrConfig::default()),
        _ => return Err(wrong("expected cubic or bbr")),
    };
    let window: u32 = window.parse().map_err(|_| wrong("expected a window in bytes, or 0"))?;
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(congestion)
        .max_concurrent_bidi_streams(VarInt::from_u32(CHANNELS_MAX))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(IDLE_MAX)));
    if window != 0 {
        transport.stream_receive_window(VarInt::from_u32(window)).send_window(window.into());
    }
    Ok(Arc::new(transport))
}

/// A client's without a configuration for a server.
fn endpoint(listen: SocketAddr, server: Option<ServerConfig>) -> io::Result<Endpoint> {
    let socket = udp_socket::bind(listen)?;
    Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(TokioRuntime))
}

async fn relay(mut socket: TcpStream, (send, receive): (SendStream, RecvStream)) {
    if socket.set_nodelay(true).is_ok() {
        let mut channel = tokio::io::join(receive, send);
        // Either end may reset at any time; a tunnel carries on.
        let _ = tokio::io::copy_bidirectional(&mut socket, &mut channel).await;
    }
}

/// The end that connects to the target for each channel. It writes down whom
/// the other end may trust.
async fn far(
    listen: SocketAddr,
    target: SocketAddr,
    certificate: &Path,
    transport: Arc<TransportConfig>,
) -> io::Result<()> {
    let own = rcgen::generate_simple_self_signed([NAME.into()]).map_err(io::Error::other)?;
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let mut config = ServerConfig::with_single_cert(vec![own.cert.der().clone()], key.into())
        .map_err(io::Error::other)?;
    config.transport_config(transport);
    let endpoint = endpoint(listen, Some(config))?;
    // Whole or not at all: the other end reads it as soon as it is there.
    let unfinished = certificate.with_extension("unfinished");
    fs::write(&unfinished, own.cert.der())?;
    fs::rename(&unfinished, certificate)?;
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok(link) = incoming.await else { return };
            while let Ok(channel) = link.accept_bi().await {
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(target).await {
                        relay(server, channel).await;
                    }
                });
            }
        });
    }
    Ok(())
}

/// The end that clients connect to. It ends with the link.
async fn near(
    listen: SocketAddr,
    other_end: SocketAddr,
    certificate: &Path,
    transport: Arc<TransportConfig>,
) -> io::Result<()> {
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from(fs::read(certificate)?)).map_err(io::Error::other)?;
    let mut config =
        ClientConfig::with_root_certificates(Arc::new(trusted)).map_err(io::Error::other)?;
    config.transport_config(transport);
    let endpoint = endpoint((Ipv4Addr::UNSPECIFIED, 0).into(), None)?;
    let connecting = endpoint.connect_with(config, other_end, NAME).map_err(io::Error::other)?;
    let link: Connection = connecting.await?;
    let listener = TcpListener::bind(listen).await?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            reason = link.closed() => return Err(reason.into()),
        };
        match accepted {
            Ok((client, _)) => {
                let link = link.clone();
                tokio::spawn(async move {
                    if let Ok(channel) = link.open_bi().await {
                        relay(client, channel).await;
                    }
                });
            }
            // The client has left again already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// `far CONTROL WINDOW CERTIFICATE LINK TARGET [THREADS]`, or
/// `near CONTROL WINDOW CERTIFICATE LISTEN LINK [THREADS]`.
fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let first: Vec<_> = words.by_ref().take(4).collect();
    let [end, control, window, certificate] = first.as_slice() else {
        return Err(wrong("expected: END CONTROL WINDOW CERTIFICATE ADDRESS ADDRESS [THREADS]"));
    };
    let transport = transport(control, window)?;
    let certificate = Path::new(certificate);
    let arguments = Arguments::parse(words)?;
    let Arguments { listen, target, .. } = arguments;
    match end.as_str() {
        "far" => arguments.run(far(listen, target, certificate, transport)),
        "near" => arguments.run(near(listen, target, certificate, transport)),
        _ => Err(wrong("expected: far or near")),
    }
}
