//! Who may see what is for the operator: `/metrics` and `/status`.
//!
//! Somebody on this machine may. Anybody else needs the token, and where there is no token, the
//! pages are not there. "On this machine" is believed only of a request that nothing has passed
//! on: a reverse proxy on this machine has a loopback address too, and whoever is behind it has
//! not.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::App;
use crate::server::Peer;

/// What proxies, tunnels and content delivery networks add to a request.
const PASSED_ON: [&str; 10] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "cf-connecting-ip",
    "cf-ray",
    "cdn-loop",
    "true-client-ip",
];

/// The token of those who are not on this machine, if there is one.
#[derive(Clone, Default)]
pub(crate) struct OperatorToken(pub(crate) Option<Zeroizing<String>>);

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Granted,
    /// 401: the right token opens it.
    TokenNeeded,
    /// 404: nothing does.
    Hidden,
}

impl OperatorToken {
    fn decide(&self, peer: Option<SocketAddr>, request: &Parts) -> Access {
        if peer.is_some_and(|peer| is_on_this_machine(peer, request)) {
            return Access::Granted;
        }
        match &self.0 {
            None => Access::Hidden,
            Some(token) if bearer(&request.headers).is_some_and(|given| same(token.as_bytes(), given)) => {
                Access::Granted
            }
            Some(_) => Access::TokenNeeded,
        }
    }
}

/// Lets through who may see the numbers.
pub(super) async fn numbers(State(app): State<App>, request: Request, next: Next) -> Response {
    match decide(&app, request).await {
        (Access::Granted, request) => next.run(request).await,
        (Access::TokenNeeded, _) => (
            StatusCode::UNAUTHORIZED,
            [(WWW_AUTHENTICATE, "Bearer")],
            "send the relay's metrics_token: Authorization: Bearer …\n",
        )
            .into_response(),
        (Access::Hidden, _) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The page itself holds no numbers: it is there for whoever could get them, and asks for the token.
pub(super) async fn page(State(app): State<App>, request: Request, next: Next) -> Response {
    match decide(&app, request).await {
        (Access::Granted | Access::TokenNeeded, request) => next.run(request).await,
        (Access::Hidden, _) => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn decide(app: &App, request: Request) -> (Access, Request) {
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
    let access = app.token.decide(peer, &parts);
    (access, Request::from_parts(parts, body))
}

fn is_on_this_machine(peer: SocketAddr, request: &Parts) -> bool {
    peer.ip().to_canonical().is_loopback()
        && !PASSED_ON.iter().any(|name| request.headers.contains_key(*name))
        // What nginx speaks to those behind it unless it is told otherwise; no program of this
        // century that asks for itself does.
        && request.version != Version::HTTP_10
        // A web page whose own name was made to point here keeps its name.
        && request.headers.get(HOST).is_some_and(|host| host.to_str().is_ok_and(names_this_machine))
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_first_chunk::<7>()?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// Takes the same time for every token of the right length.
fn same(token: &[u8], given: &[u8]) -> bool {
    token.ct_eq(given).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct horse battery staple";

    fn request(headers: &[(&str, &str)]) -> Parts {
        let mut request = axum::http::Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("valid headers").into_parts().0
    }

    fn asks(token: Option<&str>, peer: &str, headers: &[(&str, &str)]) -> Access {
        let token = OperatorToken(token.map(|token| Zeroizing::new(token.to_owned())));
        token.decide(Some(peer.parse().expect("an address")), &request(headers))
    }

    #[test]
    fn this_machine_needs_no_token() {
        for peer in ["127.0.0.1:5000", "127.9.9.9:5000", "[::1]:5000", "[::ffff:127.0.0.1]:5000"] {
            for host in ["localhost:8080", "LOCALHOST", "127.0.0.1:8080", "[::1]:8080", "[::1]"] {
                assert_eq!(asks(None, peer, &[("host", host)]), Access::Granted, "{peer} {host}");
            }
        }
    }

    #[test]
    fn other_machines_see_nothing_where_there_is_no_token() {
        for peer in ["192.0.2.1:5000", "[2001:db8::1]:5000", "10.0.0.1:5000"] {
            assert_eq!(asks(None, peer, &[("host", "localhost")]), Access::Hidden);
        }
    }

    #[test]
    fn what_a_proxy_on_this_machine_passes_on_is_not_from_this_machine() {
        for header in PASSED_ON {
            let headers = [("host", "localhost"), (header, "127.0.0.1")];
            assert_eq!(asks(None, "127.0.0.1:5000", &headers), Access::Hidden, "{header}");
        }
        let mut old = request(&[("host", "localhost")]);
        old.version = Version::HTTP_10;
        let peer = "127.0.0.1:5000".parse().ok();
        assert_eq!(OperatorToken(None).decide(peer, &old), Access::Hidden);
    }

    #[test]
    fn a_web_page_that_was_made_to_point_here_is_not_from_this_machine() {
        for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
            assert_eq!(asks(None, "127.0.0.1:5000", &[("host", host)]), Access::Hidden, "{host}");
        }
        assert_eq!(asks(None, "127.0.0.1:5000", &[]), Access::Hidden);
    }

    #[test]
    fn the_token_opens_from_anywhere_and_nothing_else_does() {
        let ask = |given: &str| asks(Some(TOKEN), "192.0.2.1:5000", &[("authorization", given)]);
        assert_eq!(ask(&format!("Bearer {TOKEN}")), Access::Granted);
        assert_eq!(ask(&format!("bearer {TOKEN}")), Access::Granted);
        for wrong in [TOKEN, "Bearer ", "Bearer correct horse battery stapl", "Basic correct horse battery staple", ""]
        {
            assert_eq!(ask(wrong), Access::TokenNeeded, "{wrong}");
        }
        assert_eq!(asks(Some(TOKEN), "192.0.2.1:5000", &[]), Access::TokenNeeded);
    }

    #[test]
    fn a_connection_of_unknown_origin_is_not_from_this_machine() {
        assert_eq!(OperatorToken(None).decide(None, &request(&[("host", "localhost")])), Access::Hidden);
    }
}
