//! The management plane: registration, placement, inbox, test runs.
