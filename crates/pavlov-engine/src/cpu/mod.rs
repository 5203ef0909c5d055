//! The processor backend.
mod buffer;
mod linear;
mod pool;
mod tile;
pub use tile::Isa;
