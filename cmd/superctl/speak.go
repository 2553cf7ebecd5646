package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// This file is the only one that writes, and these are its rules:
//
//   - The answer goes to stdout, and nothing else does. Errors, notes and hints
//     go to stderr.
//   - What others wrote (services, their names for things, files, errors) is made
//     printable before it is measured or written: no byte of it does anything to
//     a terminal. Only formats, which are ours, are written as they are.
//   - Colour only where somebody sees it: on a terminal that is not dumb, unless
//     NO_COLOR is set; or as --color says.
//   - No pager, no box art, no question.

// A console writes to one stream.
type console struct {
	w        io.Writer
	lost     error // why something could not be written; nil: all was
	terminal bool  // somebody watches, and lines can be taken back
	color    bool
	width    int // columns; 0: as many as it takes
}

func newConsole(w io.Writer, env func(string) string) *console {
	c := &console{w: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		c.terminal = env("TERM") != "dumb"
		c.color = c.terminal && env("NO_COLOR") == ""
		c.width, _, _ = term.GetSize(int(f.Fd()))
	}
	if n, err := strconv.Atoi(env("COLUMNS")); err == nil && n > 0 {
		c.width = n
	}
	return c
}

// A painted text is printable already, and may have colours in it.
type painted string

// print writes a format that is ours with arguments that are not.
func (c *console) print(format string, args ...any) {
	for i, a := range args {
		switch a := a.(type) {
		case painted:
		case string:
			args[i] = printable(a)
		case error:
			args[i] = printable(a.Error())
		case fmt.Stringer:
			args[i] = printable(a.String())
		}
	}
	c.raw(fmt.Appendf(nil, format, args...))
}

// raw writes bytes as they are: for --raw, and for what was made by [ipc.Encode].
func (c *console) raw(text []byte) {
	if _, err := c.w.Write(text); err != nil && c.lost == nil {
		c.lost = err
	}
}

// Write is for what others make that is no answer: scripts.
func (c *console) Write(text []byte) (int, error) {
	c.raw(text)
	return len(text), nil
}

// json writes v as JSON for people and programs.
func (c *console) json(v any) error {
	text, err := ipc.EncodeIndent(v)
	if err == nil {
		c.raw(text)
	}
	return err
}

// jsonLine writes v as one line, for streams.
func (c *console) jsonLine(v any) error {
	text, err := ipc.Encode(v)
	if err == nil {
		c.raw(text)
	}
	return err
}

// A style is the parameter of an SGR sequence (console_codes(4)).
type style string

// Styles, by what they say.
const (
	plain  style = ""
	strong style = "1"
	faint  style = "2"
	bad    style = "31"
	good   style = "32"
	moving style = "33"
)

// paint makes text printable, and colours it where that is wanted.
func (c *console) paint(s style, text string) painted {
	text = printable(text)
	if !c.color || text == "" || s == plain {
		return painted(text)
	}
	return painted("\x1b[" + string(s) + "m" + text + "\x1b[m")
}

// printable shows what is not to be obeyed: controls, bidi, zero width and the
// like become \x1b, \u202e; bytes that are no UTF-8 become \xff.
func printable(text string) string { return show(text, "") }

// show is [printable], but for the controls in keep.
func show(text, keep string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, ipc.Hidden) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case !ipc.Hidden(r), strings.ContainsRune(keep, r):
			b.WriteRune(r)
		default:
			b.WriteString(escaped(r))
		}
		text = text[size:]
	}
	return b.String()
}

func escaped(r rune) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\t':
		return `\t`
	case r <= 0xff:
		return fmt.Sprintf(`\x%02x`, r)
	case r <= 0xffff:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}

// sgr is the sequence that sets colours, and nothing but colours.
var sgr = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile("\x1b\\[[0-9;:]*m") })

// logText is a line that a service wrote. Its tabs stay, and on a terminal its
// colours too, up to its end.
func (c *console) logText(text string) painted {
	if !c.color {
		return painted(show(sgr().ReplaceAllString(text, ""), "\t"))
	}
	var b strings.Builder
	at := 0
	for _, m := range sgr().FindAllStringIndex(text, -1) {
		b.WriteString(show(text[at:m[0]], "\t"))
		b.WriteString(text[m[0]:m[1]])
		at = m[1]
	}
	b.WriteString(show(text[at:], "\t"))
	if at > 0 {
		b.WriteString("\x1b[m")
	}
	return painted(b.String())
}

// width is how many columns a text takes that has no controls but colours.
func width(text string) (columns int) {
	return runewidth.StringWidth(sgr().ReplaceAllString(text, ""))
}

// cut shortens text without colours to at most so many columns; 0: no limit.
func cut(text string, most int) string {
	if most <= 0 {
		return text
	}
	return runewidth.Truncate(text, most, "…")
}

// cutMiddle is cut for names, which often differ at their ends alone.
func cutMiddle(text string, most int) string {
	if most <= 4 || width(text) <= most {
		return cut(text, most)
	}
	end := (most - 1) / 2
	return runewidth.Truncate(text, most-1-end, "") + "…" + runewidth.TruncateLeft(text, width(text)-end, "")
}

// pad fills text up to so many columns.
func pad(text string, columns int) string {
	return text + strings.Repeat(" ", max(0, columns-width(text)))
}
