package config

import (
	"regexp"
	"strings"
	"sync"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

var variable = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`) })

const variableRule = "take letters, digits and _, and no digit first"

// environment reads a table or a list. No value is ever part of a message.
var environment = kind[unit.Secrets]{name: "table of strings, or list of KEY=value", read: func(c cursor) (all unit.Secrets) {
	seen := map[string]bool{}
	add := func(c cursor, name, value string) {
		switch {
		case !variable().MatchString(name):
			c.wrong("this cannot be the name of a variable; %s", variableRule)
		case seen[name]:
			c.wrong("%s is set twice; leave one out", name)
		case strings.ContainsRune(value, 0):
			c.wrong("the value of %s has a NUL character in it, which no program can be given", name)
		}
		seen[name] = true
		all = append(all, name+"="+value)
	}
	switch v := c.value.(type) {
	case map[string]any:
		for _, c := range c.sorted(v) {
			if value, ok := c.value.(string); ok {
				add(c, c.name, value)
			} else {
				c.wrong("a string was expected, not %s; put it in quotes", noun(c.value))
			}
		}
	case []any:
		for i, v := range v {
			pair, _ := v.(string)
			name, value, ok := strings.Cut(pair, "=")
			if !ok {
				c.element(i, v).wrong("a string like \"KEY=value\" was expected")
				continue
			}
			add(c.element(i, v), name, value)
		}
	default:
		c.wrong("a table was expected, not %s; write environment = { KEY = \"value\" }", noun(v))
	}
	if len(all) > 0 {
		c.file.secret(c)
	}
	return all
}}

var files = kind[[]string]{name: "path, or list of paths", read: func(c cursor) []string {
	if _, ok := c.value.(string); ok {
		return []string{readFileName(c)}
	}
	return each(c, readFileName)
}}

// readFileName reads a path that may have a - before it.
func readFileName(c cursor) string {
	s := readText(c)
	path, optional := strings.CutPrefix(s, "-")
	if path == "" {
		if _, ok := c.value.(string); ok {
			c.wrong("it names no file; write a path, like \"/etc/default/api\"")
		}
		return ""
	}
	path = relativeTo(c.file.dir, path)
	if optional {
		return "-" + path
	}
	if why := c.file.load.missing(path, false); strings.HasSuffix(why, "does not exist") {
		c.doubtful("%s; write %q if it may be missing", why, "-"+s)
	}
	return path
}

var variables = kind[[]string]{name: "list of names", read: func(c cursor) []string {
	return each(c, func(c cursor) string {
		s := readText(c)
		if name, _, ok := strings.Cut(s, "="); ok && variable().MatchString(name) {
			c.wrong("only the name of a variable belongs here; write %q, or its value in environment", name)
		} else if _, ok := c.value.(string); ok && !variable().MatchString(s) {
			c.wrong("%s cannot be the name of a variable; %s", show(s), variableRule)
		}
		return s
	})
}}
