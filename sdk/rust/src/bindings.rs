//! What wit-bindgen makes of `wit/`: the types of the interface, its imports, and the macro for its exports.

wit_bindgen::generate!({
    path: "../../wit",
    world: "plugin",
    pub_export_macro: true,
    default_bindings_module: "taskhost::bindings",
    runtime_path: "::taskhost::__private::wit_bindgen::rt",
});

/// `wasi:config`, which is not part of our interface.
pub(crate) mod config {
    wit_bindgen::generate!({
        inline: r#"
            package taskhost:sdk;

            world settings {
                import wasi:config/store@0.2.0-draft;
            }

            package wasi:config@0.2.0-draft {
                interface store {
                    variant error {
                        upstream(string),
                        io(string),
                    }
                    get: func(key: string) -> result<option<string>, error>;
                }
            }
        "#,
        generate_all,
        runtime_path: "::taskhost::__private::wit_bindgen::rt",
    });
}
