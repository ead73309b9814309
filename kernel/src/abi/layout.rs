//! `abi_struct!`: structs with Linux's exact byte layout (little endian, explicit padding), read and written without `unsafe`.
//!
//! Neighbour: [`crate::user::UserPtr`] moves any [`Abi`] value to and from a guest.

use alloc::vec;

/// A value with a fixed byte form that a guest can read or write.
pub trait Abi: Sized {
    /// Bytes of the form.
    const SIZE: usize;
    /// Writes the form into `out`, which is `SIZE` bytes long.
    fn encode(&self, out: &mut [u8]);
    /// Reads the form from `bytes`, which is `SIZE` bytes long. Every bit pattern is a value.
    fn decode(bytes: &[u8]) -> Self;

    /// The form in a vector of its own.
    fn to_bytes(&self) -> alloc::vec::Vec<u8> {
        let mut out = vec![0; Self::SIZE];
        self.encode(&mut out);
        out
    }
}

macro_rules! abi_int {
    ($($int:ty),*) => {$(
        impl Abi for $int {
            const SIZE: usize = size_of::<$int>();
            fn encode(&self, out: &mut [u8]) {
                out[..Self::SIZE].copy_from_slice(&self.to_le_bytes());
            }
            fn decode(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$int>()];
                raw.copy_from_slice(&bytes[..Self::SIZE]);
                <$int>::from_le_bytes(raw)
            }
        }
    )*};
}
abi_int!(u8, i8, u16, i16, u32, i32, u64, i64);

impl<T: Abi + Copy + Default, const N: usize> Abi for [T; N] {
    const SIZE: usize = T::SIZE * N;
    fn encode(&self, out: &mut [u8]) {
        for (item, chunk) in self.iter().zip(out.chunks_exact_mut(T::SIZE)) {
            item.encode(chunk);
        }
    }
    fn decode(bytes: &[u8]) -> Self {
        let mut items = [T::default(); N];
        for (item, chunk) in items.iter_mut().zip(bytes.chunks_exact(T::SIZE)) {
            *item = T::decode(chunk);
        }
        items
    }
}

/// Declares a struct whose fields follow each other without gaps; padding is a field of its own, as in the man page's C declaration.
#[macro_export]
macro_rules! abi_struct {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$fmeta:meta])* $fvis:vis $field:ident : $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis struct $name { $($(#[$fmeta])* $fvis $field: $ty,)* }

        impl $crate::abi::Abi for $name {
            const SIZE: usize = 0 $(+ <$ty as $crate::abi::Abi>::SIZE)*;
            #[allow(unused_assignments)]
            fn encode(&self, out: &mut [u8]) {
                let mut at = 0;
                $(
                    $crate::abi::Abi::encode(&self.$field, &mut out[at..at + <$ty as $crate::abi::Abi>::SIZE]);
                    at += <$ty as $crate::abi::Abi>::SIZE;
                )*
            }
            #[allow(unused_assignments)]
            fn decode(bytes: &[u8]) -> Self {
                let mut at = 0;
                $(
                    let $field = <$ty as $crate::abi::Abi>::decode(&bytes[at..at + <$ty as $crate::abi::Abi>::SIZE]);
                    at += <$ty as $crate::abi::Abi>::SIZE;
                )*
                Self { $($field),* }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::Abi;

    abi_struct! {
        /// `struct timespec`.
        struct Pair { sec: i64, nsec: u32, pad: [u8; 4], }
    }

    #[test]
    fn a_struct_survives_its_byte_form() {
        let pair = Pair {
            sec: -5,
            nsec: 7,
            pad: [1, 2, 3, 4],
        };
        assert_eq!(Pair::SIZE, 16);
        assert_eq!(Pair::decode(&pair.to_bytes()), pair);
    }
}
