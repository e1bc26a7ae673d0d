//! What the instances of a relay that share one database tell each other, beside the database.
//!
//! A doorbell is a hint and nothing rests on it: whatever it carries is in the store already (or
//! is ephemeral, as notices are), and `backstop.rs` looks it up once a second. So it may lose,
//! repeat and reorder; it must not block, and it must not grow. It rings behind the commit, never
//! in it: inside the append's transaction it would cost most of the throughput.
//!
//! [`Doorbell`] is what another carrier, a message bus for a large cluster, implements.
//!
//! | file | role |
//! |---|---|
//! | `news.rs` | what is said, and its bytes |
//! | `pending.rs` | news that wait to go out, gathered and bounded |
//! | `postgres.rs` | `LISTEN` and `NOTIFY` on connections of their own |
//! | `backstop.rs` | the poll that makes good what a doorbell lost |

mod backstop;
mod news;
mod pending;
mod postgres;

pub(crate) use self::backstop::poll_followed;
pub use self::news::News;
pub use self::postgres::PostgresDoorbell;

/// Carries news from this instance to the others that share its store. What comes from them goes
/// to [`crate::hub::Hub::hear`].
pub trait Doorbell: Send + Sync + 'static {
    /// Tells the others soon. Never waits; what does not get through is lost.
    fn ring(&self, news: News);
}

/// For a store that no other instance shares.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Doorbell for Silent {
    fn ring(&self, _news: News) {}
}
