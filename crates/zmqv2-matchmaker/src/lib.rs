//! matchmaker
