//! A Postgres cluster with a certificate of its own making.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use zerok_sync_testkit::postgres::{Cluster, Durability};

/// An authority, and the certificate it gives to a host of this name.
pub fn certificate(host: &str) -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let authority = pem("CERTIFICATE", authority.der());
    (authority, pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", &key.serialize_der()))
}

fn pem(what: &str, der: &[u8]) -> String {
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", BASE64_STANDARD.encode(der))
}

/// As the server's user, and for nobody else.
fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let owner = path.parent().unwrap().metadata().unwrap();
    std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// A cluster that offers TLS under this name, and the authority that vouches for it.
pub fn cluster_for(host: &str) -> (Cluster, String) {
    let cluster = Cluster::start(Durability::None).unwrap();
    let (authority, certificate, key) = certificate(host);
    let data = cluster.dir().join("data");
    write_private(&data.join("server.crt"), &certificate);
    write_private(&data.join("server.key"), &key);
    cluster.down().unwrap();
    let settings = std::fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
    std::fs::write(data.join("postgresql.auto.conf"), settings + "ssl = on\n").unwrap();
    cluster.up().unwrap();
    (cluster, authority)
}
