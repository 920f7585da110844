package taskhost

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A signature as Celery's map, and back. Texts are cut and not parsed, so arguments keep every number and every odd token
// that they have.

// MarshalJSON gives Celery's map.
func (s *Signature) MarshalJSON() ([]byte, error) {
	text, err := s.write()
	return []byte(text), err
}

// UnmarshalJSON reads Celery's map.
func (s *Signature) UnmarshalJSON(text []byte) error {
	read, err := readSignature(string(text))
	if err == nil {
		*s = *read
	}
	return err
}

func (s *Signature) write() (string, error) {
	if s == nil {
		return "", errors.New("a signature that is nil")
	}
	var text strings.Builder
	if err := s.writeTo(&text); err != nil {
		return "", err
	}
	return text.String(), nil
}

func (s *Signature) writeTo(text *strings.Builder) error {
	if s.broken != "" {
		return fmt.Errorf("a signature of %s: %s", s.task, s.broken)
	}
	text.WriteString(`{"task": ` + quote(s.task) + `, "args": ` + s.args + `, "kwargs": `)
	if err := s.writeParts(text); err != nil {
		return err
	}
	text.WriteString(`, "options": {`)
	writeMembers(text, s.options, true)
	first := len(s.options) == 0
	for _, attached := range []struct {
		name string
		all  []*Signature
	}{{"link", s.links}, {"link_error", s.errbacks}} {
		if len(attached.all) == 0 {
			continue
		}
		if !first {
			text.WriteString(", ")
		}
		first = false
		text.WriteString(quote(attached.name) + ": ")
		if err := writeAll(text, attached.all); err != nil {
			return err
		}
	}
	kind := "null"
	if s.kind != KindTask {
		kind = quote(s.kind.String())
	}
	text.WriteString(`}, "subtask_type": ` + kind + `, "immutable": ` + strconv.FormatBool(s.immutable))
	writeMembers(text, s.others, false)
	text.WriteByte('}')
	return nil
}

// writeParts writes the keyword arguments, which hold the parts of a canvas.
func (s *Signature) writeParts(text *strings.Builder) error {
	switch s.kind {
	case KindTask:
		text.WriteString(s.kwargs)
		return nil
	case KindChain, KindGroup:
		text.WriteString(`{"tasks": `)
		if err := writeAll(text, s.tasks); err != nil {
			return err
		}
	case KindChord:
		text.WriteString(`{"header": `)
		if err := writeAll(text, s.tasks); err != nil {
			return err
		}
		text.WriteString(`, "body": `)
		if s.body == nil {
			text.WriteString("null")
		} else if err := s.body.writeTo(text); err != nil {
			return err
		}
		writeMembers(text, s.parts, false)
	default:
		text.WriteString(`{"task": `)
		if s.inner == nil {
			return errors.New("a signature that is nil")
		}
		if err := s.inner.writeTo(text); err != nil {
			return err
		}
		text.WriteString(`, "it": ` + s.it)
		if s.kind == KindChunks {
			text.WriteString(`, "n": ` + s.n)
		}
	}
	text.WriteByte('}')
	return nil
}

func writeMembers(text *strings.Builder, members []member, first bool) {
	for _, member := range members {
		if !first {
			text.WriteString(", ")
		}
		first = false
		text.WriteString(quote(member.name) + ": " + member.json)
	}
}

func writeAll(text *strings.Builder, all []*Signature) error {
	text.WriteByte('[')
	for i, one := range all {
		if i > 0 {
			text.WriteString(", ")
		}
		if one == nil {
			return errors.New("a signature that is nil")
		}
		if err := one.writeTo(text); err != nil {
			return err
		}
	}
	text.WriteByte(']')
	return nil
}

func readSignature(text string) (*Signature, error) {
	members, err := readMembers(text)
	if err != nil {
		return nil, errors.New("not a signature: no JSON object")
	}
	task, _ := unquote(members.take("task", ""))
	if task == "" {
		return nil, errors.New("not a signature: it names no task")
	}
	s := &Signature{task: task, kwargs: "{}"}
	if name := members.take("subtask_type", "null"); name != "null" {
		unquoted, _ := unquote(name)
		kind := slices.IndexFunc(kindNames[:], func(kind struct{ task, name string }) bool {
			return kind.task != "" && kind.name == unquoted
		})
		if kind < 0 {
			return nil, fmt.Errorf("a signature of an unknown kind: %s", name)
		}
		s.kind = Kind(kind)
	}
	if err := s.readParts(members.take("kwargs", "{}")); err != nil {
		return nil, err
	}
	s.args = members.take("args", "[]")
	if arrayElements(s.args, func(string) {}) != nil {
		return nil, errors.New("a signature whose args are no array")
	}
	options, err := readMembers(members.take("options", "{}"))
	if err != nil {
		return nil, errors.New("a signature whose options are no object")
	}
	for _, option := range *options {
		switch option.name {
		case "link":
			s.links, err = readAttached(option.json)
		case "link_error":
			s.errbacks, err = readAttached(option.json)
		default:
			s.options = append(s.options, option)
		}
		if err != nil {
			return nil, err
		}
	}
	s.immutable = members.take("immutable", "false") == "true"
	s.others = *members
	return s, nil
}

func (s *Signature) readParts(text string) error {
	parts, err := readMembers(text)
	if err != nil {
		return errors.New("a signature whose kwargs are no object")
	}
	part := func(name string) string {
		found := parts.take(name, "")
		if found == "" && err == nil {
			err = fmt.Errorf("a %v without %s", s.kind, name)
		}
		return found
	}
	switch s.kind {
	case KindTask:
		s.kwargs = text
		return nil
	case KindChain, KindGroup:
		if tasks := part("tasks"); err == nil {
			s.tasks, err = readAll(tasks)
		}
		return err
	case KindChord:
		header := part("header")
		if err != nil {
			return err
		}
		if strings.HasPrefix(header, "{") { // what a client has frozen has a group there
			group, err := readSignature(header)
			if err != nil {
				return err
			}
			if s.tasks = group.tasks; group.kind != KindGroup && group.kind != KindChain {
				s.tasks = []*Signature{group}
			}
		} else if s.tasks, err = readAll(header); err != nil {
			return err
		}
		if body := parts.take("body", "null"); body != "null" {
			s.body, err = readSignature(body)
		}
		s.parts = *parts
		return err
	}
	inner := part("task")
	s.it = part("it")
	if s.kind == KindChunks {
		s.n = part("n")
	}
	if err != nil {
		return err
	}
	if !strings.HasPrefix(s.it, "[") {
		return fmt.Errorf("a %v over no list", s.kind)
	}
	s.inner, err = readSignature(inner)
	return err
}

// readAttached reads signatures that hang on another: one, or a list of them.
func readAttached(text string) ([]*Signature, error) {
	switch {
	case text == "null":
		return nil, nil
	case strings.HasPrefix(text, "{"):
		one, err := readSignature(text)
		return []*Signature{one}, err
	}
	return readAll(text)
}

func readAll(text string) ([]*Signature, error) {
	var all []*Signature
	var broken error
	err := arrayElements(text, func(element string) {
		one, err := readSignature(element)
		if broken == nil {
			broken = err
		}
		all = append(all, one)
	})
	if err != nil {
		return nil, errors.New("what should be a list of signatures is no array")
	}
	return all, broken
}

// memberList are the members of an object, in order; of two with the same name the last counts.
type memberList []member

func readMembers(text string) (*memberList, error) {
	read := &memberList{}
	err := objectMembers(text, func(name, value string) { *read = append(*read, member{name, value}) })
	return read, err
}

func (m *memberList) take(name, otherwise string) string {
	found := otherwise
	for _, member := range *m {
		if member.name == name {
			found = member.json
		}
	}
	*m = slices.DeleteFunc(*m, func(member member) bool { return member.name == name })
	return found
}
