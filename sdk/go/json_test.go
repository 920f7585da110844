package taskhost_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"taskhost.dev/taskhost"
)

// parsed reads a text as a T and writes it back.
func parsed[T any](text string) string {
	var value T
	if err := taskhost.JSON(text).Parse(&value); err != nil {
		return "error: " + err.Error()
	}
	written, err := taskhost.ToJSON(value)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(written)
}

func check(t *testing.T, found, expected string) {
	t.Helper()
	if found != expected {
		t.Errorf("\nfound    %s\nexpected %s", found, expected)
	}
}

func TestTextThatIsNotParsedIsKeptByteForByte(t *testing.T) {
	for _, text := range []string{
		"NaN", "[ 1,  NaN ]", `"\ud800"`, strings.Repeat("1", 300), `{"a":-Infinity}`, "null",
	} {
		check(t, parsed[taskhost.JSON](text), text)
		check(t, parsed[[]taskhost.JSON]("["+text+"]"), "["+text+"]")
		check(t, parsed[map[string]taskhost.JSON](`{"b": `+text+`, "a\n": 1}`), `{"a\n": 1, "b": `+text+"}")
	}
	check(t, parsed[*taskhost.JSON]("null"), "null")
}

func TestNumbersAreNeverSilentlyWrong(t *testing.T) {
	huge := strings.Repeat("9", 300)
	check(t, parsed[int]("9223372036854775807"), "9223372036854775807")
	check(t, parsed[int]("-9223372036854775809"), "error: -9223372036854775809 does not fit into int")
	check(t, parsed[int8]("128"), "error: 128 does not fit into int8")
	check(t, parsed[uint8]("-1"), "error: -1 does not fit into uint8")
	check(t, parsed[int](huge), "error: "+huge[:40]+".. does not fit into int")
	check(t, parsed[int]("1.5"), "error: expected int, got number 1.5")
	check(t, parsed[int]("null"), "error: expected int, got null")
	check(t, parsed[int](`"1"`), "error: expected int, got string")
	check(t, parsed[int]("+1"), "error: expected int, got +1")
	check(t, parsed[*int]("null"), "null")
	check(t, parsed[json.Number](huge), huge)
	check(t, parsed[any](huge), huge)
	check(t, parsed[any](`{"a": [9007199254740993, 0.1, 1e300]}`), `{"a":[9007199254740993,0.1,1e300]}`)
	check(t, parsed[[]int8]("[1, 300]"), "error: expected int8, got number 300")
}

func TestFloatsKeepNaNAndInfinities(t *testing.T) {
	for _, text := range []string{"NaN", "Infinity", "-Infinity", "0.1", "1e+300", "2.0"} {
		check(t, parsed[float64](text), text)
	}
	check(t, parsed[float64]("2"), "2.0")
	check(t, parsed[float32]("1.5"), "1.5")
	check(t, parsed[*float64]("null"), "null")
	var float *float64
	if err := taskhost.JSON("Infinity").Parse(&float); err != nil || !math.IsInf(*float, 1) {
		t.Error(float, err)
	}
	inside := "error: NaN and infinities are taken as a float64 or a taskhost.JSON, and not inside of other types"
	check(t, parsed[[]float64]("[1, NaN]"), inside)
	check(t, parsed[any](`{"a": -Infinity}`), inside)
	_, err := taskhost.ToJSON([]float64{math.NaN()})
	check(t, err.Error(), "not JSON serializable: unsupported value: NaN")
}

func TestTextsAreReadAndWritten(t *testing.T) {
	check(t, parsed[string](`"ä€😀 \u00e4\n\"<&>"`), `"ä€😀 ä\n\"<&>"`)
	check(t, parsed[any](`"\ud83d\ude00"`), `"😀"`)
	check(t, parsed[string]("1"), "error: expected string, got number")
	check(t, parsed[string]("null"), "error: expected string, got null")
	lone := "error: a lone surrogate, which no Go string can hold: only taskhost.JSON takes it"
	for _, text := range []string{`"\ud800"`, `"a\udc00\ud800"`, `["\ud83d", 1]`, `"\ud83d\n"`} {
		check(t, parsed[any](text), lone)
	}
	check(t, parsed[string](`"\\ud800"`), `"\\ud800"`)
	check(t, parsed[string](`"\ud83d\ude00\\\u00e4"`), `"😀\\ä"`)
}

func TestStructsAreReadAsEncodingJSONDoes(t *testing.T) {
	type Point struct {
		X     int              `json:"x"`
		Label *string          `json:"label,omitempty"`
		Any   any              `json:"any"`
		Raw   []taskhost.JSON  `json:"raw"`
		Inner map[string][]int `json:"inner"`
	}
	check(t, parsed[Point](`{"x": 1, "any": 9007199254740993, "raw": [1e2, "\ud83d\ude00"]}`),
		`{"x":1,"any":9007199254740993,"raw":[1e2,"\ud83d\ude00"],"inner":null}`)
	check(t, parsed[Point](`{"x": "1"}`), "error: field 'x': expected int, got string")
	check(t, parsed[Point]("null"), "error: expected taskhost_test.Point, got null")
	check(t, parsed[*Point]("null"), "null")
	check(t, parsed[taskhost.None](`{"a": 1}`), "null")
}
