package taskhost

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// JSON is a JSON value in its original spelling, as a parameter, as a result, or inside either.
//
// As a whole parameter or result, as an element of a parameter that is a []JSON or a map[string]JSON, and in a
// [Signature] it is passed on byte for byte, whatever a Python client put there: numbers of any size, NaN and
// infinities, lone surrogates. Inside of other types encoding/json looks at it, which takes no NaN and no infinities.
type JSON string

// ToJSON writes a value as JSON.
func ToJSON(value any) (JSON, error) {
	text, err := encode(value)
	return JSON(text), err
}

// Parse reads the value into what into points to, as an argument of that type is read.
func (j JSON) Parse(into any) error {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return fmt.Errorf("JSON.Parse needs a pointer, not %T", into)
	}
	return decode(string(j), target.Elem())
}

// MarshalJSON gives the text as it is.
func (j JSON) MarshalJSON() ([]byte, error) {
	return []byte(j.text()), nil
}

func (j JSON) text() string {
	if j == "" {
		return "null"
	}
	return string(j)
}

// UnmarshalJSON keeps the text.
func (j *JSON) UnmarshalJSON(text []byte) error {
	*j = JSON(text)
	return nil
}

var (
	jsonType      = reflect.TypeFor[JSON]()
	signatureType = reflect.TypeFor[*Signature]()
	unmarshaler   = reflect.TypeFor[json.Unmarshaler]()
	textReader    = reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()
)

// decode reads the text of one argument. What Go's types cannot hold is an error, and never something near it.
func decode(text string, target reflect.Value) error {
	switch kind := target.Kind(); {
	case target.Type() == jsonType:
		target.SetString(text)
		return nil
	case target.Type() == signatureType:
		signature, err := readSignature(text)
		if err == nil {
			target.Set(reflect.ValueOf(signature))
		}
		return err
	case kind == reflect.Pointer && !readsItself(target.Type()):
		if text == "null" {
			target.SetZero()
			return nil
		}
		value := reflect.New(target.Type().Elem())
		if err := decode(text, value.Elem()); err != nil {
			return err
		}
		target.Set(value)
		return nil
	case target.CanAddr() && readsItself(target.Type()):
	case kind == reflect.Slice && target.Type().Elem() == jsonType, kind == reflect.Map && target.Type().Elem() == jsonType:
		return split(text, target)
	case kind == reflect.Float64 || kind == reflect.Float32:
		if float, odd := oddFloat(text); odd {
			target.SetFloat(float)
			return nil
		}
		if text == "null" {
			return mismatch(target.Type(), "null")
		}
	case kind == reflect.Bool && (text == "true" || text == "false"):
		target.SetBool(text == "true")
		return nil
	case kind >= reflect.Int && kind <= reflect.Int64:
		if number, err := strconv.ParseInt(text, 10, target.Type().Bits()); err == nil && isInteger(text) {
			target.SetInt(number)
			return nil
		}
		return mismatch(target.Type(), text)
	case kind >= reflect.Uint && kind <= reflect.Uintptr:
		if number, err := strconv.ParseUint(text, 10, target.Type().Bits()); err == nil && isInteger(text) {
			target.SetUint(number)
			return nil
		}
		return mismatch(target.Type(), text)
	case kind == reflect.String:
		if plain, ok := plainText(text); ok && target.Type() != reflect.TypeFor[json.Number]() {
			target.SetString(plain)
			return nil
		}
		fallthrough
	case kind == reflect.Bool, kind == reflect.Struct, kind == reflect.Array:
		if text == "null" {
			return mismatch(target.Type(), "null")
		}
	}
	if hasLoneSurrogate(text) {
		return errors.New("a lone surrogate, which no Go string can hold: only taskhost.JSON takes it")
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(target.Addr().Interface()); err != nil {
		return describe(err, text)
	}
	return nil
}

// readsItself is true for a type that has its own way with JSON or with text.
func readsItself(of reflect.Type) bool {
	if of.Kind() != reflect.Pointer {
		if of.PkgPath() == "" {
			return false // such as int, which has no methods
		}
		of = reflect.PointerTo(of)
	}
	return of.Implements(unmarshaler) || of.Implements(textReader)
}

// split reads an array or object whose elements stay text.
func split(text string, target reflect.Value) error {
	target.SetZero()
	if text == "null" {
		return nil
	}
	if target.Kind() == reflect.Slice {
		elements := reflect.MakeSlice(target.Type(), 0, 0)
		err := arrayElements(text, func(element string) {
			elements = reflect.Append(elements, reflect.ValueOf(JSON(element)))
		})
		if err != nil {
			return mismatch(target.Type(), text)
		}
		target.Set(elements)
		return nil
	}
	if target.Type().Key().Kind() != reflect.String {
		return fmt.Errorf("a map with keys of type %v", target.Type().Key())
	}
	members := reflect.MakeMap(target.Type())
	err := objectMembers(text, func(name, value string) {
		members.SetMapIndex(reflect.ValueOf(name).Convert(target.Type().Key()), reflect.ValueOf(JSON(value)))
	})
	if err != nil {
		return mismatch(target.Type(), text)
	}
	target.Set(members)
	return nil
}

// isInteger is false for what only Go would read as a number, such as +1.
func isInteger(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	return digits == "0" || digits != "" && digits[0] != '0' && digits[0] != '+'
}

// plainText gives a text without escapes.
func plainText(text string) (string, bool) {
	if len(text) < 2 || text[0] != '"' {
		return "", false
	}
	inner := text[1 : len(text)-1]
	for i := range len(inner) {
		if inner[i] < ' ' || inner[i] == '\\' || inner[i] == '"' {
			return "", false
		}
	}
	return inner, utf8.ValidString(inner)
}

// unquote reads a JSON string; a lone surrogate in it becomes U+FFFD.
func unquote(text string) (string, bool) {
	if plain, ok := plainText(text); ok {
		return plain, true
	}
	var name string
	err := json.Unmarshal([]byte(text), &name)
	return name, err == nil && strings.HasPrefix(text, `"`)
}

// oddFloat gives the float of a text that Python writes and JSON does not know.
func oddFloat(text string) (float float64, odd bool) {
	switch text {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(1), true
	case "-Infinity":
		return math.Inf(-1), true
	}
	return 0, false
}

// hasLoneSurrogate looks for half a pair of UTF-16 escapes, which encoding/json would replace without a word.
func hasLoneSurrogate(text string) bool {
	if !strings.Contains(text, `\u`) {
		return false
	}
	for at := 0; at < len(text); at++ {
		if text[at] != '\\' {
			continue
		}
		unit, ok := unitAt(text, at)
		switch low, paired := unitAt(text, at+6); {
		case !ok || unit < 0xD800 || unit > 0xDFFF:
			at++ // what is escaped, which may be a backslash
		case unit < 0xDC00 && paired && low >= 0xDC00 && low <= 0xDFFF:
			at += 11
		default:
			return true
		}
	}
	return false
}

// unitAt gives the UTF-16 unit of the escape at this place.
func unitAt(text string, at int) (uint64, bool) {
	if at+6 > len(text) || text[at:at+2] != `\u` {
		return 0, false
	}
	unit, err := strconv.ParseUint(text[at+2:at+6], 16, 16)
	return unit, err == nil
}

// describe says what is wrong in the words of this package.
func describe(err error, text string) error {
	var wrongType *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrongType) && wrongType.Field != "":
		return fmt.Errorf("field '%s': expected %v, got %s", wrongType.Field, wrongType.Type, wrongType.Value)
	case errors.As(err, &wrongType):
		return fmt.Errorf("expected %v, got %s", wrongType.Type, wrongType.Value)
	case errors.As(err, &syntax) && (strings.Contains(text, "NaN") || strings.Contains(text, "Infinity")):
		return errors.New("NaN and infinities are taken as a float64 or a taskhost.JSON, and not inside of other types")
	}
	return err
}

// mismatch says that a value is not of a type.
func mismatch(want reflect.Type, text string) error {
	const most = 40
	kind := kindOf(text)
	isNumber := strings.HasPrefix(kind, "number ")
	if short := []rune(text); isNumber && len(short) > most {
		kind = "number " + string(short[:most]) + ".."
	}
	if isNumber && want.Kind() >= reflect.Int && want.Kind() <= reflect.Uintptr && !strings.ContainsAny(text, "+.eE") {
		return fmt.Errorf("%s does not fit into %v", strings.TrimPrefix(kind, "number "), want)
	}
	return fmt.Errorf("expected %v, got %s", want, kind)
}

func kindOf(text string) string {
	if text == "" {
		return "nothing"
	}
	switch text[0] {
	case '"':
		return "string"
	case '[':
		return "array"
	case '{':
		return "object"
	case 't', 'f':
		return "bool"
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return "number " + text
	}
	return text
}
