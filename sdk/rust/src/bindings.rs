//! What wit-bindgen makes of `wit/`: the types of the interface, its imports, and the macro for its exports.

wit_bindgen::generate!({
    path: "../../wit",
    world: "plugin",
    pub_export_macro: true,
    default_bindings_module: "taskhost::bindings",
    runtime_path: "::taskhost::__private::wit_bindgen::rt",
});

/// `wasi:keyvalue`, which is not part of our interface either.
pub(crate) mod keyvalue {
    wit_bindgen::generate!({
        inline: r#"
            package taskhost:sdk;

            world values {
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
            }

            package wasi:keyvalue@0.2.0-draft2 {
                interface store {
                    variant error {
                        no-such-store,
                        access-denied,
                        other(string),
                    }
                    record key-response {
                        keys: list<string>,
                        cursor: option<string>,
                    }
                    open: func(identifier: string) -> result<bucket, error>;
                    resource bucket {
                        get: func(key: string) -> result<option<list<u8>>, error>;
                        set: func(key: string, value: list<u8>) -> result<_, error>;
                        delete: func(key: string) -> result<_, error>;
                        exists: func(key: string) -> result<bool, error>;
                        list-keys: func(cursor: option<string>) -> result<key-response, error>;
                    }
                }
                interface atomics {
                    use store.{bucket, error};
                    variant cas-error {
                        store-error(error),
                        cas-failed(cas),
                    }
                    resource cas {
                        new: static func(bucket: borrow<bucket>, key: string) -> result<cas, error>;
                        current: func() -> result<option<list<u8>>, error>;
                    }
                    increment: func(bucket: borrow<bucket>, key: string, delta: s64) -> result<s64, error>;
                    swap: func(cas: cas, value: list<u8>) -> result<_, cas-error>;
                }
            }
        "#,
        generate_all,
        runtime_path: "::taskhost::__private::wit_bindgen::rt",
    });
}

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

/// `wasi:logging`, for those who log with levels.
#[cfg(feature = "log")]
pub(crate) mod logging {
    wit_bindgen::generate!({
        inline: r#"
            package taskhost:sdk;

            world lines {
                import wasi:logging/logging@0.1.0-draft;
            }

            package wasi:logging@0.1.0-draft {
                interface logging {
                    enum level { trace, debug, info, warn, error, critical }
                    log: func(level: level, context: string, message: string);
                }
            }
        "#,
        generate_all,
        runtime_path: "::taskhost::__private::wit_bindgen::rt",
    });
}
