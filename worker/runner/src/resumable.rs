//! Modules whose guests can be captured between two steps, and made so.
//!
//! All that a guest remembers between two calls is its memory, its mutable globals, and its tables and segments.
//! Globals are not seen from outside unless they are exported: every mutable one is exported here, before the
//! module is compiled, under a name that no module may use itself. What cannot be captured (tables and segments
//! that the guest changes, globals that hold references, a second memory, what an imported function knows) makes a module not resumable: it runs
//! as ever, without checkpoints.

use std::borrow::Cow;

use wasm_encoder::{ExportKind, ExportSection, RawSection, Section as _};
use wasmparser::{ExternalKind, GlobalType, Operator, Parser, Payload, TypeRef, ValType};
use wasmtime::{ExternType, Module};

use lull_sandbox::checkpoint::{GLOBAL_BYTES, GLOBALS_BYTES_MAX};

/// How the names of exports begin that only the runner makes.
const RESERVED: &str = "lull.state.";
/// The memory of a resumable module once more: tells that it is one, also when it has no mutable globals.
const MARK: &str = "lull.state.memory";

/// The module with all that a checkpoint holds exported; as it was if it is not resumable, or not valid.
///
/// # Errors
/// When it uses a reserved name.
pub(crate) fn rewrite(module: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    // Of a module that is not valid the compiler tells more.
    let Ok(found) = Found::of(module) else { return Ok(Cow::Borrowed(module)) };
    if let Some(name) = found.reserved {
        return Err(format!(
            "the module exports `{name}`: names that begin with `{RESERVED}` are the runner's"
        ));
    }
    if !found.is_resumable() {
        return Ok(Cow::Borrowed(module));
    }
    let mut exports = ExportSection::new();
    for (name, kind, index) in &found.exports {
        exports.export(name, *kind, *index);
    }
    exports.export(MARK, ExportKind::Memory, 0);
    for index in &found.mutable_globals {
        exports.export(&format!("{RESERVED}{index}"), ExportKind::Global, *index);
    }
    let mut rewritten = module[..HEADER_BYTES].to_vec();
    for payload in Parser::new(0).parse_all(module) {
        let Some((id, range)) = payload.ok().and_then(|payload| payload.as_section()) else { continue };
        if id == exports.id() {
            exports.append_to(&mut rewritten);
        } else {
            RawSection { id, data: &module[range] }.append_to(&mut rewritten);
        }
    }
    Ok(Cow::Owned(rewritten))
}

/// Bytes of the magic number and the version.
const HEADER_BYTES: usize = 8;

/// Names of the globals that a checkpoint holds, in their order; `None` if the module is not resumable.
pub(crate) fn globals_of(module: &Module) -> Option<Vec<String>> {
    module.get_export(MARK).filter(|mark| mark.memory().is_some())?;
    let is_state = |name: &str, kind: &ExternType| name.starts_with(RESERVED) && kind.global().is_some();
    let exports = module.exports().filter(|export| is_state(export.name(), &export.ty()));
    Some(exports.map(|export| export.name().to_owned()).collect())
}

/// What of a module matters here.
#[derive(Default)]
struct Found<'a> {
    exports: Vec<(&'a str, ExportKind, u32)>,
    reserved: Option<&'a str>,
    globals: u32,
    memories: u32,
    mutable_globals: Vec<u32>,
    is_out_of_reach: bool,
}

impl<'a> Found<'a> {
    fn of(module: &'a [u8]) -> wasmparser::Result<Self> {
        let mut found = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        // What its host remembers is out of reach: a program of WASI, say, has read some input.
                        found.is_out_of_reach = true;
                        match import?.ty {
                            TypeRef::Global(global) => found.global(global),
                            TypeRef::Memory(_) => found.memories += 1,
                            _ => {}
                        }
                    }
                }
                Payload::MemorySection(memories) => found.memories += memories.count(),
                Payload::GlobalSection(globals) => {
                    for global in globals {
                        found.global(global?.ty);
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        if export.name.starts_with(RESERVED) {
                            found.reserved = Some(export.name);
                        }
                        match kind(export.kind) {
                            Some(kind) => found.exports.push((export.name, kind, export.index)),
                            None => found.is_out_of_reach = true,
                        }
                    }
                }
                Payload::CodeSectionEntry(body) if !found.is_out_of_reach => {
                    for operator in body.get_operators_reader()? {
                        found.is_out_of_reach |= changes_tables_or_segments(&operator?);
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn global(&mut self, global: GlobalType) {
        if global.mutable {
            self.mutable_globals.push(self.globals);
            self.is_out_of_reach |= matches!(global.content_type, ValType::Ref(_));
        }
        self.globals += 1;
    }

    fn is_resumable(&self) -> bool {
        let fits = self.mutable_globals.len() * GLOBAL_BYTES <= GLOBALS_BYTES_MAX;
        !self.is_out_of_reach && self.memories == 1 && fits && !self.exports.is_empty()
    }
}

const fn kind(kind: ExternalKind) -> Option<ExportKind> {
    match kind {
        ExternalKind::Func => Some(ExportKind::Func),
        ExternalKind::Table => Some(ExportKind::Table),
        ExternalKind::Memory => Some(ExportKind::Memory),
        ExternalKind::Global => Some(ExportKind::Global),
        _ => None,
    }
}

const fn changes_tables_or_segments(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::ElemDrop { .. }
            | Operator::DataDrop { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> Result<Option<Vec<String>>, String> {
        let wasm = wat::parse_str(text).unwrap();
        let wasm = rewrite(&wasm)?;
        let module = Module::new(&wasmtime::Engine::default(), &wasm).unwrap();
        Ok(globals_of(&module))
    }

    #[test]
    fn mutable_globals_are_exported() {
        let text = r#"(module (memory (export "memory") 1)
            (global i32 (i32.const 1)) (global $a (mut i64) (i64.const 2)) (global (export "b") (mut f32) (f32.const 3))
            (func (export "f") (result i64) global.get $a) (data (i32.const 0) "x"))"#;
        let names = ["lull.state.1", "lull.state.2"].map(str::to_owned).to_vec();
        assert_eq!(rewritten(text), Ok(Some(names)));
        assert_eq!(rewritten(r#"(module (memory (export "memory") 1))"#), Ok(Some(Vec::new())));
    }

    #[test]
    fn what_cannot_be_captured_is_left_alone() {
        let memory = r#"(memory (export "memory") 1)"#;
        for rest in [
            "(memory 1)",
            "(global (mut funcref) (ref.null func))",
            "(table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))",
            "(table 1 funcref) (func (drop (table.grow (ref.null func) (i32.const 1))))",
            "(data $d \"x\") (func (data.drop $d))",
        ] {
            assert_eq!(rewritten(&format!("(module {memory} {rest})")), Ok(None), "{rest}");
        }
        let imports = format!(
            r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32))) {memory})"#
        );
        assert_eq!(rewritten(&imports), Ok(None), "what a host remembers");
        let plain = format!("(module {memory} (table 1 funcref) (func $f) (elem (i32.const 0) $f))");
        assert_eq!(rewritten(&plain), Ok(Some(Vec::new())), "a table that nobody changes");
        assert_eq!(rewrite(b"\0asm?"), Ok(Cow::Borrowed(&b"\0asm?"[..])), "not valid");
    }

    #[test]
    fn reserved_names_are_refused() {
        let error = rewritten(r#"(module (memory (export "lull.state.memory") 1))"#).expect_err("reserved");
        assert!(error.contains("`lull.state.memory`"), "{error}");
    }
}
