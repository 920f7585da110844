package taskhost

import "taskhost.dev/taskhost/internal/host"

// Publish calls another task once this one has succeeded or is replaced, and before its result is stored; if it comes to
// anything else, nothing is published. It gives the id of the task; of a chain that of its last step, of a chord that of
// its body, and of a group its own. Which tasks may be called is declared under publish in [needs] of plugin.toml.
//
// Errors are a [DeniedError], [InvalidError], [LimitedError] or [UnavailableError].
func (c *Context) Publish(signature *Signature) (id string, err error) {
	return publish(signature, false)
}

// PublishNow calls another task at once, whatever this one comes to.
func (c *Context) PublishNow(signature *Signature) (id string, err error) {
	return publish(signature, true)
}

func publish(signature *Signature, now bool) (string, error) {
	text, err := signature.write()
	if err != nil {
		return "", &InvalidError{err.Error()}
	}
	id, fault := host.Publish(text, now)
	return id, publishError(fault)
}

// Apply publishes as [Context.Publish] does, and gives where the results will be.
func (c *Context) Apply(signature *Signature) (*AsyncResult, error) {
	return apply(signature, func(text string) (string, *host.Fault) { return host.Apply(text, "[]", "{}", false) })
}

// ApplyNow publishes as [Context.PublishNow] does, and gives where the results will be.
func (c *Context) ApplyNow(signature *Signature) (*AsyncResult, error) {
	return apply(signature, func(text string) (string, *host.Fault) { return host.Apply(text, "[]", "{}", true) })
}

// AddToChord adds to the header of the chord that this task is a member of, once it has succeeded: the chord's body waits
// for this as well. A task that is in no chord gets a ValueError, as from Celery's self.add_to_chord(..).
func (c *Context) AddToChord(signature *Signature) (*AsyncResult, error) {
	if c.Request()["chord"] == nil {
		return nil, NewError("ValueError", "Current task is not member of any chord")
	}
	return apply(signature, func(text string) (string, *host.Fault) { return host.AddToChord(text, false) })
}

func apply(signature *Signature, call func(text string) (string, *host.Fault)) (*AsyncResult, error) {
	text, err := signature.write()
	if err != nil {
		return nil, &InvalidError{err.Error()}
	}
	told, fault := call(text)
	if fault != nil {
		return nil, publishError(fault)
	}
	return readResult(told)
}
