//! Exact Westfall-Young step-down maxT: which genes differ between two classes of samples, with the
//! family-wise error controlled, over *all* relabelings of the samples instead of a random few.
//!
//! As a Lull module: inputs `expression` (a table, see [`Table`]) and, if wanted, `class` (the label whose
//! samples are chosen; by default the last column's). A job is split by range over the
//! [ranks](revolving_door) of relabelings, `0 .. C(samples, chosen)`; results are [`Counts`], merging adds
//! them up, and the answer is a CSV of p-values ([`answer()`]).
//!
//! As a library:
//!
//! ```
//! let table = b"gene,a,a,b,b\nup,0.1,0.3,5.0,6.0\nflat,1,2,2,1.5\n";
//! let study = lull_maxt::Study::new(table, None)?;
//! let counts = study.count(0..study.relabelings())?;
//! println!("{}", lull_maxt::answer(&study, &counts)?);
//! # Ok::<(), lull_sdk::Error>(())
//! ```
//!
//! Method: Westfall and Young, *Resampling-Based Multiple Testing* (1993); the step-down algorithm as in
//! Dudoit, Shaffer and Boldrick, *Statistical Science* 18:71 (2003), for the absolute equal-variance t
//! statistic. Everything is integer arithmetic, so every machine gets the same bytes; see [`Study`] for the
//! one rounding there is.
//!
//! What it does not do: other statistics than t, more than two classes at once, missing values, one-sided
//! tests.

mod answer;
mod batch;
mod counts;
mod kernel;
mod lanes;
mod matrix;
mod program;
pub mod revolving_door;
mod stepdown;
mod study;
mod table;
mod walk;
mod weights;

pub use answer::answer;
pub use counts::Counts;
pub use program::MaxT;
pub use study::Study;
pub use table::{MAX_ABS_VALUE, MAX_SAMPLES, Table};
pub use walk::Walk;

lull_sdk::program!(MaxT);
