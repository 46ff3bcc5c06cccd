//! The operator's console.
