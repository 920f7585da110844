package taskhost

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// encode writes a result or an argument.
func encode(value any) (string, error) {
	switch value := value.(type) {
	case nil, struct{}:
		return "null", nil
	case JSON:
		return value.text(), nil
	case *Signature:
		if value != nil {
			return value.write()
		}
	case bool:
		return strconv.FormatBool(value), nil
	case int:
		return strconv.Itoa(value), nil
	case int64:
		return strconv.FormatInt(value, 10), nil
	case float64:
		switch {
		case math.IsNaN(value):
			return "NaN", nil
		case math.IsInf(value, 1):
			return "Infinity", nil
		case math.IsInf(value, -1):
			return "-Infinity", nil
		case value == math.Trunc(value) && math.Abs(value) < 1e16:
			return strconv.FormatFloat(value, 'f', 1, 64), nil // a float for Python as well
		}
	case string:
		return quote(value), nil
	case []JSON:
		if value != nil {
			return joinArray(value), nil
		}
	case map[string]JSON:
		if value != nil {
			return joinObject(value), nil
		}
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", NewError("TypeError", "not JSON serializable: "+strings.TrimPrefix(err.Error(), "json: "))
	}
	return strings.TrimSuffix(text.String(), "\n"), nil
}

// isPlain is true for a text that is written as it is.
func isPlain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] == '"' || text[i] == '\\' || text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// joinArray writes a list of texts; encoding/json would have none of NaN.
func joinArray(elements []JSON) string {
	text := []byte{'['}
	for i, element := range elements {
		if i > 0 {
			text = append(text, ", "...)
		}
		text = append(text, element.text()...)
	}
	return string(append(text, ']'))
}

// joinObject writes a map of texts, in order of their names.
func joinObject(members map[string]JSON) string {
	text := []byte{'{'}
	for i, name := range slices.Sorted(maps.Keys(members)) {
		if i > 0 {
			text = append(text, ", "...)
		}
		text = append(text, quote(name)...)
		text = append(text, ": "...)
		text = append(text, members[name].text()...)
	}
	return string(append(text, '}'))
}

// quote writes a text as JSON.
func quote(text string) string {
	if isPlain(text) {
		return `"` + text + `"`
	}
	var quoted bytes.Buffer
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		return `""` // does not happen: every text can be written
	}
	return strings.TrimSuffix(quoted.String(), "\n")
}
