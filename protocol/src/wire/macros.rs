//! Definitions of messages: a type and its bytes in one place.

/// Defines a struct that travels as an array of its fields.
#[macro_export]
macro_rules! wire_struct {
    ($(#[$meta:meta])* pub struct $name:ident { $( $(#[$field_meta:meta])* $field:ident : $ty:ty ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $( $(#[$field_meta])* pub $field: $ty ),* }

        impl $crate::wire::Wire for $name {
            fn write(&self, out: &mut $crate::wire::Writer<'_>) {
                const FIELDS: &[&str] = &[$( stringify!($field) ),*];
                out.count(FIELDS.len());
                $( $crate::wire::Wire::write(&self.$field, out); )*
            }

            fn read(bytes: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::wire::WireError> {
                let mut fields = bytes.fields(stringify!($name))?;
                $( let $field = fields.read()?; )*
                fields.finish()?;
                Ok(Self { $( $field ),* })
            }
        }
    };
}

/// Defines an enum that travels as an array of a numeric tag and the variant's fields.
#[macro_export]
macro_rules! wire_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $(
        $(#[$variant_meta:meta])* $tag:literal => $variant:ident { $( $(#[$field_meta:meta])* $field:ident : $ty:ty ),* $(,)? }
    ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name { $( $(#[$variant_meta])* $variant { $( $(#[$field_meta])* $field: $ty ),* } ),* }

        impl $name {
            /// Every tag this version knows, in the order of the declaration.
            pub const TAGS: &'static [u16] = &[$( $tag ),*];

            /// The numeric tag on the wire.
            #[must_use]
            pub const fn tag(&self) -> u16 {
                match self { $( Self::$variant { .. } => $tag ),* }
            }

            /// The variant's name, for logs and errors.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $( Self::$variant { .. } => stringify!($variant) ),* }
            }
        }

        impl $crate::wire::Wire for $name {
            fn write(&self, out: &mut $crate::wire::Writer<'_>) {
                match self { $(
                    Self::$variant { $( $field ),* } => {
                        const FIELDS: &[&str] = &[$( stringify!($field) ),*];
                        out.count(1 + FIELDS.len());
                        out.number($tag);
                        $( $crate::wire::Wire::write($field, out); )*
                    }
                )* }
            }

            fn read(bytes: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::wire::WireError> {
                let mut fields = bytes.fields(stringify!($name))?;
                let value = match fields.read()? {
                    $( $tag => {
                        $( let $field = fields.read()?; )*
                        Self::$variant { $( $field ),* }
                    } )*
                    other => return Err(fields.unknown_tag(other)),
                };
                fields.finish()?;
                Ok(value)
            }
        }
    };
}
