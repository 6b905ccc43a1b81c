//! Every parser that sees a client's bytes, before or after authentication, as a plain function of bytes: a [`Target`].
//!
//! A target panics when a promise is broken: a parser that panics, an answer 500, a text that does not read back as what
//! was written. `./dev test` replays the seeds in `corpus/TARGET` and a fixed number of mutations of them; the program
//! of this crate mutates for as long as one likes; `fuzz/` beside the workspace runs the same functions under
//! `cargo fuzz`. An input that found something stays in the corpus.
//!
//! * [`targets`]: the functions.
//! * [`mutation`]: random changes of inputs, the same for the same seed.
//! * [`replay`]: seeds and mutations through a target.
//!
//! It must never reach the network, nor keep state from one input to the next that changes what an input shows (the
//! API server behind the target `request` keeps what was created; it is emptied by being made anew per process).

pub mod mutation;
pub mod replay;
pub mod targets;

/// One parser, or several that see the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its directory in `corpus/`.
    pub name: &'static str,
    /// Takes any bytes; panics when they break a promise.
    pub run: fn(&[u8]),
    /// Mutations that `./dev test` tries: fewer where one takes long.
    pub mutations: u32,
    /// Pieces of the language that it reads, to put into mutations.
    pub words: &'static [&'static str],
}
