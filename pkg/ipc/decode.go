package ipc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"
)

// A request is read strictly: what an old server does not understand must not
// be left out silently, and no two readers may differ about what was asked. So
// each of these is an error, all of which encoding/json would let pass: a field
// that is not known, a name in another case, a name twice, bytes that are not
// UTF-8, text after the object, nesting without end.

const (
	maxBody  = 64 << 10 // bytes of a request; the largest that makes sense has 200
	maxDepth = 32
)

// key is how all names on the wire look. encoding/json would take others for
// them: UNIT, and even ſ (U+017F) for s.
var key = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z_]*$`) })

// decode reads one JSON object into v, which is a pointer to a struct.
func decode(text []byte, v any) error {
	if err := scan(text); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return plain(err)
	}
	return nil
}

// scan looks at the tokens alone.
func scan(text []byte) error {
	if !utf8.Valid(text) {
		return errors.New("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("it is not a JSON object")
	}
	if err := scanObject(d, 1); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is something after the object")
	}
	return nil
}

func scanObject(d *json.Decoder, depth int) error {
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return plain(err)
		}
		name, _ := t.(string)
		switch {
		case !key().MatchString(name):
			return fmt.Errorf("no field is called %.40q", name)
		case seen[name]:
			return fmt.Errorf("field %q is there twice", name)
		}
		seen[name] = true
		if err := scanValue(d, depth); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return plain(err)
}

func scanValue(d *json.Decoder, depth int) error {
	t, err := d.Token()
	if err != nil {
		return plain(err)
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth++; depth > maxDepth {
		return fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	if open == '{' {
		return scanObject(d, depth)
	}
	for d.More() {
		if err := scanValue(d, depth); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return plain(err)
}

// plain says in our words what encoding/json says in Go's.
func plain(err error) error {
	var wrong *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		article := "a"
		if strings.ContainsAny(wrong.Value[:1], "ao") { // array, object
			article = "an"
		}
		return fmt.Errorf("field %q cannot be %s %s", wrong.Field, article, wrong.Value)
	case errors.As(err, &syntax), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("it is not JSON")
	}
	return errors.New(string(bytes.TrimPrefix([]byte(err.Error()), []byte("json: "))))
}
