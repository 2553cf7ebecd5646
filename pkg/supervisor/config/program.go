package config

import (
	"fmt"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

var argv = kind[[]string]{"list of strings, or a string", func(c cursor) []string {
	args := readArgv(c)
	for _, arg := range args {
		if strings.Contains(arg, "{instance}") {
			c.wrong("{instance} is known, not in this version; leave it out")
		}
	}
	return args
}}

func readArgv(c cursor) []string {
	var args []string
	switch v := c.value.(type) {
	case string:
		words, why := splitWords(v)
		if why != "" {
			c.wrong("%s", why)
			return nil
		}
		args = words
	case []any:
		args = each(c, readText)
		if len(args) > 0 && args[0] == "" && v[0] != "" {
			return nil // it was complained of
		}
	default:
		c.wrong("a command was expected, not %s; write one like [\"/srv/api/api\", \"-listen\", \"fd\"]", noun(v))
		return nil
	}
	if len(args) == 0 || args[0] == "" {
		c.wrong("it names no program; write one like [\"/srv/api/api\"]")
		return nil
	}
	return args
}

// splitWords splits a command at blanks. '…' and "…" keep blanks together. What
// a shell would do something about is an error: there is no shell.
func splitWords(s string) (words []string, why string) {
	var word strings.Builder
	var quote rune
	inWord := false
	for _, r := range s {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != '\'' && strings.ContainsRune("$`\\", r), quote == 0 && strings.ContainsRune("|&;<>()*?[]{}~#!\n", r):
			return nil, fmt.Sprintf(`%q means something to a shell, and there is none; write a list, like ["/bin/sh", "-c", "exec …"], or put it in '…'`, r)
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, inWord = r, true
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Sprintf("a %c is not closed", quote)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, ""
}

// setProgram makes a path of the program's name, by the rules of exec_start.
func (s *service) setProgram(o Options) {
	p := &s.Program
	c, written := s.set["exec_start"]
	if !written || len(p.Argv) == 0 {
		return
	}
	switch name := p.Argv[0]; {
	case slices.Contains([]string{"", ".", ".."}, name[strings.LastIndex(name, "/")+1:]):
		c.wrong("%q is a directory; write a program", name)
	case strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../"):
		p.Path = relativeTo(c.file.dir, name)
	case strings.ContainsAny(name[:1], "-@+!:") && strings.HasPrefix(name[1:], "/"):
		c.wrong("%q begins with one of systemd's prefixes, which do not exist here; write %q", name, name[1:])
	case filepath.IsAbs(name):
		p.Path = filepath.Clean(name)
	case strings.Contains(name, "/"):
		c.wrong("%q is relative to nothing in particular; write %q if it is relative to this file, or an absolute path", name, "./"+name)
	default:
		p.Path, p.Search = name, o.search()
	}
	s.lookAtProgram(c)
}

// lookAtProgram warns of a program that is not there. It may come before it is started.
func (s *service) lookAtProgram(c cursor) {
	l, p := c.file.load, s.Program
	if len(p.Search) == 0 {
		if why := l.missing(p.Path, false); p.Path != "" && why != "" {
			c.doubtful("%s; it cannot be started as long as that is so", why)
		}
		return
	}
	for _, dir := range p.Search {
		if l.missing(filepath.Join(dir, p.Path), false) == "" {
			return
		}
	}
	c.doubtful("%s is in none of %s; it cannot be started as long as that is so", p.Path, strings.Join(p.Search, ":"))
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

const variableRule = "take letters, digits and _, and no digit first"

// environment reads a table or a list. No value is ever part of a message.
var environment = kind[unit.Secrets]{"table of strings, or list of KEY=value", func(c cursor) (all unit.Secrets) {
	seen := map[string]bool{}
	add := func(c cursor, name, value string) {
		switch {
		case !variable.MatchString(name):
			c.wrong("this cannot be the name of a variable; %s", variableRule)
		case seen[name]:
			c.wrong("%s is there twice; leave one out", name)
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
				c.element(i, v).wrong("a string like \"KEY=value\" was expected; this is none")
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

var files = kind[[]string]{"path, or list of paths", func(c cursor) []string {
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

var variables = kind[[]string]{"list of names", func(c cursor) []string {
	return each(c, func(c cursor) string {
		s := readText(c)
		if name, _, ok := strings.Cut(s, "="); ok && variable.MatchString(name) {
			c.wrong("only the name of a variable belongs here; write %q, or its value in environment", name)
		} else if _, ok := c.value.(string); ok && !variable.MatchString(s) {
			c.wrong("%s cannot be the name of a variable; %s", show(s), variableRule)
		}
		return s
	})
}}

// maybe reads a value that is nil if it is not written.
func maybe[T any](of kind[T]) kind[*T] {
	return kind[*T]{of.name, func(c cursor) *T {
		v := of.read(c)
		return &v
	}}
}

// Resources that package syscall has no name for: getrlimit(2).
const (
	rlimitRSS        = 5
	rlimitNPROC      = 6
	rlimitMEMLOCK    = 8
	rlimitLOCKS      = 10
	rlimitSIGPENDING = 11
	rlimitMSGQUEUE   = 12
	rlimitNICE       = 13
	rlimitRTPRIO     = 14
	rlimitRTTIME     = 15
)

// noLimit is RLIM_INFINITY.
const noLimit = 1<<64 - 1

// A measure is how the value of a limit is written.
type measure struct {
	name, example string
	parse         func(string) (uint64, bool)
}

var (
	counted        = measure{"number", "65536", func(s string) (uint64, bool) { n, err := strconv.ParseUint(s, 10, 63); return n, err == nil }}
	inBytes        = measure{"size", "64M", parseSize}
	inSeconds      = measure{"duration", "30s", func(s string) (uint64, bool) { return parseIn(s, time.Second) }}
	inMicroseconds = measure{"duration", "200ms", func(s string) (uint64, bool) { return parseIn(s, time.Microsecond) }}
)

// parseIn reads a duration as a number of units, rounded up.
func parseIn(s string, unit time.Duration) (uint64, bool) {
	d, why := parseDuration(s)
	return uint64(d/unit) + uint64(min(d%unit, 1)), why == ""
}

// limit reads one setrlimit(2) and appends it to those of the program.
func limit(resource int, of measure) reader { return limitReader{resource, of} }

type limitReader struct {
	resource int
	of       measure
}

func (r limitReader) kind() string { return r.of.name + ", infinity or soft:hard" }

func (r limitReader) read(t *target, c cursor) {
	text, ok := c.value.(string)
	if n, isNumber := c.value.(int64); isNumber && n >= 0 && r.of.name != "duration" {
		text, ok = strconv.FormatInt(n, 10), true
	}
	soft, hard, both := strings.Cut(text, ":")
	if !both {
		hard = soft
	}
	l := unit.Limit{Resource: r.resource}
	var ok1, ok2 bool
	l.Soft, ok1 = r.value(soft)
	l.Hard, ok2 = r.value(hard)
	switch {
	case !ok || !ok1 || !ok2:
		c.wrong("%s is not a limit; write a %s like \"%s\", \"infinity\", or both limits as \"%s:infinity\"", show(c.value), r.of.name, r.of.example, r.of.example)
	case l.Soft > l.Hard:
		c.wrong("%s has a soft limit above the hard one; write the lower one first", show(c.value))
	default:
		t.u.Program.Limits = append(t.u.Program.Limits, l)
	}
}

func (r limitReader) value(s string) (uint64, bool) {
	if s == "infinity" {
		return noLimit, true
	}
	return r.of.parse(s)
}

// Names of users and groups, as useradd(8) lets them pass. Those that are numbers
// must be ones that setresuid(2) does not take for "leave it as it is", in 32
// bits or 16, and must be written in one way only.
var accountName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}\$?$`)

var (
	anyUser  = kind[string]{"user", func(c cursor) string { return readAccount(c, "user") }}
	anyGroup = kind[string]{"group", func(c cursor) string { return readAccount(c, "group") }}
	noGroup  = kind[string]{"group, or empty", func(c cursor) string {
		switch c.value {
		case "":
			return ""
		case "nobody", "nogroup", "65534": // whoever is unknown in a user namespace
			c.wrong("%s is what all strangers have in a container; write a group that has members, or \"\" for none", show(c.value))
			return ""
		}
		return readAccount(c, "group")
	}}
)

// readAccount reads a name or an id. Nothing that is not there falls back to
// anything: a wrong name that ran as root would be the worst of all.
func readAccount(c cursor, what string) string {
	if n, ok := c.value.(int64); ok {
		c.wrong("%d is a number; write the id as a string: \"%d\"", n, n)
		return ""
	}
	s := readText(c)
	switch {
	case c.value == "":
		c.wrong("it is empty; write a name or a decimal id, or leave it out")
	case s == "" || isID(s):
	case !accountName.MatchString(s):
		c.wrong("%s is not a %s; write a name, or a decimal id from 0 to 4294967294 other than 65535", show(s), what)
	case !c.file.load.knows(what, s):
		c.wrong("there is no %s %s in /etc/%s; write another, or numbers for user and group", what, s, map[string]string{"user": "passwd", "group": "group"}[what])
	}
	return s
}

func isID(s string) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	return err == nil && n != 1<<32-1 && n != 1<<16-1 && strconv.FormatUint(n, 10) == s
}

// accounts are those that were looked up: a thousand services may have one user.
type accounts map[[2]string]bool

func (l *load) knows(what, name string) bool {
	if !l.disk {
		return true
	}
	k := [2]string{what, name}
	known, asked := l.accounts[k]
	if !asked {
		known = exists(what, name)
		l.accounts[k] = known
	}
	return known
}

func exists(what, name string) bool {
	look := func() (err error) { _, err = user.LookupGroup(name); return err }
	switch {
	case what == "user" && isID(name):
		look = func() (err error) { _, err = user.LookupId(name); return err }
	case what == "user":
		look = func() (err error) { _, err = user.Lookup(name); return err }
	}
	return look() == nil
}
