//! What a relay says about itself at `/.well-known/0k-sync`, as far as a client needs it: where
//! its iroh endpoints are. Unauthenticated hints; whoever answers there must still prove the
//! relay's Noise key.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iroh::{EndpointAddr, EndpointId, TransportAddr};
use reqwest::Url;
use serde::Deserialize;
use zerok_sync_protocol::label::WELL_KNOWN_PATH;

/// The real document has a few hundred bytes for each instance.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// Endpoints that are considered; a cluster lists one for each instance.
const ENDPOINTS_MAX: usize = 16;
/// Addresses that are considered for each endpoint.
const ADDRESSES_MAX: usize = 16;
/// A static answer of a reachable host takes far less.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    iroh: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    endpoint_id: String,
    #[serde(default)]
    addrs: Vec<String>,
}

/// Asks `relay` for its iroh endpoints. The error is a sentence for people.
pub(super) async fn iroh_endpoints(relay: &Url, tls: &Arc<rustls::ClientConfig>) -> Result<Vec<EndpointAddr>, String> {
    let mut url = relay.clone();
    url.set_path(WELL_KNOWN_PATH);
    let failed = |error: reqwest::Error| format!("{url}: {}", innermost(&error));

    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(rustls::ClientConfig::clone(tls))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(DEADLINE)
        .build()
        .map_err(failed)?;
    let mut response = client.get(url.clone()).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(format!("{url} answered HTTP {}", response.status().as_u16()));
    }
    let mut document = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if document.len() + chunk.len() > DOCUMENT_BYTES_MAX {
            return Err(format!("{url} is longer than {DOCUMENT_BYTES_MAX} bytes"));
        }
        document.extend_from_slice(&chunk);
    }
    parse(&document).map_err(|error| format!("{url} is not a relay's description: {error}"))
}

/// Endpoints that can be dialled; what this version cannot read in an address is passed over.
fn parse(document: &[u8]) -> Result<Vec<EndpointAddr>, serde_json::Error> {
    let document: Document = serde_json::from_slice(document)?;
    let endpoints = document.iroh.iter().take(ENDPOINTS_MAX).filter_map(|listed| {
        let id: EndpointId = listed.endpoint_id.parse().ok()?;
        let addresses: BTreeSet<SocketAddr> = listed
            .addrs
            .iter()
            .take(ADDRESSES_MAX)
            .filter_map(|text| text.parse().ok())
            .filter(|address: &SocketAddr| !address.ip().is_unspecified() && address.port() != 0)
            .collect();
        let addresses = addresses.into_iter().map(TransportAddr::Ip);
        Some(EndpointAddr::from_parts(id, addresses)).filter(|endpoint| !endpoint.is_empty())
    });
    Ok(endpoints.collect())
}

/// The cause that says something: reqwest's own text only names the URL again.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6";

    #[test]
    fn endpoints_are_read_and_unknown_fields_passed_over() {
        let document = format!(
            r#"{{"key":"00","iroh":[{{"endpoint_id":"{ID}","addrs":["127.0.0.1:4433","[::1]:4433"],"x":1}}],"y":[]}}"#
        );
        let endpoints = parse(document.as_bytes()).expect("parses");
        assert_eq!(endpoints.len(), 1);
        assert_eq!(endpoints[0].id.to_string(), ID);
        assert_eq!(endpoints[0].ip_addrs().count(), 2);
    }

    #[test]
    fn what_cannot_be_dialled_is_passed_over() {
        for listed in [
            r#"{"endpoint_id":"zz","addrs":["127.0.0.1:1"]}"#.to_owned(),
            format!(r#"{{"endpoint_id":"{ID}","addrs":[]}}"#),
            format!(r#"{{"endpoint_id":"{ID}","addrs":["0.0.0.0:1","127.0.0.1:0","relay.example:1","\u0000"]}}"#),
        ] {
            let endpoints = parse(format!(r#"{{"iroh":[{listed}]}}"#).as_bytes()).expect("parses");
            assert!(endpoints.is_empty(), "{listed}");
        }
    }

    #[test]
    fn a_long_list_is_cut_off() {
        let one = format!(r#"{{"endpoint_id":"{ID}","addrs":["127.0.0.1:1"]}}"#);
        let document = format!(r#"{{"iroh":[{}]}}"#, vec![one; 1000].join(","));
        assert_eq!(parse(document.as_bytes()).expect("parses").len(), ENDPOINTS_MAX);
    }

    #[test]
    fn garbage_is_an_error() {
        for document in [b"".as_slice(), b"7", b"{\"iroh\":7}", b"\xff\xfe", b"<html>"] {
            assert!(parse(document).is_err());
        }
    }
}
