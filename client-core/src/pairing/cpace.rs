//! CPace over ristretto255 with SHA-512, in its initiator-responder form: how two devices that
//! share a 20-bit password come to share a secret that a listener cannot search for.
//!
//! draft-irtf-cfrg-cpace, sections 6 and 7.4, "CPACE-RISTRETTO255-SHA512"; checked against the test
//! vectors of its appendix. Associated data is empty here: both sides' identities are bound by the
//! handshake that follows. A share that does not decode, or is the neutral element, ends it.

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use rand_core::CryptoRng;
use sha2::{Digest, Sha512};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Domain separator of the generator and, with `_ISK` behind it, of the result.
const DSI: &[u8] = b"CPaceRistretto255";
const DSI_ISK: &[u8] = b"CPaceRistretto255_ISK";
/// SHA-512's input block: the password fills the first one, so that hashing what follows does not
/// depend on it.
const HASH_BLOCK_BYTES: usize = 128;

/// Bytes of a share: an encoded group element.
pub(super) const SHARE_BYTES: usize = 32;
/// Bytes of randomness that a share takes.
pub(super) const SCALAR_SEED_BYTES: usize = 64;

/// `Ya` or `Yb`.
pub(super) type Share = [u8; SHARE_BYTES];

/// The intermediate session key.
pub(super) type Isk = Zeroizing<[u8; 64]>;

/// What both sides must agree on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    /// The password (`PRS`).
    pub(super) password: &'a [u8],
    /// What the exchange is for (`CI`).
    pub(super) channel: &'a [u8],
    /// Never used twice (`sid`).
    pub(super) session: &'a [u8],
}

/// One side's secret scalar, and its share to send.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Exchange {
    scalar: Scalar,
    #[zeroize(skip)]
    share: Share,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchange([redacted])")
    }
}

impl Exchange {
    /// Draws a scalar from [`SCALAR_SEED_BYTES`] of `rng`.
    pub(super) fn start(context: Context<'_>, rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut seed = Zeroizing::new([0; SCALAR_SEED_BYTES]);
        rng.fill_bytes(seed.as_mut());
        Self::with_scalar(context, Scalar::from_bytes_mod_order_wide(&seed))
    }

    fn with_scalar(context: Context<'_>, scalar: Scalar) -> Self {
        let generator = Zeroizing::new(generator(context));
        Self { scalar, share: (*generator * scalar).compress().to_bytes() }
    }

    /// What to send.
    pub(super) fn share(&self) -> Share {
        self.share
    }

    /// The secret, at the side that spoke first; `None` for a share that no honest side sends.
    pub(super) fn finish_first(self, session: &[u8], theirs: &[u8]) -> Option<Isk> {
        let secret = self.secret(theirs)?;
        Some(isk(session, &secret, [(&self.share, b""), (theirs, b"")]))
    }

    /// The secret, at the side that answered.
    pub(super) fn finish_second(self, session: &[u8], theirs: &[u8]) -> Option<Isk> {
        let secret = self.secret(theirs)?;
        Some(isk(session, &secret, [(theirs, b""), (&self.share, b"")]))
    }

    /// `scalar_mult_vfy`.
    fn secret(&self, theirs: &[u8]) -> Option<Zeroizing<[u8; SHARE_BYTES]>> {
        let theirs = CompressedRistretto(theirs.try_into().ok()?).decompress()?;
        let point = Zeroizing::new(theirs * self.scalar);
        (!point.is_identity()).then(|| Zeroizing::new(point.compress().to_bytes()))
    }
}

fn generator(context: Context<'_>) -> RistrettoPoint {
    let hash: Zeroizing<[u8; 64]> = Zeroizing::new(Sha512::digest(generator_string(context)).into());
    RistrettoPoint::from_uniform_bytes(&hash)
}

/// `lv_cat(DSI, PRS, zero_bytes(len_zpad), CI, sid)`.
fn generator_string(context: Context<'_>) -> Zeroizing<Vec<u8>> {
    let (mut head, mut rest) = (Vec::new(), Vec::new());
    lv(&mut head, DSI);
    lv(&mut head, context.password);
    let padding = (HASH_BLOCK_BYTES - 1).saturating_sub(head.len());
    lv(&mut rest, &vec![0; padding]);
    lv(&mut rest, context.channel);
    lv(&mut rest, context.session);
    head.append(&mut rest);
    Zeroizing::new(head)
}

/// `H(lv_cat(DSI_ISK, sid, K) ‖ lv_cat(Ya, ADa) ‖ lv_cat(Yb, ADb))`.
fn isk(session: &[u8], secret: &[u8; SHARE_BYTES], sides: [(&[u8], &[u8]); 2]) -> Isk {
    let mut input = Zeroizing::new(Vec::new());
    for part in [DSI_ISK, session, secret] {
        lv(&mut input, part);
    }
    for (share, associated) in sides {
        lv(&mut input, share);
        lv(&mut input, associated);
    }
    Zeroizing::new(Sha512::digest(&*input).into())
}

/// Appends `bytes` behind their length as an unsigned LEB128 number (the draft's `prepend_len`).
pub(super) fn lv(to: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    while length >= 0x80 {
        to.push(length as u8 | 0x80);
        length >>= 7;
    }
    to.push(length as u8);
    to.extend_from_slice(bytes);
}

/// The vectors of draft-irtf-cfrg-cpace-21, appendix B.3, and of its string functions.
#[cfg(test)]
mod tests {
    use zerok_sync_protocol::fuzzing::SeededRng;

    use super::*;

    const CONTEXT: Context<'_> = Context {
        password: b"Password",
        channel: b"oc\x0bB_responder\x0bA_initiator",
        session: &[0x7e, 0x4b, 0x47, 0x91, 0xd6, 0xa8, 0xef, 0x01, 0x9b, 0x93, 0x6c, 0x79, 0xfb, 0x7f, 0x2c, 0x57],
    };
    const YA: &str = "d40fb265a7abeaee7939d91a585fe59f7053f982c296ec413c624c669308f87a";
    const YB: &str = "08bcf6e9777a9c313a3db6daa510f2d398403319c2341bd506a92e672eb7e307";
    const K: &str = "e22b1ef7788f661478f3cddd4c600774fc0f41e6b711569190ff88fa0e607e09";

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).expect("hex").try_into().expect("the length")
    }

    fn scalar(text: &str) -> Scalar {
        Scalar::from_canonical_bytes(bytes(text)).expect("canonical")
    }

    fn sides() -> [Exchange; 2] {
        [
            "da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08",
            "d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d",
        ]
        .map(|text| Exchange::with_scalar(CONTEXT, scalar(text)))
    }

    #[test]
    fn lengths_are_leb128() {
        let lv = |bytes: &[u8]| {
            let mut to = Vec::new();
            super::lv(&mut to, bytes);
            to
        };
        assert_eq!(hex::encode(lv(b"")), "00");
        assert_eq!(hex::encode(lv(b"1234")), "0431323334");
        let bytes: Vec<u8> = (0..128).collect();
        assert_eq!(lv(&bytes[..127])[..2], [0x7f, 0]);
        assert_eq!(lv(&bytes)[..3], [0x80, 0x01, 0]);
    }

    #[test]
    fn the_generator_is_the_drafts() {
        let string = generator_string(CONTEXT);
        assert_eq!(string.len(), 172);
        assert!(hex::encode(&*string).starts_with("11435061636552697374726574746f3235350850617373776f72646400"));
        assert!(
            hex::encode(&*string).ends_with(
                "001a6f630b425f726573706f6e6465720b415f696e69746961746f72107e4b4791d6a8ef019b936c79fb7f2c57"
            )
        );
        assert_eq!(
            hex::encode(Sha512::digest(&*string)),
            "c63a5750e2439c17ccd8213be14fde2f87e1bc637001a97f5929c77b30ea0e08\
             afbc75ace5d3d73b2842a79d01488c5fd7ea30d475ee609545af1bfd1ff77c8e"
        );
        assert_eq!(
            hex::encode(generator(CONTEXT).compress().to_bytes()),
            "a6fc82c3b8968fbb2e06fee81ca858586dea50d248f0c7ca6a18b0902a30b36b"
        );
    }

    #[test]
    fn shares_and_secret_points_are_the_drafts() {
        let [a, b] = sides();
        assert_eq!((hex::encode(a.share()), hex::encode(b.share())), (YA.to_owned(), YB.to_owned()));
        assert_eq!(a.secret(&b.share()).map(hex::encode).as_deref(), Some(K));
        assert_eq!(b.secret(&a.share()).map(hex::encode).as_deref(), Some(K));
    }

    #[test]
    fn the_session_key_is_the_drafts() {
        let sides: [(&[u8], &[u8]); 2] = [(&bytes::<32>(YA), b"ADa"), (&bytes::<32>(YB), b"ADb")];
        assert_eq!(
            hex::encode(isk(CONTEXT.session, &bytes(K), sides)),
            "4c5469a16b2364c4b944ebc1a79e51d1674ad47db26e8718154f59faebfaa52d\
             8346f30aa58377117eb20d527f2cbc5c76381f7fd372e89df8239f87f2e02ed1"
        );
    }

    #[test]
    fn a_secret_point_comes_of_valid_shares_only() {
        let side = Exchange {
            scalar: scalar("7cd0e075fa7955ba52c02759a6c90dbbfc10e6d40aea8d283e407d88cf538a05"),
            share: [0; 32],
        };
        let of = |share: &str| side.secret(&bytes::<32>(share)).map(hex::encode);
        assert_eq!(
            of("2c3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c").as_deref(),
            Some("7c13645fe790a468f62c39beb7388e541d8405d1ade69d1778c5fe3e7f6b600e")
        );
        assert_eq!(of("2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c"), None, "no encoding");
        assert_eq!(of(&"00".repeat(32)), None, "the neutral element");
        assert!(side.secret(&[0; 31]).is_none() && side.secret(&[]).is_none(), "another length");
    }

    #[test]
    fn only_the_same_password_purpose_and_session_give_the_same_key() {
        let key = |a: Context<'_>, b: Context<'_>| {
            let (a_side, b_side) =
                (Exchange::start(a, &mut SeededRng::new(b"a")), Exchange::start(b, &mut SeededRng::new(b"b")));
            let (to_b, to_a) = (a_side.share(), b_side.share());
            (a_side.finish_first(a.session, &to_a), b_side.finish_second(b.session, &to_b))
        };
        let same = |a, b| {
            let (a, b) = key(a, b);
            a.expect("valid") == b.expect("valid")
        };
        assert!(same(CONTEXT, CONTEXT));
        assert!(!same(CONTEXT, Context { password: b"password", ..CONTEXT }));
        assert!(!same(CONTEXT, Context { channel: b"other", ..CONTEXT }));
        assert!(!same(CONTEXT, Context { session: &[0; 16], ..CONTEXT }));
    }
}
