//! A client of the relay as far as the doctor needs one: a URL is asked for its description, its
//! pages, a WebSocket, a Noise handshake. Everything that answers is a stranger: answers are
//! bounded in size and time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::{StatusCode, Url};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{Connector, connect_async_tls_with_config};
use zerok_sync_protocol::NoisePublicKey;
use zerok_sync_protocol::channel::{Initiator, StaticKey};
use zerok_sync_protocol::label::{WELL_KNOWN_PATH, WS_PATH, WS_SUBPROTOCOL};

use crate::clock::{self, SystemEntropy};
use crate::http::SEEN_AS_PATH;

/// For each answer; a relay that is reached answers far sooner.
const DEADLINE: Duration = Duration::from_secs(10);
/// A description has a few hundred bytes for each instance.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What a relay says about itself.
#[derive(Debug, Deserialize)]
pub(super) struct WellKnown {
    pub(super) noise_key: String,
    #[serde(default)]
    pub(super) iroh: Vec<Listed>,
}

/// One iroh endpoint.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) endpoint_id: String,
    #[serde(default)]
    pub(super) addrs: Vec<String>,
}

/// Asks one URL.
pub(super) struct Fetcher {
    base: Url,
    client: reqwest::Client,
    tls: ClientConfig,
}

impl Fetcher {
    /// # Errors
    /// A sentence.
    pub(super) fn new(base: &str) -> Result<Self, String> {
        let base: Url = base.parse().map_err(|_| format!("{base} is not a URL like https://relay.example"))?;
        if !matches!(base.scheme(), "https" | "http") {
            return Err(format!("{base} is not a URL like https://relay.example"));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(DEADLINE)
            .build()
            .map_err(|error| innermost(&error))?;
        Ok(Self { base, client, tls })
    }

    pub(super) fn url(&self) -> &Url {
        &self.base
    }

    /// Whether the URL's name is an address of this machine alone, here.
    pub(super) async fn leads_to_loopback(&self) -> bool {
        let (host, port) = (self.base.host_str().unwrap_or_default(), self.base.port_or_known_default().unwrap_or(0));
        match tokio::net::lookup_host((host, port)).await {
            Ok(mut addrs) => addrs.all(|addr| addr.ip().is_loopback()),
            Err(_) => false,
        }
    }

    /// # Errors
    /// A sentence.
    pub(super) async fn status(&self, path: &str) -> Result<StatusCode, String> {
        let url = self.at(path);
        let response = self.client.get(url.clone()).send().await.map_err(|error| innermost(&error))?;
        Ok(response.status())
    }

    /// What the relay takes for the address of this machine.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn seen_as(&self) -> Result<IpAddr, String> {
        let (status, body) = self.get(SEEN_AS_PATH).await?;
        let told = std::str::from_utf8(&body).ok().and_then(|text| text.trim().parse().ok());
        told.filter(|_| status == StatusCode::OK).ok_or_else(|| format!("{SEEN_AS_PATH} tells no address"))
    }

    /// # Errors
    /// A sentence.
    pub(super) async fn well_known(&self) -> Result<WellKnown, String> {
        let url = self.at(WELL_KNOWN_PATH);
        let (status, body) = self.get(WELL_KNOWN_PATH).await.map_err(|error| format!("{url}: {error}"))?;
        if status != StatusCode::OK {
            return Err(format!("{url} answered HTTP {}", status.as_u16()));
        }
        serde_json::from_slice(&body).map_err(|_| format!("{url} is not a relay's description"))
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, Vec<u8>), String> {
        let mut response = self.client.get(self.at(path)).send().await.map_err(|error| innermost(&error))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| innermost(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err("the answer is longer than a relay's".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), body))
    }

    /// Connects as clients do, up to the message in which the relay proves its key.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn handshake(&self) -> Result<NoisePublicKey, String> {
        timeout(DEADLINE, self.try_handshake()).await.unwrap_or_else(|_| Err("nothing came in time".to_owned()))
    }

    async fn try_handshake(&self) -> Result<NoisePublicKey, String> {
        let mut url = self.at(WS_PATH);
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        url.set_scheme(scheme).map_err(|()| "not a URL that a WebSocket has".to_owned())?;
        let mut request = url.as_str().into_client_request().map_err(|error| error.to_string())?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(WS_SUBPROTOCOL));
        let connector = Connector::Rustls(Arc::new(self.tls.clone()));
        let (mut socket, _) =
            connect_async_tls_with_config(request, None, true, Some(connector)).await.map_err(|error| match error {
                WsError::Http(response) => {
                    let status = response.status().as_u16();
                    format!("HTTP {status} instead of a WebSocket: the proxy must pass Upgrade and Connection on")
                }
                other => other.to_string(),
            })?;
        let mut rng = clock::rng(&SystemEntropy);
        let (awaiting, first) = Initiator::relay(&StaticKey::generate(&mut rng), &mut rng);
        socket.send(Message::binary(first)).await.map_err(|error| error.to_string())?;
        while let Some(message) = socket.next().await {
            if let Message::Binary(second) = message.map_err(|error| error.to_string())? {
                let peer = awaiting.read(&second).map_err(|error| error.to_string())?;
                // A goodbye that does not arrive harms nobody.
                let _ = socket.close(None).await;
                return Ok(peer.remote_static());
            }
        }
        Err("the connection ended without an answer".to_owned())
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url.set_query(None);
        url.set_fragment(None);
        url
    }
}

/// The cause that says something: reqwest's own text only names the URL again.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
