//! The database's URL, and TLS as its `sslmode` asks for, which means what it means to libpq:
//!
//! | `sslmode` | encrypted | the server's certificate |
//! |---|---|---|
//! | `disable` | no | |
//! | `prefer` | if the server can | any |
//! | `require` | yes | any; with `sslrootcert` one that descends from it |
//! | `verify-ca` | yes | descends from `sslrootcert`, or a root of the system |
//! | `verify-full` | yes | and is for the host of the URL |
//!
//! Without one it is `prefer`, and `disable` on the same machine. `sslrootcert=FILE` is PEM.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::{Result, StoreError};

/// A connection on which nothing came for this long is probed,
const SILENT_BEFORE_PROBE: Duration = Duration::from_secs(10);
/// again after this,
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// and given up after so many probes.
const PROBES: u32 = 3;
/// Nor does it outlive this, if what was sent is not acknowledged by the server's machine.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(20);

/// Where the database is, and how to talk to it.
pub(crate) struct Target {
    pub config: Config,
    /// `None`: never encrypted.
    pub tls: Option<MakeRustlsConnect>,
}

/// How much of a certificate must be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    Issuer,
    IssuerAndName,
}

/// Reads a database URL.
pub(crate) fn target(url: &str) -> Result<Target> {
    let Parameters { rest, sslmode, sslrootcert } = parameters(url);
    // The parser's own message could quote a mistyped password.
    let mut config: Config = rest
        .parse()
        .map_err(|_| unusable("not a database URL: write postgres://USER:PASSWORD@HOST:PORT/DATABASE".into()))?;
    let (mode, check) = match (sslmode.as_deref(), &sslrootcert) {
        (None, None) if is_local(&config) => (SslMode::Disable, Check::Nothing),
        (None | Some("prefer"), _) => (SslMode::Prefer, Check::Nothing),
        (Some("disable"), _) => (SslMode::Disable, Check::Nothing),
        (Some("require"), None) => (SslMode::Require, Check::Nothing),
        (Some("require" | "verify-ca"), _) => (SslMode::Require, Check::Issuer),
        (Some("verify-full"), _) => (SslMode::Require, Check::IssuerAndName),
        (Some(_), _) => {
            return Err(unusable(
                "the sslmode of --store is none of disable, prefer, require, verify-ca and verify-full".into(),
            ));
        }
    };
    config.ssl_mode(mode);
    notice_silence(&mut config);
    let tls = (mode != SslMode::Disable).then(|| connector(check, sslrootcert.as_deref())).transpose()?;
    Ok(Target { config, tls })
}

/// A server that vanished without a word (its machine died, a firewall forgot the connection) is
/// found out within half a minute instead of the quarter of an hour that TCP would go on trying.
fn notice_silence(config: &mut Config) {
    config.keepalives_idle(SILENT_BEFORE_PROBE).keepalives_interval(PROBE_INTERVAL).keepalives_retries(PROBES);
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(UNACKNOWLEDGED_MAX);
    }
}

/// What a failed connection says about TLS, if that is why it failed. None of these pass by waiting.
pub(super) fn trouble(error: &tokio_postgres::Error) -> Option<StoreError> {
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(_)) => {
                return Some(unusable(
                    "the database's certificate is not one that --store asks for: name its issuer with \
                     sslrootcert=FILE, and the host as the certificate does"
                        .into(),
                ));
            }
            Some(_) => return Some(unusable("the database does not agree with this relay about TLS".into())),
            None => {}
        }
        if error.to_string() == "server does not support TLS" {
            return Some(unusable(
                "the database does not offer TLS, which --store asks for: set ssl = on there".into(),
            ));
        }
        cause = error.source();
    }
    None
}

struct Parameters {
    /// The URL without what is ours.
    rest: String,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
}

/// Takes the parameters that the URL's parser does not know out of it.
fn parameters(url: &str) -> Parameters {
    // A password may hold a question mark.
    let host = url.rfind('@').map_or(0, |at| at + 1);
    let Some(question) = url[host..].find('?').map(|at| host + at) else {
        return Parameters { rest: url.to_owned(), sslmode: None, sslrootcert: None };
    };
    let (mut sslmode, mut sslrootcert) = (None, None);
    let mut rest = url[..question].to_owned();
    let mut separator = '?';
    for parameter in url[question + 1..].split('&') {
        match parameter.split_once('=') {
            Some(("sslmode", mode)) => sslmode = Some(mode.to_owned()),
            Some(("sslrootcert", file)) => sslrootcert = Some(unescaped(file)),
            _ => {
                rest.push(separator);
                rest.push_str(parameter);
                separator = '&';
            }
        }
    }
    Parameters { rest, sslmode, sslrootcert }
}

/// `%2F` and its like as the characters they stand for; anything else stays as it is.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = behind.get(..2).filter(|_| first == b'%').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            u8::from_str_radix(digits, 16).ok()
        });
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether nobody can listen on the way to the database.
fn is_local(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    })
}

fn connector(check: Check, root_file: Option<&str>) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default protocol versions");
    let config = if check == Check::IssuerAndName {
        client.with_root_certificates(roots(root_file)?)
    } else {
        let issuer = match check {
            Check::Nothing => None,
            _ => Some(issuer_check(roots(root_file)?, provider.clone())?),
        };
        let algorithms = provider.signature_verification_algorithms;
        client.dangerous().with_custom_certificate_verifier(Arc::new(AnyName { issuer, algorithms }))
    };
    Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
}

fn roots(file: Option<&str>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(file) => {
            let certificates = CertificateDer::pem_file_iter(file)
                .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
                .map_err(|error| unusable(format!("cannot read the certificates of sslrootcert: {error}")))?;
            roots.add_parsable_certificates(certificates);
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        let what =
            if file.is_some() { "sslrootcert holds no certificate" } else { "this machine has no root certificates" };
        return Err(unusable(format!("{what}: name a PEM file with sslrootcert=FILE")));
    }
    Ok(roots)
}

fn issuer_check(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| unusable(format!("the root certificates cannot be used: {error}")))
}

/// Takes a certificate whatever its name says, and without `issuer` any certificate at all. The
/// handshake's signatures are checked as ever.
#[derive(Debug)]
struct AnyName {
    issuer: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let Some(issuer) = &self.issuer else { return Ok(ServerCertVerified::assertion()) };
        match issuer.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn unusable(text: String) -> StoreError {
    StoreError::Unusable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> SslMode {
        target(url).expect("a URL").config.get_ssl_mode()
    }

    #[test]
    fn without_an_sslmode_only_the_way_to_another_machine_is_encrypted() {
        for local in ["postgres://u@localhost/d", "postgres://u@127.0.0.1:5432/d", "postgres://u@%2Frun%2Fpg/d"] {
            assert_eq!(mode(local), SslMode::Disable, "{local}");
        }
        assert_eq!(mode("postgres://u@db.example/d"), SslMode::Prefer);
        assert_eq!(mode("postgres://u@127.0.0.1/d?sslmode=require"), SslMode::Require);
    }

    #[test]
    fn what_is_not_known_is_refused_without_quoting_it() {
        let error = target("postgres://u@h/d?sslmode=hunter2").err().expect("refused");
        assert!(error.to_string().contains("verify-full") && !error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_server_that_vanished_is_given_up_in_time_unless_the_url_says_otherwise() {
        let waits = |url: &str| target(url).expect("a URL").config.get_tcp_user_timeout().copied();
        assert_eq!(waits("postgres://u@db.example/d"), Some(UNACKNOWLEDGED_MAX));
        assert_eq!(waits("postgres://u@db.example/d?tcp_user_timeout=90"), Some(Duration::from_secs(90)));
    }

    #[test]
    fn only_our_parameters_are_taken_out() {
        let url =
            "postgres://u:a?sslmode=x@h/d?connect_timeout=3&sslmode=require&sslrootcert=%2Fetc%2fca.pem&options=-c";
        let Parameters { rest, sslmode, sslrootcert } = parameters(url);
        assert_eq!(rest, "postgres://u:a?sslmode=x@h/d?connect_timeout=3&options=-c");
        assert_eq!((sslmode.as_deref(), sslrootcert.as_deref()), (Some("require"), Some("/etc/ca.pem")));
    }

    #[test]
    fn a_percent_sign_that_escapes_nothing_stays() {
        assert_eq!(unescaped("100%/%zz/%+1/%2"), "100%/%zz/%+1/%2");
    }
}
