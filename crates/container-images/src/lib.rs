//! Container images without a registry: archives of images, and the tool image made of our own executable.
//!
//! [`tool`] carries out the tool image's command lines as a process. [`archive`] writes an image as one file that is
//! both an OCI layout and what `docker save` writes; [`build`] makes the tool image that way from an executable and the
//! libraries it needs ([`elf`]). [`load`] checks an archive from outside and hands it to containerd.
//!
//! It never reaches a network.

pub mod archive;
pub mod build;
pub mod elf;
pub mod load;
pub mod tool;
