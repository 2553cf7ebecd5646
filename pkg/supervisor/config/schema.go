package config

import (
	"encoding/json"
	"fmt"
	"io"
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
func from(least, most int) schema {
	return schema{"type": "integer", "minimum": least, "maximum": most}
}
func oneOf(words []string) schema       { return schema{"type": "string", "enum": words} }
func (s schema) or(other schema) schema { return anyOf(s, other) }

// Patterns are looser than the readers: an editor must not refuse what is right.
const (
	aDuration = `([0-9]+(\.[0-9]+)?\s*(us|µs|ms|s|sec|m|min|h|hr|d|w)\s*)+`
	aSize     = `[0-9]+[BKMGT]?`
	infinity  = `infinity`
	bothOf    = `^(infinity|%[1]s)(:(infinity|%[1]s))?$`
)

var (
	anyString = schema{"type": "string"}
	number    = schema{"type": "integer", "minimum": 0}
)

// shapes are the schemas of kinds, by their names.
var shapes = map[string]schema{
	"boolean":              {"type": "boolean"},
	"boolean, or journal":  schema{"type": "boolean"}.or(schema{"enum": []string{"journal"}}),
	"integer":              {"type": "integer"},
	"string":               anyString,
	"name":                 anyString,
	"absolute path":        matching(`^/`),
	"address":              matching(`^/|.:[0-9]+$`),
	"octal string":         matching(`^[0-7]+$`),
	"user":                 matching(`^[A-Za-z0-9_]`),
	"group":                matching(`^[A-Za-z0-9_]`),
	"group, or empty":      anyString,
	"duration":             matching(`^` + aDuration + `$`),
	"duration or infinity": matching(`^(` + infinity + `|` + aDuration + `)$`),
	"size":                 number.or(matching(`^` + aSize + `$`)),
	"per cent":             matching(`^(100|[0-9]?[0-9])%$`),
	"signal":               from(1, 64).or(matching(`^[A-Z0-9+-]+$`)),
	"list of strings":      listOf(anyString),
	"list of names":        listOf(anyString),
	"list of addresses":    listOf(matching(`^[/@]|[0-9}]$`)),

	"list of strings, or a string":           anyString.or(listOf(anyString)),
	"path, or list of paths":                 anyString.or(listOf(anyString)),
	"list of exit statuses and signals":      listOf(from(0, 255).or(matching(`^[A-Z]`))),
	"table of strings, or list of KEY=value": listOf(matching(`=`)).or(schema{"type": "object", "additionalProperties": anyString}),
	"number, infinity or soft:hard":          number.or(matching(fmt.Sprintf(bothOf, `[0-9]+`))),
	"size, infinity or soft:hard":            number.or(matching(fmt.Sprintf(bothOf, aSize))),
	"duration, infinity or soft:hard":        matching(fmt.Sprintf(bothOf, aDuration)),
}

// shape is the schema of a key of this version.
func (k key) shape() schema {
	name := k.is.kind()
	of, ok := shapes[name]
	if !ok {
		of = oneOf(strings.Split(name, " | "))
	}
	s := schema{"description": plain(k.meaning())}
	for word, value := range of {
		s[word] = value
	}
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
