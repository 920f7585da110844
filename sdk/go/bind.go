package taskhost

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// Binds positional and keyword arguments to the fields of a struct by Python's rules, and complains in Python's words.

// parameters are a function as Python would see it.
type parameters struct {
	// function is the name that complaints begin with.
	function string
	named    []parameter
	// positional is how many of them positional arguments can reach: those after *args are given by name alone.
	positional int
	// args and kwargs are the fields that take the rest, or -1.
	args, kwargs int
	rests        [2]reflect.Type
}

// parameter is one field of the struct.
type parameter struct {
	name     string
	field    int
	required bool
	// fallback is the default as JSON, if it has one of its own.
	fallback string
	typ      reflect.Type
}

// readParameters reads the struct that a task takes, and what is wrong with it.
func readParameters(function string, args reflect.Type) (*parameters, []string) {
	p := &parameters{function: function, args: -1, kwargs: -1}
	if args.Kind() != reflect.Struct {
		return p, []string{fmt.Sprintf("its arguments are a struct with a field for each, and not %v", args)}
	}
	var mistakes []string
	for i := range args.NumField() {
		if err := p.add(args.Field(i), i); err != nil {
			mistakes = append(mistakes, fmt.Sprintf("field %s of %v: %v", args.Field(i).Name, args, err))
		}
	}
	if p.args < 0 {
		p.positional = len(p.named)
	}
	return p, mistakes
}

func (p *parameters) add(field reflect.StructField, index int) error {
	if field.Name == "_" {
		return nil
	}
	if !field.IsExported() {
		return fmt.Errorf("no argument can be put there: its name needs a capital letter")
	}
	switch rest := field.Tag.Get("taskhost"); rest {
	case "":
	case "args":
		if field.Type.Kind() != reflect.Slice || p.args >= 0 {
			return fmt.Errorf("further positional arguments need one slice, not %v", field.Type)
		}
		p.args, p.positional, p.rests[0] = index, len(p.named), field.Type
		return nil
	case "kwargs":
		if field.Type.Kind() != reflect.Map || field.Type.Key().Kind() != reflect.String || p.kwargs >= 0 {
			return fmt.Errorf("further keyword arguments need one map of strings to something, not %v", field.Type)
		}
		p.kwargs, p.rests[1] = index, field.Type
		return nil
	default:
		return fmt.Errorf("the tag taskhost:%q is neither args nor kwargs", rest)
	}
	if field.Anonymous {
		return fmt.Errorf("embedded structs are no arguments")
	}
	name, rules, _ := strings.Cut(field.Tag.Get("json"), ",")
	if name == "-" {
		return nil
	}
	if name == "" {
		name = field.Name
	}
	if p.index(name) >= 0 {
		return fmt.Errorf("there is an argument `%s` already", name)
	}
	added := parameter{name: name, field: index, typ: field.Type}
	fallback, some := field.Tag.Lookup("default")
	switch {
	case some && field.Type.Kind() == reflect.String && field.Type != jsonType:
		added.fallback = quote(fallback)
	case some:
		if err := decode(fallback, reflect.New(field.Type).Elem()); err != nil || !json.Valid([]byte(fallback)) {
			return fmt.Errorf("its default `%s` is no JSON for it: %w", fallback, err)
		}
		added.fallback = fallback
	}
	optional := strings.Contains(","+rules+",", ",omitempty,") || strings.Contains(","+rules+",", ",omitzero,")
	added.required = !some && !optional && field.Type.Kind() != reflect.Pointer
	p.named = append(p.named, added)
	return nil
}

func (p *parameters) index(name string) int {
	for i := range p.named {
		if p.named[i].name == name {
			return i
		}
	}
	return -1
}

// bind fills the fields of the struct. The order of the checks is CPython's: keywords, surplus, missing.
func (p *parameters) bind(target reflect.Value, args, kwargs string) error {
	bound := make([]string, len(p.named))
	var rest []JSON
	given := 0
	err := arrayElements(args, func(text string) {
		if given < p.positional {
			bound[given] = text
		} else if p.args >= 0 {
			rest = append(rest, JSON(text))
		}
		given++
	})
	if err != nil {
		return p.complain("the positional arguments are not a JSON array")
	}
	named, err := p.bindNamed(bound, min(given, p.positional), kwargs)
	if err != nil {
		return err
	}
	if p.args < 0 && given > p.positional {
		return p.surplus(given)
	}
	for i, parameter := range p.named {
		if parameter.required && bound[i] == "" {
			return p.missing(bound)
		}
	}
	for i, parameter := range p.named {
		text := bound[i]
		if text == "" {
			text = parameter.fallback
		}
		if text == "" {
			continue
		}
		if err := decode(text, target.Field(parameter.field)); err != nil {
			return p.complain(fmt.Sprintf("argument '%s': %v", parameter.name, err))
		}
	}
	if p.args >= 0 {
		if err := decode(joinArray(rest), target.Field(p.args)); err != nil {
			return p.complain(fmt.Sprintf("argument '*%s': %v", strings.ToLower(target.Type().Field(p.args).Name), err))
		}
	}
	if p.kwargs >= 0 {
		if err := decode(joinObject(named), target.Field(p.kwargs)); err != nil {
			return p.complain(fmt.Sprintf("argument '**%s': %v", strings.ToLower(target.Type().Field(p.kwargs).Name), err))
		}
	}
	return nil
}

func (p *parameters) bindNamed(bound []string, reached int, kwargs string) (map[string]JSON, error) {
	var complaint error
	var rest map[string]JSON
	err := objectMembers(kwargs, func(name, text string) {
		switch index := p.index(name); {
		case index >= reached:
			bound[index] = text
		case index < 0 && p.kwargs >= 0:
			if rest == nil {
				rest = map[string]JSON{}
			}
			rest[name] = JSON(text)
		case complaint != nil:
		case index < 0:
			complaint = p.complain(fmt.Sprintf("got an unexpected keyword argument '%s'", name))
		default:
			complaint = p.complain(fmt.Sprintf("got multiple values for argument '%s'", name))
		}
	})
	if err != nil {
		return nil, p.complain("the keyword arguments are not a JSON object")
	}
	return rest, complaint
}

func (p *parameters) surplus(given int) error {
	least := 0
	for _, parameter := range p.named[:p.positional] {
		if parameter.required {
			least++
		}
	}
	takes, arguments, were := fmt.Sprint(p.positional), "arguments", "were"
	if least < p.positional {
		takes = fmt.Sprintf("from %d to %d", least, p.positional)
	}
	if p.positional == 1 {
		arguments = "argument"
	}
	if given == 1 {
		were = "was"
	}
	return p.complain(fmt.Sprintf("takes %s positional %s but %d %s given", takes, arguments, given, were))
}

func (p *parameters) missing(bound []string) error {
	var names []string
	for i, parameter := range p.named {
		if parameter.required && bound[i] == "" {
			names = append(names, "'"+parameter.name+"'")
		}
	}
	list, arguments := names[0], "argument"
	if count := len(names); count > 1 {
		last := " and "
		if count > 2 {
			last = ", and "
		}
		list, arguments = strings.Join(names[:count-1], ", ")+last+names[count-1], "arguments"
	}
	return p.complain(fmt.Sprintf("missing %d required positional %s: %s", len(names), arguments, list))
}

// complain makes the error. It has no traceback of its own: nothing of the task was running.
func (p *parameters) complain(what string) error {
	complaint := NewError("TypeError", p.function+"() "+what)
	complaint.stack = nil
	return complaint
}
