//! Runs pods on a node: CRI or simulated.
