//! Throw-away services for the tests of every crate here: the real thing, started and removed by
//! the test process itself. Never a dependency of a product.

pub mod port;
pub mod postgres;
