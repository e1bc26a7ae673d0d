//! The web demo's files, or a page that says where it is.

use std::path::Path;

use axum::Router;
use axum::http::header;
use axum::response::Html;
use axum::routing::get;
use tower_http::services::ServeDir;

use super::if_unset;

/// Shown at `/` where there is no demo.
const PLAIN_PAGE: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>0k-Sync relay</title>\
     <h1>0k-Sync relay</h1><p>This relay is running. The web demo is not built here: \
     run <code>npm start</code> in the project's folder, or start the relay with \
     <code>--web-root DIR</code>.</p>";

/// Serves the folder, or the plain page.
pub(super) fn routes(root: Option<&Path>) -> Router {
    match root {
        Some(root) => files(root),
        None => Router::new().route("/", get(async || Html(PLAIN_PAGE))),
    }
}

/// Files under `assets/` carry a hash in their name and never change; everything else is asked for
/// again each time (and answered 304).
fn files(root: &Path) -> Router {
    let assets = Router::new()
        .fallback_service(folder(&root.join("assets")))
        .layer(if_unset(header::CACHE_CONTROL, "public, max-age=31536000, immutable"));
    Router::new().nest_service("/assets", assets).fallback_service(folder(root))
}

/// A file `x` is sent as `x.br` or `x.gz` where that lies beside it and the browser takes it. The
/// demo's build compresses once and as well as it can; nobody can make the relay compress.
fn folder(path: &Path) -> ServeDir {
    ServeDir::new(path).precompressed_br().precompressed_gzip()
}
