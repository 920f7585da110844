// Package taskhost is what tasks of Taskhost are written with in Go: plain functions that any Celery client calls by name.
//
//	package main
//
//	import "taskhost.dev/taskhost"
//
//	type AddArgs struct {
//		X int `json:"x"`
//		Y int `json:"y"`
//	}
//
//	func add(ctx *taskhost.Context, args AddArgs) (int, error) {
//		return args.X + args.Y, nil
//	}
//
//	func init() {
//		taskhost.Task("tasks.add", add, taskhost.Doc("Adds two numbers."))
//	}
//
//	func main() {}
//
// A plugin is a main package, whose function main is never called. It is built with `host plugin build`.
package taskhost
