module taskhost.dev/taskhost

go 1.25
