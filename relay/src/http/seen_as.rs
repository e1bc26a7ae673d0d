//! `/v1/seen-as`: what the relay takes for the address of whoever asks, so that its operator can
//! see whether the proxy in front says who its clients are. Told to nobody else, kept nowhere.

use axum::Extension;
use axum::http::header;
use axum::response::IntoResponse;

use crate::server::SeenAs;

/// Where it is asked.
pub(crate) const SEEN_AS_PATH: &str = "/v1/seen-as";

/// Answers.
pub(super) async fn tell(Extension(SeenAs(address)): Extension<SeenAs>) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], format!("{}\n", address.to_canonical()))
}
