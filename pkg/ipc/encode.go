package ipc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"
)

// Encode returns v as one line of JSON, with a newline, that is safe to show in a
// terminal. Services may write anything, and JSON itself escapes only the control
// characters below U+0020.
func Encode(v any) ([]byte, error) {
	return encode(v, "")
}

// EncodeIndent is like [Encode], but indents its result for people.
func EncodeIndent(v any) ([]byte, error) {
	return encode(v, "  ")
}

func encode(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(filled(v)); err != nil {
		return nil, fmt.Errorf("cannot encode an answer: %w", err)
	}
	return escape(b.Bytes()), nil
}

// filled is an answer in which no list is nil, since that would be null in JSON. What
// it was given is not changed: others read it.
func filled(v any) any {
	switch v := v.(type) {
	case Status:
		v.Services, v.Sockets = list(v.Services), filledSockets(v.Sockets)
		return v
	case []SocketUnit:
		return filledSockets(v)
	case History:
		v.Records = list(v.Records)
		return v
	case Tried:
		v.Headers = list(v.Headers)
		return v
	case Reloaded:
		v.Added, v.Removed, v.Changed, v.Warnings = list(v.Added), list(v.Removed), list(v.Changed), list(v.Warnings)
		return v
	}
	return v
}

func filledSockets(units []SocketUnit) []SocketUnit {
	units = slices.Clone(units)
	for i := range units {
		u := &units[i]
		u.Sockets, u.Holders = list(u.Sockets), slices.Clone(u.Holders)
		for k := range u.Holders {
			u.Holders[k].Queues = list(u.Holders[k].Queues)
		}
	}
	return list(units)
}

func list[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

// escape writes \uXXXX for each character that is not to reach a terminal. In
// what encoding/json makes they can only be within strings.
func escape(text []byte) []byte {
	if !bytes.ContainsFunc(text, hidden) {
		return text
	}
	var out []byte
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case !hidden(r):
			out = append(out, text[:size]...)
		case r > 0xffff:
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		text = text[size:]
	}
	return out
}

func hidden(r rune) bool { return r != '\n' && r != '\t' && Hidden(r) }

// Hidden reports whether a character affects a terminal or the reader in any way other
// than by being shown. Such characters are controls, the formatting of category Cf (bidi,
// zero width, tags), line and paragraph separators, and everything without a shape.
func Hidden(r rune) bool { return !unicode.IsGraphic(r) }
