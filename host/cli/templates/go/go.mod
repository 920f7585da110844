module {{module}}

go 1.25

require taskhost.dev/taskhost v0.1.0

// The package is in no registry yet: this is a copy of it.
replace taskhost.dev/taskhost => ./sdk
