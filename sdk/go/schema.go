package taskhost

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// Deeper types are anything.
const schemaDepth = 16

// schema gives a JSON Schema of the arguments: an object with a property for each, in the order in which they are given
// by position. Schemas have no word for further positional ones: x-args says how many properties stand before them.
func (p *parameters) schema() string {
	var properties, required []string
	for _, parameter := range p.named {
		words := words(parameter.typ, schemaDepth)
		switch {
		case parameter.fallback != "":
			words = append(words, `"default":`+parameter.fallback)
		case !parameter.required && parameter.typ.Kind() == reflect.Pointer:
			words = append(words, `"default":null`)
		}
		properties = append(properties, quote(parameter.name)+":"+object(words))
		if parameter.required {
			required = append(required, quote(parameter.name))
		}
	}
	kwargs, args := "false", ""
	if p.kwargs >= 0 {
		kwargs = "true"
		if of := words(p.rests[1].Elem(), schemaDepth); len(of) > 0 {
			kwargs = object(of)
		}
	}
	if p.args >= 0 {
		args = fmt.Sprintf(`,"x-args":%d`, p.positional)
	}
	return fmt.Sprintf(`{"type":"object","properties":{%s},"required":[%s],"additionalProperties":%s%s}`,
		strings.Join(properties, ","), strings.Join(required, ","), kwargs, args)
}

func object(words []string) string {
	return "{" + strings.Join(words, ",") + "}"
}

// words are the keywords of the schema of a type; of one that reads itself nobody knows any.
func words(of reflect.Type, depth int) []string {
	if depth == 0 || of.Kind() != reflect.Pointer && reflect.PointerTo(of).Implements(unmarshaler) {
		return nil
	}
	if reflect.PointerTo(of).Implements(textReader) {
		return []string{`"type":"string"`}
	}
	switch of.Kind() {
	case reflect.Bool:
		return []string{`"type":"boolean"`}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return []string{`"type":"integer"`}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return []string{`"type":"integer"`, `"minimum":0`}
	case reflect.Float32, reflect.Float64:
		return []string{`"type":"number"`}
	case reflect.String:
		if of == reflect.TypeFor[json.Number]() {
			return []string{`"type":"number"`}
		}
		return []string{`"type":"string"`}
	case reflect.Slice:
		if of.Elem().Kind() == reflect.Uint8 {
			return []string{`"type":"string"`, `"contentEncoding":"base64"`}
		}
		return []string{`"type":"array"`, `"items":` + object(words(of.Elem(), depth-1))}
	case reflect.Array:
		return []string{`"type":"array"`, `"items":` + object(words(of.Elem(), depth-1))}
	case reflect.Map:
		return []string{`"type":"object"`, `"additionalProperties":` + object(words(of.Elem(), depth-1))}
	case reflect.Pointer:
		if inner := words(of.Elem(), depth-1); len(inner) > 0 {
			return []string{`"anyOf":[` + object(inner) + `,{"type":"null"}]`}
		}
	case reflect.Struct:
		return fields(of, depth)
	}
	return nil
}

// fields are the keywords of a struct inside of an argument, as encoding/json reads it: no field has to be there.
func fields(of reflect.Type, depth int) []string {
	var properties []string
	for i := range of.NumField() {
		field := of.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() || name == "-" {
			continue
		}
		if field.Anonymous && name == "" {
			return []string{`"type":"object"`} // its fields are mixed with those of the embedded one
		}
		if name == "" {
			name = field.Name
		}
		properties = append(properties, quote(name)+":"+object(words(field.Type, depth-1)))
	}
	return []string{`"type":"object"`, `"properties":{` + strings.Join(properties, ",") + `}`}
}
