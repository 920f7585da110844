//! What wit-bindgen makes of `wit/`: the types of the interface, its imports, and the macro for its exports.

wit_bindgen::generate!({
    path: "../../wit",
    world: "plugin",
    pub_export_macro: true,
    default_bindings_module: "taskhost::bindings",
    runtime_path: "::taskhost::__private::wit_bindgen::rt",
});

/// The same for plugins with asynchronous tasks. Of a plugin without them nothing of it is left.
pub mod asynchronous {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "plugin-async",
        pub_export_macro: true,
        default_bindings_module: "taskhost::bindings::asynchronous",
        runtime_path: "::taskhost::__private::wit_bindgen::rt",
        with: {
            "taskhost:task/context@0.1.0": crate::bindings::taskhost::task::context,
            "taskhost:task/publish@0.1.0": crate::bindings::taskhost::task::publish,
            "taskhost:task/results@0.1.0": crate::bindings::taskhost::task::results,
            "taskhost:task/secrets@0.1.0": crate::bindings::taskhost::task::secrets,
            "taskhost:task/types@0.1.0": crate::bindings::taskhost::task::types,
        },
    });
}

/// `wasi:keyvalue`, which is not part of our interface: a plugin imports it if it has buckets.
pub(crate) mod keyvalue {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: r#"
            package taskhost:keyvalue;

            world values {
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
            }
        "#,
        world: "taskhost:keyvalue/values",
        generate_all,
        runtime_path: "::taskhost::__private::wit_bindgen::rt",
    });
}

/// `wasi:config`, as little.
pub(crate) mod config {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: r#"
            package taskhost:config;

            world settings {
                import wasi:config/store@0.2.0-draft;
            }
        "#,
        world: "taskhost:config/settings",
        generate_all,
        runtime_path: "::taskhost::__private::wit_bindgen::rt",
    });
}

/// `wasi:logging`, for those who log with levels.
#[cfg(feature = "log")]
pub(crate) mod logging {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: r#"
            package taskhost:logging;

            world lines {
                import wasi:logging/logging@0.1.0-draft;
            }
        "#,
        world: "taskhost:logging/lines",
        generate_all,
        runtime_path: "::taskhost::__private::wit_bindgen::rt",
    });
}
