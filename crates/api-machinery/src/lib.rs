//! Schemas, defaulting, validation, patches, server-side apply, selectors.
