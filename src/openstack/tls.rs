//! How the server's certificate is checked.
//!
//! A certificate that stands in the operator's CA file is trusted as it is, for every name, like a host key of SSH. Small clouds need that:
//! MicroStack's services show the very certificate of their own authority, or one without any name in it, and the usual rules
//! (which OpenSSL and Python keep less strictly) refuse both.

use std::{path::Path, sync::Arc};

use reqwest::ClientBuilder;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use super::settings::Tls;

/// Sets up the checks.
///
/// # Errors
/// A sentence about a CA file that cannot be used.
pub(super) fn with_tls(builder: ClientBuilder, tls: &Tls) -> Result<ClientBuilder, String> {
    Ok(match tls {
        Tls::System => builder,
        Tls::Insecure => builder.tls_danger_accept_invalid_certs(true),
        Tls::CaFile(file) => {
            let config = trusting(file).map_err(|why| format!("the CA file {}: {why}", file.display()))?;
            builder.tls_backend_preconfigured(config)
        }
    })
}

/// What to do about a certificate that was refused.
pub(super) fn advice(tls: &Tls) -> String {
    match tls {
        Tls::CaFile(file) => {
            format!("neither it nor its authority is in {}: put one of them there", file.display())
        }
        Tls::System | Tls::Insecure => {
            "give the file of the cloud's authority, or the certificate itself (cacert, OS_CACERT)".to_owned()
        }
    }
}

/// A configuration that trusts what is in `file`, and nothing else.
fn trusting(file: &Path) -> Result<ClientConfig, String> {
    let pem = std::fs::read(file).map_err(|why| why.to_string())?;
    let listed: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|why| why.to_string())?;
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(listed.iter().cloned()).0 == 0 {
        return Err("it holds no certificate in PEM form".to_owned());
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|why| why.to_string())?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Listed { listed, authorities }))
        .with_no_client_auth();
    Ok(config)
}

/// Trusts listed certificates, and those that listed authorities vouch for.
#[derive(Debug)]
struct Listed {
    listed: Vec<CertificateDer<'static>>,
    authorities: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Listed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.listed.iter().any(|listed| listed == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let checked =
            self.authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        checked.map_err(|error| match error {
            // A stranger's authority shown as a certificate: for people it is simply not known.
            Error::InvalidCertificate(CertificateError::Other(_)) => {
                Error::InvalidCertificate(CertificateError::UnknownIssuer)
            }
            error => error,
        })
    }

    // Whoever shows a certificate must prove that its key is his; that is never left out.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}
