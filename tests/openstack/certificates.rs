//! Which certificates are trusted, over real TLS.

use std::{path::PathBuf, sync::Arc};

use lbsidecar::openstack::{Cloud, CloudError, settings::Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

use crate::stage::Stage;

/// A certificate with its key.
struct Shown {
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for these names, from that authority.
fn issued(by: &CertifiedIssuer<'static, KeyPair>, names: &[&str]) -> Shown {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(names).unwrap().signed_by(&key, by).unwrap();
    Shown { pem: cert.pem(), der: cert.der().clone(), key }
}

/// A Keystone that shows this certificate and refuses everybody; its port.
async fn keystone(shown: &Shown) -> u16 {
    let key = PrivateKeyDer::try_from(shown.key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![shown.der.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust us hangs up here.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let body = r#"{"error":{"code":401,"message":"hello","title":"Unauthorized"}}"#;
            let head = format!("HTTP/1.1 401 Unauthorized\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all((head + body).as_bytes()).await;
        }
    });
    port
}

/// What a client says that checks like this.
async fn meet(port: u16, tls: Tls) -> CloudError {
    let mut settings = Stage::silent().await.settings();
    settings.auth_url = format!("https://127.0.0.1:{port}/v3");
    settings.tls = tls;
    Cloud::new(settings).unwrap().servers().await.unwrap_err()
}

fn file(pem: &str) -> (tempfile::TempDir, Tls, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, pem).unwrap();
    (dir, Tls::CaFile(path.clone()), path)
}

#[tokio::test]
async fn a_certificate_from_the_listed_authority_is_trusted_for_its_name_only() {
    let ours = authority("ours");
    let (_dir, tls, _) = file(&ours.pem());
    let error = meet(keystone(&issued(&ours, &["127.0.0.1"])).await, tls.clone()).await;
    assert_eq!(error.status(), Some(401), "{error}");
    let error = meet(keystone(&issued(&ours, &["elsewhere.invalid"])).await, tls).await;
    assert!(error.status().is_none() && error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_listed_certificate_is_trusted_as_it_is() {
    let ours = authority("ours");
    // MicroStack's own authority as the server's certificate, and one without any name.
    let itself = Shown {
        pem: ours.pem(),
        der: ours.der().clone(),
        key: KeyPair::from_pem(&ours.key().serialize_pem()).unwrap(),
    };
    for shown in [itself, issued(&ours, &[])] {
        let (_dir, tls, _) = file(&shown.pem);
        let error = meet(keystone(&shown).await, tls).await;
        assert_eq!(error.status(), Some(401), "{error}");
    }
}

#[tokio::test]
async fn others_are_refused_with_advice() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let port = keystone(&issued(&theirs, &["127.0.0.1"])).await;
    let (_dir, tls, path) = file(&ours.pem());
    let error = meet(port, tls).await;
    assert_eq!(error.status(), None);
    let text = error.to_string();
    assert!(
        text.contains("invalid peer certificate: UnknownIssuer") && text.contains(path.to_str().unwrap()),
        "{text}"
    );
    let text = meet(port, Tls::System).await.to_string();
    assert!(text.contains("invalid peer certificate") && text.contains("OS_CACERT"), "{text}");
    // The very same names, another key: a stranger's authority shown as itself.
    let theirs = Shown {
        pem: theirs.pem(),
        der: theirs.der().clone(),
        key: KeyPair::from_pem(&theirs.key().serialize_pem()).unwrap(),
    };
    let (_dir, tls, _) = file(&ours.pem());
    let text = meet(keystone(&theirs).await, tls).await.to_string();
    assert!(text.contains("UnknownIssuer"), "{text}");
}

#[tokio::test]
async fn who_does_not_want_checks_gets_none() {
    let port = keystone(&issued(&authority("ours"), &[])).await;
    assert_eq!(meet(port, Tls::Insecure).await.status(), Some(401));
}
