//! The scan: walks what is to be stored and holds it against what is known.
//!
//! [`walk`] lists folders and looks at their entries, several threads ahead of the one that takes them; [`known`] is what the store knows;
//! [`compare`] joins the two, folder by folder, in the one order that walk and catalog share: byte order of names, depth first. It opens
//! folders only and writes nothing; what is in a file is the pipeline's to read.

pub mod compare;
pub mod excludes;
pub mod known;
pub mod stat;
pub mod walk;
