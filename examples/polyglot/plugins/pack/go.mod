module pack

go 1.25

require taskhost.dev/taskhost v0.1.0

replace taskhost.dev/taskhost => ../../../../sdk/go
