//! What a research program is, and the macros that make a module of it.

use crate::{Error, Inputs, Unit};

/// What a bounded piece of work came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// There is more to do: call again.
    More,
    /// The unit's result.
    Done(Vec<u8>),
}

/// A research program: how a job's units are worked on, merged and turned into the answer.
///
/// Every function must depend on its arguments alone. [`program!`](crate::program!) makes a module of it.
pub trait Program: 'static {
    /// What all units need, made once from the job's inputs (parsed tables, weights, an index).
    type Shared: 'static;
    /// The state of a running unit.
    type Work: 'static;

    /// Reads and checks the job's inputs.
    ///
    /// # Errors
    /// When an input is missing or wrong; name the input, the place in it and the remedy.
    fn prepare(inputs: &Inputs) -> Result<Self::Shared, Error>;

    /// Lists the items of the job, for a program whose job file says that it splits itself.
    ///
    /// # Errors
    /// By default always: most programs are split by range, lines, files or grid.
    fn split(shared: &Self::Shared) -> Result<Vec<Vec<u8>>, Error> {
        let _ = shared;
        Err(Error::new("this module has no split of its own: split its job by range, lines, files or grid"))
    }

    /// Starts a unit of work.
    ///
    /// # Errors
    /// When the payload is not one that this program works on.
    fn begin(shared: &Self::Shared, unit: Unit) -> Result<Self::Work, Error>;

    /// Does a bounded piece of the unit, a few milliseconds to a tenth of a second of work.
    ///
    /// A unit can be moved, and its runner ended, only between two steps.
    ///
    /// # Errors
    /// When the unit cannot be finished.
    fn step(shared: &Self::Shared, work: &mut Self::Work) -> Result<Step, Error>;

    /// Merges results, in the order of their units, into one that may be merged again. By default they are
    /// concatenated.
    ///
    /// # Errors
    /// When the parts do not fit together.
    fn merge(shared: &Self::Shared, parts: Vec<Vec<u8>>) -> Result<Vec<u8>, Error> {
        let _ = shared;
        Ok(parts.concat())
    }

    /// Turns the merged result into the job's answer. By default it is the answer.
    ///
    /// # Errors
    /// When the merged result cannot be read.
    fn finish(shared: &Self::Shared, merged: Vec<u8>) -> Result<Vec<u8>, Error> {
        let _ = shared;
        Ok(merged)
    }
}

/// Makes a module of a [`Program`]: exports the guest ABI on wasm32, and nothing elsewhere.
///
/// Use it once, in the root of a crate whose `crate-type` has `cdylib`.
#[macro_export]
macro_rules! program {
    ($program:ty) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = $crate::guest::assert_program::<$program>;

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "exporting a function under its ABI name; nothing else here is unsafe")]
        const _: () = {
            ::std::thread_local! {
                static DRIVER: ::std::cell::RefCell<$crate::Driver<$program>> =
                    const { ::std::cell::RefCell::new($crate::Driver::new()) };
            }

            // SAFETY (of each `no_mangle`): the names are the ABI's own, and `program!` stands once in a
            // module, so that no other symbol has them; the linker refuses a second one.
            #[unsafe(no_mangle)]
            extern "C" fn lull_abi_version() -> i32 {
                $crate::guest::ABI_VERSION
            }

            #[unsafe(no_mangle)]
            extern "C" fn lull_alloc(len: usize) -> usize {
                $crate::guest::alloc(len)
            }

            #[unsafe(no_mangle)]
            extern "C" fn lull_input(name: usize, name_len: usize, content: usize, content_len: usize) {
                DRIVER.with_borrow_mut(|driver| {
                    $crate::guest::input(driver, (name, name_len), (content, content_len));
                });
            }

            #[unsafe(no_mangle)]
            extern "C" fn lull_prepare() -> i32 {
                DRIVER.with_borrow_mut($crate::guest::prepare)
            }

            #[unsafe(no_mangle)]
            extern "C" fn lull_begin(unit: usize, unit_len: usize) -> i32 {
                DRIVER.with_borrow_mut(|driver| $crate::guest::begin(driver, (unit, unit_len)))
            }

            #[unsafe(no_mangle)]
            extern "C" fn lull_step() -> i32 {
                DRIVER.with_borrow_mut($crate::guest::step)
            }

            #[unsafe(no_mangle)]
            extern "C" fn lull_result_ptr() -> usize {
                $crate::guest::result_ptr()
            }

            #[unsafe(no_mangle)]
            extern "C" fn lull_result_len() -> usize {
                $crate::guest::result_len()
            }
        };
    };
}

/// Makes a module of a function from a unit to its result, for programs that need no inputs, do a unit in
/// one step and merge by concatenation.
///
/// The function is `fn(&Unit) -> Result<R, Error>`, where `R` becomes bytes: `Vec<u8>`, `String`, `&str`.
#[macro_export]
macro_rules! each_unit {
    ($function:path) => {
        const _: () = {
            struct EachUnit;

            impl $crate::Program for EachUnit {
                type Shared = ();
                type Work = $crate::Unit;

                fn prepare(_: &$crate::Inputs) -> ::std::result::Result<(), $crate::Error> {
                    ::std::result::Result::Ok(())
                }

                fn begin(_: &(), unit: $crate::Unit) -> ::std::result::Result<$crate::Unit, $crate::Error> {
                    ::std::result::Result::Ok(unit)
                }

                fn step(
                    _: &(),
                    unit: &mut $crate::Unit,
                ) -> ::std::result::Result<$crate::Step, $crate::Error> {
                    let result = $function(unit)?;
                    ::std::result::Result::Ok($crate::Step::Done(::std::convert::Into::into(result)))
                }
            }

            $crate::program!(EachUnit);
        };
    };
}
