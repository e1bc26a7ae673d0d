//! PADMÉ: sizes are rounded so that a length of `n` bits shows only about `log2 n` of them.
//!
//! Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with
//! PURBs", PETS 2019, algorithm 1. At most 12 % overhead, falling with size.

/// Shortest padded plaintext: hides the differences between small entries altogether.
pub const PADDED_BYTES_MIN: usize = 256;

/// The padded size of a plaintext of `length` bytes.
#[must_use]
pub fn padded_len(length: usize) -> usize {
    let length = length.max(PADDED_BYTES_MIN);
    let mask = free_bits(length);
    (length + mask) & !mask
}

/// The longest plaintext whose padded size is at most `padded_max`; `None` below the minimum.
#[must_use]
pub fn unpadded_max(padded_max: usize) -> Option<usize> {
    (padded_max >= PADDED_BYTES_MIN).then(|| padded_max & !free_bits(padded_max))
}

/// The low bits that must be zero in a padded size near `length` (at least 2).
fn free_bits(length: usize) -> usize {
    let exponent = length.ilog2();
    let mantissa_bits = exponent.ilog2() + 1;
    (1 << (exponent - mantissa_bits)) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_plaintexts_all_look_the_same() {
        assert!((0..=256).all(|length| padded_len(length) == 256));
    }

    /// Worked out by hand from the paper's algorithm: for 2^8 < L < 2^9, E = 8, S = 4, so the last
    /// four bits are zero; for a mebibyte and a byte, E = 20, S = 5, so the last fifteen are.
    #[test]
    fn sizes_follow_the_paper() {
        assert_eq!(padded_len(257), 272);
        assert_eq!(padded_len(272), 272);
        assert_eq!(padded_len(1000), 1024);
        assert_eq!(padded_len((1 << 20) + 1), (1 << 20) + (1 << 15));
    }

    proptest! {
        #[test]
        fn padding_is_monotonic_idempotent_and_cheap(length in 0usize..32 << 20) {
            let padded = padded_len(length);
            prop_assert!(padded >= length);
            prop_assert!(padded <= padded_len(length + 1));
            prop_assert_eq!(padded_len(padded), padded);
            prop_assert!(length < 256 || padded - length <= length * 12 / 100);
        }

        #[test]
        fn unpadded_max_is_the_largest_that_fits(max in 256usize..32 << 20) {
            let length = unpadded_max(max).expect("at least the minimum");
            prop_assert!(padded_len(length) <= max);
            prop_assert!(padded_len(length + 1) > max);
        }
    }
}
