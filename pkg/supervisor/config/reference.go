package config

import (
	"fmt"
	"io"
	"strings"
)

// What the reference and the sample say of each table.
var tables = []struct{ kind, title, says, sample string }{
	{"", "Top of the file", "", ""},
	{"manager", "[manager]", "supervisord itself. Changes here take effect when supervisord restarts, except for `metrics_listen`, which `superctl daemon-reload` applies too.", "[manager]"},
	{"socket", "[socket.NAME]", "One or more listening sockets, which supervisord binds once and keeps, whatever happens to the services.", "[socket.http]"},
	{"service", "[service.NAME]", "A program to keep running.", "[service.api]"},
	{"service.reload", "[service.NAME.reload]", "How `superctl reload` replaces it.", "[service.api.reload]"},
	{"service.log", "[service.NAME.log]", "Where its output goes.", "[service.api.log]"},
}

const referenceHead = `# Keys of the configuration

<!-- Generated from the key table: go generate ./pkg/supervisor/config -->

The configuration is one file in [TOML](https://toml.io): the one after ` + "`-c`" + `, else
` + "`$SUPERVISORD_CONFIG`" + `, else ` + "`/etc/supervisord/supervisord.toml`" + ` as root and
` + "`$XDG_CONFIG_HOME/supervisord/supervisord.toml`" + ` as any other user. It may
include others. A key has the name of systemd's directive, in snake_case, where systemd has
one. Case matters. ` + "`superctl verify`" + ` and ` + "`supervisord --check`" + ` report every problem in the
files, with its line and column and what would be right; warnings stop nothing.

A changed file takes effect with ` + "`superctl daemon-reload`" + `: the next start, restart or
reload of a service uses it. With an error in any file it rejects all of them, and the
configuration that was loaded before stays in effect.

When supervisord starts, one mistake does not keep everything else down. A unit with
an error is set aside: it is shown as failed, with the file and line, and the others
run. So is a service with a socket that is set aside, the later one of two units that
want the same address, and a unit that is in two files. An include that cannot be read
or has a syntax error is left out, and supervisord is degraded. It exits with 1 only
if the first file cannot be read or has a syntax error, and for an error in ` + "`[manager]`" + `.

Files are at most 1 MiB each. As root, every
component of their paths must belong to root and not be writable by others.

Editors that check TOML by a schema find one in ` + "`etc/supervisord.schema.json`" + `: start the
file with ` + "`#:schema PATH`" + `.

## Values

| kind | how it is written |
|---|---|
| duration | a string with units: ` + "`\"100ms\"`, `\"1m30s\"`" + `. The units are us, ms, s, m, h, d and w. A bare number is an error. ` + "`\"infinity\"`" + ` where the key allows it; zero never means that |
| size | a number of bytes, or a string with K, M, G or T, of 1024 each: ` + "`\"64M\"`" + ` |
| octal string | ` + "`\"0022\"`" + `: TOML has no numbers with a leading zero |
| signal | ` + "`\"SIGTERM\"`, `\"TERM\"`, `\"SIGRTMIN+3\"`" + ` or a number from 1 to 64 |
| user, group | a name, or a decimal id as a string: ` + "`\"1000\"`" + `. One that is not in ` + "`/etc/passwd` or `/etc/group`" + ` is a warning for a service or a socket: it is looked up again, with getent(1) if need be, at each start and each time the socket is bound. Elsewhere it is an error |
| name of a unit | 1 to 63 of ` + "`A-Z a-z 0-9 _ . -`" + `, a letter or digit first; not ending in .socket or .service |
`

// WriteReference writes docs/reference/configuration.md.
func WriteReference(w io.Writer) error {
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, t := range tables {
		fmt.Fprintf(&b, "\n## %s\n\n", t.title)
		if t.says != "" {
			fmt.Fprintf(&b, "%s\n\n", t.says)
		}
		b.WriteString("| key | value | default | meaning |\n|---|---|---|---|\n")
		for _, k := range keys {
			if k.in == t.kind && k.is != nil {
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.name, cell(k.is.kind()), k.byDefault(), cell(k.meaning()))
			}
		}
	}
	b.WriteString("\n## Known, not in this version\n\nUsing one of these is an error that says so.\n\n| key | meaning |\n|---|---|\n")
	for _, k := range keys {
		if k.is == nil {
			fmt.Fprintf(&b, "| `%s` in `[%s]` | %s |\n", k.name, within(k.in), cell(k.meaning()))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell is a text that a Markdown table can have in it.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func (k key) byDefault() string {
	switch {
	case k.when != "":
		return k.when
	case k.def != "":
		return strings.TrimSuffix("`"+k.def+"` "+k.unit, " ")
	}
	return "none"
}

func (k key) meaning() string {
	if k.like == "" {
		return k.says
	}
	return k.says + " systemd: `" + k.like + "`"
}

// width of the sample's comments, without their #.
const width = 84

const sampleHead = `# A configuration of supervisord: /etc/supervisord/supervisord.toml
#
# Lines without a # work as they are. Each line "# key = value" can be uncommented on
# its own; its value is the default, or an example. Check a change before loading it:
#
#   supervisord --check -c supervisord.toml
#   superctl daemon-reload
#
# Generated from the key table, as docs/reference/configuration.md is, which says
# more about each key: go generate ./pkg/supervisor/config
`

// WriteSample writes etc/supervisord.toml: a small configuration that works as it is, with
// the other keys as comments. All limits except one, and rarely used keys without an
// example, are only in the reference.
func WriteSample(w io.Writer) error {
	var b strings.Builder
	b.WriteString(sampleHead)
	for _, t := range tables {
		if t.sample != "" {
			fmt.Fprintf(&b, "\n\n# %s\n\n%s\n", strings.Join(wrap(plain(t.says), width), "\n# "), t.sample)
		}
		for _, k := range keys {
			if k.in == t.kind && k.is != nil {
				k.writeSample(&b)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (k key) writeSample(b *strings.Builder) {
	value := k.eg
	if value == "" {
		value = k.def
	}
	if value == "" {
		return
	}
	for _, line := range wrap(plain(k.says), width) {
		fmt.Fprintf(b, "\n## %s", line)
	}
	comment := "# "
	if k.show {
		comment = ""
	}
	fmt.Fprintf(b, "\n%s%s = %s\n", comment, k.name, value)
}

// plain is Markdown as one writes it in a comment.
func plain(text string) string { return strings.ReplaceAll(text, "`", "") }

func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}
