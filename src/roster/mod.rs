//! Who is here, and under which names.

pub(crate) mod index;
