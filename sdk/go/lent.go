package taskhost

import "taskhost.dev/taskhost/internal/host"

// Config gives the value of a setting. Its key is declared under config in [needs] of plugin.toml, and the operator gives
// it a value in host.toml. Files and environment variables are package os's business.
func Config(key string) (string, error) {
	value, some, fault := host.Config(key)
	switch {
	case fault != nil:
		return "", &DeniedError{fault.Text}
	case !some:
		return "", &DeniedError{"config `" + key + "` has no value"}
	}
	return value, nil
}

// Secret gives a secret. Its name is declared under secrets in [needs] of plugin.toml, and the operator says in host.toml
// where the worker finds it.
func Secret(name string) (string, error) {
	value, fault := host.Secret(name)
	if fault != nil {
		return "", &DeniedError{fault.Text}
	}
	return value, nil
}
