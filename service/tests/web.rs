//! Trees that come from a web server, in plain text and over TLS, which shows a directory that
//! was pushed to.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use common::{Place, Ran, assert_whole, run, write};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tower_http::services::ServeDir;

/// A web server, until it is dropped.
struct Web {
    plain: SocketAddr,
    tls: SocketAddr,
    /// In PEM.
    certificate: String,
    _runtime: Runtime,
}

impl Web {
    /// Shows `root`.
    fn start(root: &Path) -> Web {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let made = made.expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("its key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a certificate and its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let listen = || {
            let listening = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)));
            let listener = listening.expect("a port on loopback");
            let addr = listener.local_addr().expect("its number");
            (listener, addr)
        };
        let files = ServeDir::new(root);
        let ((listener, plain), shown) = (listen(), files.clone());
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, shown.clone()));
            }
        });
        let (listener, tls) = listen();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, shown) = (acceptor.clone(), files.clone());
                tokio::spawn(async move {
                    // Who doesn't trust it hangs up.
                    if let Ok(socket) = acceptor.accept(socket).await {
                        serve(socket, shown).await;
                    }
                });
            }
        });
        Web { plain, tls, certificate: made.cert.pem(), _runtime: runtime }
    }
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, files: ServeDir) {
    let http = Builder::new(TokioExecutor::new());
    let files = TowerToHyperService::new(files);
    let _ = http.serve_connection(TokioIo::new(socket), files).await;
}

fn pull(place: &Place, certificates: &Path, args: &[&str]) -> Ran {
    run(place.command(args).env("SSL_CERT_FILE", certificates).env_remove("SSL_CERT_DIR"))
}

#[test]
fn a_tree_comes_from_a_web_server() {
    let (here, there, lazy) = (Place::new(), Place::new(), Place::new());
    let dir = here.dir("t");
    // Enough for packs, of which ranges are asked for.
    for i in 0..1200 {
        write(&dir.join(format!("d{}/f{i}", i % 7)), format!("content {i}\n"));
    }
    write(&dir.join("größe und so #1 ~ %41"), vec![7; 3 << 20]);
    here.ingest(&dir, "größe/eins");
    let remote = here.path("remote");
    here.vrift(&["push", "größe/eins", remote.to_str().expect("UTF-8")]).fine();
    let web = Web::start(&remote);
    let trusted = here.path("trusted.pem");
    write(&trusted, &web.certificate);
    let (plain, tls) = (format!("http://{}", web.plain), format!("https://{}", web.tls));
    let said = pull(&there, &trusted, &["pull", &plain, "größe/eins"]).fine();
    assert!(said.contains("1201 blobs, 1201 fetched"), "{said}");
    assert_whole(&there.store_root());
    assert_eq!(here.store().resolve("größe/eins").ok(), there.store().resolve("größe/eins").ok());

    let said = pull(&lazy, &trusted, &["pull", "--lazy", &tls, "größe/eins:t"]).fine();
    assert!(said.contains("1201 left at"), "{said}");
    let said = pull(&lazy, &trusted, &["pull", &tls, "größe/eins:t"]).fine();
    assert!(said.contains("1201 blobs, 1201 fetched"), "{said}");
    assert_whole(&lazy.store_root());

    // Who can't show that it is the one that was meant is told nothing and believed nothing.
    let none = here.path("none.pem");
    write(&none, "");
    let other = Place::new();
    for certificates in [none.as_path(), Path::new("/etc/ssl/certs/ca-certificates.crt")] {
        let args = ["pull", "--timeout", "1", &tls, "größe/eins"];
        let line = pull(&other, certificates, &args).refused();
        assert!(line.contains("certificate"), "{line}");
    }
    // Plain text needs none.
    pull(&other, &none, &["pull", &plain, "größe/eins"]).fine();
    let line = pull(&here, &trusted, &["push", "größe/eins", &plain]).refused();
    assert!(line.contains("a web server can only be pulled from"), "{line}");
    let line = pull(&other, &trusted, &["pull", &plain, "no/such"]).refused();
    assert!(line.contains("there is no ref \"no/such\""), "{line}");
    drop(web);
    let line = pull(&other, &trusted, &["pull", "--timeout", "1", &plain, "größe/eins"]).refused();
    assert!(line.contains(&plain), "{line}");
}
