//! The embedded engine: redb behind a group-commit writer.
