//go:build !wasip1

package taskhost

// Run runs a task that is registered as a host does, with a JSON array and a JSON object as arguments: for tests, see
// package taskhosttest. What it comes to other than a result is the error.
func Run(ctx *Context, args, kwargs JSON) (JSON, error) {
	result, _, err := call(ctx, string(args), string(kwargs))
	return JSON(result), err
}

// Describe gives the names of all tasks, or what a host would say of those that are not registered as they should be.
func Describe() (names, mistakes []string) {
	infos, mistakes := tasks()
	for _, info := range infos {
		names = append(names, info.name)
	}
	return names, mistakes
}
