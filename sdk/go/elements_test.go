package taskhost

import (
	"reflect"
	"strings"
	"testing"
)

func TestElementsAreTheTextsBetweenTheCommas(t *testing.T) {
	huge := strings.Repeat("9", 300)
	for text, expected := range map[string][]string{
		"[]":    {},
		" [ ] ": {},
		"[1]":   {"1"},
		"[1, -2.5e3 ,\n\"a, b\", [1, [2]], {\"x\": [3]}, null]": {"1", "-2.5e3", `"a, b"`, "[1, [2]]", `{"x": [3]}`, "null"},
		"[NaN, -Infinity, " + huge + `, "\ud800"]`:              {"NaN", "-Infinity", huge, `"\ud800"`},
		`["a\"b", "\\", "\\\"]", ""]`:                           {`"a\"b"`, `"\\"`, `"\\\"]"`, `""`},
		`["ä€😀", "]"]`:                                          {`"ä€😀"`, `"]"`},
	} {
		found := []string{}
		err := arrayElements(text, func(element string) { found = append(found, element) })
		if err != nil || !reflect.DeepEqual(found, expected) {
			t.Errorf("%s: %q, %v", text, found, err)
		}
	}
}

func TestMembersAreNamesAndTexts(t *testing.T) {
	for text, expected := range map[string][]string{
		"{}":                           {},
		`{"x": 1, "y" :{"z": "}"}}`:    {"x", "1", "y", `{"z": "}"}`},
		`{"a\u0062\"": NaN, "ü": "\"}`: nil,
		`{"a\u0062\"": NaN}`:           {`ab"`, "NaN"},
	} {
		found := []string{}
		err := objectMembers(text, func(name, value string) { found = append(found, name, value) })
		if (err != nil) != (expected == nil) || err == nil && !reflect.DeepEqual(found, expected) {
			t.Errorf("%s: %q, %v", text, found, err)
		}
	}
}

func TestWhatIsNotAnArrayOrObjectIsRefused(t *testing.T) {
	for _, text := range []string{"", "1", "[", "[1", "[1,", "[1,]", "[,]", "[1 2]", "[1]]", `["a]`, "{}", "[[1]", "null"} {
		if arrayElements(text, func(string) {}) == nil {
			t.Errorf("%q is taken for an array", text)
		}
	}
	for _, text := range []string{"", "[]", "{", `{"a"}`, `{"a":}`, `{"a":1,}`, "{a:1}", "{1:1}", `{"a":1} x`} {
		if objectMembers(text, func(string, string) {}) == nil {
			t.Errorf("%q is taken for an object", text)
		}
	}
}
