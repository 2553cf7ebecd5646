package config

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A schema is a piece of a JSON Schema: what editors complete and check by. It
// knows shapes only. What depends on other keys, or on the machine, is for
// superctl verify to say.
type schema map[string]any

func anyOf(all ...schema) schema     { return schema{"anyOf": all} }
func matching(pattern string) schema { return schema{"type": "string", "pattern": pattern} }
func listOf(element schema) schema   { return schema{"type": "array", "items": element} }
func from(least, most int64) schema {
	return schema{"type": "integer", "minimum": least, "maximum": most}
}
func oneOf(words []string) schema       { return schema{"type": "string", "enum": words} }
func (s schema) or(other schema) schema { return anyOf(s, other) }

// and is s with another word.
func (s schema) and(word string, value any) schema {
	with := maps.Clone(s)
	with[word] = value
	return with
}

// whole makes a pattern one for all of a string.
func whole(pattern string) string { return "^(" + pattern + ")$" }

// moreThanZero is for durations that have a digit other than 0.
func moreThanZero(pattern string) schema {
	return matching(whole(pattern)).and("not", matching(`^[^1-9]*$`))
}

// Patterns are those of ECMA-262 and Go alike. They say what the readers take, as
// far as one value says it: that a number is too large for its size, or a soft limit
// above the hard one, no pattern says.
const (
	blanks    = `[ \t\n\f\r]*`
	aUnit     = `us|µs|usec|ms|msec|s|sec|seconds?|m|min|minutes?|h|hr|hours?|d|days?|w|weeks?`
	aDuration = blanks + `([0-9]+(\.[0-9]+)?` + blanks + `(` + aUnit + `)` + blanks + `)+`
	aSize     = `[0-9]+[BKMGT]?`
	bothOf    = `^(infinity|%[1]s)(:(infinity|%[1]s))?$`

	aString   = `[^\x00]*`
	aVariable = `[A-Za-z_][A-Za-z0-9_]*`
	aName     = `[A-Za-z_][A-Za-z0-9_.-]{0,63}\$?`
	anID      = `0|[1-9][0-9]{0,8}|[1-3][0-9]{9}|4[01][0-9]{8}|42[0-8][0-9]{7}|429[0-3][0-9]{6}|4294[0-8][0-9]{5}|42949[0-5][0-9]{4}|429496[0-6][0-9]{3}|4294967[01][0-9]{2}|42949672[0-8][0-9]|429496729[0-4]`

	aPort   = `0*([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])`
	aByte   = `([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])`
	anIP    = `(` + aByte + `\.){3}` + aByte + `|\[[0-9A-Fa-f:.]+\]`
	aSocket = `(/[^/\x00]+)+`
	ofEach  = `[0-9]*(\{instance\}[0-9]*)+`

	// A command in one string: words without what means something to a shell.
	aCommand = "([^$`\\\\|&;<>()*?\\[\\]{}~#!\\n\\x00'\"]|'[^'\\x00]*'|\"[^\"$`\\\\\\x00]*\")*"
	noWord   = `^[ \t]*((''|"")+([ \t]|$)|$)`
)

var (
	anyString = matching(whole(aString))
	number    = schema{"type": "integer", "minimum": 0}
	account   = matching(whole(aName+`|`+anID)).and("not", oneOf([]string{"65535"}))
	address   = schema{"type": "string", "maxLength": maxSunPath, "pattern": whole(aSocket + `|@[^\x00]+|((` + anIP + `)?:)?(` + aPort + `|` + ofEach + `)`)}.and("not", matching(`^/(.*/)?\.\.?(/|$)`))
)

// shapes are the schemas of kinds, by their names; those with a range have their own.
var shapes = map[string]schema{
	"boolean":              {"type": "boolean"},
	"boolean, or journal":  schema{"type": "boolean"}.or(schema{"enum": []string{"journal"}}),
	"string":               anyString,
	"name":                 matching(`^[!-9;-~]{1,255}$`),
	"absolute path":        matching(whole(`/` + aString)),
	"address":              address.and("pattern", whole(aSocket+`|(`+anIP+`):`+aPort)),
	"octal string":         matching(`^0*[0-7]{1,3}$`),
	"user":                 account,
	"group":                account,
	"group, or empty":      matching(whole(`|`+aName+`|`+anID)).and("not", oneOf([]string{"nobody", "nogroup", "65534", "65535"})),
	"duration":             matching(whole(aDuration)),
	"duration or infinity": moreThanZero(aDuration).or(oneOf([]string{"infinity"})),
	"per cent":             matching(`^0*(100|[0-9]{1,2})%$`),
	"signal":               from(1, 64).or(matching(whole(`[1-9]|[1-5][0-9]|6[0-4]|` + aSignal()))),
	"list of strings":      listOf(anyString),
	"list of names":        listOf(matching(whole(aVariable))),
	"list of addresses":    listOf(address).and("minItems", 1),

	"list of strings, or a string": matching(whole(aCommand)).and("not", matching(noWord)).or(schema{
		"type": "array", "minItems": 1, "items": []schema{matching(`^[^\x00]+$`)}, "additionalItems": anyString,
	}),
	"path, or list of paths":                 fileName.or(listOf(fileName)),
	"list of exit statuses and signals":      listOf(from(0, 255).or(matching(whole(aSignal())))),
	"table of strings, or list of KEY=value": listOf(matching(whole(aVariable + `=` + aString))).or(schema{"type": "object", "propertyNames": matching(whole(aVariable)), "additionalProperties": anyString}),
	"number, infinity or soft:hard":          number.or(matching(fmt.Sprintf(bothOf, `[0-9]+`))),
	"size, infinity or soft:hard":            number.or(matching(fmt.Sprintf(bothOf, aSize))),
	"duration, infinity or soft:hard":        matching(fmt.Sprintf(bothOf, aDuration)),
}

var fileName = matching(`^([^-\x00]|-[^\x00])[^\x00]*$`)

// aSignal is the pattern of names of signals.
func aSignal() string {
	return `(SIG)?(` + strings.Join(signalNames(), "|") + `|` + strings.NewReplacer("(?:", "(").Replace(aRealTime) + `)`
}

// shape is the schema of a key of this version.
func (k key) shape() schema {
	s := schema{"description": plain(k.meaning())}
	of := k.is.schema()
	if of == nil {
		of = shapes[k.is.kind()]
	}
	maps.Copy(s, of)
	if k.def != "" {
		s["default"] = parsed(k.def)
	}
	return s
}

// shapeOf is the schema of one kind of table: nothing but its keys, and the
// tables below it.
func shapeOf(kind string) schema {
	all := schema{}
	for _, k := range keys {
		if k.in == kind && k.is != nil {
			all[k.name] = k.shape()
		}
	}
	for _, sub := range below(kind) {
		all[strings.TrimPrefix(sub, kind+".")] = shapeOf(sub)
	}
	return schema{"type": "object", "properties": all, "additionalProperties": false}
}

// named is a table of tables that have names.
func named(table schema) schema {
	return schema{"type": "object", "patternProperties": schema{unit.NamePattern: table}, "additionalProperties": false}
}

// WriteSchema writes etc/supervisord.schema.json, for editors that complete and check
// TOML. A file selects it with a first line "#:schema PATH".
func WriteSchema(w io.Writer) error {
	s := shapeOf("")
	s["$schema"] = "http://json-schema.org/draft-07/schema#"
	s["title"] = "Configuration of supervisord"
	tables := s["properties"].(schema)
	tables["manager"] = shapeOf("manager")
	tables["socket"] = named(shapeOf("socket"))
	tables["service"] = named(shapeOf("service"))
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(s)
}
