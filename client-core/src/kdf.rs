//! HKDF-SHA256 (RFC 5869) in the two shapes the protocol uses.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// `Expand(Extract(salt, ikm), info)` to `N` bytes; `salt` may be empty.
pub fn derive<const N: usize>(salt: &[u8], ikm: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    expand_from(&Hkdf::<Sha256>::new(Some(salt), ikm), info)
}

/// `Expand(prk, info)` to `N` bytes.
pub fn expand<const N: usize>(prk: &[u8; 32], info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    expand_from(&Hkdf::<Sha256>::from_prk(prk).expect("32 bytes are a SHA-256 output"), info)
}

fn expand_from<const N: usize>(hkdf: &Hkdf<Sha256>, info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 255 * 32) };
    let mut okm = Zeroizing::new([0; N]);
    hkdf.expand_multi_info(info, okm.as_mut()).expect("at most 255 blocks, checked when compiled");
    okm
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5869, appendix A.1 and A.3 (zero-length salt and info).
    #[test]
    fn the_vectors_of_rfc_5869_hold() {
        let salt: Vec<u8> = (0x00..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let okm = derive::<42>(&salt, &[0x0b; 22], &[&info[..3], &info[3..]]);
        assert_eq!(
            hex::encode(*okm),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        );
        let okm = derive::<42>(&[], &[0x0b; 22], &[]);
        assert_eq!(
            hex::encode(*okm),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
        );
        let prk = hex::decode("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5").expect("hex");
        let prk: [u8; 32] = prk.try_into().expect("32 bytes");
        assert_eq!(*expand::<42>(&prk, &[&info]), *derive::<42>(&salt, &[0x0b; 22], &[&info]));
    }
}
