package taskhost

import (
	"fmt"
	"slices"
	"time"
)

// Kind is what a [Signature] is.
type Kind uint8

// The kinds.
const (
	// KindTask is a call of one task.
	KindTask Kind = iota
	// KindChain are tasks one after the other, each called with the result of the one before.
	KindChain
	// KindGroup are tasks beside each other.
	KindGroup
	// KindChord are tasks beside each other, and one that is called with all of their results.
	KindChord
	// KindChunks are calls of one task, so many to a message.
	KindChunks
	// KindMap are calls of one task in one message, each with one argument.
	KindMap
	// KindStarmap are calls of one task in one message, each with its list of arguments.
	KindStarmap
)

// Names that Celery has for the kinds, and the tasks that stand for them.
var kindNames = [...]struct{ task, name string }{
	KindTask:    {"", "task"},
	KindChain:   {"celery.chain", "chain"},
	KindGroup:   {"celery.group", "group"},
	KindChord:   {"celery.chord", "chord"},
	KindChunks:  {"celery.chunks", "chunks"},
	KindMap:     {"celery.map", "xmap"},
	KindStarmap: {"celery.starmap", "xstarmap"},
}

// String is Celery's name of the kind.
func (k Kind) String() string { return kindNames[k].name }

// Signature is a call of a task, or a canvas of several: Celery's signature. It is never changed: what its methods say
// holds for the one they give. What is wrong with it, is told by whoever publishes it.
//
// A task may take a *Signature as an argument and return one as its result: both are the map that Celery makes of it.
type Signature struct {
	kind Kind
	task string
	args string
	// kwargs are those of a call of one task.
	kwargs string
	// tasks are the steps of a chain, the members of a group, or those of a chord's header.
	tasks []*Signature
	// body is what a chord calls.
	body *Signature
	// inner, it and n are what chunks, map and starmap call, with what, and so many to a message.
	inner *Signature
	it, n string
	// parts are members of a chord's keyword arguments that only others know.
	parts []member
	// options are without those that hang on it.
	options   []member
	links     []*Signature
	errbacks  []*Signature
	immutable bool
	// others are members of its map that only others know.
	others []member
	broken string
}

type member struct {
	name string
	json string
}

// NewSignature is a call of a task with positional arguments: Celery's signature(task, args).
func NewSignature(task string, args ...any) *Signature {
	s := &Signature{task: task, args: "[]", kwargs: "{}"}
	if len(args) > 0 {
		s.args = s.json(list(args))
	}
	return s
}

// Task is the name of the task; of a canvas the name that Celery has for it, such as celery.chain.
func (s *Signature) Task() string { return s.task }

// Kind is what it is.
func (s *Signature) Kind() Kind { return s.kind }

// Tasks are the steps of a chain, the members of a group, or those of a chord's header.
func (s *Signature) Tasks() []*Signature { return slices.Clone(s.tasks) }

// Body is what a chord calls with the results of its header; nil if it is none.
func (s *Signature) Body() *Signature { return s.body }

// Args are other positional arguments than it has.
func (s *Signature) Args(args ...any) *Signature {
	s = s.clone()
	s.args = s.json(list(args))
	return s
}

// Kwargs are the keyword arguments of a task: a map or a struct.
func (s *Signature) Kwargs(kwargs any) *Signature {
	s = s.clone()
	switch text := s.json(encode(kwargs)); {
	case s.kind != KindTask:
		s.breakBy("only a call of a task has keyword arguments")
	case objectMembers(text, func(string, string) {}) != nil:
		s.breakBy("the keyword arguments are no map")
	default:
		s.kwargs = text
	}
	return s
}

// Option is an option under Celery's name, as apply_async takes it: queue, priority, expires, task_id, ..
func (s *Signature) Option(name string, value any) *Signature {
	s = s.clone()
	text, err := encode(value)
	if err != nil {
		s.breakBy(err.Error())
		return s
	}
	s.set(name, text)
	return s
}

// Countdown has it run not before so much time has passed.
func (s *Signature) Countdown(delay time.Duration) *Signature {
	return s.Option("countdown", seconds(delay))
}

// clone copies what a method may change, parts and what hangs on it included.
func (s *Signature) clone() *Signature {
	if s == nil {
		return nil
	}
	copied := *s
	copied.tasks, copied.links, copied.errbacks = cloned(s.tasks), cloned(s.links), cloned(s.errbacks)
	copied.body, copied.inner = s.body.clone(), s.inner.clone()
	copied.options = slices.Clone(s.options)
	return &copied
}

func cloned(all []*Signature) []*Signature {
	copies := make([]*Signature, len(all))
	for i, one := range all {
		copies[i] = one.clone()
	}
	return copies
}

func (s *Signature) json(text string, err error) string {
	if err != nil {
		s.breakBy(err.Error())
		return "[]"
	}
	return text
}

// breakBy remembers the first thing that is wrong: it is the one that is told.
func (s *Signature) breakBy(why string) {
	if s.broken == "" {
		s.broken = why
	}
}

func (s *Signature) set(name, text string) {
	switch name {
	case "link", "link_error":
		attached, err := readAttached(text)
		switch {
		case err != nil:
			s.breakBy(fmt.Sprintf("option %s: %v", name, err))
		case name == "link":
			s.links = attached
		default:
			s.errbacks = attached
		}
		return
	}
	for i := range s.options {
		if s.options[i].name == name {
			s.options[i].json = text
			return
		}
	}
	s.options = append(s.options, member{name, text})
}
