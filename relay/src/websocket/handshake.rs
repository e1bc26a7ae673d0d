//! The opening handshake (RFC 6455 §4.2): what a request must say, and the answer.

use axum::body::Body;
use axum::http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use zerok_sync_protocol::label::WS_SUBPROTOCOL;

/// The only version there is.
const VERSION: &str = "13";

/// A request that opens a WebSocket.
pub(super) struct Opening<'a> {
    key: &'a HeaderValue,
    /// Whether it offers the subprotocol.
    pub(super) speaks: bool,
}

impl<'a> Opening<'a> {
    /// Reads a request's head.
    ///
    /// # Errors
    /// The answer that says what is missing.
    pub(super) fn of(method: &Method, headers: &'a HeaderMap) -> Result<Self, Box<Response>> {
        let refused = |status: StatusCode, why: &'static str| Box::new((status, why).into_response());
        if method != Method::GET {
            return Err(refused(StatusCode::METHOD_NOT_ALLOWED, "a WebSocket is opened with GET\n"));
        }
        if !has_token(headers, &CONNECTION, "upgrade") || !has_token(headers, &UPGRADE, "websocket") {
            return Err(refused(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket: ask for an upgrade\n"));
        }
        if !has_token(headers, &SEC_WEBSOCKET_VERSION, VERSION) {
            let why = "only version 13 of WebSocket is spoken here\n";
            let answer = (StatusCode::UPGRADE_REQUIRED, [(SEC_WEBSOCKET_VERSION, VERSION)], why);
            return Err(Box::new(answer.into_response()));
        }
        let key = headers
            .get(SEC_WEBSOCKET_KEY)
            .ok_or_else(|| refused(StatusCode::BAD_REQUEST, "a WebSocket request has a Sec-WebSocket-Key\n"))?;
        Ok(Self { key, speaks: has_token(headers, &SEC_WEBSOCKET_PROTOCOL, WS_SUBPROTOCOL) })
    }

    /// Says yes.
    pub(super) fn accept(&self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        let accepted = HeaderValue::try_from(derive_accept_key(self.key.as_bytes()));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accepted.expect("base64 is a header's value"));
        if self.speaks {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(WS_SUBPROTOCOL));
        }
        response
    }
}

/// Whether one of a header's comma-separated tokens is this one, in whatever case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offered| offered.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(left_out: &str) -> HeaderMap {
        [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "chat, 0k-sync.v1"),
        ]
        .into_iter()
        .filter(|(name, _)| *name != left_out)
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
    }

    fn status_without(left_out: &str) -> Option<StatusCode> {
        Opening::of(&Method::GET, &request(left_out)).err().map(|refused| refused.status())
    }

    #[test]
    fn the_answer_to_the_standards_own_example_is_the_standards() {
        let headers = request("");
        let opening = Opening::of(&Method::GET, &headers).unwrap_or_else(|_| panic!("it asks for all that is needed"));
        let answer = opening.accept();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(answer.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.headers()[SEC_WEBSOCKET_PROTOCOL], "0k-sync.v1");
    }

    #[test]
    fn a_request_that_lacks_something_is_told_what() {
        for header in ["connection", "upgrade", "sec-websocket-version"] {
            assert_eq!(status_without(header), Some(StatusCode::UPGRADE_REQUIRED), "{header}");
        }
        assert_eq!(status_without("sec-websocket-key"), Some(StatusCode::BAD_REQUEST));
        let headers = request("");
        let posted = Opening::of(&Method::POST, &headers).err().map(|refused| refused.status());
        assert_eq!(posted, Some(StatusCode::METHOD_NOT_ALLOWED));
    }

    #[test]
    fn without_the_subprotocol_it_opens_and_agrees_on_none() {
        let headers = request("sec-websocket-protocol");
        let opening = Opening::of(&Method::GET, &headers).unwrap_or_else(|_| panic!("it may be asked for"));
        assert!(!opening.speaks);
        assert!(!opening.accept().headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
    }
}
