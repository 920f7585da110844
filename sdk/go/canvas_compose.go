package taskhost

import "strconv"

// Composes signatures by the rules of Celery's operators (celery/canvas.py _fold_chain and the __or__ of each class), so
// that what a guest builds is what a Python client would have built.

// Chain are tasks one after the other, each called with the result of the one before. A group in it makes a chord with
// what follows; a group of one is its member, an empty one is left out.
func Chain(tasks ...*Signature) *Signature {
	var steps []*Signature
	for i, task := range cloned(tasks) {
		var noChain *Signature
		if steps, noChain = addStep(steps, task); noChain != nil {
			for _, next := range tasks[i+1:] {
				noChain = noChain.Then(next)
			}
			return noChain
		}
	}
	return composed(KindChain, steps)
}

// Group are tasks beside each other.
func Group(tasks ...*Signature) *Signature {
	return composed(KindGroup, cloned(tasks))
}

// Chord are tasks beside each other, and one that is called with the list of all of their results once they have
// succeeded.
func Chord(header []*Signature, body *Signature) *Signature {
	chord := composed(KindChord, cloned(header))
	chord.body = body.clone()
	chord.parts = []member{{"kwargs", "{}"}}
	return chord
}

// Chunks are calls of one task, each with its list of arguments, n of them to a message: Celery's task.chunks(it, n).
func Chunks(task *Signature, it any, n int) *Signature {
	chunks := over(KindChunks, task, it)
	chunks.n = strconv.Itoa(n)
	return chunks
}

// XMap are calls of one task in one message, each with one argument; it returns the list of their results: Celery's
// task.map(it).
func XMap(task *Signature, it any) *Signature {
	return over(KindMap, task, it)
}

// XStarmap are calls of one task in one message, each with its list of arguments; it returns the list of their results:
// Celery's task.starmap(it).
func XStarmap(task *Signature, it any) *Signature {
	return over(KindStarmap, task, it)
}

// Then is the chain of both: Python's s | next.
func (s *Signature) Then(next *Signature) *Signature {
	s, next = s.clone(), next.clone()
	switch {
	case next.isEmptyGroup():
		return s
	case s.kind == KindChain:
		steps, noChain := addStep(s.unchain(), next)
		if noChain != nil {
			return noChain
		}
		return composed(KindChain, steps)
	case s.kind == KindGroup:
		return Chord(s.tasks, next)
	case s.kind == KindChord && next.kind == KindGroup && len(next.tasks) == 1:
		return s.intoBody(next.tasks[0])
	case s.kind == KindChord && next.kind != KindGroup && next.kind != KindChain:
		return s.intoBody(next)
	case next.kind == KindChain:
		return composed(KindChain, append([]*Signature{s}, next.unchain()...))
	case next.kind == KindGroup && len(next.tasks) == 1:
		next = next.tasks[0]
	}
	return composed(KindChain, []*Signature{s, next})
}

// addStep adds to the steps of a chain; it may give what is no chain any more, and has taken the steps.
func addStep(steps []*Signature, next *Signature) (added []*Signature, noChain *Signature) {
	var last *Signature
	if len(steps) > 0 {
		last = steps[len(steps)-1]
	}
	switch {
	case next.isEmptyGroup():
		return steps, nil
	case next.kind == KindGroup && len(next.tasks) == 1:
		return addStep(steps, next.tasks[0])
	case next.kind == KindGroup && last == nil:
		return nil, next
	case next.kind == KindGroup && last.kind == KindChord:
		steps[len(steps)-1] = last.intoBody(next)
		return steps, nil
	case next.kind == KindChain:
		rest := next.unchain()
		for i, step := range rest {
			if steps, noChain = addStep(steps, step); noChain != nil {
				for _, after := range rest[i+1:] {
					noChain = noChain.Then(after)
				}
				return nil, noChain
			}
		}
		return steps, nil
	case last != nil && last.kind == KindGroup && next.kind != KindGroup:
		steps[len(steps)-1] = Chord(last.tasks, next)
		return steps, nil
	case last != nil && last.kind == KindChord && next.kind != KindGroup && next.kind != KindChord:
		steps[len(steps)-1] = last.intoBody(next)
		return steps, nil
	}
	return append(steps, next), nil
}

// unchain gives the steps of a chain, with what hangs on the chain hung on them.
func (s *Signature) unchain() []*Signature {
	steps := s.tasks
	if len(steps) > 0 {
		for _, link := range s.links {
			steps[len(steps)-1].addLink(link)
		}
		if s.broken != "" {
			steps[0].breakBy(s.broken)
		}
	}
	for _, step := range steps {
		for _, errback := range s.errbacks {
			step.addErrback(errback)
		}
	}
	return steps
}

// intoBody has what follows a chord follow its body.
func (s *Signature) intoBody(next *Signature) *Signature {
	if s.body == nil {
		s.body = next
	} else {
		s.body = s.body.Then(next)
	}
	return s
}

func (s *Signature) isEmptyGroup() bool {
	return s.kind == KindGroup && len(s.tasks) == 0
}

func composed(kind Kind, tasks []*Signature) *Signature {
	return &Signature{kind: kind, task: kindNames[kind].task, args: "[]", tasks: tasks}
}

func over(kind Kind, task *Signature, it any) *Signature {
	called := composed(kind, nil)
	called.inner, called.immutable, called.it = task.clone(), true, "[]"
	text, err := encode(it)
	switch {
	case err != nil:
		called.breakBy(err.Error())
	case arrayElements(text, func(string) {}) != nil:
		called.breakBy("what it is called with is no list")
	default:
		called.it = text
	}
	return called
}
