//! Noise channel.
