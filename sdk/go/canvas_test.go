package taskhost

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

func names(names string) []*Signature {
	var all []*Signature
	for _, name := range strings.Fields(names) {
		all = append(all, NewSignature(name))
	}
	return all
}

// draw shows a canvas in one line: <a | b>, (a, b) for a group, [a, b -> c] for a chord. What hangs on a task is behind
// it: a+callback!errback, and ' says that it is immutable.
func draw(s *Signature) string {
	var parts []string
	for _, task := range s.tasks {
		parts = append(parts, draw(task))
	}
	var drawn string
	switch s.kind {
	case KindTask:
		drawn = s.task
	case KindChain:
		drawn = "<" + strings.Join(parts, " | ") + ">"
	case KindGroup:
		drawn = "(" + strings.Join(parts, ", ") + ")"
	case KindChord:
		body := "nothing"
		if s.body != nil {
			body = draw(s.body)
		}
		drawn = "[" + strings.Join(parts, ", ") + " -> " + body + "]"
	default:
		drawn = "each " + s.inner.task
	}
	if s.immutable {
		drawn += "'"
	}
	for _, link := range s.links {
		drawn += "+" + draw(link)
	}
	for _, errback := range s.errbacks {
		drawn += "!" + draw(errback)
	}
	return drawn
}

func drawn(t *testing.T, s *Signature, expected string) {
	t.Helper()
	if found := draw(s); found != expected {
		t.Errorf("found %s, expected %s", found, expected)
	}
	text, err := s.write()
	if err != nil {
		t.Fatal(err)
	}
	read, err := readSignature(text)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := read.write(); again != text {
		t.Errorf("it comes back as %s, and was %s", again, text)
	}
}

func TestTasksAreComposedByCelerysRules(t *testing.T) {
	all := names("a b c d e x y")
	a, b, c, d, e, x, y := all[0], all[1], all[2], all[3], all[4], all[5], all[6]
	both, empty, lone := Group(x, y), Group(), Group(x)
	one := []*Signature{x}
	drawn(t, a.Then(b).Then(c), "<a | b | c>")
	drawn(t, a.Then(b.Then(c)), "<a | b | c>")
	drawn(t, a.Then(both), "<a | (x, y)>")
	drawn(t, a.Then(both).Then(b), "<a | [x, y -> b]>")
	drawn(t, a.Then(both).Then(b).Then(c), "<a | [x, y -> <b | c>]>")
	drawn(t, a.Then(both).Then(both), "<a | (x, y) | (x, y)>")
	drawn(t, both.Then(a), "[x, y -> a]")
	drawn(t, both.Then(a).Then(b), "[x, y -> <a | b>]")
	drawn(t, both.Then(both), "[x, y -> (x, y)]")
	drawn(t, both.Then(both).Then(a), "[x, y -> [x, y -> a]]")
	drawn(t, a.Then(lone).Then(b), "<a | x | b>")
	drawn(t, a.Then(empty), "a")
	drawn(t, a.Then(empty).Then(b), "<a | b>")
	drawn(t, Chord(one, a).Then(lone), "[x -> <a | x>]")
	drawn(t, Chord(one, a).Then(both), "<[x -> a] | (x, y)>")
	drawn(t, Chord(one, a).Then(b.Then(c)), "<[x -> a] | b | c>")
	drawn(t, a.Then(Chord(one, b)).Then(Chord([]*Signature{y}, c)), "<a | [x -> b] | [y -> c]>")
	drawn(t, Chain(), "<>")
	drawn(t, Chain(a), "<a>")
	drawn(t, Chain(both), "(x, y)")
	drawn(t, Chain(both, a, b), "[x, y -> <a | b>]")
	drawn(t, Chain(a, both, b, both, c), "<a | [x, y -> <b | [x, y -> c]>]>")
	drawn(t, Chain(a, Chain(b, both), c, d), "<a | b | [x, y -> <c | d>]>")
	drawn(t, Chain(empty, Chain(both, a), e), "<[x, y -> <a | e>]>")
	drawn(t, Chord(Group(a, b).Tasks(), c), "[a, b -> c]")
	drawn(t, a, "a")
}

func TestWhatHangsOnACanvasHangsWhereCeleryHangsIt(t *testing.T) {
	all := names("a b c k e")
	a, b, c, k, e := all[0], all[1], all[2], all[3], all[4]
	hung := func(s *Signature) *Signature { return s.Link(k).LinkError(e).LinkError(e) }
	drawn(t, hung(a), "a+k!e")
	drawn(t, hung(Chain(a, b)), "<a | b>+k!e")
	drawn(t, hung(Chain(a, b)).Then(c), "<a!e | b+k!e | c>")
	drawn(t, hung(Group(a, b)), "(a+k'!e, b!e)")
	drawn(t, hung(Chord([]*Signature{a, Chord([]*Signature{b}, c)}, c)), "[a, [b -> c!e] -> c+k!e]")
	broken(t, Group().Link(k), "a signature of celery.group: an empty group has no task that a callback could follow")
}

func TestImmutableIsWhatWouldGetTheArguments(t *testing.T) {
	all := names("a b c")
	a, b, c := all[0], all[1], all[2]
	drawn(t, a.Immutable(), "a'")
	drawn(t, Chain(a, b).Immutable(), "<a' | b>")
	drawn(t, Group(a, b).Immutable(), "(a', b')")
	drawn(t, Chord([]*Signature{a}, b).Immutable(), "[a' -> b]")
	if args := c.Args(3).Partial(1, nil).args; args != "[1, null, 3]" {
		t.Error(args)
	}
	if args := c.Args(3).Immutable().Partial(1).args; args != "[3]" {
		t.Error(args)
	}
	drawn(t, a, "a")
}

func TestASignatureOfSomebodyElseKeepsWhatItHas(t *testing.T) {
	odd := `{"task": "t", "args": [NaN, ` + strings.Repeat("9", 300) + `], "kwargs": {"a": "\ud800"}, "options": {"x": -Infinity}, ` +
		`"subtask_type": null, "immutable": true, "chord_size": 3}`
	var read *Signature
	if err := JSON(odd).Parse(&read); err != nil {
		t.Fatal(err)
	}
	if text, err := encode(read); err != nil || text != odd {
		t.Error(text, err)
	}
	frozen := `{"task": "celery.chord", "args": [], "options": {"link": {"task": "k"}}, "subtask_type": "chord", "kwargs": {
		"header": {"task": "celery.group", "kwargs": {"tasks": [{"task": "a"}]}, "subtask_type": "group"}, "body": null}}`
	if err := JSON(frozen).Parse(&read); err != nil || draw(read) != "[a -> nothing]+k" {
		t.Error(read, err)
	}
}

func TestWhatIsNoSignatureIsRefused(t *testing.T) {
	for text, expected := range map[string]string{
		"[]":                                 "not a signature: no JSON object",
		"{}":                                 "not a signature: it names no task",
		`{"task": 1}`:                        "not a signature: it names no task",
		`{"task": "t", "subtask_type": "r"}`: `a signature of an unknown kind: "r"`,
		`{"task": "t", "args": {}}`:          "a signature whose args are no array",
		`{"task": "t", "kwargs": []}`:        "a signature whose kwargs are no object",
		`{"task": "t", "options": {"link": [1]}}`:                                                    "not a signature: no JSON object",
		`{"task": "celery.chain", "subtask_type": "chain"}`:                                          "a chain without tasks",
		`{"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": [{}]}}`:               "not a signature: it names no task",
		`{"task": "celery.map", "subtask_type": "xmap", "kwargs": {"task": {"task": "a"}, "it": 1}}`: "a xmap over no list",
	} {
		if _, err := readSignature(text); err == nil || err.Error() != expected {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func broken(t *testing.T, s *Signature, expected string) {
	t.Helper()
	if text, err := s.write(); err == nil || err.Error() != expected {
		t.Error(text, err)
	}
}

func TestWhatCannotBePublishedIsToldWhenItIsUsed(t *testing.T) {
	a, b := NewSignature("a"), NewSignature("b")
	wrong := a.Args(func() {})
	broken(t, wrong, "a signature of a: not JSON serializable: unsupported type: func()")
	broken(t, Chain(b, wrong), "a signature of a: not JSON serializable: unsupported type: func()")
	broken(t, XMap(a, 1), "a signature of celery.map: what it is called with is no list")
	broken(t, Chain().Kwargs(map[string]int{}), "a signature of celery.chain: only a call of a task has keyword arguments")
	broken(t, a.Kwargs([]int{1}), "a signature of a: the keyword arguments are no map")
	broken(t, a.Option("link", 1), "a signature of a: option link: what should be a list of signatures is no array")
	broken(t, Group(a, nil), "a signature that is nil")
	broken(t, nil, "a signature that is nil")
}

// What Celery composes, by the names that the contract of the SDKs has.
func TestCanvasesAreThoseOfCelery(t *testing.T) {
	text, err := os.ReadFile("../../tests/fixtures/contract/compose.json")
	if err != nil {
		t.Fatal(err)
	}
	var expected map[string]any
	if err := json.Unmarshal(text, &expected); err != nil {
		t.Fatal(err)
	}
	all := names("t.a t.b t.c t.d t.e t.f")
	a, b, c, d, e, f := all[0], all[1], all[2], all[3], all[4], all[5]
	header := []*Signature{a.Args(1), a.Args(2)}
	for name, canvas := range map[string]*Signature{
		"call":         a.Args(1, 2).Kwargs(map[string]int{"z": 3}),
		"options":      a.Option("queue", "slow").Option("priority", 5).Option("countdown", 1.5).Option("expires", 60).Option("task_id", "abc"),
		"immutable":    a.Args(1).Immutable(),
		"partial":      a.Args(2).Partial(1),
		"link":         a.Link(b).LinkError(c),
		"chain":        a.Args(1).Then(b).Then(c),
		"chain_group":  a.Args(1).Then(Group(b, c)).Then(d),
		"group":        Group(header...),
		"chord":        Chord(header, b),
		"chord_chain":  Chord(header, b).Then(c),
		"chunks":       Chunks(a, [][]int{{1, 2}, {3, 4}, {5, 6}}, 2),
		"map":          XMap(a, []int{1, 2}),
		"starmap":      XStarmap(a, [][]int{{1, 2}, {3, 4}}),
		"stamp":        Group(a.Args(1), b.Link(c)).Stamp("tenant", "x"),
		"linked_chain": a.Then(b).Link(c).LinkError(d),
		"linked_group": Group(a, b).Link(c).LinkError(d),
		"linked_chord": Chord([]*Signature{a, b}, c).Link(d).LinkError(e),
		"nested":       a.Then(Group(b.Then(c), Group(d, e))).Then(f),
		"single":       Chain(Group(a), b),
	} {
		var found any
		text, err := canvas.write()
		if err != nil || json.Unmarshal([]byte(text), &found) != nil {
			t.Fatal(name, err)
		}
		if !reflect.DeepEqual(found, expected[name]) {
			t.Errorf("%s:\nfound    %s\nexpected %s", name, text, fmt.Sprint(expected[name]))
		}
		delete(expected, name)
	}
	for name := range expected {
		t.Errorf("%s is not composed here", name)
	}
}
