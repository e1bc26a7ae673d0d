//! How what every message is made of travels.

use bytes::Bytes;

use super::{Reader, Wire, WireError, Writer};

macro_rules! number {
    ($($ty:ty),*) => { $(
        impl Wire for $ty {
            fn write(&self, out: &mut Writer<'_>) {
                out.number((*self).into());
            }

            fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
                bytes.number()?.try_into().map_err(|_| WireError::fixed("a number that is too large"))
            }
        }
    )* };
}

number!(u8, u16, u32, u64);

impl Wire for bool {
    fn write(&self, out: &mut Writer<'_>) {
        out.boolean(*self);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
        bytes.boolean()
    }
}

impl Wire for String {
    fn write(&self, out: &mut Writer<'_>) {
        out.text(self);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
        bytes.text().map(str::to_owned)
    }
}

impl Wire for Bytes {
    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(self);
    }

    /// A copy: what is kept of a frame must not keep all of it.
    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
        bytes.bytes().map(Self::copy_from_slice)
    }
}

/// `nil`, or the value. Of a type that is never `nil` itself.
impl<T: Wire> Wire for Option<T> {
    fn write(&self, out: &mut Writer<'_>) {
        match self {
            Some(value) => value.write(out),
            None => out.nil(),
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
        if bytes.nil() { Ok(None) } else { T::read(bytes).map(Some) }
    }
}

/// As long as it is: for what this device stores itself. What comes from elsewhere is a
/// [`List`](super::List).
impl<T: Wire> Wire for Vec<T> {
    fn write(&self, out: &mut Writer<'_>) {
        out.count(self.len());
        self.iter().for_each(|item| item.write(out));
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = bytes.count()?;
        bytes.items(count)
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn write(&self, out: &mut Writer<'_>) {
        out.count(2);
        self.0.write(out);
        self.1.write(out);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut fields = bytes.fields("a pair")?;
        let pair = (fields.read()?, fields.read()?);
        fields.finish()?;
        Ok(pair)
    }
}
