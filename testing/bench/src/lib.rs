//! Whole-system benchmarks aimed at any kubeconfig.
