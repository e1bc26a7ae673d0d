//! Looks at a database without changing anything in it.

use tokio_postgres::error::SqlState;
use zeroize::Zeroizing;

use super::pool::{self, failed};
use crate::store::Result;
use crate::store::rules::fixed;

/// The relay's Noise secret; `None` if no relay made one here.
pub(crate) async fn noise_secret(url: &str) -> Result<Option<Zeroizing<[u8; 32]>>> {
    let pool = pool::pool(url)?;
    let db = pool::connection(&pool).await?;
    match db.query_opt("SELECT value FROM meta WHERE key = 'noise_secret'", &[]).await {
        Ok(None) => Ok(None),
        Ok(Some(row)) => fixed(&Zeroizing::new(row.get::<_, Vec<u8>>(0))).map(Zeroizing::new).map(Some),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}
