//! What wit-bindgen makes of `wit/`: the types of the interface, its imports, and the macro for its exports.

wit_bindgen::generate!({
    path: "../../wit",
    world: "plugin",
    pub_export_macro: true,
    default_bindings_module: "taskhost::bindings",
    runtime_path: "::taskhost::__private::wit_bindgen::rt",
});
