//! TOML text to [`Settings`](super::Settings), every mistake with its place.
