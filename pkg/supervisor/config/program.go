package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

var argv = kind[[]string]{name: "list of strings, or a string", read: func(c cursor) []string {
	args := readArgv(c)
	if len(args) > 0 && strings.Contains(args[0], unit.Placeholder) {
		c.wrong("all instances run the same program: {instance} can be in its arguments, not in its name")
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
		case r == 0:
			return nil, noNUL
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
			c.doubtful("%s; the service cannot start until that changes", why)
		}
		return
	}
	for _, dir := range p.Search {
		if l.missing(filepath.Join(dir, p.Path), false) == "" {
			return
		}
	}
	c.doubtful("%s is in none of %s; the service cannot start until that changes", p.Path, strings.Join(p.Search, ":"))
}
