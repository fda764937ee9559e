//! Whether bytes are a module that a runner will take: checked before anything is stored or paid.
//! The check reads the module, it never runs it.
//!
//! There are two kinds: guests of the SDK, and programs of WASI preview 1 (`lull_abi::wasi`).

use lull_abi::{Stage, exports, wasi};
use wasmparser::{ExternalKind, FuncType, Parser, Payload, TypeRef, ValType, Validator, WasmFeatures};

use crate::limits::{ARGS_BYTES_MAX, MODULE_BYTES_MAX};
use crate::{Spec, SpecError, Split};

/// What a module is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleKind {
    /// It is driven step by step (`lull_sdk`), and can be resumed.
    Steps,
    /// It reads standard input and writes standard output (WASI preview 1): a unit that is interrupted starts anew.
    Wasi {
        /// Whether it asks to be run for a job's own split.
        has_split: bool,
    },
}

impl ModuleKind {
    /// Checks that such a module can do what a job asks for.
    ///
    /// # Errors
    /// The first field of the job that it cannot do with.
    pub fn check(self, spec: &Spec) -> Result<(), SpecError> {
        let Self::Wasi { has_split } = self else { return Ok(()) };
        let wrong = |field, problem| Err(SpecError { field, problem });
        if let Some(input) = spec.inputs.iter().find(|input| input.name != wasi::ARGS_INPUT) {
            let problem = format!(
                "a WASI program has no files, so it cannot see `{}`: name it `{}` if it holds arguments, one a line; \
                 put data into the program, or write it with lull-sdk",
                input.name,
                wasi::ARGS_INPUT
            );
            return wrong("inputs", problem);
        }
        if let Some(args) = spec.inputs.iter().find(|input| input.size_bytes > ARGS_BYTES_MAX) {
            let problem = format!(
                "`{}` has {} bytes, more than the {ARGS_BYTES_MAX} of arguments allowed: split the job by what they say",
                args.name, args.size_bytes
            );
            return wrong("inputs", problem);
        }
        match (&spec.split, wasi::asked_by(Stage::Split)) {
            (Split::Module, Some(export)) if !has_split => {
                let problem = format!(
                    "the program does not split itself: export `{export}` if it does, or split by range, lines, files or grid"
                );
                wrong("split.module", problem)
            }
            _ => Ok(()),
        }
    }
}

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
    #[error(
        "not a WebAssembly module that Lull can run ({reason}): build it with `workloads/build`, or for wasm32-wasi (preview 1)"
    )]
    NotAModule {
        /// What the validator said.
        reason: String,
    },
    /// Imports something; guests import nothing.
    #[error(
        "the module imports `{module}.{name}`, but a guest imports nothing: build it for wasm32-unknown-unknown with \
         lull-sdk, or as a program for wasm32-wasi (preview 1)"
    )]
    Import {
        /// Namespace of the import.
        module: String,
        /// Its name.
        name: String,
    },
    /// Lacks an export, or has it with another type.
    #[error(
        "the module does not export {expected}: use `lull_sdk::program!` in it, or build it as a program for wasm32-wasi (preview 1)"
    )]
    Export {
        /// What is missing.
        expected: String,
    },
    /// A WASI program that imports something else.
    #[error(
        "the module imports `{module}.{name}`, which is no function of WASI preview 1 (`{}`): build it for wasm32-wasi \
         (wasm32-wasip1) without other imports",
        wasi::MODULE
    )]
    WasiImport {
        /// Namespace of the import.
        module: String,
        /// Its name.
        name: String,
    },
    /// A WASI module that is no program.
    #[error(
        "the WASI module does not export {expected}: build it as a program with a `main`, not as a library"
    )]
    WasiExport {
        /// What is missing.
        expected: String,
    },
}

/// Checks that these bytes are a module which a runner will take, and says of which kind.
///
/// # Errors
/// The first thing that is wrong, with its remedy.
pub fn check_module(bytes: &[u8]) -> Result<ModuleKind, ModuleError> {
    let size_bytes = bytes.len() as u64;
    if size_bytes > MODULE_BYTES_MAX {
        return Err(ModuleError::TooLarge { size_bytes });
    }
    let not_a_module =
        |error: wasmparser::BinaryReaderError| ModuleError::NotAModule { reason: error.message().to_owned() };
    // The validator would print the bytes that it found, one a line.
    if !bytes.starts_with(MAGIC) {
        return Err(ModuleError::NotAModule { reason: "it does not begin like one".to_owned() });
    }
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

/// How every WebAssembly file begins.
const MAGIC: &[u8] = b"\0asm";

/// What matters of a module.
#[derive(Default)]
struct Outline {
    types: Vec<Option<FuncType>>,
    /// Type of each function, imported ones first.
    functions: Vec<u32>,
    imports: Vec<Import>,
    exports: Vec<(String, ExternalKind, u32)>,
}

struct Import {
    module: String,
    name: String,
    /// Of a function.
    type_index: Option<u32>,
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
                    let type_index = match import.ty {
                        TypeRef::Func(index) | TypeRef::FuncExact(index) => Some(index),
                        _ => None,
                    };
                    self.functions.extend(type_index);
                    let (module, name) = (import.module.to_owned(), import.name.to_owned());
                    self.imports.push(Import { module, name, type_index });
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

    fn check(&self) -> Result<ModuleKind, ModuleError> {
        let is_wasi = self.export(wasi::START).is_some()
            || self.imports.iter().any(|import| import.module == wasi::MODULE);
        if is_wasi && self.export(exports::ABI_VERSION).is_none() {
            self.check_wasi()
        } else {
            self.check_steps()
        }
    }

    fn check_steps(&self) -> Result<ModuleKind, ModuleError> {
        if let Some(Import { module, name, .. }) = self.imports.first() {
            return Err(ModuleError::Import { module: module.clone(), name: name.clone() });
        }
        if !self.exports_memory() {
            return Err(ModuleError::Export { expected: format!("its memory as `{}`", exports::MEMORY) });
        }
        for (name, params, results) in exports::FUNCTIONS {
            let (params_of, results_of) = ([ValType::I32].repeat(params), [ValType::I32].repeat(results));
            if !self.exports_function(name, &params_of, &results_of) {
                return Err(ModuleError::Export {
                    expected: format!(
                        "the function `{name}` with {params} i32 parameters and {results} i32 results"
                    ),
                });
            }
        }
        Ok(ModuleKind::Steps)
    }

    fn check_wasi(&self) -> Result<ModuleKind, ModuleError> {
        if let Some(Import { module, name, .. }) = self.imports.iter().find(|import| !self.is_of_wasi(import))
        {
            return Err(ModuleError::WasiImport { module: module.clone(), name: name.clone() });
        }
        if !self.exports_memory() {
            return Err(ModuleError::WasiExport { expected: format!("its memory as `{}`", exports::MEMORY) });
        }
        if !self.exports_function(wasi::START, &[], &[]) {
            return Err(ModuleError::WasiExport { expected: format!("the function `{}`", wasi::START) });
        }
        let asks = |stage| wasi::asked_by(stage).is_some_and(|name| self.export(name).is_some());
        Ok(ModuleKind::Wasi { has_split: asks(Stage::Split) })
    }

    fn is_of_wasi(&self, import: &Import) -> bool {
        let known = wasi::FUNCTIONS.iter().find(|(name, _)| *name == import.name);
        let (Some((name, params)), Some(index)) = (known, import.type_index) else { return false };
        let params: Vec<ValType> =
            params.chars().map(|letter| if letter == 'l' { ValType::I64 } else { ValType::I32 }).collect();
        let results: &[ValType] = if *name == wasi::PROC_EXIT { &[] } else { &[ValType::I32] };
        import.module == wasi::MODULE && self.has_type(index, &params, results)
    }

    fn export(&self, wanted: &str) -> Option<&(String, ExternalKind, u32)> {
        self.exports.iter().find(|(name, ..)| name == wanted)
    }

    fn exports_memory(&self) -> bool {
        matches!(self.export(exports::MEMORY), Some((_, ExternalKind::Memory, _)))
    }

    fn exports_function(&self, name: &str, params: &[ValType], results: &[ValType]) -> bool {
        let Some((_, ExternalKind::Func, index)) = self.export(name) else { return false };
        let type_index = usize::try_from(*index).ok().and_then(|index| self.functions.get(index));
        type_index.is_some_and(|type_index| self.has_type(*type_index, params, results))
    }

    fn has_type(&self, index: u32, params: &[ValType], results: &[ValType]) -> bool {
        let function = usize::try_from(index).ok().and_then(|index| self.types.get(index)?.as_ref());
        function.is_some_and(|function| function.params() == params && function.results() == results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: &str = "(memory (export \"memory\") 1)";
    const START: &str = "(func (export \"_start\"))";

    fn check(text: &str) -> Result<ModuleKind, String> {
        check_module(&wat::parse_str(format!("(module {text})")).expect("a module"))
            .map_err(|error| error.to_string())
    }

    fn refused(text: &str, says: &str) {
        let error = check(text).expect_err(says);
        assert!(error.contains(says), "{error}");
    }

    /// All of preview 1, imported.
    fn all_imports() -> String {
        let import = |(name, params): (&str, &str)| {
            let params: Vec<_> =
                params.chars().map(|letter| if letter == 'l' { "i64" } else { "i32" }).collect();
            let result = if name == wasi::PROC_EXIT { "" } else { "(result i32)" };
            format!("(import \"{}\" \"{name}\" (func (param {}) {result}))", wasi::MODULE, params.join(" "))
        };
        wasi::FUNCTIONS.into_iter().map(import).collect()
    }

    #[test]
    fn programs_of_wasi_are_told_from_guests() {
        let program = format!("{} {MEMORY} {START}", all_imports());
        assert_eq!(check(&program), Ok(ModuleKind::Wasi { has_split: false }));
        assert_eq!(check(&format!("{MEMORY} {START}")), Ok(ModuleKind::Wasi { has_split: false }));
        let splits = format!("{MEMORY} {START} (func (export \"lull_split\"))");
        assert_eq!(check(&splits), Ok(ModuleKind::Wasi { has_split: true }));
        let steps: String = exports::FUNCTIONS
            .into_iter()
            .map(|(name, params, results)| {
                let (params, results) = (" i32".repeat(params), " i32".repeat(results));
                format!("(func (export \"{name}\") (param{params}) (result{results}) unreachable)")
            })
            .collect();
        assert_eq!(check(&format!("{MEMORY} {steps}")), Ok(ModuleKind::Steps));
        let both =
            format!("(import \"{}\" \"sched_yield\" (func (result i32))) {MEMORY} {steps}", wasi::MODULE);
        refused(&both, "imports `wasi_snapshot_preview1.sched_yield`, but a guest imports nothing");
    }

    #[test]
    fn what_neither_kind_is_says_what_to_do() {
        refused(
            MEMORY,
            "use `lull_sdk::program!` in it, or build it as a program for wasm32-wasi (preview 1)",
        );
        refused("(import \"env\" \"now\" (func))", "imports `env.now`, but a guest imports nothing");
        let import = |module: &str, name: &str, of: &str| {
            format!("(import \"{module}\" \"{name}\" {of}) {MEMORY} {START}")
        };
        let no_function =
            "is no function of WASI preview 1 (`wasi_snapshot_preview1`): build it for wasm32-wasi";
        refused(&import("env", "now", "(func)"), &format!("`env.now`, which {no_function}"));
        refused(&import("wasi_unstable", "sched_yield", "(func (result i32))"), no_function);
        refused(&import(wasi::MODULE, "fd_dream", "(func (result i32))"), no_function);
        refused(&import(wasi::MODULE, "sched_yield", "(func)"), no_function);
        refused(&import(wasi::MODULE, "sched_yield", "(memory 1)"), no_function);
        let library = "build it as a program with a `main`, not as a library";
        refused(&format!("{} {MEMORY} (func (export \"_initialize\"))", all_imports()), library);
        refused(&format!("{MEMORY} (func (export \"_start\") (param i32))"), library);
        refused(START, "does not export its memory as `memory`");
    }

    #[test]
    fn a_wasi_program_has_no_files() {
        let input =
            |name: &str| lull_proto::v1::Input { name: name.to_owned(), digest: vec![1; 32], size_bytes: 1 };
        let spec = |inputs: &[&str], split| {
            let kind =
                Some(lull_proto::v1::split::Kind::Range(lull_proto::v1::IntegerRange { start: 0, end: 1 }));
            let spec = Spec::check(&lull_proto::v1::JobSpec {
                module: Some(input("m")),
                inputs: inputs.iter().map(|name| input(name)).collect(),
                split: Some(lull_proto::v1::Split { kind }),
                ..Default::default()
            });
            Spec { split, ..spec.expect("a job") }
        };
        let range = || Split::Range { start: 0, end: 1 };
        let wasi = ModuleKind::Wasi { has_split: false };
        assert_eq!(wasi.check(&spec(&["args"], range())), Ok(()));
        assert_eq!(ModuleKind::Steps.check(&spec(&["table"], Split::Module)), Ok(()));
        assert_eq!(ModuleKind::Wasi { has_split: true }.check(&spec(&[], Split::Module)), Ok(()));
        let check = |inputs, split, says: &str| {
            let error = wasi.check(&spec(inputs, split)).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        };
        check(&["args", "table"], range(), "inputs: a WASI program has no files, so it cannot see `table`");
        let with_args_of = |size_bytes| {
            let mut spec = spec(&["args"], range());
            spec.inputs[0].size_bytes = size_bytes;
            wasi.check(&spec).map_err(|error| error.to_string())
        };
        assert_eq!(with_args_of(ARGS_BYTES_MAX), Ok(()));
        let error = with_args_of(ARGS_BYTES_MAX + 1).expect_err("one past it");
        assert!(error.contains("65537 bytes, more than the 65536 of arguments allowed"), "{error}");
        check(&[], Split::Module, "split.module: the program does not split itself: export `lull_split`");
    }
}
