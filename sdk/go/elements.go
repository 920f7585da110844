package taskhost

import (
	"errors"
	"strings"
)

// Splits a JSON array or object into the texts of its elements, without parsing them. Only brackets and quotes are
// looked at, so NaN and numbers of any size pass; whether an element is well formed finds out whoever parses it.

var errMalformed = errors.New("the text is not an array or object")

// arrayElements calls visit with the text of every element of an array.
func arrayElements(text string, visit func(element string)) error {
	cursor := cursor{text: text}
	if !cursor.accept('[') {
		return errMalformed
	}
	if cursor.accept(']') {
		return cursor.end()
	}
	for {
		element, ok := cursor.value()
		if !ok {
			return errMalformed
		}
		visit(element)
		if !cursor.accept(',') {
			if !cursor.accept(']') {
				return errMalformed
			}
			return cursor.end()
		}
	}
}

// objectMembers calls visit with the name and the text of every member of an object.
func objectMembers(text string, visit func(name, value string)) error {
	cursor := cursor{text: text}
	if !cursor.accept('{') {
		return errMalformed
	}
	if cursor.accept('}') {
		return cursor.end()
	}
	for {
		quoted, ok := cursor.value()
		if !ok {
			return errMalformed
		}
		name, ok := unquote(quoted)
		if !ok || !cursor.accept(':') {
			return errMalformed
		}
		value, ok := cursor.value()
		if !ok {
			return errMalformed
		}
		visit(name, value)
		if !cursor.accept(',') {
			if !cursor.accept('}') {
				return errMalformed
			}
			return cursor.end()
		}
	}
}

type cursor struct {
	text string
	at   int
}

func (c *cursor) skipSpace() {
	for c.at < len(c.text) && isSpace(c.text[c.at]) {
		c.at++
	}
}

func isSpace(char byte) bool {
	return char == ' ' || char == '\n' || char == '\r' || char == '\t'
}

func (c *cursor) accept(char byte) bool {
	c.skipSpace()
	if c.at < len(c.text) && c.text[c.at] == char {
		c.at++
		return true
	}
	return false
}

func (c *cursor) end() error {
	c.skipSpace()
	if c.at < len(c.text) {
		return errMalformed
	}
	return nil
}

// value gives the text of the value that starts here.
func (c *cursor) value() (string, bool) {
	c.skipSpace()
	start := c.at
	if start == len(c.text) {
		return "", false
	}
	switch c.text[start] {
	case '"':
		if !c.skipString() {
			return "", false
		}
	case '[', '{':
		if !c.skipNested() {
			return "", false
		}
	default:
		for c.at < len(c.text) && !endsScalar(c.text[c.at]) {
			c.at++
		}
	}
	return c.text[start:c.at], c.at > start
}

func endsScalar(char byte) bool {
	switch char {
	case ',', ':', ']', '}', '"':
		return true
	}
	return isSpace(char)
}

func (c *cursor) skipString() bool {
	start := c.at + 1
	from := start
	// A quote is escaped by an odd run of backslashes.
	for {
		length := strings.IndexByte(c.text[from:], '"')
		if length < 0 {
			return false
		}
		quote := from + length
		backslashes := 0
		for quote-backslashes > start && c.text[quote-backslashes-1] == '\\' {
			backslashes++
		}
		from = quote + 1
		if backslashes%2 == 0 {
			c.at = from
			return true
		}
	}
}

func (c *cursor) skipNested() bool {
	depth := 0
	for c.at < len(c.text) {
		switch c.text[c.at] {
		case '"':
			if !c.skipString() {
				return false
			}
			continue
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		}
		c.at++
		if depth == 0 {
			return true
		}
	}
	return false
}
