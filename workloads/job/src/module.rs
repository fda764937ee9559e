//! Whether bytes are a module that a runner will take: checked before anything is stored or paid.
//! The check reads the module, it never runs it.

use lull_abi::exports;
use wasmparser::{ExternalKind, FuncType, Parser, Payload, TypeRef, ValType, Validator, WasmFeatures};

use crate::limits::MODULE_BYTES_MAX;

/// Why a module is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// Over the size limit.
    #[error(
        "the module has {size_bytes} bytes, more than the {MODULE_BYTES_MAX} allowed: strip it or embed less data"
    )]
    TooLarge {
        /// Its size.
        size_bytes: u64,
    },
    /// Not WebAssembly, or with features that Lull does not run.
    #[error("not a WebAssembly module that Lull can run ({reason}): build it with `workloads/build`")]
    NotAModule {
        /// What the validator said.
        reason: String,
    },
    /// Imports something; guests import nothing.
    #[error(
        "the module imports `{module}.{name}`, but a guest imports nothing: build it for wasm32-unknown-unknown with lull-sdk"
    )]
    Import {
        /// Namespace of the import.
        module: String,
        /// Its name.
        name: String,
    },
    /// Lacks an export, or has it with another type.
    #[error("the module does not export {expected}: use `lull_sdk::program!` in it")]
    Export {
        /// What is missing.
        expected: String,
    },
}

/// Checks that these bytes are a module which a runner will take.
///
/// # Errors
/// The first thing that is wrong, with its remedy.
pub fn check_module(bytes: &[u8]) -> Result<(), ModuleError> {
    let size_bytes = bytes.len() as u64;
    if size_bytes > MODULE_BYTES_MAX {
        return Err(ModuleError::TooLarge { size_bytes });
    }
    let not_a_module =
        |error: wasmparser::BinaryReaderError| ModuleError::NotAModule { reason: error.message().to_owned() };
    // What the runner's engine is built with: no threads, no relaxed SIMD, no garbage collection, no exceptions.
    let features = WasmFeatures::WASM2
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::MULTI_MEMORY;
    Validator::new_with_features(features).validate_all(bytes).map_err(not_a_module)?;

    let mut outline = Outline::default();
    for payload in Parser::new(0).parse_all(bytes) {
        outline.read(payload.map_err(not_a_module)?).map_err(not_a_module)?;
    }
    outline.check()
}

#[derive(Default)]
struct Outline {
    types: Vec<Option<FuncType>>,
    functions: Vec<u32>,
    import: Option<(String, String)>,
    exports: Vec<(String, ExternalKind, u32)>,
}

impl Outline {
    fn read(&mut self, payload: Payload<'_>) -> Result<(), wasmparser::BinaryReaderError> {
        match payload {
            Payload::TypeSection(reader) => {
                for group in reader {
                    for sub in group?.into_types() {
                        let wasmparser::CompositeInnerType::Func(function) = sub.composite_type.inner else {
                            self.types.push(None);
                            continue;
                        };
                        self.types.push(Some(function));
                    }
                }
            }
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    let import = import?;
                    let _: TypeRef = import.ty;
                    self.import.get_or_insert((import.module.to_owned(), import.name.to_owned()));
                }
            }
            Payload::FunctionSection(reader) => {
                for index in reader {
                    self.functions.push(index?);
                }
            }
            Payload::ExportSection(reader) => {
                for export in reader {
                    let export = export?;
                    self.exports.push((export.name.to_owned(), export.kind, export.index));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ModuleError> {
        if let Some((module, name)) = &self.import {
            return Err(ModuleError::Import { module: module.clone(), name: name.clone() });
        }
        let find = |wanted: &str| self.exports.iter().find(|(name, ..)| name == wanted);
        if !matches!(find(exports::MEMORY), Some((_, ExternalKind::Memory, _))) {
            return Err(ModuleError::Export { expected: format!("its memory as `{}`", exports::MEMORY) });
        }
        for (name, params, results) in exports::FUNCTIONS {
            let fits = match find(name) {
                Some((_, ExternalKind::Func, index)) => self.function(*index).is_some_and(|function| {
                    let all_i32 = |types: &[ValType], count| {
                        types.len() == count && types.iter().all(|t| *t == ValType::I32)
                    };
                    all_i32(function.params(), params) && all_i32(function.results(), results)
                }),
                _ => false,
            };
            if !fits {
                return Err(ModuleError::Export {
                    expected: format!(
                        "the function `{name}` with {params} i32 parameters and {results} i32 results"
                    ),
                });
            }
        }
        Ok(())
    }

    fn function(&self, index: u32) -> Option<&FuncType> {
        let type_index = *self.functions.get(usize::try_from(index).ok()?)?;
        self.types.get(usize::try_from(type_index).ok()?)?.as_ref()
    }
}
