package taskhost

import (
	"encoding/json"
	"slices"
)

// What can be said of a canvas as a whole. Each kind passes it on to its parts as Celery's classes do.

// Link names another task, or canvas, to be called with the result of this one. Of a chain that is the result of its last
// step, of a chord that of its body. A group has no result of its own: as in Celery it calls the other without one, when
// its first task has succeeded; [Chord] is what calls it with all of them.
func (s *Signature) Link(callback *Signature) *Signature {
	s = s.clone()
	s.addLink(callback.clone())
	return s
}

// LinkError names another task, or canvas, to be called with the id of this one if it fails; of a group, with that of
// each task that fails. Of a chord it is called if its body fails or is not called since a task of the header has failed.
func (s *Signature) LinkError(errback *Signature) *Signature {
	s = s.clone()
	s.addErrback(errback.clone())
	return s
}

// Immutable says that what it is called with is no argument of it: Celery's si. Of a group that concerns its members, of
// a chord those of its header, and of a chain its first step.
func (s *Signature) Immutable() *Signature {
	s = s.clone()
	s.makeImmutable()
	return s
}

// Partial are positional arguments before those that it has, unless it is immutable: Celery's clone(args).
func (s *Signature) Partial(args ...any) *Signature {
	s = s.clone()
	if s.immutable {
		return s
	}
	first := s.json(list(args))
	var all []JSON
	for _, list := range []string{first, s.args} {
		if arrayElements(list, func(text string) { all = append(all, JSON(text)) }) != nil {
			s.breakBy("the positional arguments are no list")
			return s
		}
	}
	s.args = joinArray(all)
	return s
}

// Stamp marks every task in it and all that hang on them with a value under a name, by which clients can revoke them:
// Celery's stamp. A stamp of that name that is there already is replaced.
func (s *Signature) Stamp(name string, value any) *Signature {
	s = s.clone()
	text, err := encode(value)
	if err != nil {
		s.breakBy(err.Error())
		return s
	}
	s.addStamp(name, text)
	return s
}

func (s *Signature) addLink(callback *Signature) {
	switch {
	case s.kind == KindGroup && len(s.tasks) == 0:
		s.breakBy("an empty group has no task that a callback could follow")
	case s.kind == KindGroup:
		s.tasks[0].addLink(callback.Immutable())
	case s.kind == KindChord && s.body == nil:
		s.breakBy("a chord without a body has nothing to follow")
	case s.kind == KindChord:
		s.body.addLink(callback)
	default:
		s.links = attach(s.links, callback)
	}
}

func (s *Signature) addErrback(errback *Signature) {
	switch s.kind {
	case KindGroup:
		for _, task := range s.tasks {
			task.addErrback(errback)
		}
	case KindChord:
		for _, task := range s.tasks {
			if task.kind == KindChord {
				task.addErrback(errback)
			}
		}
		if s.body != nil {
			s.body.addErrback(errback)
		}
	default:
		s.errbacks = attach(s.errbacks, errback)
	}
}

func (s *Signature) makeImmutable() {
	switch s.kind {
	case KindGroup, KindChord:
		for _, task := range s.tasks {
			task.makeImmutable()
		}
	case KindChain:
		// Celery marks the chain, and forgets that when it sends it.
		if len(s.tasks) > 0 {
			s.tasks[0].makeImmutable()
		}
	default:
		s.immutable = true
	}
}

// stamped is the option that names those which are stamps.
const stamped = "stamped_headers"

func (s *Signature) addStamp(name, value string) {
	for _, attached := range slices.Concat(s.links, s.errbacks) {
		attached.addStamp(name, value)
	}
	switch s.kind {
	case KindChain, KindGroup, KindChord:
		for _, task := range s.tasks {
			task.addStamp(name, value)
		}
		if s.body != nil {
			s.body.addStamp(name, value)
		}
		return
	}
	var names []string
	for _, option := range s.options {
		if option.name == stamped {
			_ = json.Unmarshal([]byte(option.json), &names)
		}
	}
	if !slices.Contains(names, name) {
		names = append(names, name)
	}
	s.set(stamped, s.json(encode(names)))
	s.set(name, value)
}

// attach adds to what hangs on a signature. As in Celery, one that is there already is not called twice.
func attach(all []*Signature, other *Signature) []*Signature {
	text, err := other.write()
	for _, one := range all {
		if known, broken := one.write(); err == nil && broken == nil && known == text {
			return all
		}
	}
	return append(all, other)
}
