package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"charm.land/lipgloss/v2"
	"golang.org/x/term"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// This is the one file that writes to the terminal, and its rules are these:
//
//   - stdout has the answer and nothing else; errors, notes and hints go to
//     stderr.
//   - Whatever others wrote - services, supervisord, the user's own arguments -
//     goes through [printable]: a terminal must show it, not obey it.
//   - Colour only helps: all that it says is said in words as well. It is used on
//     a terminal only, unless --color says otherwise, and NO_COLOR is obeyed.
//   - No pager, no boxes, nothing that moves but the last line.

// A voice is where superctl speaks.
type voice struct {
	out, err   io.Writer
	width      int  // columns of the terminal; 0: as many as it takes
	live       bool // the last line can be written over
	inColour   bool // of stdout
	errColour  bool // of stderr
	unfinished bool // the last line is one that is to be written over
}

func newVoice(out, err *os.File) *voice {
	v := &voice{out: out, err: err, live: isTerminal(out), inColour: wantsColour(out), errColour: wantsColour(err)}
	if w, _, e := term.GetSize(int(out.Fd())); e == nil && w > 0 {
		v.width = w
	} else if w, e := strconv.Atoi(os.Getenv("COLUMNS")); e == nil && w > 0 {
		v.width = w
	}
	return v
}

func isTerminal(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

func wantsColour(f *os.File) bool { return isTerminal(f) && os.Getenv("NO_COLOR") == "" }

// setColour obeys --color.
func (v *voice) setColour(when string) error {
	switch when {
	case "auto":
	case "always":
		v.inColour, v.errColour = true, true
	case "never":
		v.inColour, v.errColour = false, false
	default:
		return &ipc.Error{Code: ipc.Usage, Message: fmt.Sprintf("--color %.40q: it is auto, always or never", when)}
	}
	return nil
}

// Styles by what they mean.
var (
	plain   = lipgloss.NewStyle()
	good    = lipgloss.NewStyle().Foreground(lipgloss.Green)
	bad     = lipgloss.NewStyle().Foreground(lipgloss.Red)
	unsure  = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	dim     = lipgloss.NewStyle().Faint(true)
	heading = lipgloss.NewStyle().Bold(true)
)

// styled is text, which must be printable, in a style if colours are used.
func (v *voice) styled(s lipgloss.Style, text string) string {
	if !v.inColour || text == "" {
		return text
	}
	return s.Inline(true).Render(text)
}

// say writes a line of the answer. Its parts are printable, or made so by the
// caller.
func (v *voice) say(text string) {
	v.erase()
	fmt.Fprintln(v.out, text)
}

// warn writes a line about the answer: a word in a style, and text.
func (v *voice) warn(s lipgloss.Style, word, text string) {
	v.erase()
	if v.errColour {
		word = s.Inline(true).Render(strings.TrimSpace(word)) + " "
	}
	fmt.Fprintln(v.err, word+printable(text))
}

// passing writes a line that the next one replaces. Only a terminal shows it.
func (v *voice) passing(text string) {
	if v.live {
		v.erase()
		fmt.Fprint(v.out, cut(text, v.columns()-1))
		v.unfinished = true
	}
}

func (v *voice) erase() {
	if v.unfinished {
		fmt.Fprint(v.out, "\r\x1b[K")
		v.unfinished = false
	}
}

// sayJSON writes a value as people read JSON, or as one line.
func (v *voice) sayJSON(value any, line bool) error {
	encode := ipc.EncodeIndent
	if line {
		encode = ipc.Encode
	}
	text, err := encode(value)
	if err != nil {
		return err
	}
	v.erase()
	_, err = v.out.Write(text)
	return err
}

// columns is how wide a progress line may be.
func (v *voice) columns() int {
	if v.width > 0 {
		return v.width
	}
	return 80
}

// printable is text with everything escaped that a terminal, or the eye, would
// take for something else than it is: controls, escapes, text that runs
// backwards, characters of no width. Tabs and newlines are as well: they break
// tables and forge lines.
func printable(text string) string {
	if strings.IndexFunc(text, unprintable) < 0 && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case unprintable(r):
			b.WriteString(escape(r))
		default:
			b.WriteString(text[i : i+size])
		}
		i += size
	}
	return b.String()
}

func unprintable(r rune) bool { return r < ' ' || ipc.Hidden(r) }

func escape(r rune) string {
	switch {
	case r == '\t':
		return "    "
	case r < 0x100:
		return fmt.Sprintf(`\x%02x`, r)
	case r < 0x10000:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}

// sayRaw writes bytes as a service wrote them.
func (v *voice) sayRaw(line []byte) error {
	v.erase()
	_, err := v.out.Write(append(bytes.TrimSuffix(line, []byte("\n")), '\n'))
	return err
}

// cut is text with at most so many columns; where something is missing, it says
// so.
func cut(text string, columns int) string {
	if columns < 1 {
		return ""
	}
	if lipgloss.Width(text) <= columns {
		return text
	}
	w, out := 0, ""
	for _, r := range text {
		if w += lipgloss.Width(string(r)); w > columns-1 {
			break
		}
		out += string(r)
	}
	return out + "…"
}

// right writes text at the left and more at the right end of so many columns.
func right(text, more string, columns int) string {
	gap := columns - lipgloss.Width(text) - lipgloss.Width(more)
	return text + strings.Repeat(" ", max(gap, 2)) + more
}
