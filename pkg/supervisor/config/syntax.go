package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// parse reads TOML. After a syntax error that is the only problem there is, in
// whatever file; at a start that goes for the first file alone, and another one is
// left out.
func (f *file) parse(text string) (top map[string]any, ok bool) {
	fail := func(at place, message string) (map[string]any, bool) {
		f.load.unreadable(f.number > 0, Problem{File: f.name, Line: at.line, Col: at.col, Message: "syntax error: " + brief(message)})
		return nil, false
	}
	for i, r := range text {
		if _, n := utf8.DecodeRuneInString(text[i:]); r == utf8.RuneError && n == 1 {
			return fail(placeOf(text, i), "this is not UTF-8, and so it is not TOML; save the file as UTF-8")
		}
	}
	found, refused := scan(text)
	if refused != nil {
		return fail(refused.place, refused.why)
	}
	f.places = found
	_, err := toml.Decode(text, &top)
	var syntax toml.ParseError
	switch {
	case errors.As(err, &syntax):
		return fail(placeOf(text, syntax.Position.Start), found.explain(syntax.Message))
	case err != nil:
		return fail(place{1, 1}, err.Error())
	}
	return top, true
}

// The TOML package says what it expected. For what people do write, plainer says
// what would be right.
var plainer = []struct{ theirs, ours string }{
	{`Invalid integer "([0-7]+)": cannot have leading zeroes`, `$1 is no number in TOML; write an octal value as a string: "$1"`},
	{`expected value but found "((?i)true|yes|on)" instead`, `$1 is no value; write true`},
	{`expected value but found "((?i)false|no|off)" instead`, `$1 is no value; write false`},
	{`expected value but found "(.+)" instead`, `$1 is no value; write "$1", in quotes, if text is meant`},
	{`expected value but found '\\n' instead|unexpected EOF; expected value`, `a value is missing; write it after the =`},
	{`expected value but found '=' instead`, `one = is enough`},
	{`expected value but found (.+) instead`, `a value cannot begin with $1; put text in quotes`},
	{`expected a top-level item to end with .+, but got ']' instead`, `the line should end here, and a ] follows that nothing has opened`},
	{`expected a top-level item to end with .+, but got '/' instead`, `the line should end here; a comment begins with #`},
	{`expected a top-level item to end with .+, but got ',' instead`, `the line should end here, and a comma follows; write one key a line, and a list in [ ]`},
	{`expected a top-level item to end with .+, but got '"' instead`, `the line should end here, and more text follows; write a list in [ ], with commas`},
	{`expected a top-level item to end with .+, but got (.+) instead`, `the line should end here, and $1 follows; what is no plain number must be in quotes, like "5m"`},
	{`strings cannot contain newlines`, `the string does not end on its line; close its quotes`},
	{`unexpected EOF; expected ['"](.+)['"]`, `the file ends in a string; close it with $1`},
	{`expected '\.' or '=', but got '([/;])' instead`, `a key cannot have $1 in it; a comment begins with #`},
	{`expected '\.' or '=', but got '\\n' instead|unexpected EOF; expected key separator '='`, `a key without a value; write = and one`},
	{`expected '\.' or '=', but got (.+) instead`, `after a key comes =, not $1`},
	{`expected (?:'\.' or '\]' to end table name|end of table array name delimiter '\]'), but got (.+) instead`, `the name of a table ends with ], not $1`},
	{`expected a comma \(','\) or array terminator \('\]'\), but got (.+)`, `a list goes on with a comma or ends with ], not $1`},
	{`expected a comma or an inline table terminator '}', but got (.+) instead`, `a table goes on with a comma or ends with }, not $1`},
	{`unexpected comma`, `there is nothing before this comma; take it out`},
	{`unexpected '=': key name appears blank`, `there is no key before this =; write one`},
	{`unexpected end of table name.+`, `the name of a table is missing or ends in a dot; write it before the ]`},
	{`files cannot contain NULL bytes.+`, `there is a NUL character; save the file as UTF-8, without such`},
	{`invalid escape in string '(.+)'`, `$1 means nothing in a string; write \\ for a backslash, or put the string in '…'`},
	{`TOML files cannot contain control characters: '(.+)'`, `there is a control character ($1); take it out, or write it as an escape in a string`},
}

var patterns = sync.OnceValue(func() (all []*regexp.Regexp) {
	for _, p := range plainer {
		all = append(all, regexp.MustCompile("^(?:"+p.theirs+")"))
	}
	return all
})

var defined = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^Key '(.+)' (?:has already been defined|was already created)`)
})

// explain is a message of the TOML package as one of ours.
func (found places) explain(message string) string {
	if m := defined().FindStringSubmatch(message); m != nil {
		path := ""
		for part := range strings.SplitSeq(m[1], ".") {
			path = join(path, part)
		}
		if at, ok := found[path]; ok { // not if it is quoted, or in a list
			return fmt.Sprintf("%s is there already, at line %d; write it once", m[1], at.line)
		}
		return m[1] + " is there already; write it once"
	}
	for i, p := range patterns() {
		if m := p.FindStringSubmatchIndex(message); m != nil {
			return ends.Replace(string(p.ExpandString(nil, plainer[i].ours, message, m)))
		}
	}
	message = strings.TrimSuffix(strings.TrimPrefix(message, "toml: "), ".")
	if strings.HasPrefix(message, "Invalid") {
		message = "i" + message[1:]
	}
	return message
}

var ends = strings.NewReplacer(`'\n'`, "the end of the line", `'\x00'`, "the end of the file", "end of file", "the end of the file")
