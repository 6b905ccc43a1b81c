//! Repository chores: tidy, codegen.
fn main() {}
